"""Contact sheets: many small pictures with captions on one page, for people to look at.

`draw_sheet(tiles, captions, columns, tile_size, title)` returns the page as a BGR array and
`save_picture(path, picture)` writes it as PNG. Same tiles, same bytes.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from src.expressions import EXPRESSIONS
from src.storage import replace_file

_BACKGROUND, _INK = (255, 255, 255), (40, 40, 40)  # BGR
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 6  # pixels between tiles
_CAPTION_HEIGHT = 16  # pixels per line of caption
_TITLE_HEIGHT = 34  # pixels


def write_text(
    picture: np.ndarray, text: str, left: int, baseline: int, width: int, size: float, ink: tuple[int, int, int] = _INK
) -> None:
    """Write one line into `picture`, smaller where it would not fit into `width` pixels. Hershey fonts are ASCII."""
    text = text.encode("ascii", "replace").decode()
    needed = cv2.getTextSize(text, _FONT, size, 1)[0][0]
    if needed > width:
        size *= width / needed
    cv2.putText(picture, text, (left, baseline), _FONT, size, ink, 1, cv2.LINE_AA)


def _fit(tile: np.ndarray, tile_size: int) -> np.ndarray:
    """The tile as BGR `(tile_size, tile_size, 3)`, proportions kept, centred on the background."""
    height, width = tile.shape[:2]
    scale = tile_size / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(tile, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if resized.ndim == 2:
        resized = cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR)
    cell = np.full((tile_size, tile_size, 3), _BACKGROUND, np.uint8)
    top, left = (tile_size - size[1]) // 2, (tile_size - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = resized
    return cell


def draw_sheet(
    tiles: list[np.ndarray], captions: list[str], columns: int, tile_size: int, title: str = ""
) -> np.ndarray:
    """Lay tiles out in rows of `columns`, each with its caption (lines parted by newline) below it.

    tiles: uint8 `(H, W)` grey or `(H, W, 3)` BGR, any size. tile_size: pixels, side of a cell.
    Returns uint8 `(H, W, 3)` BGR; without tiles, a page with the title and "no pictures".
    """
    columns = max(1, min(columns, len(tiles)))
    caption_lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    step_x, step_y = tile_size + _GAP, tile_size + caption_lines * _CAPTION_HEIGHT + _GAP
    rows = -(-len(tiles) // columns)
    top = _TITLE_HEIGHT if title or not tiles else _GAP
    width = max(columns * step_x + _GAP, 320)
    sheet = np.full((top + rows * step_y + _GAP, width, 3), _BACKGROUND, np.uint8)
    heading = title if tiles else f"{title}: no pictures".lstrip(": ")
    if heading:
        write_text(sheet, heading, _GAP, 23, width - 2 * _GAP, 0.6)
    for index, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        left = _GAP + index % columns * step_x
        upper = top + index // columns * step_y
        sheet[upper : upper + tile_size, left : left + tile_size] = _fit(tile, tile_size)
        for number, line in enumerate(caption.split("\n"), start=1):
            write_text(sheet, line, left, upper + tile_size + number * _CAPTION_HEIGHT - 4, tile_size, 0.42)
    return sheet


def pick_examples(labels: pd.DataFrame, per_class: int) -> list[int]:
    """Positions of up to `per_class` rows of each class, spread evenly over the table, in class order."""
    positions = []
    expressions = labels["expression"].to_numpy()
    for expression in EXPRESSIONS:
        rows = np.flatnonzero(expressions == expression)
        count = min(per_class, len(rows))
        positions += [int(row) for row in rows[np.linspace(0, len(rows) - 1, count).astype(int)]] if count else []
    return positions


def save_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write a BGR or grey picture as PNG, whole or not at all."""
    encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    with replace_file(path) as partial:
        partial.write_bytes(encoded.tobytes())
