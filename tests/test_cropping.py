"""The crop stage: same bytes however it is run, shrunk decoding close to full decoding, bad photos counted."""

import io
import json
import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from src.datasets import expw
from src.datasets.archives import open_tree
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.errors import UserError
from src.faceset import FaceSet
from src.params import CropParams, IngestExpwParams
from src.preparation.cropping import combine, crop_faces, read_box_table, resize_faces, shrink_factor
from src.recognition.crop_face import Box, crop_face
from tests.conftest import random_faces
from tests.raw_data import contents, encode, expw_files, huge_jpeg, texture, write_files, zip_bytes

RunStage = Callable[..., subprocess.CompletedProcess[str]]
SETTINGS = IngestExpwParams(enabled=True, confidence_min=0.0, max_bad_fraction=0.0)


def photos_in(path: Path) -> PhotoFolder:
    return PhotoFolder(open_tree(path), "")


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
    crops, failures = crop_faces(photos_in(tmp_path), names, boxes, 48, 0.1)
    assert not failures
    difference = np.abs(crops.astype(int) - full_decoding(photos, names, boxes, 0.1)).mean(axis=(1, 2))
    assert difference.mean() < 4  # grey levels, on noise from black to white
    assert difference.max() < 8


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_same_bytes_for_any_number_of_workers_and_any_packing(tmp_path: Path, workers: int) -> None:
    photos = {f"{number}.jpg": encode(texture(64, 64, number)) for number in range(100)}
    write_files(tmp_path / "photos", photos)
    (tmp_path / "photos.zip").write_bytes(zip_bytes(dict(reversed(photos.items()))))
    boxes: list[Box] = [(5, 5 + number % 9, 48, 48) for number in range(100)]
    expected, _ = crop_faces(photos_in(tmp_path / "photos"), list(photos), boxes, 48, 0.0, workers=1)
    crops, failures = crop_faces(photos_in(tmp_path / "photos.zip"), list(photos), boxes, 48, 0.0, workers)
    assert not failures
    assert crops.tobytes() == expected.tobytes()


def test_an_error_in_a_thread_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(*_: object) -> None:
        tried.append(1)
        time.sleep(0.01)
        raise ZeroDivisionError

    write_files(tmp_path, {"1.jpg": b"x"})
    monkeypatch.setattr("src.preparation.cropping.crop_photo", fail)
    with pytest.raises(ZeroDivisionError):
        crop_faces(photos_in(tmp_path), [f"{number}.jpg" for number in range(999)], [(0, 0, 9, 9)] * 999, 48, 0.0, 2)
    assert len(tried) < 500


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_photos_of_other_formats_are_decoded_in_full(tmp_path: Path, suffix: str) -> None:
    picture = texture(300, 300, 5)
    write_files(tmp_path, {f"photo{suffix}": encode(picture, suffix)})
    crops, failures = crop_faces(photos_in(tmp_path), [f"photo{suffix}"], [(20, 20, 240, 240)], 48, 0.0)
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
    assert (header.width, header.height, header.format) == (70, 90, "JPEG")
    assert decode(content, header, factor=4).shape == (23, 18)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("keep", [0.05, 0.3, 0.6, 0.9, 0.99])
def test_jpeg_cut_short_is_refused(kind: str, keep: float) -> None:
    content = JPEGS[kind][: int(len(JPEGS[kind]) * keep)]
    with pytest.raises(PhotoError, match=r"cut short|unreadable"):
        decode(content, read_header(content))


@pytest.mark.parametrize("kind", JPEGS)
def test_a_video_behind_a_photo_is_none_of_our_business(kind: str) -> None:
    """Phones write "motion photos"."""
    content = JPEGS[kind] + b"ftypmp4 \xff\xd9 \xff\xda and more"
    assert decode(content, read_header(content)).shape == (90, 70)


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_photos_too_large_are_refused_and_pillow_keeps_its_guard(tmp_path: Path, side: int) -> None:
    bitmap = encode(texture(48, 48, 0), ".bmp")
    for content in (huge_jpeg(side), bitmap[:18] + side.to_bytes(4, "little") * 2 + bitmap[26:]):
        with warnings.catch_warnings(), pytest.raises(PhotoError, match="photo too large"):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            read_header(content)
    assert Image.MAX_IMAGE_PIXELS


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
    expw.load(raw, SETTINGS)[0].to_csv(folder / "data/interim/expw.csv", index=False)
    if photo is None:
        (raw / "origin/photo_3.jpg").unlink()
    elif photo:
        write_files(raw, {"origin/photo_3.jpg": photo})
    return folder


def run_combine(folder: Path, max_bad_fraction: float = 0.1, image_size: int = 48) -> tuple[FaceSet, dict]:
    settings = CropParams(image_size=image_size, margin=0.1, max_bad_fraction=max_bad_fraction)
    return combine(folder / "data/raw/full", folder / "data/interim", settings)


def test_fer2013_comes_first_and_keeps_its_pixels(tmp_path: Path) -> None:
    faces, report = run_combine(prepared(tmp_path))
    np.testing.assert_array_equal(faces.images[:14], random_faces(2).images)
    assert report["faces_per_source"] == {"fer2013": 14, "expw": 28}
    assert list(faces.labels["source"]) == ["fer2013"] * 14 + ["expw"] * 28
    assert list(faces.labels["usage"].iloc[[0, 14]]) == ["Training", ""]
    assert list(faces.labels["confidence"].iloc[[0, 14, 16]]) == ["", "0.0", "5.5"]
    assert set(faces.labels["group"].iloc[[14, 15]]) == {"expw/photo_0.jpg"}
    assert not faces.labels.isna().any(axis=None)
    assert set(report["manifest"]) == {"fer2013", "expw"}


