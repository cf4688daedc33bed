"""FaceSet: what is written is what is read, to the byte, and a damaged set is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import COLUMNS, FaceSet, class_counts
from tests.conftest import random_faces

# What a CSV file can hold: no surrogates, no null; a lone carriage return ends a line.
AWKWARD = ["nan", "NA", "", "None", "1", "001", "1e5", "true", ' "quoted", with comma', "line\nbreak"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12) | st.sampled_from(AWKWARD)
ROW = st.tuples(TEXT, st.just("expw"), TEXT, st.sampled_from(EXPRESSIONS), TEXT, TEXT, st.booleans())


@settings(max_examples=60)
@given(rows=st.lists(ROW, min_size=1, max_size=6), size=st.integers(1, 12))
def test_face_set_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple], size: int
) -> None:
    images = np.random.default_rng(size).integers(0, 256, (len(rows), size, size), dtype=np.uint8)
    faces = FaceSet(images, pd.DataFrame(rows, columns=[*COLUMNS]))
    first, second = (tmp_path_factory.getbasetemp() / name for name in ("first", "second"))
    faces.save(first)
    loaded = FaceSet.load(first)
    np.testing.assert_array_equal(loaded.images, faces.images)
    assert loaded.labels.to_dict("list") == faces.labels.to_dict("list")
    assert loaded.labels["synthetic"].dtype == bool
    loaded.save(second)
    for name in ("images.npy", "labels.csv"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_classes_are_mapped_by_name() -> None:
    faces = random_faces(2)
    assert faces.targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert list(class_counts(faces.labels)) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a row is missing": ("labels.csv", lambda content: content[: content.rindex(b"\n", 0, -1) + 1]),
    "a column is missing": ("labels.csv", lambda content: content.replace(b"expression", b"emotion", 1)),
    "no labels": ("labels.csv", lambda content: b""),
    "unknown class": ("labels.csv", lambda content: content.replace(b"happy", b"hapy")),
    "truncated": ("images.npy", lambda content: content[:-100]),
    "damaged header": ("images.npy", lambda content: content.replace(b"'|u1'", b"',u1'")),
    "no array": ("images.npy", lambda content: b"hello"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_set_is_refused(tmp_path: Path, case: str) -> None:
    name, spoil = DAMAGE[case]
    random_faces(2).save(tmp_path / "set")
    path = tmp_path / "set" / name
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match=r"set.*dvc repro"):
        FaceSet.load(tmp_path / "set")
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} is missing.*dvc repro"):
        FaceSet.load(tmp_path / "set")
