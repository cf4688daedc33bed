"""Labelled pictures of any origin -> FaceSet, for `python -m src.evaluation`.

A folder with one subfolder per expression (`happy/`, `Sadness/`, ...), or a CSV with the columns `image, expression`
and, where the faces are marked, `x, y, width, height` in pixels of the picture as it is displayed. Paths in a CSV are
relative to it.
"""

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from src.datasets.photos import FORMATS, PHOTO_SUFFIXES, PhotoError, decode, read_header
from src.errors import UserError
from src.evaluation.labellings import OWN_PICTURES
from src.expressions import EXPRESSIONS, FOLDER_NAMES
from src.faceset import FaceSet
from src.recognition.crop_face import Box, crop_face
from src.recognition.detection import Detector

NO_FACE = "no face found"
_LARGEST_BOX = 4  # times the picture's longer side
_FORMATS = (*FORMATS, "TIFF", "PPM", "JPEG2000", "AVIF")  # Pillow's names
# Listed in folders; what cannot be read is counted.
_SUFFIXES = (
    *(*PHOTO_SUFFIXES, ".jfif", ".jpe", ".tif", ".tiff", ".pgm", ".ppm", ".jp2", ".avif"),
    *(".gif", ".heic", ".heif"),
)
_CLUTTER = (".", "__MACOSX")  # hidden, and what macOS adds to archives
_BOX_COLUMNS = ("x", "y", "width", "height")


@dataclass(frozen=True)
class LabelledPicture:
    """path of the picture, its expression, and the face's box in pixels where it is known."""

    path: Path
    expression: str
    box: Box | None = None


def list_pictures(source: str | Path) -> list[LabelledPicture]:
    """The pictures of a folder or CSV, in a fixed order. Raises UserError when there are none or a label is unknown."""
    source = Path(source)
    if source.is_dir():
        return _list_folder(source)
    if source.suffix.lower() == ".csv" and source.is_file():
        return _list_csv(source)
    raise UserError(
        f"{source} is neither a folder nor a CSV file. Name a folder with one subfolder per expression "
        f"({', '.join(EXPRESSIONS)}), or a CSV with the columns image and expression."
    )


def _list_folder(folder: Path) -> list[LabelledPicture]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_CLUTTER))
    if unknown := [path.name for path in folders if path.name.lower() not in FOLDER_NAMES]:
        raise UserError(
            f"{folder} has the subfolders {unknown}, which are no expressions; expected {', '.join(EXPRESSIONS)}. "
            "Rename or move them."
        )
    pictures = [
        LabelledPicture(path, FOLDER_NAMES[entry.name.lower()])
        for entry in folders
        for path in sorted(entry.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(_CLUTTER) and path.is_file()
    ]
    if not pictures:
        raise UserError(
            f"{folder} has no pictures ({', '.join(PHOTO_SUFFIXES)}) in subfolders named after expressions "
            f"({', '.join(EXPRESSIONS)}). Sort them so, or pass a CSV with the columns image and expression."
        )
    return pictures


def _list_csv(path: Path) -> list[LabelledPicture]:
    try:
        head = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = ";" if ";" in head and "," not in head else ","  # as spreadsheets write it in much of the world
        how: dict[str, Any] = {"index_col": False, "dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}
        with warnings.catch_warnings(action="ignore", category=pd.errors.ParserWarning):  # of a comma behind each row
            table = pd.read_csv(path, sep=separator, **how).rename(columns=str.strip)
    except ValueError as error:  # pandas' parser errors and bad UTF-8 are ValueErrors
        raise UserError(f"{path} cannot be read as CSV ({' '.join(str(error).split())}).") from error
    missing = [column for column in ("image", "expression") if column not in table]
    if missing or table.empty:
        what = f"lacks the columns {missing}" if missing else "has no rows"
        raise UserError(f"{path} {what}; expected image, expression and, if known, {', '.join(_BOX_COLUMNS)}.")
    boxed = [column for column in _BOX_COLUMNS if column in table]
    if boxed and len(boxed) < len(_BOX_COLUMNS):
        raise UserError(f"{path} has the columns {boxed} only; a box needs {', '.join(_BOX_COLUMNS)}, in pixels.")
    boxes = table[boxed].apply(pd.to_numeric, errors="coerce").astype(float)
    unmarked = (table[boxed].apply(lambda column: column.str.strip()) == "").all(axis=1)
    pictures = []
    for line, (image, label) in enumerate(zip(table["image"], table["expression"], strict=True), start=2):
        box = () if unmarked.iloc[line - 2] else tuple(boxes.iloc[line - 2].tolist())
        expression = FOLDER_NAMES.get(label.strip().lower())
        if box and not (np.isfinite(box).all() and min(box[2:]) > 0):
            raise UserError(f"{path}, line {line}: x, y, width and height must be numbers, the last two above 0.")
        if not expression:
            raise UserError(f"{path}, line {line}: {label!r} is no expression; expected {', '.join(EXPRESSIONS)}.")
        pictures.append(LabelledPicture(path.parent / image.replace("\\", "/"), expression, box or None))
    return pictures


def read_faces(
    pictures: list[LabelledPicture], detector: Detector | None, image_size: int, margin: float
) -> tuple[FaceSet, Counter[str]]:
    """One face of every picture that has one, cut out by the one crop function, and why others have none.

    detector: finds the faces; the largest of a picture is taken. None: the pictures are faces already, as a whole. A
    picture with a box needs neither. image_size: pixels. margin: fraction of the box added on each end.
    """
    crops, rows, skipped = [], [], Counter[str]()
    for picture in tqdm(pictures, desc="faces", unit=" pictures", disable=None):
        try:
            content = picture.path.read_bytes()
            photo = decode(content, read_header(content, _FORMATS), grey=False, upright=True)
            crops.append(_cut_out(photo, picture.box, detector, image_size, margin))
        except OSError:
            skipped["file missing or unreadable"] += 1
        except PhotoError as error:
            skipped[str(error)] += 1
        else:
            rows.append((str(picture.path), picture.expression))
    labels = pd.DataFrame(rows, columns=["image_name", "expression"])
    labels = labels.assign(group=labels["image_name"], source=OWN_PICTURES, usage="", copy_of="", synthetic=False)
    images = np.stack(crops) if crops else np.zeros((0, image_size, image_size), np.uint8)
    return FaceSet(images, labels), skipped


def _cut_out(
    photo: np.ndarray, box: Box | None, detector: Detector | None, image_size: int, margin: float
) -> np.ndarray:
    if box is not None:
        if max(box[2:]) > _LARGEST_BOX * max(photo.shape[:2]):
            raise PhotoError("box far larger than the picture")
        try:
            return crop_face(photo, box, image_size, margin)
        except ValueError:
            raise PhotoError("box outside the picture") from None
    if detector is None:
        return crop_face(photo, (0, 0, photo.shape[1], photo.shape[0]), image_size, 0.0)
    found = detector.detect(photo)
    if not found:
        raise PhotoError(NO_FACE)
    return crop_face(photo, max(found, key=lambda face: face.box[2]).box, image_size, margin)
