"""What is drawn over a frame, in place: boxes, bars, timeline, speed; and keys and notices in the window.

scene: uint8 `(H, W, 3)` BGR. `Overlay` draws all that belongs into videos and snapshots. Everything scales with the
frame: a length `n * unit(scene)` is n pixels on a frame of 480 lines.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from src.expressions import EXPRESSIONS
from src.realtime.drawing import EXPRESSION_COLOURS, FAINT_INK, INK, PANEL, Colour, draw_panel, draw_text, text_width
from src.realtime.timeline import Timeline
from src.recognition.crop_face import Box
from src.recognition.detection import shared_areas
from src.recognition.faces import UNCERTAIN, Face

KEYS = (
    ("q  Esc", "quit"),
    ("space", "pause"),
    ("s", "save a snapshot"),
    ("r", "record, on and off"),
    ("b", "bars"),
    ("t", "timeline"),
    ("m", "mirror"),
    ("p", "blur faces"),
    ("h", "this list"),
)
TIMELINE_S = 30.0
_MOST_BARS = 4
_MOST_ROWS = 4
Area = tuple[int, int, int, int]  # left, top, width, height; whole pixels


def unit(scene: np.ndarray) -> float:
    """Scale of all drawings: 1 on a frame of 480 lines."""
    return float(np.clip(min(scene.shape[0], scene.shape[1] * 0.75) / 480, 0.4, 8))


def draw_boxes(scene: np.ndarray, faces: list[Face]) -> None:
    """A frame around each face in its expression's colour, and its id, expression and confidence."""
    for face in sorted(faces, key=lambda face: face.box[2]):  # the nearest on top
        _draw_corners(scene, face)
    for face in faces:
        _draw_label(scene, face)