def test_votes_of_one_source_are_empty_for_the_others_and_stay_whole_numbers(tmp_path: Path) -> None:
    fer2013 = random_faces(2)
    fer2013.labels["votes_happy"] = np.arange(14)
    fer2013.labels["votes_happy"] = fer2013.labels["votes_happy"].astype("Int64")
    fer2013.labels["label_source"], fer2013.labels["original_expression"] = "ferplus", "happy"
    fer2013.save(prepared(tmp_path) / "data/interim/fer2013")
    faces, _ = run_combine(tmp_path)
    faces.save(tmp_path / "joint")
    read = FaceSet.load(tmp_path / "joint").labels
    assert read["votes_happy"].dtype == "Int64"
    assert read["votes_happy"].tolist()[:14] == list(range(14))
    assert read["votes_happy"].isna().tolist() == [False] * 14 + [True] * 28
    assert read["label_source"].tolist() == ["ferplus"] * 14 + ["original"] * 28
    assert (read["original_expression"] == read["expression"])[14:].all()


@pytest.mark.parametrize("case", BAD)
def test_bad_photo_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    photo, reason = BAD[case]
    faces, report = run_combine(prepared(tmp_path, photo))
    assert report["skipped"]["by_reason"] == {reason: 2}
    assert report["faces_per_source"]["expw"] == 26
    whole, _ = run_combine(prepared(tmp_path / "whole"))
    kept = whole.labels["group"].ne("expw/photo_3.jpg").to_numpy()
    np.testing.assert_array_equal(faces.images, whole.images[kept])
    with pytest.raises(UserError, match=rf"2 of 28 rows.*crop\.max_bad_fraction.*{reason}"):
        run_combine(tmp_path, max_bad_fraction=0.01)


@pytest.mark.parametrize("image_size", [32, 64])
def test_other_sizes_resize_fer2013_as_well(tmp_path: Path, image_size: int) -> None:
    faces, _ = run_combine(prepared(tmp_path), image_size=image_size)
    assert faces.images.shape == (42, image_size, image_size)
    original = random_faces(2)
    np.testing.assert_array_equal(faces.images[:14], resize_faces(original, image_size))
    np.testing.assert_allclose(faces.images[:14].mean(axis=(1, 2)), original.images.mean(axis=(1, 2)), atol=2)


DAMAGE: dict[str, tuple[str, bytes | None, list[str]]] = {
    "images missing": ("data/interim/fer2013/images.npy", None, ["images.npy is missing", "dvc repro"]),
    "table missing": ("data/interim/expw.csv", None, ["expw (or expw.csv) is missing", "dvc repro ingest_expw"]),
    "table of other columns": ("data/interim/expw.csv", b"a,b\n1,2\n", ["expw.csv is damaged", "dvc repro"]),
    "binary table": ("data/interim/expw.csv", b"\xff\xfe\x00binary", ["expw.csv is damaged", "dvc repro"]),
    "raw data missing": ("data/raw/full/expw/label.lst", None, ["no label.lst"]),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_inputs_are_one_clear_error(tmp_path: Path, case: str) -> None:
    name, content, words = DAMAGE[case]
    prepared(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        run_combine(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_table_cut_short_is_damaged(tmp_path: Path) -> None:
    table = prepared(tmp_path) / "data/interim/expw.csv"
    table.write_bytes(table.read_bytes()[:-40])
    with pytest.raises(UserError, match="is damaged"):
        read_box_table(table)


def test_stage_writes_its_declared_outputs_and_the_same_bytes_again(tmp_path: Path, run_stage: RunStage) -> None:
    prepared(tmp_path)
    before = set(contents(tmp_path))
    assert run_stage("crop", dataset="full").returncode == 0
    first = contents(tmp_path)
    assert set(first) - before == {
        "params.yaml",
        "data/interim/faces/images.npy",
        "data/interim/faces/labels.csv",
        "metrics/details/crop.json",
        "plots/class_distribution/crop.csv",
    }
    run_combine(tmp_path)[0].save(tmp_path / "again")
    assert (tmp_path / "again/images.npy").read_bytes() == first["data/interim/faces/images.npy"]
    assert (tmp_path / "again/labels.csv").read_bytes() == first["data/interim/faces/labels.csv"]
    assert json.loads(first["metrics/details/crop.json"])["faces"] == 42


@pytest.mark.skipif("FER_REAL_DATA" not in os.environ, reason="FER_REAL_DATA names no folder with expw.zip")
def test_real_photos_shrunk_are_close_to_full(tmp_path: Path) -> None:
    (tmp_path / "expw.zip").symlink_to(Path(os.environ["FER_REAL_DATA"], "expw.zip"))
    table = expw.load(tmp_path, SETTINGS)[0].iloc[:600]
    photos = expw.find(tmp_path).photos
    names, boxes = list(table["photo"]), list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
    crops, failures = crop_faces(photos, names, boxes, 48, 0.1)
    assert not failures
    difference = crops.astype(int) - full_decoding({name: photos.read(name) for name in names}, names, boxes, 0.1)
    assert np.abs(difference).mean() <= 2  # grey levels
