"""(photo, box) -> crop: the one crop function, used on labelled boxes and on detector boxes alike."""

import cv2
import numpy as np

# A box is (x, y, width, height) in pixels of the photo; it may reach outside.
Box = tuple[float, float, float, float]


def square_around(box: Box, margin: float) -> tuple[int, int, int]:
    """The square that `crop_face` cuts out: (left, top, side) in pixels.

    The square shares the box's centre; its side is the longer side of the box plus `margin` of it on
    either end, so the face keeps its proportions whatever the detector's box looks like.
    """
    x, y, width, height = box
    side = max(1, round(max(width, height) * (1 + 2 * margin)))
    left = round(x + width / 2 - side / 2)
    top = round(y + height / 2 - side / 2)
    return left, top, side


def crop_face(photo: np.ndarray, box: Box, image_size: int, margin: float) -> np.ndarray:
    """Cut a face out of a photo.

    photo: uint8 `(H, W)` grey or `(H, W, 3)` BGR.
    box: (x, y, width, height), pixels.
    image_size: side of the result S, pixels. margin: fraction of the box side added on each end.
    Returns uint8 `(S, S)`, grey [0, 255]. Where the square reaches outside the photo, the photo's
    edge is repeated. Raises ValueError when the box does not touch the photo.
    """
    left, top, side = square_around(box, margin)
    height, width = photo.shape[:2]
    right, bottom = left + side, top + side
    patch = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if patch.size == 0:
        raise ValueError(f"box {box} lies outside the photo of {width} x {height} pixels")
    if patch.ndim == 3:
        patch = cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY)
    outside = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(outside):
        patch = cv2.copyMakeBorder(patch, *outside, borderType=cv2.BORDER_REPLICATE)
    # INTER_AREA averages when shrinking; when enlarging it degrades to nearest neighbour.
    interpolation = cv2.INTER_AREA if side > image_size else cv2.INTER_CUBIC
    return cv2.resize(patch, (image_size, image_size), interpolation=interpolation)
