"""`python -m src.evaluation` on folders and tables of pictures: what is scored, what is skipped, what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.errors import UserError
from src.evaluation.__main__ import evaluate_pictures, parse_options
from src.evaluation.own_pictures import LabelledPicture, list_pictures, read_faces
from src.recognition.classifier import Classifier
from src.recognition.crop_face import Box, crop_face
from tests.conftest import ROOT, random_faces
from tests.raw_data import texture, write_files
from tests.realtime_fixtures import KnownBoxes
from tools.drawn_faces import draw_photo

RELEASED = ROOT / "pretrained/model.onnx"


def evaluate(*arguments: object) -> str:
    return evaluate_pictures(parse_options(list(map(str, arguments))))


@pytest.fixture
def faces_by_class(tmp_path: Path) -> Path:
    """Two cropped faces per class, in folders as people name them, and clutter."""
    names = ("Anger", "disgust", "fearful", "HAPPY", "Sadness", "surprised", "neutral")
    for index, image in enumerate(random_faces(2).images):
        path = tmp_path / "faces" / names[index // 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    (tmp_path / "faces/HAPPY/notes.txt").write_text("no picture")
    (tmp_path / "faces/HAPPY/broken.jpg").write_bytes(b"no picture")
    return tmp_path / "faces"


def test_report_of_cropped_faces(faces_by_class: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "report"
    printed = evaluate(faces_by_class, "--cropped", "--output", output, "--against", RELEASED.with_suffix(".int8.onnx"))
    assert "skipped 1 of 15 pictures: photo unreadable" in capsys.readouterr().out
    figures = json.loads((output / "evaluate.json").read_text())
    predictions = pd.read_csv(output / "predictions.csv")
    assert figures["pictures"]["all"]["n"] == len(predictions) == 14
    right = (predictions["predicted"] == predictions["expression"]).mean()
    assert figures["pictures"]["all"]["accuracy"] == pytest.approx(right, abs=1e-5)
    faces = np.stack([np.asarray(Image.open(path).convert("L")) for path in predictions["image_name"]])
    expected = Classifier(RELEASED).predict(faces)
    np.testing.assert_allclose(predictions.iloc[:, 4:], expected, atol=1e-3)
    assert f"{figures['pictures']['all']['accuracy']:.3f}" in printed
    other = figures["against"]["pictures"]["all"]
    difference = other["only_first_right"] - other["only_second_right"]
    assert difference == round(14 * (figures["pictures"]["all"]["accuracy"] - other["accuracy"]))
    assert re.search(r"^against +pictures +all faces ", printed, re.MULTILINE)
    for name in ("confusion.png", "per_class.png", "reliability.png", "mistakes.png"):
        assert (output / name).stat().st_size > 100


def test_table_with_boxes_is_cut_out_as_everywhere(tmp_path: Path) -> None:
    photo = draw_photo(np.random.default_rng(3), [("happy", (80, 60, 120, 120))], 300, 240)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    (tmp_path / "faces.csv").write_text("image,expression,x,y,width,height\na.png,Happiness,80,60,120,120\n")
    pictures = list_pictures(tmp_path / "faces.csv")
    assert pictures == [LabelledPicture(tmp_path / "a.png", "happy", (80.0, 60.0, 120.0, 120.0))]
    faces, skipped = read_faces(pictures, None, 48, 0.1)
    np.testing.assert_array_equal(faces.images[0], crop_face(photo, (80, 60, 120, 120), 48, 0.1))
    assert not skipped


@pytest.mark.parametrize(
    "output", ["faces", "faces/happy/report", ".", "faces/..", "notes", "notes/note.txt", "metrics"]
)
def test_a_report_replaces_nothing_but_a_report(faces_by_class: Path, tmp_path: Path, output: str) -> None:
    """Not the pictures, not the folder above them, not somebody's notes, not a project's metrics."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/evaluate.json").write_text("{}")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/note.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="Name a"):
        evaluate(faces_by_class, "--cropped", "--output", tmp_path / output)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    names = ("happy/a.png", "happy/._a.png", "__MACOSX/happy/._a.png", ".cache/b.png")
    write_files(tmp_path, dict.fromkeys(names, b""))
    assert [picture.path for picture in list_pictures(tmp_path)] == [tmp_path / "happy/a.png"]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jp2", ".pgm"])
