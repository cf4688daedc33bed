"""The bundled sample: reproducible, small, in the download formats, and found by a face detector."""

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.expressions import CODE, EXPRESSIONS
from tools.drawn_faces import (
    BAD_ROWS,
    FER2013_COPIES,
    NUM_BOXES_OUTSIDE,
    NUM_PHOTOS,
    USAGES,
    draw_clip,
    draw_face,
    write_sample,
)

SAMPLE = Path(__file__).parents[1] / "data" / "raw" / "sample"


def _files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def fer2013() -> pd.DataFrame:
    with zipfile.ZipFile(SAMPLE / "fer2013" / "drawn_faces.zip") as archive, archive.open("fer2013.csv") as table:
        return pd.read_csv(table)


@pytest.fixture(scope="module")
def pictures(fer2013: pd.DataFrame) -> np.ndarray:
    """(N, 48, 48) uint8."""
    return np.stack([np.array(text.split(), np.uint8).reshape(48, 48) for text in fer2013["pixels"]])


@pytest.fixture(scope="module")
def label_rows() -> list[list[str]]:
    return [line.split(" ") for line in (SAMPLE / "expw" / "label.lst").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def good_rows(label_rows: list[list[str]]) -> list[list[str]]:
    return label_rows[: -len(BAD_ROWS)]


@pytest.mark.slow
def test_the_same_seed_draws_the_same_sample(tmp_path: Path) -> None:
    """Tables and FER2013's pixels to the byte; photos as seen, since JPEG encoders differ."""
    write_sample(tmp_path / "sample")
    drawn, committed = _files(tmp_path / "sample"), _files(SAMPLE)
    assert drawn.keys() == committed.keys()
    for name, content in drawn.items():
        if name.endswith(".zip"):
            contents = [zipfile.ZipFile(root / name).read("fer2013.csv") for root in (tmp_path / "sample", SAMPLE)]
            assert contents[0] == contents[1]
        elif name.endswith(".jpg") and "_drawn_90" not in name:
            first, second = (cv2.imread(str(root / name)) for root in (tmp_path / "sample", SAMPLE))
            assert first is not None and second is not None
            assert np.abs(first.astype(int) - second).mean() < 2, name
        elif not name.endswith(".jpg"):
            assert content == committed[name], name


def test_fer2013_has_the_columns_and_values_of_the_real_file(fer2013: pd.DataFrame, pictures: np.ndarray) -> None:
    assert sum(len(content) for content in _files(SAMPLE).values()) <= 2_000_000
    assert list(fer2013.columns) == ["emotion", "pixels", "Usage"]
    assert 450 <= len(fer2013) <= 700
    assert fer2013["Usage"].value_counts(normalize=True)["Training"] == pytest.approx(0.8, abs=0.04)
    assert pictures.shape == (len(fer2013), 48, 48)
    assert pictures.std(axis=(1, 2)).min() > 10


def test_every_expression_is_in_every_usage(fer2013: pd.DataFrame) -> None:
    assert (pd.crosstab(fer2013["Usage"], fer2013["emotion"]).loc[list(USAGES), list(CODE.values())] >= 4).all(
        axis=None
    )
    counts = fer2013["emotion"].value_counts()
    assert counts.idxmax() == CODE["happy"]
    assert counts.idxmin() == CODE["disgust"]


def test_fer2013_has_the_announced_copies(fer2013: pd.DataFrame, pictures: np.ndarray) -> None:
    planned = Counter(kind for kind, _, _, count in FER2013_COPIES for _ in range(count))
    seen = fer2013.groupby([picture.tobytes() for picture in pictures])["emotion"]
    assert (seen.size() == 2).sum() == planned["exact"] + planned["conflict"]
    assert (seen.nunique() == 2).sum() == planned["conflict"]
    as_drawn = {picture.tobytes() for picture in pictures}
    mirrored = sum(np.ascontiguousarray(picture[:, ::-1]).tobytes() in as_drawn for picture in pictures)
    assert mirrored == 2 * planned["mirrored"]
    flat = pictures.reshape(len(pictures), -1).astype(np.int16)
    distance = np.stack([np.abs(flat - picture).max(axis=1) for picture in flat])
    assert (np.triu(distance, 1) == 1).sum() == planned["near"]


def test_people_vote_mostly_for_what_was_drawn(fer2013: pd.DataFrame) -> None:
    with zipfile.ZipFile(SAMPLE / "fer2013/drawn_faces.zip") as archive, archive.open("fer2013new.csv") as table:
        votes = pd.read_csv(table)
    assert list(votes["Usage"]) == list(fer2013["Usage"])
    counts = votes.drop(columns=["Usage", "Image name"])
    assert (counts.sum(axis=1) == 10).all()
    names = {"anger": "angry", "happiness": "happy", "sadness": "sad"}
    most = counts.rename(columns=names).idxmax(axis=1)
    assert np.mean(most.map(CODE) == fer2013["emotion"]) > 0.95
    assert 1 <= (counts["NF"] == 10).sum() <= 10


def test_label_list_has_the_columns_of_the_real_file(good_rows: list[list[str]]) -> None:
    assert {len(row) for row in good_rows} == {8}
    assert len({row[0] for row in good_rows}) == NUM_PHOTOS
    assert {int(row[7]) for row in good_rows} == set(CODE.values())
    assert all(5 <= float(row[6]) <= 95 for row in good_rows)
    assert all(int(row[4]) > int(row[3]) and int(row[5]) > int(row[2]) for row in good_rows)
    faces_per_photo = Counter(row[0] for row in good_rows)
    assert set(faces_per_photo.values()) == {1, 2, 3, 4}
    assert min(int(row[5]) - int(row[2]) for row in good_rows) >= 46


def test_bad_rows_are_bad_in_the_announced_way(label_rows: list[list[str]], good_rows: list[list[str]]) -> None:
    assert sum(int(row[3]) < 0 for row in good_rows) == NUM_BOXES_OUTSIDE
    inverted, empty, missing, unknown, short, text, truncated = label_rows[-len(BAD_ROWS) :]
    assert int(inverted[2]) > int(inverted[5])
    assert empty[2] == empty[5]
    assert not (SAMPLE / "expw" / "origin" / missing[0]).exists()
    assert unknown[7] == "7"
    assert len(short) == 5
    assert cv2.imread(str(SAMPLE / "expw" / "origin" / text[0])) is None
    content = (SAMPLE / "expw" / "origin" / truncated[0]).read_bytes()
    assert content.startswith(b"\xff\xd8") and not content.endswith(b"\xff\xd9")
    # Otherwise ingest_expw would refuse the sample under the default max_bad_fraction.
    assert len(BAD_ROWS) / len(label_rows) < 0.02


def test_haar_finds_the_large_faces(good_rows: list[list[str]]) -> None:
    cascades = Path(cv2.__file__).parent / "data"
    detector = cv2.CascadeClassifier(str(cascades / "haarcascade_frontalface_default.xml"))
    hits = []
    for name in sorted({row[0] for row in good_rows})[::3]:
        photo = cv2.imread(str(SAMPLE / "expw" / "origin" / name), cv2.IMREAD_GRAYSCALE)
        assert photo is not None
        found = detector.detectMultiScale(photo, scaleFactor=1.1, minNeighbors=5, minSize=(40, 40))
        for top, left, right, bottom in ([int(edge) for edge in row[2:6]] for row in good_rows if row[0] == name):
            inside = top >= 0 and left >= 0 and bottom <= photo.shape[0] and right <= photo.shape[1]
            if inside and bottom - top >= 80:
                hits.append(any(_overlap((left, top, right, bottom), box) >= 0.3 for box in found))
    assert len(hits) >= 50
    assert np.mean(hits) >= 0.95


def _overlap(edges: tuple[int, int, int, int], box: Sequence[int]) -> float:
    left, top, right, bottom = edges
    x, y, width, height = box
    across = max(0, min(right, x + width) - max(left, x))
    down = max(0, min(bottom, y + height) - max(top, y))
    shared = across * down
    return float(shared / ((right - left) * (bottom - top) + width * height - shared))


@pytest.mark.parametrize("size", [48, 97])
def test_draw_face_gives_a_colour_picture_that_only_the_generator_decides(size: int) -> None:
    first, second = (draw_face(np.random.default_rng(7), "happy", size) for _ in range(2))
    assert first.shape == (size, size, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


def test_draw_clip_moves_and_changes_expression() -> None:
    frames = list(draw_clip(np.random.default_rng(3), seconds=2.0, frames_per_second=5.0, size=(320, 240)))
    assert len(frames) == 10
    assert all(frame.shape == (240, 320, 3) and frame.dtype == np.uint8 for frame, _ in frames)
    assert all(len(faces) == 2 for _, faces in frames)
    first, last = frames[0][1][0], frames[-1][1][0]
    assert first.face_box != last.face_box
    assert first.expression != last.expression
    assert {face.expression for _, faces in frames for face in faces} <= set(EXPRESSIONS)


@pytest.mark.parametrize("name", ["fer2013/fer2013.zip", "fer2013/fer2013.csv", "expw/origin/angry_man_1.jpg"])
def test_write_sample_never_replaces_another_data_set(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(UserError, match="not part of the sample"):
        write_sample(tmp_path)
    assert _files(tmp_path) == {name: b"mine"}
