"""Pictures for judging ExpW's labels: photos with their boxes, and crops of low and high confidence."""

import cv2
import numpy as np
import pandas as pd
from PIL import ImageColor

from src.datasets.archives import MemberError
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.expressions import COLOURS
from src.recognition.crop_face import crop_face
from src.sheets import draw_sheet, pick_examples, write_text

_LONGEST_SIDE = 400  # pixels, photos on the sheet
_CROP_SIZE = 96  # pixels
_MARGIN = 0.1  # of the box; not crop.margin, which would make every change of it read all headers anew
_BLACK = (0, 0, 0)


def _open_photo(photos: PhotoFolder, photo: str, *, grey: bool) -> np.ndarray | None:
    """The photo decoded in full, or None where it cannot be."""
    try:
        content = photos.read(photo)
        return decode(content, read_header(content), grey=grey)
    except (PhotoError, MemberError):
        return None


def draw_boxes(photos: PhotoFolder, table: pd.DataFrame, count: int) -> np.ndarray:
    """A sheet of `count` photos with all their labelled boxes; photos with several faces come first."""
    faces_per_photo = table["photo"].value_counts(sort=False).sort_values(ascending=False, kind="stable")
    crowded = list(faces_per_photo.index[faces_per_photo > 1])
    spread = [table["photo"].iloc[row] for row in pick_examples(table, per_class=count)]
    step = max(1, len(crowded) // max(1, count // 2))
    names = list(dict.fromkeys([*crowded[::step][: count // 2], *spread[:: max(1, len(spread) // count)]]))
    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for name in names:
        photo = _open_photo(photos, name, grey=False)
        if photo is None or len(tiles) == count:
            continue
        scale = _LONGEST_SIDE / max(photo.shape[:2])
        picture = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        rows = table[table["photo"] == name]
        for row in rows.to_dict("records"):
            colour = ImageColor.getrgb(COLOURS[row["expression"]])[::-1]  # BGR
            left, top = round(row["x"] * scale), round(row["y"] * scale)
            right, bottom = round((row["x"] + row["width"]) * scale), round((row["y"] + row["height"]) * scale)
            cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
            label = f"{row['expression']} {row['confidence']:.0f}%"
            (width, height), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
            left = max(0, min(left, picture.shape[1] - width - 3))
            baseline = top - 5 if top > height + 6 else bottom - 5
            cv2.rectangle(picture, (left, baseline - height - 3), (left + width + 2, baseline + 4), colour, -1)
            write_text(picture, label, left + 1, baseline, width, 0.45, _BLACK)
        tiles.append(picture)
        captions.append(f"{name} ({len(rows)})")
    return draw_sheet(tiles, captions, 4, _LONGEST_SIDE, "ExpW: labelled boxes, box confidence, faces in the table")


def draw_crops(photos: PhotoFolder, table: pd.DataFrame, per_class: int, title: str) -> np.ndarray:
    """A sheet of the faces of `table`, `per_class` of each class, as the crop function cuts them."""
    tiles, captions = [], []
    for row in table.iloc[pick_examples(table, per_class)].to_dict("records"):
        photo = _open_photo(photos, row["photo"], grey=True)
        if photo is not None:
            tiles.append(crop_face(photo, (row["x"], row["y"], row["width"], row["height"]), _CROP_SIZE, _MARGIN))
            captions.append(f"{row['expression']}\n{row['confidence']:.0f}% {row['width']}x{row['height']}")
    return draw_sheet(tiles, captions, per_class, _CROP_SIZE, f"{title}: {len(table)} faces")
