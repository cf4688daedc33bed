"""What holds for every input, tried on generated ones: crops, splits, undersampling, parameters, FaceSets.

In CI the examples are the same in every run. `HYPOTHESIS_PROFILE=explore python -m pytest tests/test_properties.py`
draws other ones each time, and ten times as many.
"""

import contextlib
import copy
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from src.errors import UserError
from src.expressions import EXPRESSIONS, NUM_CLASSES
from src.faceset import FaceSet
from src.params import Params, SplitParams, load_params, parse_params
from src.preparation.copies import find_copies
from src.preparation.splitting import SPLITS, assign_splits, split_faces
from src.preparation.undersampling import undersample
from src.recognition.crop_face import Box, crop_face, square_around
from tests.conftest import ROOT
from tests.test_splitting import change, pictures

settings.register_profile("ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=1000)
PROFILE = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def examples(count: int) -> settings:
    """The profile, with so many examples where it is the one of CI."""
    return PROFILE if PROFILE.max_examples > 100 else settings(PROFILE, max_examples=count)


SEEDS = st.integers(0, 2**32 - 1)


# --- boxes and crops ---


def photo_of(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


LENGTH = st.floats(0.01, 500, allow_subnormal=False)
PLACE = st.floats(-600, 600, allow_subnormal=False)


@examples(150)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    channels=st.sampled_from([1, 3]),
    box=st.tuples(PLACE, PLACE, LENGTH, LENGTH),
    image_size=st.integers(16, 64),
    margin=st.floats(0, 1),
    seed=SEEDS,
)
def test_a_box_that_touches_the_photo_gives_a_face_and_any_other_an_error(
    height: int, width: int, channels: int, box: Box, image_size: int, margin: float, seed: int
) -> None:
    photo = photo_of(height, width, channels, seed)
    left, top, side = square_around(box, margin)
    if left < width and top < height and left + side > 0 and top + side > 0:
        face = crop_face(photo, box, image_size, margin)
        assert face.shape == (image_size, image_size)
        assert face.dtype == np.uint8
        grey = photo if channels == 1 else cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
        if side > image_size:  # averaging stays within the grey levels; cubic enlarging may overshoot
            assert face.min() >= grey.min()
            assert face.max() <= grey.max()
    else:
        with pytest.raises(ValueError, match="outside the photo"):
            crop_face(photo, box, image_size, margin)


@examples(200)
@given(box=st.tuples(PLACE, PLACE, LENGTH, LENGTH), margin=st.floats(0, 1))
def test_square_holds_the_centre_and_at_least_the_longer_side(box: Box, margin: float) -> None:
    x, y, width, height = box
    left, top, side = square_around(box, margin)
    assert all(isinstance(value, int) for value in (left, top, side))
    assert side >= 1
    assert left - 0.5 <= x + width / 2 <= left + side + 0.5
    assert top - 0.5 <= y + height / 2 <= top + side + 0.5
    assert abs(side - max(1, max(width, height) * (1 + 2 * margin))) <= 0.5


def slow_crop(photo: np.ndarray, left: int, top: int, side: int, image_size: int) -> np.ndarray:
    """Average over the exact area of every output pixel, in plain loops; side is a multiple of image_size."""
    step = side // image_size
    face = np.empty((image_size, image_size))
    for row in range(image_size):
        for column in range(image_size):
            y, x = top + row * step, left + column * step
            face[row, column] = photo[y : y + step, x : x + step].mean()
    return face


@examples(40)
@given(data=st.data(), image_size=st.integers(16, 24), step=st.integers(1, 4), seed=SEEDS)
def test_square_inside_the_photo_equals_the_slow_way(
    data: st.DataObject, image_size: int, step: int, seed: int
) -> None:
    side = image_size * step
    height, width = (data.draw(st.integers(side, side + 30)) for _ in range(2))
    left, top = data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side))
    photo = photo_of(height, width, 1, seed)
    face = crop_face(photo, (left, top, side, side), image_size, margin=0)
    assert np.abs(face - slow_crop(photo, left, top, side, image_size)).max() <= 0.5 + 1e-6


@examples(60)
@given(data=st.data(), seed=SEEDS)
def test_pixels_outside_the_square_do_not_matter(data: st.DataObject, seed: int) -> None:
    left, top = (data.draw(st.integers(-20, 60)) for _ in range(2))
    side = data.draw(st.integers(21, 60))
    photo = photo_of(64, 64, 1, seed)
    other = photo_of(64, 64, 1, seed + 1)
    rows, columns = slice(max(top, 0), top + side), slice(max(left, 0), left + side)
    other[rows, columns] = photo[rows, columns]
    box = (left, top, side, side)
    np.testing.assert_array_equal(crop_face(photo, box, 32, 0), crop_face(other, box, 32, 0))


# --- splits ---


