"""ExpW: every layout gives the same table, boxes are clipped, every unusable row is counted or stops the stage."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from src.datasets.expw import find, load
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestExpwParams
from tests.conftest import ROOT, random_faces
from tests.raw_data import (
    PHOTO_HEIGHT,
    PHOTO_WIDTH,
    bomb_bytes,
    contents,
    encode,
    expw_files,
    expw_lines,
    expw_photos,
    huge_jpeg,
    tar_bytes,
    texture,
    write_files,
    zip_bytes,
)

RunStage = Callable[..., subprocess.CompletedProcess[str]]

FILES = expw_files()
LABELS = FILES["label.lst"]
PHOTOS = {name: content for name, content in FILES.items() if name != "label.lst"}  # origin/...
LAYOUTS = {
    "folder": FILES,
    "origin/origin": {"label.lst": LABELS, **{f"origin/{name}": PHOTOS[name] for name in PHOTOS}},
    "label/label.lst": {"label/label.lst": LABELS, **PHOTOS},
    "zip": {"expw.zip": zip_bytes(FILES)},
    "zip with top folder": {"archive.zip": zip_bytes({f"ExpW/data/{name}": FILES[name] for name in FILES})},
    "label.lst beside origin.zip": {"label/label.lst": LABELS, "origin.zip": zip_bytes(PHOTOS)},
    "photos at the top of origin.zip": {"label.lst": LABELS, "origin.zip": zip_bytes(expw_photos())},
    "two zips": {"label.zip": zip_bytes({"label.lst": LABELS}), "origin.zip": zip_bytes(PHOTOS)},
    "other pictures elsewhere": {**FILES, "aligned/photo_0.jpg": b"x", "readme.png": b"x"},
    "unpacked 7z parts still there": {**FILES, "origin.7z.001": b"x", "origin.7z.002": b"x"},
    "zip and what came out of it": {**FILES, "expw.zip": zip_bytes(FILES)},
    "label list twice": {**FILES, "label/label.lst": LABELS},
    "zip in another order": {"expw.zip": zip_bytes(dict(reversed(FILES.items())))},
    "Windows line ends": {**FILES, "label.lst": LABELS.replace(b"\n", b"\r\n")},
}


def read(
    folder: Path, files: dict[str, bytes], max_bad_fraction: float = 0.0, confidence_min: float = 0.0
) -> tuple[pd.DataFrame, dict]:
    write_files(folder, files)
    return load(
        folder, IngestExpwParams(enabled=True, confidence_min=confidence_min, max_bad_fraction=max_bad_fraction)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_table(tmp_path: Path, layout: str) -> None:
    table, report = read(tmp_path, LAYOUTS[layout])
    assert (report["rows_read"], report["faces"], report["photos"]) == (28, 28, 14)
    assert report["skipped"]["total"] == report["boxes_clipped_to_photo"] == 0
    sizes = {file["name"].partition(" ")[0]: file["size"] for file in report["manifest"]["files"]}
    assert set(sizes) == set(report["read_from"])
    assert sum(len(photo) for photo in PHOTOS.values()) in sizes.values()
    assert table.iloc[3].to_dict() == {
        "image_name": "expw/photo_1.jpg#1",
        "photo": "photo_1.jpg",
        "x": 70,
        "y": 11,
        "width": 50,
        "height": 51,
        "confidence": 5.5,
        "expression": EXPRESSIONS[4],
        "group": "expw/photo_1.jpg",
    }


def with_line(line: str, photos: dict[str, bytes] | None = None) -> dict[str, bytes]:
    """The usual files with one more face."""
    return {**FILES, "label.lst": LABELS + line.encode() + b"\n", **(photos or {})}


# top left right bottom
CLIPPED = {
    "left": ("10 -5 40 50", (0, 10, 40, 40)),
    "top": ("-7 10 40 50", (10, 0, 30, 50)),
    "right": ("10 100 170 50", (100, 10, 60, 40)),
    "bottom": ("90 10 40 130", (10, 90, 30, 30)),
    "every side": ("-9 -9 999 999", (0, 0, PHOTO_WIDTH, PHOTO_HEIGHT)),
}


@pytest.mark.parametrize("side", CLIPPED)
def test_box_across_the_edge_is_clipped_and_kept(tmp_path: Path, side: str) -> None:
    box, expected = CLIPPED[side]
    table, report = read(tmp_path, with_line(f"photo_0.jpg 7 {box} 50.0 3"))
    assert tuple(table.iloc[-1][["x", "y", "width", "height"]]) == expected
    assert report["boxes_clipped_to_photo"] == 1
    assert report["skipped"]["total"] == 0


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "box inverted": (with_line("photo_0.jpg 7 50 10 40 20 50.0 3"), "box empty"),
    "box empty": (with_line("photo_0.jpg 7 20 10 10 50 50.0 3"), "box empty"),
    "box right of the photo": (with_line("photo_0.jpg 7 10 160 200 50 50.0 3"), "box outside the photo"),
    "box above the photo": (with_line("photo_0.jpg 7 -50 10 40 0 50.0 3"), "box outside the photo"),
    "photo missing": (with_line("photo_99.jpg 0 10 10 40 50 50.0 3"), "photo missing"),
    "label 7": (with_line("photo_0.jpg 7 10 10 40 50 50.0 7"), "label is not 0..6"),
    "label happy": (with_line("photo_0.jpg 7 10 10 40 50 50.0 happy"), "label is not 0..6"),
    "seven columns": (with_line("photo_0.jpg 7 10 10 40 50 3"), "not 8 columns"),
    "nine columns": (with_line("photo_0.jpg 7 10 10 40 50 50.0 3 1"), "not 8 columns"),
    "coordinate abc": (with_line("photo_0.jpg 7 abc 10 40 50 50.0 3"), "not a whole number"),
    "coordinate of 5,000 digits": (with_line(f"photo_0.jpg 7 {'9' * 5000} 10 40 50 50.0 3"), "not a whole number"),
    "confidence nan": (with_line("photo_0.jpg 7 10 10 40 50 nan 3"), "confidence is not a number"),
    "../ in the photo name": (
        with_line("../photo.jpg 7 10 10 40 50 50.0 3", {"photo.jpg": encode(texture(90, 90, 1))}),
        "photo missing",
    ),
    "absolute photo name": (with_line("/etc/photo_0.jpg 7 10 10 40 50 50.0 3"), "photo missing"),
    "text named .jpg": (
        with_line("text.jpg 0 10 10 40 50 50.0 3", {"origin/text.jpg": b"this is text"}),
        "photo unreadable",
    ),
    "30,000 x 30,000 photo": (
        with_line("huge.jpg 0 10 10 40 50 50.0 3", {"origin/huge.jpg": huge_jpeg()}),
        "photo too large",
    ),
    "10,000 x 10,000 photo": (
        with_line("huge.jpg 0 10 10 40 50 50.0 3", {"origin/huge.jpg": huge_jpeg(10_000)}),
        "photo too large",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_row_is_skipped_and_counted(tmp_path: Path, case: str) -> None:
    files, reason = BAD[case]
    table, report = read(tmp_path, files, max_bad_fraction=0.05)
    assert report["rows_read"] == 29
    assert len(table) == 28
    assert report["skipped"]["by_reason"] == {reason: 1}
    assert report["skipped"]["examples"][reason][0].startswith("line 29: ")


def test_faces_of_low_confidence_are_left_out_but_not_bad(tmp_path: Path) -> None:
    table, report = read(tmp_path, FILES, confidence_min=20.0)
    assert report["below_confidence_min"] == 8
    assert len(table) == 20
    assert table["confidence"].min() >= 20
    assert report["skipped"]["total"] == 0


def test_exif_orientation_does_not_swap_the_sides(tmp_path: Path) -> None:
    """The boxes of ExpW refer to the pixels as stored."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: rotated by 90°
    photo = encode(texture(PHOTO_HEIGHT, PHOTO_WIDTH, 1))
    turned = photo[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + photo[2:]
    table, report = read(tmp_path, with_line("turned.jpg 0 10 100 159 110 50.0 3", {"origin/turned.jpg": turned}))
    assert report["boxes_clipped_to_photo"] == 0
    assert table.iloc[-1]["width"] == 59


def test_a_face_named_twice_is_no_bad_row(tmp_path: Path) -> None:
    """The complete label.lst has thousands."""
    again = expw_lines()[0]
    table, report = read(tmp_path, with_line(again[:-1] + ("3" if again[-1] != "3" else "4")))
    assert (report["rows_repeated"], report["skipped"]["total"]) == (1, 0)
    assert table["image_name"].is_unique and len(table) == report["rows_read"] - 1


FATAL: dict[str, tuple[dict[str, bytes], list[str]]] = {
    "too many bad rows": (BAD["box empty"][0], ["box empty", "line 29", "ingest_expw.max_bad_fraction"]),
    "truncated zip": ({"expw.zip": zip_bytes(FILES)[:-300]}, ["expw.zip", "cut short", "Download"]),
    "7z parts": (
        {"label.lst": LABELS, "data/origin.7z.001": b"x", "data/origin.7z.002": b"x"},
        ["/data && cat origin.7z.* > origin.7z && 7z x origin.7z && rm"],
    ),
    "7z parts of a mirror": (
        {"label.lst": LABELS, "origin.7z.001.001": b"x", "origin.7z.001.002": b"x"},
        ["cat origin.7z.* > origin.7z && 7z x origin.7z && rm"],
    ),
    "one 7z": ({"label.lst": LABELS, "origin.7z": b"x"}, ["7z x origin.7z"]),
    "no label.lst": (PHOTOS, ["no label.lst", "beside the photos"]),
    "no photos": ({"label.lst": LABELS}, ["holds no photos", "src.datasets.download expw"]),
    "two different label lists": ({**FILES, "b/label.lst": b"x"}, ["label.lst, b/label.lst", "Remove"]),
    "two photo folders": (
        {"label.lst": LABELS, "a/photo.jpg": b"x", "b/photo.jpg": b"x"},
        ["several folders: a, b", "named origin"],
    ),
    "photos in a tar": (
        {"label.lst": LABELS, "origin.tar.gz": tar_bytes(PHOTOS)},
        ["holds no photos", "one or two .zip files"],
    ),
    "empty label.lst": ({**FILES, "label.lst": b"\n\n"}, ["label.lst is empty"]),
    "binary label.lst": ({**FILES, "label.lst": os.urandom(4000)}, ["cannot be used", "not 8 columns"]),
    "class without faces": (
        {**FILES, "label.lst": "\n".join(line for line in expw_lines() if not line.endswith(" 2")).encode()},
        ["no usable face of fear"],
    ),
    "zip bomb": ({"expw.zip": bomb_bytes()}, ["would unpack to 52.0 GiB"]),
    "empty folder": ({}, ["holds no photos"]),
}


@pytest.mark.parametrize("case", FATAL)
def test_unusable_data_is_one_clear_error(tmp_path: Path, case: str) -> None:
    files, words = FATAL[case]
    with pytest.raises(UserError) as caught:
        read(tmp_path, files, max_bad_fraction=0.02)
    assert all(word in str(caught.value) for word in words), caught.value


def test_stage_without_expw(tmp_path: Path, run_stage: RunStage) -> None:
    """FER2013 alone: no data needed, and every declared output there."""
    result = run_stage("ingest_expw", dataset="full", ingest_expw={"enabled": False})
    assert result.returncode == 0, result.stderr
    assert "ExpW: 0 faces" in result.stdout
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for out in stages["ingest_expw"]["outs"]:
        assert (tmp_path / (out if isinstance(out, str) else next(iter(out)))).is_file()
    random_faces(2).save(tmp_path / "data/interim/fer2013")
    assert run_stage("crop", dataset="full").returncode == 0
    assert set(FaceSet.load(tmp_path / "data/interim/faces").labels["source"]) == {"fer2013"}


def test_our_own_mistakes_are_no_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.datasets.expw._clip_to_photo", lambda box, header: int("a mistake"))
    with pytest.raises(ValueError, match="a mistake"):
        read(tmp_path, FILES, max_bad_fraction=1.0)


def test_stage_stops_with_one_message_and_earlier_outputs_stay(tmp_path: Path, run_stage: RunStage) -> None:
    write_files(tmp_path / "data/raw/full/expw", BAD["text named .jpg"][0])
    write_files(tmp_path, {"data/interim/expw.csv": b"earlier"})
    before = contents(tmp_path)
    result = run_stage("ingest_expw", dataset="full")
    assert result.returncode == 1
    message = [line for line in result.stderr.replace("\r", "\n").splitlines() if "error: " in line]
    assert len(message) == 1
    assert "1 x photo unreadable (line 29: text.jpg)" in message[0]
    assert "Traceback" not in result.stderr
    after = contents(tmp_path)
    del after["params.yaml"]
    assert after == before


@settings(max_examples=40, deadline=None)
@given(lines=st.lists(st.text(max_size=60) | st.from_regex(r"photo_[0-9]\.jpg( -?[0-9]{1,4}){7}"), max_size=20))
def test_any_label_list_is_a_table_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("labels")
    more = "\n".join(lines).encode("utf-8", "surrogatepass")
    table, report = read(folder, {**FILES, "label.lst": LABELS + more}, max_bad_fraction=1.0)
    assert len(table) + report["skipped"]["total"] + report["below_confidence_min"] == report["rows_read"]
    assert table["image_name"].is_unique
    assert (table[["x", "y"]] >= 0).all(axis=None)
    assert (table[["width", "height"]] >= 1).all(axis=None)
    assert (table["x"] + table["width"] <= PHOTO_WIDTH).all()
    assert (table["y"] + table["height"] <= PHOTO_HEIGHT).all()


def test_missing_folder_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is missing; expected ExpW .* src\.datasets\.download expw"):
        find(tmp_path / "expw")


@pytest.mark.skipif("FER_REAL_DATA" not in os.environ, reason="FER_REAL_DATA names no folder with expw.zip")
def test_real_photos(tmp_path: Path) -> None:
    (tmp_path / "expw.zip").symlink_to(Path(os.environ["FER_REAL_DATA"], "expw.zip"))
    table, report = read(tmp_path, {}, max_bad_fraction=0.02)
    assert report["rows_read"] == report["faces"] + report["skipped"]["total"]
    assert report["boxes_clipped_to_photo"] > 0
    assert set(table["expression"]) == set(EXPRESSIONS)
