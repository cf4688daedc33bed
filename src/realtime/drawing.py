"""Smooth text, rounded panels and bars on BGR frames, drawn in place and kept inside the frame.

OpenCV's wheels hold line-drawn Hershey letters only; here they are drawn four times larger and averaged, which gives
clean letters at every size.
"""

import unicodedata
from functools import lru_cache

import cv2
import numpy as np

from src.expressions import COLOURS
from src.recognition.faces import UNCERTAIN

Colour = tuple[int, int, int]  # BGR, [0, 255]

INK: Colour = (245, 245, 245)
FAINT_INK: Colour = (190, 190, 190)
PANEL: Colour = (30, 26, 24)
PANEL_OPACITY = 0.72
_OVERSAMPLING = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL_HEIGHT = 21  # pixels of a capital at font scale 1


def _from_hex(text: str) -> Colour:
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red


EXPRESSION_COLOURS: dict[str, Colour] = {
    **{name: _from_hex(text) for name, text in COLOURS.items()},
    UNCERTAIN: (225, 225, 225),
}


@lru_cache(maxsize=192)  # a few MB; what is in view at a time
def _letters(text: str, height: int, bold: bool) -> np.ndarray:
    """Coverage of a text that is not blank, float32 `(h, w, 1)` in [0, 1]; capitals are `height` pixels high."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    text = plain.encode("ascii", "replace").decode() or "?"
    scale = height * _OVERSAMPLING / _CAPITAL_HEIGHT
    weight = max(1, round(height * _OVERSAMPLING * (0.17 if bold else 0.11)))
    (width, above), below = cv2.getTextSize(text, _FONT, scale, weight)
    canvas = np.zeros((above + below + 2 * weight, width + 2 * weight), np.uint8)
    cv2.putText(canvas, text, (weight, above + weight), _FONT, scale, 255, weight, cv2.LINE_AA)
    size = (round(canvas.shape[1] / _OVERSAMPLING), round(canvas.shape[0] / _OVERSAMPLING))
    shrunk = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    columns, rows = np.flatnonzero(shrunk.any(axis=0)), np.flatnonzero(shrunk.any(axis=1))
    # Cut at the sides, not above and below: lines of text keep one baseline.
    return shrunk[: rows[-1] + 1, columns[0] : columns[-1] + 1, None]


def text_width(text: str, height: int, *, bold: bool = False) -> int:
    """Pixels that `text` takes with capitals `height` pixels high."""
    return _letters(text, height, bold).shape[1]


def draw_text(
    scene: np.ndarray, text: str, left: int, top: int, height: int, colour: Colour = INK, *, bold: bool = False
) -> None:
    """Write a line whose capitals reach from `top` down `height` pixels; moved and shrunk to stay in the frame."""
    rows, columns = scene.shape[:2]
    while height > 4 and text_width(text, height, bold=bold) > columns:
        height -= 1
    mask = _letters(text, height, bold)
    # Capitals start below the room for accents.
    top -= _capital_top(height, bold)
    left = max(0, min(left, columns - mask.shape[1]))
    top = max(0, min(top, rows - mask.shape[0]))
    patch = scene[top : top + mask.shape[0], left : left + mask.shape[1]]
    mask = mask[: patch.shape[0], : patch.shape[1]]
    patch += (mask * (np.array(colour, np.float32) - patch)).astype(np.int16).astype(np.uint8)


@lru_cache(maxsize=64)
def _capital_top(height: int, bold: bool) -> int:
    return int(np.flatnonzero(_letters("H", height, bold).any(axis=(1, 2)))[0])


@lru_cache(maxsize=256)
def _rounded(width: int, height: int, radius: int) -> np.ndarray:
    """Coverage of a rounded rectangle, float32 `(height, width, 1)`."""
    radius = max(0, min(radius, width // 2, height // 2))
    factor = _OVERSAMPLING
    mask = np.zeros((height * factor, width * factor), np.uint8)
    r, w, h = radius * factor, width * factor - 1, height * factor - 1
    cv2.rectangle(mask, (r, 0), (w - r, h), 255, -1)
    cv2.rectangle(mask, (0, r), (w, h - r), 255, -1)
    for x, y in ((r, r), (w - r, r), (r, h - r), (w - r, h - r)):
        cv2.circle(mask, (x, y), r, 255, -1)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255


def draw_panel(
    scene: np.ndarray,
    left: int,
    top: int,
    width: int,
    height: int,
    *,
    radius: int = 0,
    colour: Colour = PANEL,
    opacity: float = PANEL_OPACITY,
) -> None:
    """A filled, rounded, see-through rectangle; what reaches outside the frame is cut off."""
    rows = slice(max(0, top), max(0, min(top + height, scene.shape[0])))
    columns = slice(max(0, left), max(0, min(left + width, scene.shape[1])))
    patch = scene[rows, columns]
    if patch.size == 0:
        return
    mask: np.ndarray | float = opacity
    if radius:
        mask = opacity * _rounded(width, height, radius)
        mask = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    mixed = patch + mask * (np.array(colour, np.float32) - patch)
    scene[rows, columns] = mixed.astype(np.uint8)