def label_table(generator: np.random.Generator, fer2013: int, photos: int) -> pd.DataFrame:
    """FER2013 rows of every usage and class, then photos of one to five faces, in random order."""
    rows = []
    for number in range(fer2013):
        usage = ("Training", "PublicTest", "PrivateTest")[int(generator.choice(3, p=(0.6, 0.2, 0.2)))]
        expression = EXPRESSIONS[number % 7 if usage == "Training" else int(generator.integers(7))]
        rows.append((f"fer2013/{usage}_{number}", "fer2013", usage, expression, f"fer2013/{usage}_{number}"))
    # Every class and every split is there, whatever is drawn: a split that lacks one is an error, tested elsewhere.
    for number, expression in enumerate(EXPRESSIONS * 2):
        rows.append((f"fer2013/Training_{900 + number}", "fer2013", "Training", expression, f"sure/{number}"))
    for usage in ("PublicTest", "PrivateTest"):
        rows += [(f"fer2013/{usage}_{950 + i}", "fer2013", usage, "happy", f"sure/{usage}{i}") for i in range(2)]
    for number in range(photos):
        for face in range(int(generator.integers(1, 6))):
            expression = EXPRESSIONS[int(generator.integers(7))]
            rows.append((f"expw/{number}.jpg#{face}", "expw", "", expression, f"expw/{number}.jpg"))
    table = pd.DataFrame(rows, columns=["image_name", "source", "usage", "expression", "group"])
    table["copy_of"], table["synthetic"] = "", False
    return table.iloc[generator.permutation(len(table))].reset_index(drop=True)


@examples(60)
@given(
    seed=SEEDS,
    fer2013=st.integers(0, 60),
    photos=st.integers(0, 60),
    protocol=st.sampled_from(["official", "random"]),
)
def test_no_photo_is_parted(seed: int, fer2013: int, photos: int, protocol: str) -> None:
    labels = label_table(np.random.default_rng(seed), fer2013, photos)
    split = assign_splits(labels, protocol, seed)
    assert set(split) <= set(SPLITS)
    assert (pd.Series(split).groupby(labels["group"].to_numpy()).nunique() == 1).all()
    if protocol == "official":
        usage = pd.Series(split).map({"train": "Training", "validation": "PublicTest", "test": "PrivateTest"})
        is_fer2013 = (labels["source"] == "fer2013").to_numpy()
        assert (usage[is_fer2013].to_numpy() == labels["usage"][is_fer2013].to_numpy()).all()
    again = assign_splits(labels.iloc[::-1], protocol, seed)
    assert (again[::-1] == split).all()


PLANTS = ("exact", "mirrored", "brighter", "jpeg")


@examples(25)
@given(data=st.data(), seed=SEEDS, protocol=st.sampled_from(["official", "random"]), remove=st.booleans())
def test_no_copy_straddles(data: st.DataObject, seed: int, protocol: Any, remove: bool) -> None:
    generator = np.random.default_rng(seed)
    labels = label_table(generator, fer2013=20, photos=12)
    images = pictures(len(labels), seed)
    rows = st.integers(0, len(labels) - 1)
    planted = data.draw(st.lists(st.tuples(rows, rows, st.sampled_from(PLANTS)), max_size=15))
    for source, target, how in planted:
        images[target] = change(images[source], how)
    settings_ = SplitParams(protocol=protocol, remove_copies=remove, copy_similarity=0.65, seed=1)
    try:
        split = split_faces(FaceSet(images, labels), settings_)
    except UserError as error:  # copies may have taken the last face of a class
        assert "no faces" in str(error)
        return
    parts = {name: part.labels for name, part in split.parts.items()}
    if remove:
        kept_names = {name: set(part["image_name"]) for name, part in parts.items()}
        place = {name: number for number, name in enumerate(labels["image_name"])}
        where = {place[name]: key for key, names in kept_names.items() for name in names}
        for first, second in zip(split.pairs.first, split.pairs.second, strict=True):
            if int(first) in where and int(second) in where:
                assert where[int(first)] == where[int(second)]
        # By another road than the stage's: nothing in a later split looks like anything in an earlier one.
        together = np.concatenate([split.parts[name].images for name in SPLITS])
        owner = np.repeat(np.arange(3), [len(split.parts[name]) for name in SPLITS])
        pairs = find_copies(together, 0.65)
        assert (owner[pairs.first] == owner[pairs.second]).all()
        removed = split.report["removed"]
        assert isinstance(removed, dict)
        assert removed["test"] == 0
        assert sum(map(len, parts.values())) + sum(removed.values()) == len(labels)
    else:
        assert sum(map(len, parts.values())) == len(labels)
    assert not pd.concat(parts.values())["image_name"].duplicated().any()
    for name, part in parts.items():  # pictures and labels moved together
        for row in range(0, len(part), 7):
            original = int(np.flatnonzero(labels["image_name"] == part["image_name"].iloc[row])[0])
            np.testing.assert_array_equal(split.parts[name].images[row], images[original])