def test_formats_that_people_have(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "happy").mkdir()
    cv2.imwrite(str(tmp_path / f"happy/a{suffix}"), texture(60, 60, seed=1))
    (tmp_path / "happy/b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    faces, skipped = read_faces(list_pictures(tmp_path), None, 48, 0.1)
    assert len(faces) == 1 and skipped == {"photo unreadable": 1}


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffimage;expression\r\nhappy\\a.png;Happy\r\n",
        "image, expression\nhappy/a.png,happy,\n",
        "image,expression,x,y,width,height\nhappy/a.png,happy,,,,\n",
    ],
    ids=["semicolons, Windows", "blanks, a last comma", "no box in this row"],
)
def test_what_spreadsheets_write(tmp_path: Path, table: str) -> None:
    (tmp_path / "faces.csv").write_text(table, encoding="utf-8")
    assert list_pictures(tmp_path / "faces.csv") == [LabelledPicture(tmp_path / "happy/a.png", "happy")]


def test_a_box_beyond_reason_is_counted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 60), np.uint8))
    _, skipped = read_faces([LabelledPicture(tmp_path / "a.png", "happy", (0, 0, 5e5, 5e5))], None, 48, 0.1)
    assert skipped == {"box far larger than the picture": 1}


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    """Phones store pictures lying and say so in EXIF."""
    upright = draw_photo(np.random.default_rng(3), [("happy", (60, 60, 150, 150))], 280, 300)
    (tmp_path / "happy").mkdir()
    picture = Image.fromarray(cv2.cvtColor(upright, cv2.COLOR_BGR2RGB)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to display
    picture.save(tmp_path / "happy/a.jpg", exif=exif, quality=95)
    faces, _ = read_faces(list_pictures(tmp_path), None, 48, 0.1)
    expected = crop_face(upright, (0, 0, 280, 300), 48, 0.0)
    assert np.abs(faces.images[0].astype(int) - expected).mean() < 4


def test_largest_detected_face_is_taken_and_none_is_counted(tmp_path: Path) -> None:
    photo = texture(300, 400, seed=1)
    (tmp_path / "sad").mkdir()
    cv2.imwrite(str(tmp_path / "sad/two.png"), photo)
    pictures = list_pictures(tmp_path)
    boxes: list[Box] = [(20.0, 60.0, 90.0, 90.0), (180.0, 40.0, 170.0, 170.0), (5.0, 200.0, 50.0, 50.0)]
    faces, _ = read_faces(pictures, KnownBoxes(boxes), 48, 0.1)
    np.testing.assert_array_equal(faces.images[0], crop_face(photo, boxes[1], 48, 0.1))
    assert read_faces(pictures, KnownBoxes([]), 48, 0.1)[1] == {"no face found": 1}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["no pictures", "subfolders named after expressions"]),
        ({"bored/a.png": ""}, ["['bored']", "no expressions"]),
        ({"happy/a.txt": ""}, ["no pictures"]),
        ({"f.csv": "image,label\na.png,happy\n"}, ["lacks the columns ['expression']"]),
        ({"f.csv": "image,expression\n"}, ["has no rows"]),
        ({"f.csv": "image,expression\na.png,hapy\n"}, ["line 2", "'hapy'"]),
        ({"f.csv": "image,expression,x\na.png,happy,1\n"}, ["['x'] only"]),
        ({"f.csv": "image,expression,x,y,width,height\na.png,happy,1,2,0,5\n"}, ["line 2", "above 0"]),
        ({"f.csv": "image,expression,x,y,width,height\na.png,happy,0,0,inf,10\n"}, ["line 2: x, y, width and"]),
        ({"f.csv": "\0\0\0\n\"", }, ["f.csv"]),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, files: dict[str, str], words: list[str]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as caught:
        list_pictures(tmp_path / "f.csv" if "f.csv" in files else tmp_path)
    assert [word for word in words if word not in str(caught.value)] == []


def test_nothing_to_score_says_what_to_try(tmp_path: Path) -> None:
    (tmp_path / "faces/sad").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "faces/sad/wall.png"), np.full((48, 48, 3), 128, np.uint8))
    options = ("--detector", "haar", "--output", str(tmp_path / "report"))
    command = [sys.executable, "-m", "src.evaluation", str(tmp_path / "faces"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("error: ")) == (1, 1)
    assert "pass --cropped" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "report").exists()
