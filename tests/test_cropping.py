"""The crop stage: same bytes however it is run, shrunk decoding close to full decoding, bad photos counted."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest
from PIL import Image

from src.datasets.expw import load_expw
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.errors import UserError
from src.faceset import FaceSet
from src.params import CropParams
from src.preparation.combining import combine, read_expw_table, resize_faces
from src.preparation.cropping import crop_faces, shrink_factor
from src.recognition.crop_face import Box, crop_face
from tests.conftest import random_faces
from tests.raw_data import contents, encode, expw_files, huge_jpeg, texture, write_files, zip_bytes

RunStage = Callable[..., subprocess.CompletedProcess[str]]


def big_photos() -> dict[str, bytes]:
    """Photos whose faces allow every shrink factor."""
    return {f"photo_{side}.jpg": encode(texture(side + 31, side + 57, side, side // 8)) for side in (60, 130, 260, 520)}


def big_boxes() -> tuple[list[str], list[Box]]:
    sides = (60, 130, 260, 520)
    names = [f"photo_{side}.jpg" for side in sides for _ in range(3)]
    return names, [(offset, 2 * offset, side, side - 5) for side in sides for offset in (-4.0, 7.0, 20.0)]


def full_decoding(photos: dict[str, bytes], names: list[str], boxes: list[Box], margin: float) -> np.ndarray:
    """The obvious way: decode in full and in colour, then crop."""
    decoded = {
        name: np.asarray(cv2.imdecode(np.frombuffer(photos[name], np.uint8), cv2.IMREAD_COLOR)) for name in set(names)
    }
    return np.stack([crop_face(decoded[name], box, 48, margin) for name, box in zip(names, boxes, strict=True)])


def test_shrunk_decoding_is_close_to_full_decoding(tmp_path: Path) -> None:
    photos = big_photos()
    names, boxes = big_boxes()
    write_files(tmp_path, photos)
    assert [shrink_factor(boxes[start : start + 3], 48, 0.1) for start in (0, 3, 6, 9)] == [1, 2, 4, 8]
    crops, failures = crop_faces(PhotoFolder(str(tmp_path), ""), names, boxes, 48, 0.1)
    assert not failures
    difference = np.abs(crops.astype(int) - full_decoding(photos, names, boxes, 0.1)).mean(axis=(1, 2))
    assert difference.mean() < 4  # grey levels, on noise from black to white
    assert difference.max() < 8


@pytest.mark.parametrize("backend", ["threading", "loky", "multiprocessing", "sequential"])
def test_same_bytes_for_any_backend_and_number_of_workers(tmp_path: Path, backend: str) -> None:
    names, boxes = big_boxes()
    packed = tmp_path / "photos.zip"
    packed.write_bytes(zip_bytes(dict(reversed(big_photos().items()))))
    write_files(tmp_path / "photos", big_photos())
    expected, _ = crop_faces(PhotoFolder(str(tmp_path / "photos"), ""), names, boxes, 48, 0.1)
    for workers in (1, 2):
        with joblib.parallel_config(backend=backend, n_jobs=workers):
            crops, failures = crop_faces(PhotoFolder(str(packed), ""), names, boxes, 48, 0.1)
        assert not failures
        assert crops.tobytes() == expected.tobytes()


def test_many_photos_in_one_zip_read_by_several_workers(tmp_path: Path) -> None:
    """More photos than fit into one task, so that workers read from one archive at the same time."""
    photos = {f"{number}.jpg": encode(texture(64, 64, number)) for number in range(200)}
    (tmp_path / "photos.zip").write_bytes(zip_bytes(photos))
    boxes: list[Box] = [(5, 5, 48, 48)] * 200
    expected = full_decoding(photos, list(photos), boxes, 0.0)
    for backend in ("threading", "multiprocessing"):
        with joblib.parallel_config(backend=backend, n_jobs=4):
            crops, failures = crop_faces(PhotoFolder(str(tmp_path / "photos.zip"), ""), list(photos), boxes, 48, 0.0)
        assert not failures
        assert np.abs(crops.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_photos_of_other_formats_are_decoded_in_full(tmp_path: Path, suffix: str) -> None:
    picture = texture(300, 300, 5)
    write_files(tmp_path, {f"photo{suffix}": encode(picture, suffix)})
    crops, failures = crop_faces(PhotoFolder(str(tmp_path), ""), [f"photo{suffix}"], [(20, 20, 240, 240)], 48, 0.0)
    assert not failures
    assert np.abs(crops[0].astype(int) - crop_face(picture, (20, 20, 240, 240), 48, 0.0)).mean() < 2


def pillow_jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(cv2.cvtColor(texture(90, 70, 3), cv2.COLOR_GRAY2RGB)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


THUMBNAIL = encode(texture(24, 32, 1))
JPEGS = {
    "baseline": pillow_jpeg(),
    "progressive": pillow_jpeg(progressive=True),
    "comment": pillow_jpeg(comment=b"\xff\xd9 and more"),
    "thumbnail": (
        pillow_jpeg()[:2] + b"\xff\xe1" + (len(THUMBNAIL) + 2).to_bytes(2, "big") + THUMBNAIL + pillow_jpeg()[2:]
    ),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_header_of_a_jpeg(kind: str) -> None:
    content = JPEGS[kind]
    header = read_header(content)
    assert header == read_header(io.BytesIO(content))
    assert (header.width, header.height, header.format) == (70, 90, "JPEG")
    assert decode(content, header, factor=4).shape == (23, 18)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_jpeg_cut_short_is_refused(kind: str, keep: float) -> None:
    content = JPEGS[kind][: int(len(JPEGS[kind]) * keep)]
    with pytest.raises(PhotoError, match=r"cut short|unreadable"):
        decode(content, read_header(content))


# A photo that ingest_expw lets pass, by its header, and only decoding shows to be bad.
BAD = {
    "cut short": (encode(texture(120, 160, 3))[:-400], "photo cut short"),
    "no picture data": (encode(texture(120, 160, 3))[:300] + b"\xff\xd9", "photo unreadable"),
    "grown since": (huge_jpeg(), "photo too large"),
    "gone": (None, "file missing"),
}


def prepared(folder: Path, photo: bytes | None = b"") -> Path:
    """A folder with the outputs of both ingest stages; afterwards photo_3.jpg is replaced or removed."""
    raw = folder / "data/raw/full/expw"
    write_files(raw, expw_files())
    random_faces(2).save(folder / "data/interim/fer2013")
    load_expw(raw, 0.0, 0.0)[0].to_csv(folder / "data/interim/expw.csv", index=False)
    if photo is None:
        (raw / "origin/photo_3.jpg").unlink()
    elif photo:
        write_files(raw, {"origin/photo_3.jpg": photo})
    return folder


def run_combine(folder: Path, max_bad_fraction: float = 0.1) -> tuple[FaceSet, dict]:
    return combine(
        FaceSet.load(folder / "data/interim/fer2013"),
        read_expw_table(folder / "data/interim/expw.csv"),
        folder / "data/raw/full/expw",
        CropParams(image_size=48, margin=0.1, max_bad_fraction=max_bad_fraction),
    )


def test_fer2013_comes_first_and_keeps_its_pixels(tmp_path: Path) -> None:
    faces, report = run_combine(prepared(tmp_path))
    np.testing.assert_array_equal(faces.images[:14], random_faces(2).images)
    assert report["faces_per_source"] == {"fer2013": 14, "expw": 28}
    assert list(faces.labels["source"]) == ["fer2013"] * 14 + ["expw"] * 28
    assert list(faces.labels["confidence"].iloc[[0, 14, 16]]) == ["", "0.0", "5.5"]
    assert set(faces.labels["group"].iloc[[14, 15]]) == {"expw/photo_0.jpg"}
    assert (faces.labels["copy_of"] == "").all()


@pytest.mark.parametrize("case", BAD)
def test_bad_photo_is_skipped_with_all_its_faces_and_counted(tmp_path: Path, case: str) -> None:
    photo, reason = BAD[case]
    faces, report = run_combine(prepared(tmp_path, photo))
    assert report["skipped"]["by_reason"] == {reason: 2}
    assert report["faces_per_source"]["expw"] == 26
    assert not faces.labels["group"].eq("expw/photo_3.jpg").any()
    whole, _ = run_combine(prepared(tmp_path / "whole"))
    kept = whole.labels["group"].ne("expw/photo_3.jpg").to_numpy()
    np.testing.assert_array_equal(faces.images, whole.images[kept])


@pytest.mark.parametrize("image_size", [32, 64])
def test_other_sizes_resize_fer2013_as_well(tmp_path: Path, image_size: int) -> None:
    folder = prepared(tmp_path)
    faces = FaceSet.load(folder / "data/interim/fer2013")
    resized = resize_faces(faces, image_size)
    assert resized.shape == (14, image_size, image_size)
    np.testing.assert_allclose(resized.mean(axis=(1, 2)), faces.images.mean(axis=(1, 2)), atol=2)


def damage(folder: Path, what: str) -> None:
    interim = folder / "data/interim"
    if what == "images cut short":
        (interim / "fer2013/images.npy").write_bytes((interim / "fer2013/images.npy").read_bytes()[:-100])
    elif what == "FaceSet files disagree":
        lines = (interim / "fer2013/labels.csv").read_text().splitlines()
        (interim / "fer2013/labels.csv").write_text("\n".join(lines[:-1]) + "\n")
    elif what == "FaceSet missing":
        (interim / "fer2013/images.npy").unlink()
    elif what == "table missing":
        (interim / "expw.csv").unlink()
    elif what == "table of other columns":
        (interim / "expw.csv").write_text("a,b\n1,2\n")
    elif what == "table cut short":
        (interim / "expw.csv").write_bytes((interim / "expw.csv").read_bytes()[:-40])
    elif what == "raw data missing":
        (folder / "data/raw/full/expw/label.lst").unlink()


FATAL = {
    "images cut short": ["damaged", "dvc repro"],
    "FaceSet files disagree": ["14 images but 13 label rows", "dvc repro"],
    "FaceSet missing": ["images.npy is missing", "dvc repro"],
    "table missing": ["expw.csv is missing", "dvc repro"],
    "table of other columns": ["expw.csv is damaged", "dvc repro"],
    "table cut short": ["expw.csv is damaged", "dvc repro"],
    "raw data missing": ["no label.lst"],
    "too many bad photos": ["2 of 28 rows", "photo cut short", "crop.max_bad_fraction"],
}


@pytest.mark.parametrize("case", FATAL)
def test_stage_stops_with_one_message_and_earlier_outputs_stay(tmp_path: Path, run_stage: RunStage, case: str) -> None:
    prepared(tmp_path, BAD["cut short"][0] if case == "too many bad photos" else b"")
    damage(tmp_path, case)
    write_files(tmp_path, {"data/interim/faces/images.npy": b"earlier", "metrics/crop.json": b"earlier"})
    before = contents(tmp_path)
    result = run_stage("crop", dataset="full")
    assert result.returncode == 1
    message = [line for line in result.stderr.replace("\r", "\n").splitlines() if "error: " in line]
    assert len(message) == 1
    assert all(word in message[0] for word in FATAL[case]), message[0]
    assert "Traceback" not in result.stderr
    after = contents(tmp_path)
    del after["params.yaml"]
    assert after == before


def test_stage_writes_its_declared_outputs_and_the_same_bytes_again(tmp_path: Path, run_stage: RunStage) -> None:
    prepared(tmp_path)
    before = set(contents(tmp_path))
    assert run_stage("crop", dataset="full").returncode == 0
    first = contents(tmp_path)
    assert set(first) - before == {
        "params.yaml",
        "data/interim/faces/images.npy",
        "data/interim/faces/labels.csv",
        "metrics/crop.json",
        "plots/class_distribution/crop.csv",
    }
    assert run_stage("crop", dataset="full").returncode == 0
    assert contents(tmp_path) == first


def test_output_folder_without_write_permission(tmp_path: Path, run_stage: RunStage) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    prepared(tmp_path)
    (tmp_path / "data/interim").chmod(0o555)
    try:
        result = run_stage("crop", dataset="full")
    finally:
        (tmp_path / "data/interim").chmod(0o755)
    assert result.returncode == 1
    assert "Permission denied" in result.stderr


def test_unreadable_table_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "expw.csv").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(UserError, match="damaged"):
        read_expw_table(tmp_path / "expw.csv")


@pytest.mark.skipif("FER_REAL_DATA" not in os.environ, reason="FER_REAL_DATA names no folder with expw.zip")
def test_real_photos_shrunk_are_close_to_full(tmp_path: Path) -> None:
    shutil.copy(Path(os.environ["FER_REAL_DATA"], "expw.zip"), tmp_path)
    table, _, photos = load_expw(tmp_path, 0.0, 0.02)
    table = table.iloc[:600]
    names, boxes = list(table["photo"]), list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
    crops, failures = crop_faces(photos, names, boxes, 48, 0.1)
    assert not failures
    difference = crops.astype(int) - full_decoding({name: photos.read(name) for name in names}, names, boxes, 0.1)
    assert np.abs(difference).mean() <= 6  # grey levels