# --- undersampling ---


def _named_counts(codes: np.ndarray) -> dict[str, int]:
    return {EXPRESSIONS[code]: int((codes == code).sum()) for code in np.unique(codes)}


@examples(150)
@given(
    targets=st.lists(st.integers(0, NUM_CLASSES - 1), min_size=1, max_size=300),
    fractions=st.dictionaries(st.sampled_from(EXPRESSIONS), st.floats(0, 0.999), max_size=NUM_CLASSES),
    seed=SEEDS,
)
def test_undersampling_counts_order_and_seed(targets: list[int], fractions: dict[str, float], seed: int) -> None:
    assume(len(set(targets)) > 1)  # the split stage makes sure of all seven
    codes = np.array(targets, np.int64)
    left = {name: count - round(count * fractions.get(name, 0.0)) for name, count in _named_counts(codes).items()}
    if 0 in left.values():
        with pytest.raises(UserError, match="leaves none"):
            undersample(codes, fractions, seed)
        return
    rows = undersample(codes, fractions, seed)
    counts, kept = np.bincount(codes, minlength=NUM_CLASSES), np.bincount(codes[rows], minlength=NUM_CLASSES)
    for code, name in enumerate(EXPRESSIONS):
        count = int(counts[code])
        assert kept[code] == count - round(count * fractions.get(name, 0.0))
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, undersample(codes, fractions, seed))


# --- parameters ---

CONTENT = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
KEYS = [
    (section, key) if not isinstance(value, dict) else (section, key, inner)
    for section, keys in CONTENT.items()
    if isinstance(keys, dict)
    for key, value in keys.items()
    for inner in (value if isinstance(value, dict) else [None])
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=4) | st.dates(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=5,
)
LIKELY = st.sampled_from(
    [0, 1, -1, 0.5, 1.0, "1e-4", "nan", "inf", "auto", "none", "1_000", "0x10", 2**70, 10**400, 1e308, True]
)


@examples(400)
@given(data=st.data())
def test_any_value_is_an_error_that_names_the_key_or_fits_its_type(data: st.DataObject) -> None:
    content: Any = copy.deepcopy(CONTENT)
    *path, last = data.draw(st.sampled_from([tuple(filter(None, key)) for key in KEYS]))
    owner = content
    for name in path:
        owner = owner[name]
    owner[last] = data.draw(LIKELY | JUNK)
    try:
        params: Any = parse_params(content)
    except UserError as error:
        assert ".".join([*path, last]) in str(error)
        return
    for name in path:
        params = getattr(params, name)
    assert isinstance(getattr(params, last), str | bool | int | float)


@examples(200)
@given(content=JUNK | st.dictionaries(st.sampled_from(list(CONTENT)), JUNK, max_size=9))
def test_any_content_is_a_user_error(content: Any) -> None:
    with pytest.raises(UserError):
        parse_params(content)


@examples(200)
@given(data=st.data())
def test_any_damage_to_the_file_is_a_user_error_or_still_valid(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray((ROOT / "params.yaml").read_bytes())
    place = data.draw(st.integers(0, len(content)))
    content[place : place + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=12))
    path = tmp_path_factory.getbasetemp() / "damaged_params.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert isinstance(load_params(path), Params)


# --- FaceSet ---

# What a CSV file can hold: no surrogates, no null; a lone carriage return ends a line.
AWKWARD = ["nan", "NA", "", "None", "1", "001", "1e5", "true", ' "quoted", with comma', "line\nbreak"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=12) | st.sampled_from(AWKWARD)


@examples(60)
@given(data=st.data(), size=st.integers(1, 12), seed=SEEDS)
def test_face_set_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int, seed: int
) -> None:
    rows = data.draw(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT, st.booleans()), max_size=6))
    assume(len(rows) > 0)
    generator = np.random.default_rng(seed)
    labels = pd.DataFrame(rows, columns=["image_name", "usage", "group", "copy_of", "synthetic"])
    labels["source"] = "expw"
    labels["expression"] = [EXPRESSIONS[code] for code in generator.integers(0, 7, len(rows))]
    labels = labels[["image_name", "source", "usage", "expression", "group", "copy_of", "synthetic"]]
    faces = FaceSet(generator.integers(0, 256, (len(rows), size, size), dtype=np.uint8), labels)
    folder: Path = tmp_path_factory.getbasetemp()
    faces.save(folder / "first")
    loaded = FaceSet.load(folder / "first")
    np.testing.assert_array_equal(loaded.images, faces.images)
    assert loaded.labels.to_dict("list") == faces.labels.to_dict("list")
    assert loaded.labels["synthetic"].dtype == bool
    loaded.save(folder / "second")
    for name in ("images.npy", "labels.csv"):
        assert (folder / "first" / name).read_bytes() == (folder / "second" / name).read_bytes()
