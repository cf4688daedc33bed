"""FaceSet: what is written is what is read, to the byte, and a damaged set is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.faceset import FaceSet, class_counts
from tests.conftest import random_faces


def test_round_trip_and_identical_bytes(tmp_path: Path) -> None:
    faces = random_faces(3)
    faces.labels.loc[0, "image_name"] = "nan"  # text that pandas would read as missing
    faces.save(tmp_path / "a")
    loaded = FaceSet.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.images, faces.images)
    pd.testing.assert_frame_equal(loaded.labels, faces.labels)
    loaded.save(tmp_path / "b")
    for name in ("images.npy", "labels.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_classes_are_mapped_by_name() -> None:
    faces = random_faces(2)
    assert faces.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert list(class_counts(faces.labels)) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


@pytest.mark.parametrize(
    "how", ["rows", "truncated", "header", "no labels", "empty labels", "bad class", "not an array"]
)
def test_damaged_set_is_refused(tmp_path: Path, how: str) -> None:
    faces = random_faces(2)
    faces.save(tmp_path / "set")
    images, labels = tmp_path / "set/images.npy", tmp_path / "set/labels.csv"
    if how == "rows":
        labels.write_text("\n".join(labels.read_text().splitlines()[:-1]) + "\n")
    elif how == "truncated":
        images.write_bytes(images.read_bytes()[:-100])
    elif how == "header":
        images.write_bytes(images.read_bytes().replace(b"'|u1'", b"',u1'"))
    elif how == "no labels":
        labels.unlink()
    elif how == "empty labels":
        labels.write_bytes(b"")
    elif how == "bad class":
        labels.write_text(labels.read_text().replace("happy", "hapy"))
    else:
        images.write_text("hello")
    with pytest.raises(UserError, match="dvc repro"):
        FaceSet.load(tmp_path / "set")
