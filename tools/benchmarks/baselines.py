"""The obvious ways, as found in public projects on this data: what our code is measured against."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from imblearn.over_sampling import SMOTE

from src.recognition.crop_face import Box, square_around


def parse_with_itertuples(path: Path) -> np.ndarray:
    """FER2013's CSV row by row, uint8 `(N, 48, 48)`."""
    table = pd.read_csv(path)
    rows = [np.array(row.pixels.split(), dtype=np.uint8) for row in table.itertuples()]  # type: ignore[union-attr]
    return np.stack(rows).reshape(-1, 48, 48)


def parse_with_fromstring(path: Path) -> np.ndarray:
    """FER2013's CSV through NumPy's own text parser, the quickest of the usual ways; uint8 `(N, 48, 48)`."""
    table = pd.read_csv(path)
    rows = [np.fromstring(pixels, dtype=np.uint8, sep=" ") for pixels in table["pixels"]]
    return np.stack(rows).reshape(-1, 48, 48)


def crop_one_thread(folder: Path, photos: list[str], boxes: list[Box], image_size: int, margin: float) -> np.ndarray:
    """Every face out of its photo, decoded in full; uint8 `(N, S, S)`.

    Same square and same repeated edge as `src.recognition.crop_face`, so that only decoding and resizing are compared.
    """
    cv2.setNumThreads(1)
    crops = np.empty((len(boxes), image_size, image_size), np.uint8)
    for index, (name, box) in enumerate(zip(photos, boxes, strict=True)):
        photo = cv2.imread(str(folder / name))
        if photo is None:
            raise ValueError(f"{name} is not a photo")
        grey = cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)
        left, top, side = square_around(box, margin)
        height, width = grey.shape
        outside = (max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0))
        patch = grey[max(top, 0) : top + side, max(left, 0) : left + side]
        patch = cv2.copyMakeBorder(patch, *outside, borderType=cv2.BORDER_REPLICATE)
        crops[index] = cv2.resize(patch, (image_size, image_size), interpolation=cv2.INTER_AREA)
    return crops


def smote_float64(images: np.ndarray, targets: np.ndarray, neighbors: int, seed: int) -> np.ndarray:
    """imbalanced-learn as in its documentation, on float64 in [0, 1]; returns float64 `(N, S * S)`."""
    pixels = images.reshape(len(images), -1).astype(np.float64) / 255.0
    return SMOTE(k_neighbors=neighbors, random_state=seed).fit_resample(pixels, targets)[0]