def _draw_corners(scene: np.ndarray, face: Face) -> None:
    x, y, side, _ = face.box
    thick = round(2 * unit(scene))
    left, top = max(thick, round(x)), max(thick, round(y))
    right = min(scene.shape[1] - 1 - thick, round(x + side))
    bottom = min(scene.shape[0] - 1 - thick, round(y + side))
    arm = max(4, round(0.2 * side))
    corners = [
        np.array([(x + step_x, y), (x, y), (x, y + step_y)], np.int32)
        for x, step_x in ((left, arm), (right, -arm))
        for y, step_y in ((top, arm), (bottom, -arm))
    ]
    for ink, width in ((PANEL, thick + 2 * max(1, thick // 2)), (EXPRESSION_COLOURS[face.expression], thick)):
        cv2.polylines(scene, corners, False, ink, width, cv2.LINE_AA)


def _answer(face: Face) -> str:
    return face.expression if face.expression == UNCERTAIN else f"{face.expression} {100 * face.confidence:.0f} %"


def _label_area(scene: np.ndarray, face: Face) -> Area:
    u = unit(scene)
    letters, pad = round(11 * u), round(6 * u)
    width = sum(text_width(text, letters, bold=True) for text in (f"{face.id}", _answer(face))) + 4 * pad
    height = letters + 2 * pad
    left = max(0, min(round(face.box[0]), scene.shape[1] - width))
    top = max(0, min(round(face.box[1]) - height - round(3 * u), scene.shape[0] - height))
    return left, top, width, height


def _draw_label(scene: np.ndarray, face: Face) -> None:
    u = unit(scene)
    letters, pad, radius = round(11 * u), round(6 * u), round(5 * u)
    number, colour = f"{face.id}", EXPRESSION_COLOURS[face.expression]
    number_width = text_width(number, letters, bold=True)
    left, top, width, height = _label_area(scene, face)
    draw_panel(scene, left, top, width, height, radius=radius, opacity=0.82)
    draw_panel(scene, left, top, number_width + 2 * pad, height, radius=radius, colour=colour, opacity=1)
    # Black or white, whichever reads better (luma of ITU-R BT.601).
    ink = (20, 20, 20) if 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 120 else INK
    draw_text(scene, number, left + pad, top + pad, letters, ink, bold=True)
    draw_text(scene, _answer(face), left + number_width + 3 * pad, top + pad, letters, bold=True)


def draw_bars(scene: np.ndarray, faces: list[Face], below: Area | None) -> None:
    """All seven probabilities beside each of the largest faces, always in the same order. below: of the timeline, if
    there is one, which the panels keep clear of."""
    u = unit(scene)
    width, height = round(184 * u), round(140 * u)
    rows, columns = scene.shape[:2]
    occupied: list[Box] = [face.box for face in faces] + [_label_area(scene, face) for face in faces]
    if below is not None:
        occupied.append(below)
        rows = below[1] if below[1] >= height else rows
    if width > columns or height > rows:
        return
    for face in sorted(faces, key=lambda face: -face.box[2])[:_MOST_BARS]:
        x, y, side, _ = face.box
        gap = round(8 * u)
        sides = ((x + side + gap, y), (x - width - gap, y), (x, y + side + gap), (x, y - height - 4 * gap))
        place: Area | None = None
        # On the face itself if need be, where it is alone; hardly on others; nowhere on a crowded scene.
        least = 1.1 if len(faces) == 1 else 0.15
        for left, top in sides:
            panel = (int(np.clip(left, 0, columns - width)), int(np.clip(top, 0, rows - height)), width, height)
            covered = shared_areas(np.array([panel]), np.array(occupied)).sum() / (width * height)
            if covered < least - 1e-6:
                place, least = panel, covered
        if place is not None:
            _draw_bars_of(scene, face, place)
            occupied.append(place)


def _draw_bars_of(scene: np.ndarray, face: Face, area: Area) -> None:
    u = unit(scene)
    left, top, width, height = area
    pad, letters, thick = round(9 * u), round(9 * u), round(8 * u)
    draw_panel(scene, *area, radius=round(6 * u))
    step = (height - 2 * pad) / len(EXPRESSIONS)
    bar_left, bar_width, radius = left + pad + round(64 * u), round(64 * u), thick // 2
    for index, (name, value) in enumerate(zip(EXPRESSIONS, face.probabilities, strict=True)):
        middle = round(top + pad + (index + 0.5) * step)
        bold, text_top, bar_top = name == face.expression, middle - letters // 2, middle - thick // 2
        ink, filled = INK if bold else FAINT_INK, round(bar_width * float(value))
        draw_text(scene, name, left + pad, text_top, letters, ink, bold=bold)
        draw_panel(scene, bar_left, bar_top, bar_width, thick, radius=radius, colour=(90, 86, 84), opacity=0.8)
        if filled:
            colour, filled = EXPRESSION_COLOURS[name], max(filled, thick)
            draw_panel(scene, bar_left, bar_top, filled, thick, radius=radius, colour=colour, opacity=1)
        percent = f"{100 * float(value):.0f} %"
        text_left = left + width - pad - text_width(percent, letters, bold=bold)
        draw_text(scene, percent, text_left, text_top, letters, ink, bold=bold)


def _rows(timeline: Timeline, faces: list[Face]) -> list[int]:
    """Ids, those in view first where there are too many."""
    present = {face.id for face in faces}
    return sorted(sorted(timeline.faces, key=lambda number: (number not in present, -number))[:_MOST_ROWS])


def timeline_area(scene: np.ndarray, faces: list[Face], timeline: Timeline) -> Area | None:
    """Where the timeline is drawn, or None when there is none."""
    rows, u = _rows(timeline, faces), unit(scene)
    if not rows or scene.shape[0] < 60:
        return None
    pad = round(8 * u)
    height = 2 * pad + len(rows) * round(16 * u) + round(9 * u)
    return pad, scene.shape[0] - height - pad, scene.shape[1] - 2 * pad, height


def draw_timeline(scene: np.ndarray, faces: list[Face], timeline: Timeline) -> None:
    """The last 30 s along the bottom, one row per face that is or was in view."""
    area, u = timeline_area(scene, faces, timeline), unit(scene)
    if area is None:
        return
    _, top, width, height = area
    pad, row_height, letters = round(8 * u), round(16 * u), round(9 * u)
    draw_panel(scene, *area, radius=round(6 * u))
    left, right = 3 * pad + text_width("00", letters, bold=True), width
    begin_s = timeline.now_s - TIMELINE_S

    def column(time_s: float) -> int:
        return left + round((right - left) * (time_s - begin_s) / TIMELINE_S)

    thick = row_height - round(5 * u)
    for index, number in enumerate(_rows(timeline, faces)):
        row = top + pad + index * row_height
        draw_text(scene, f"{number}", 2 * pad, row + (thick - letters) // 2, letters, bold=True)
        draw_panel(scene, left, row, right - left, thick, colour=(70, 66, 64), opacity=0.6)
        for segment in timeline.faces[number]:
            if segment.end_s >= begin_s:
                start = column(max(segment.start_s, begin_s))
                length = min(right, max(column(segment.end_s), start + 1)) - start
                colour = EXPRESSION_COLOURS[segment.expression]
                opacity = 0.35 if segment.expression == UNCERTAIN else 1.0
                draw_panel(scene, start, row, length, thick, colour=colour, opacity=opacity)
    for label, seconds, before in (("-30 s", 30, 0.0), ("-20 s", 20, 0.5), ("-10 s", 10, 0.5), ("now", 0, 1.0)):
        x = column(timeline.now_s - seconds) - int(before * text_width(label, letters))
        draw_text(scene, label, x, top + height - letters - round(4 * u), letters, FAINT_INK)


def draw_line(scene: np.ndarray, text: str, row: int, *, corner: str, dot: Colour | None = None) -> None:
    """Text on a small panel in an upper corner, left or right, or in the middle; row counts downwards."""
    u = unit(scene)
    letters, pad = round(9 * u), round(6 * u)
    while letters > 4 and text_width(text, letters) + 4 * pad > scene.shape[1]:
        letters -= 1
    extra = letters + pad if dot else 0
    width, height = text_width(text, letters) + 2 * pad + extra, letters + 2 * pad
    left = {"left": pad, "right": scene.shape[1] - width - pad, "middle": (scene.shape[1] - width) // 2}[corner]
    top = pad + row * (height + pad)
    draw_panel(scene, left, top, width, height, radius=round(5 * u))
    if dot:
        centre = (left + pad + letters // 2, top + height // 2)
        cv2.circle(scene, centre, letters // 2, dot, -1, cv2.LINE_AA)
    draw_text(scene, text, left + pad + extra, top + pad, letters)


def draw_recording(scene: np.ndarray, seconds: float) -> None:
    """A red dot and the running time of a recording."""
    minutes, rest = divmod(int(seconds), 60)
    draw_line(scene, f"REC {minutes:02d}:{rest:02d}", 0, corner="right", dot=(60, 60, 235))


def draw_keys(scene: np.ndarray) -> None:
    """The keys and what they do, in the middle of the frame."""
    u = unit(scene)
    letters, pad, gap = round(10 * u), round(14 * u), round(10 * u)
    key_width = max(text_width(key, letters, bold=True) for key, _ in KEYS)
    width = key_width + max(text_width(meaning, letters) for _, meaning in KEYS) + 2 * pad + 2 * gap
    height = len(KEYS) * (letters + gap) - gap + 2 * pad
    left, top = (scene.shape[1] - width) // 2, (scene.shape[0] - height) // 2
    if left < 0 or top < 0:
        return
    draw_panel(scene, left, top, width, height, radius=round(8 * u), opacity=0.85)
    for index, (key, meaning) in enumerate(KEYS):
        row = top + pad + index * (letters + gap)
        draw_text(scene, key, left + pad, row, letters, EXPRESSION_COLOURS["surprise"], bold=True)
        draw_text(scene, meaning, left + pad + key_width + 2 * gap, row, letters)


class Status:
    """Frames per second and milliseconds per stage, as text that changes twice a second so that it can be read."""

    def __init__(self) -> None:
        self.text = ""
        self._since_s: float | None = None
        self._sums: dict[str, float] = {}
        self._frames = 0

    def measure(self, timings: dict[str, float], now_s: float) -> None:
        """Take in the milliseconds of one frame; now_s: any clock in seconds."""
        self._since_s = now_s if self._since_s is None else self._since_s
        self._frames += 1
        for stage, milliseconds in timings.items():
            self._sums[stage] = self._sums.get(stage, 0.0) + milliseconds
        elapsed_s = now_s - self._since_s
        if elapsed_s >= 0.5:
            means = (f"{stage} {total / self._frames:.1f}" for stage, total in self._sums.items())
            self.text = "   ".join((f"{self._frames / elapsed_s:.0f} FPS", *means)) + " ms"
            self._sums, self._frames, self._since_s = {}, 0, now_s


@dataclass
class View:
    """What the user has switched on."""

    bars: bool = True
    timeline: bool = True
    mirror: bool = False
    blur: bool = False
    status: bool = True


class Overlay:
    """All drawings that belong on a frame, and so into a video or snapshot. `recent` is the timeline that is drawn."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.status = Status()
        self.restart()

    def restart(self) -> None:
        """Forget the timeline: another video begins."""
        self.recent = Timeline(keep_s=TIMELINE_S)

    def draw(self, scene: np.ndarray, faces: list[Face], *, continuous: bool = True) -> None:
        """Draw what the user has switched on in place; timeline and speed in a video only."""
        timeline = continuous and self.view.timeline
        if self.view.bars:
            draw_bars(scene, faces, timeline_area(scene, faces, self.recent) if timeline else None)
        draw_boxes(scene, faces)
        if timeline:
            draw_timeline(scene, faces, self.recent)
        if continuous and self.view.status and self.status.text:
            draw_line(scene, self.status.text, 0, corner="left")


def mirror(faces: list[Face], width: int) -> list[Face]:
    """The faces of a frame of that width, as in a mirror."""
    return [
        replace(face, box=(width - face.box[0] - face.box[2], face.box[1], face.box[2], face.box[3])) for face in faces
    ]
