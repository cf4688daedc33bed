"""The crop function: size, place, proportions, edges, and how far a photo may be shrunk while it is decoded."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.preparation.cropping import RESERVE, shrink_factor
from src.recognition.crop_face import Box, crop_face, square_around
from tests.raw_data import texture

PHOTO = texture(90, 120, seed=1)  # (90, 120)
LENGTH = st.floats(0.01, 500, allow_subnormal=False)
PLACE = st.floats(-600, 600, allow_subnormal=False)
BOXES = st.tuples(PLACE, PLACE, LENGTH, LENGTH)


@settings(max_examples=150)
@given(box=BOXES, image_size=st.integers(16, 64), margin=st.floats(0, 1))
def test_a_box_that_touches_the_photo_gives_a_face_and_any_other_an_error(
    box: Box, image_size: int, margin: float
) -> None:
    left, top, side = square_around(box, margin)
    if left < 120 and top < 90 and left + side > 0 and top + side > 0:
        face = crop_face(PHOTO, box, image_size, margin)
        assert (face.shape, face.dtype) == ((image_size, image_size), np.uint8)
        if side > image_size:  # averaging stays within the grey levels; cubic enlarging may overshoot
            assert PHOTO.min() <= face.min() <= face.max() <= PHOTO.max()
    else:
        with pytest.raises(ValueError, match="outside the photo"):
            crop_face(PHOTO, box, image_size, margin)


@given(box=BOXES, margin=st.floats(0, 1))
def test_square_is_centred_on_the_box_and_holds_its_longer_side(box: Box, margin: float) -> None:
    left, top, side = square_around(box, margin)
    x, y, width, height = box
    assert side == max(1, round(max(width, height) * (1 + 2 * margin)))
    assert abs(left + side / 2 - (x + width / 2)) <= 0.5 + 1e-9
    assert abs(top + side / 2 - (y + height / 2)) <= 0.5 + 1e-9


@settings(max_examples=40)
@given(left=st.integers(0, 30), top=st.integers(0, 10), image_size=st.integers(16, 20), step=st.integers(1, 4))
def test_square_inside_the_photo_equals_the_slow_way(left: int, top: int, image_size: int, step: int) -> None:
    """The average over the exact area of every output pixel; where nothing is shrunk, a copy."""
    side = image_size * step
    square = PHOTO[top : top + side, left : left + side]
    slow = square.reshape(image_size, step, image_size, step).mean(axis=(1, 3))
    face = crop_face(PHOTO, (left, top, side, side), image_size, margin=0)
    assert np.abs(face - slow).max() <= 0.5 + 1e-6


def test_edge_is_repeated_outside_the_photo() -> None:
    crop = crop_face(PHOTO, (-24, 0, 48, 48), 48, 0)
    np.testing.assert_array_equal(crop[:, 24:], PHOTO[:48, :24])
    assert (crop[:, :24] == PHOTO[:48, :1]).all()


def test_proportions_are_kept() -> None:
    photo = np.zeros((200, 200), np.uint8)
    cv2.circle(photo, (100, 100), 30, 255, -1)
    crop = crop_face(photo, (80, 60, 40, 80), 48, 0.1) > 127
    assert abs(int(crop.any(0).sum()) - int(crop.any(1).sum())) <= 1


def test_colour_and_grey_photos_agree() -> None:
    colour = cv2.cvtColor(PHOTO, cv2.COLOR_GRAY2BGR)
    box = (30.0, 20.0, 50.0, 50.0)
    np.testing.assert_array_equal(crop_face(colour, box, 48, 0.1), crop_face(PHOTO, box, 48, 0.1))


@given(sides=st.lists(st.integers(1, 3000), min_size=1, max_size=5), image_size=st.integers(16, 96))
def test_photo_is_shrunk_only_as_far_as_its_smallest_face_allows(sides: list[int], image_size: int) -> None:
    factor = shrink_factor([(0, 0, side, side) for side in sides], image_size, margin=0)
    assert factor in (1, 2, 4, 8)
    if factor > 1:
        assert min(sides) / factor >= RESERVE * image_size
    if factor < 8:
        assert min(sides) / (2 * factor) < RESERVE * image_size
