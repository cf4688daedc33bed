"""What is drawn over a frame: one small class per drawing.

Each has `annotate(scene, faces)`, which returns a new frame, and `draw(scene, faces)`, which draws in place;
`Overlay` draws them all on one copy. scene: uint8 `(H, W, 3)` BGR. Everything scales with the frame.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from src.expressions import EXPRESSIONS
from src.realtime.drawing import EXPRESSION_COLOURS, FAINT_INK, INK, PANEL, draw_panel, draw_text, text_width
from src.realtime.timeline import Timeline
from src.recognition.crop_face import Box
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


def unit(scene: np.ndarray) -> float:
    """Scale of all drawings: 1 on a frame of 480 lines."""
    return float(np.clip(min(scene.shape[0], scene.shape[1] * 0.75) / 480, 0.4, 8))


class Annotator:
    """Draws one thing."""

    def annotate(self, scene: np.ndarray, faces: list[Face]) -> np.ndarray:
        """A copy of `scene` with the drawing on it."""
        scene = scene.copy()
        self.draw(scene, faces)
        return scene

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        raise NotImplementedError


class FaceBoxes(Annotator):
    """A frame around each face in its expression's colour, and its id, expression and confidence."""

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        for face in sorted(faces, key=lambda face: face.box[2]):  # the nearest on top
            self._draw_corners(scene, face)
        for face in faces:
            self._draw_label(scene, face)

    @staticmethod
    def _draw_corners(scene: np.ndarray, face: Face) -> None:
        x, y, side, _ = face.box
        colour = EXPRESSION_COLOURS[face.expression]
        thick = max(1, round(2 * unit(scene)))
        left, top = max(thick, round(x)), max(thick, round(y))
        right = min(scene.shape[1] - 1 - thick, round(x + side))
        bottom = min(scene.shape[0] - 1 - thick, round(y + side))
        arm = max(4, round(0.2 * side))
        for ink, width in ((PANEL, thick + 2 * max(1, thick // 2)), (colour, thick)):
            for corner_x, step_x in ((left, arm), (right, -arm)):
                for corner_y, step_y in ((top, arm), (bottom, -arm)):
                    corner = (corner_x, corner_y)
                    cv2.line(scene, corner, (corner_x + step_x, corner_y), ink, width, cv2.LINE_AA)
                    cv2.line(scene, corner, (corner_x, corner_y + step_y), ink, width, cv2.LINE_AA)

    @staticmethod
    def label_box(scene: np.ndarray, face: Face) -> tuple[int, int, int, int]:
        """Left, top, width and height of the label of a face, whole pixels."""
        u = unit(scene)
        height, pad = max(5, round(11 * u)), max(2, round(6 * u))
        widths = (text_width(text, height, bold=True) for text in (f"{face.id}", FaceBoxes._answer(face)))
        total, tall = sum(widths) + 4 * pad, height + 2 * pad
        left = max(0, min(round(face.box[0]), scene.shape[1] - total))
        top = max(0, min(round(face.box[1]) - tall - max(2, round(3 * u)), scene.shape[0] - tall))
        return left, top, total, tall

    @staticmethod
    def _answer(face: Face) -> str:
        return face.expression if face.expression == UNCERTAIN else f"{face.expression} {100 * face.confidence:.0f} %"

    @staticmethod
    def _draw_label(scene: np.ndarray, face: Face) -> None:
        u = unit(scene)
        height, pad = max(5, round(11 * u)), max(2, round(6 * u))
        number, answer = f"{face.id}", FaceBoxes._answer(face)
        number_width = text_width(number, height, bold=True)
        left, top, total, tall = FaceBoxes.label_box(scene, face)
        colour, radius = EXPRESSION_COLOURS[face.expression], max(2, round(5 * u))
        draw_panel(scene, left, top, total, tall, radius=radius, opacity=0.82)
        draw_panel(scene, left, top, number_width + 2 * pad, tall, radius=radius, colour=colour, opacity=1)
        draw_text(scene, number, left + pad, top + pad, height, _ink_on(colour), bold=True)
        draw_text(scene, answer, left + number_width + 3 * pad, top + pad, height, INK, bold=True)


def _ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better (luma of ITU-R BT.601)."""
    return (20, 20, 20) if 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 120 else INK


class ProbabilityBars(Annotator):
    """All seven probabilities beside each of the largest faces, always in the same order.

    strip: the timeline, if there is one, which the panels keep clear of.
    """

    def __init__(self, strip: "TimelineStrip | None" = None) -> None:
        self._strip = strip

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        occupied: list[Box] = [face.box for face in faces] + [FaceBoxes.label_box(scene, face) for face in faces]
        area = self._strip.area(scene, faces) if self._strip else None
        rows = scene.shape[0]
        if area is not None:
            occupied.append(area)
            rows = area[1] if area[1] >= self._size(scene)[1] else rows
        for face in sorted(faces, key=lambda face: -face.box[2])[:_MOST_BARS]:
            place = self._place(scene, rows, face, occupied, alone=len(faces) == 1)
            if place is not None:
                self._draw_bars(scene, face, *place)
                occupied.append((*place, *self._size(scene)))

    @staticmethod
    def _size(scene: np.ndarray) -> tuple[int, int]:
        u = unit(scene)
        return round(184 * u), round(140 * u)

    @staticmethod
    def _place(scene: np.ndarray, rows: int, face: Face, occupied: list[Box], *, alone: bool) -> tuple[int, int] | None:
        """Left and top of the panel, within the upper `rows`, where it covers least; None on a crowded scene or a tiny
        frame."""
        width, height = ProbabilityBars._size(scene)
        columns = scene.shape[1]
        if width > columns or height > rows:
            return None
        x, y, side, _ = face.box
        gap = round(8 * unit(scene))
        sides = ((x + side + gap, y), (x - width - gap, y), (x, y + side + gap), (x, y - height - 4 * gap))
        # On the face itself if need be, where it is alone; hardly on others.
        best, least = None, 1.1 if alone else 0.15
        for wished_left, wished_top in sides:
            left = int(np.clip(wished_left, 0, columns - width))
            top = int(np.clip(wished_top, 0, rows - height))
            panel = (float(left), float(top), float(width), float(height))
            covered = sum(_shared(panel, box) for box in occupied) / (width * height)
            if covered < least - 1e-6:
                best, least = (left, top), covered
        return best

    @staticmethod
    def _draw_bars(scene: np.ndarray, face: Face, left: int, top: int) -> None:
        u = unit(scene)
        width, height = ProbabilityBars._size(scene)
        pad, letters, thick = round(9 * u), max(4, round(9 * u)), max(2, round(8 * u))
        draw_panel(scene, left, top, width, height, radius=round(6 * u))
        step = (height - 2 * pad) / len(EXPRESSIONS)
        bar_left, bar_width = left + pad + round(64 * u), round(64 * u)
        for index, (name, value) in enumerate(zip(EXPRESSIONS, face.probabilities, strict=True)):
            row = round(top + pad + (index + 0.5) * step)
            bold, text_top, bar_top = name == face.expression, row - letters // 2, row - thick // 2
            ink, filled = INK if bold else FAINT_INK, round(bar_width * float(value))
            draw_text(scene, name, left + pad, text_top, letters, ink, bold=bold)
            radius = thick // 2
            draw_panel(scene, bar_left, bar_top, bar_width, thick, radius=radius, colour=(90, 86, 84), opacity=0.8)
            if filled:
                colour, filled = EXPRESSION_COLOURS[name], max(filled, thick)
                draw_panel(scene, bar_left, bar_top, filled, thick, radius=radius, colour=colour, opacity=1)
            percent = f"{100 * float(value):.0f} %"
            text_left = left + width - pad - text_width(percent, letters, bold=bold)
            draw_text(scene, percent, text_left, text_top, letters, ink, bold=bold)


def _shared(first: Box, second: Box) -> float:
    """Area that two boxes share, square pixels."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)


class TimelineStrip(Annotator):
    """The last 30 s along the bottom, one row per face that is or was in view."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def _layout(self, scene: np.ndarray, faces: list[Face]) -> tuple[list[int], int, int, int]:
        """Ids, those in view first where there are too many; margin, height of a row and of a capital in pixels."""
        present, u = {face.id for face in faces}, unit(scene)
        known = sorted(self._timeline.faces, key=lambda number: (number not in present, -number))
        return sorted(known[:_MOST_ROWS]), round(8 * u), max(6, round(16 * u)), max(4, round(9 * u))

    def area(self, scene: np.ndarray, faces: list[Face]) -> tuple[int, int, int, int] | None:
        """Left, top, width and height of the strip in pixels, or None when there is none."""
        numbers, pad, row_height, letters = self._layout(scene, faces)
        if not numbers or scene.shape[0] < 60:
            return None
        height = 2 * pad + len(numbers) * row_height + letters
        return pad, scene.shape[0] - height - pad, scene.shape[1] - 2 * pad, height

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        area, u = self.area(scene, faces), unit(scene)
        if area is None:
            return
        numbers, pad, row_height, letters = self._layout(scene, faces)
        _, top, width, height = area
        draw_panel(scene, *area, radius=round(6 * u))
        left, right = 3 * pad + text_width("00", letters, bold=True), pad + width - pad
        now_s = self._timeline.now_s
        for index, number in enumerate(numbers):
            row = top + pad + index * row_height
            thick = max(3, row_height - max(2, round(5 * u)))
            draw_text(scene, f"{number}", 2 * pad, row + (thick - letters) // 2, letters, INK, bold=True)
            draw_panel(scene, left, row, right - left, thick, colour=(70, 66, 64), opacity=0.6)
            for segment in self._timeline.faces[number]:
                start, end = (
                    left + round((right - left) * (1 - (now_s - time_s) / TIMELINE_S))
                    for time_s in (max(segment.start_s, now_s - TIMELINE_S), segment.end_s)
                )
                if segment.end_s >= now_s - TIMELINE_S:
                    width = min(right, max(end, start + 1)) - start
                    colour = EXPRESSION_COLOURS[segment.expression]
                    opacity = 0.35 if segment.expression == UNCERTAIN else 1.0
                    draw_panel(scene, start, row, width, thick, colour=colour, opacity=opacity)
        bottom = top + height - letters - max(2, round(4 * u))
        for seconds in (30, 20, 10, 0):
            label = "now" if seconds == 0 else f"-{seconds} s"
            x = left + round((right - left) * (1 - seconds / TIMELINE_S))
            x -= 0 if seconds == 30 else text_width(label, letters) // (1 if seconds == 0 else 2)
            draw_text(scene, label, x, bottom, letters, FAINT_INK)


class StatusLine(Annotator):
    """Frames per second and milliseconds per stage, top left; updated twice a second so that it can be read."""

    def __init__(self) -> None:
        self._text = ""
        self._updated_s = -1.0
        self._sums: dict[str, float] = {}
        self._frames = 0

    def measure(self, timings: dict[str, float], now_s: float) -> None:
        """Take in the milliseconds of one frame; now_s: any clock in seconds."""
        if self._updated_s < 0:
            self._updated_s = now_s
        self._frames += 1
        for stage, milliseconds in timings.items():
            self._sums[stage] = self._sums.get(stage, 0.0) + milliseconds
        elapsed_s = now_s - self._updated_s
        if elapsed_s >= 0.5:
            parts = [f"{self._frames / elapsed_s:.0f} FPS"]
            parts += [f"{stage} {total / self._frames:.1f}" for stage, total in self._sums.items()]
            self._text = "   ".join(parts) + " ms"
            self._sums, self._frames, self._updated_s = {}, 0, now_s

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        if self._text:
            _draw_pill(scene, self._text, 0, corner="left")


def _draw_pill(scene: np.ndarray, text: str, row: int, *, corner: str, dot: tuple[int, int, int] | None = None) -> None:
    """A line of text on a small panel in an upper corner or the middle; row counts downwards."""
    u = unit(scene)
    letters, pad = max(4, round(9 * u)), max(2, round(6 * u))
    while letters > 4 and text_width(text, letters) + 4 * pad > scene.shape[1]:
        letters -= 1
    extra = letters + pad if dot else 0
    width, height = text_width(text, letters) + 2 * pad + extra, letters + 2 * pad
    left = {"left": pad, "right": scene.shape[1] - width - pad, "middle": (scene.shape[1] - width) // 2}[corner]
    top = pad + row * (height + pad)
    draw_panel(scene, left, top, width, height, radius=max(2, round(5 * u)))
    if dot:
        centre = (left + pad + letters // 2, top + height // 2)
        cv2.circle(scene, centre, max(2, letters // 2), dot, -1, cv2.LINE_AA)
    draw_text(scene, text, left + pad + extra, top + pad, letters)


class KeyList(Annotator):
    """The keys and what they do, in the middle of the frame."""

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        u = unit(scene)
        letters, pad, gap = max(4, round(10 * u)), round(14 * u), round(10 * u)
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


class Notice(Annotator):
    """One line in the middle at the top, such as where a snapshot went."""

    def __init__(self, text: str) -> None:
        self._text = text

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        _draw_pill(scene, self._text, 1, corner="middle")


class RecordingBadge(Annotator):
    """A red dot and the running time of a recording."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def draw(self, scene: np.ndarray, faces: list[Face]) -> None:
        text = f"REC {int(self._seconds // 60):02d}:{int(self._seconds % 60):02d}"
        _draw_pill(scene, text, 0, corner="right", dot=(60, 60, 235))


@dataclass
class View:
    """What the user has switched on."""

    bars: bool = True
    timeline: bool = True
    mirror: bool = False
    blur: bool = False
    status: bool = True


class Overlay:
    """All drawings that belong on a frame, and so into a video or snapshot."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.status = StatusLine()
        self._boxes = FaceBoxes()
        self.restart()

    def restart(self) -> None:
        """Forget the timeline: another video begins."""
        self.recent = Timeline(keep_s=TIMELINE_S)
        self._strip = TimelineStrip(self.recent)

    def draw(self, scene: np.ndarray, faces: list[Face], *, continuous: bool = True) -> None:
        """Draw what the user has switched on in place; timeline and speed in a video only."""
        timeline = continuous and self.view.timeline
        drawings: list[Annotator] = [ProbabilityBars(self._strip if timeline else None)] if self.view.bars else []
        drawings.append(self._boxes)
        if timeline:
            drawings.append(self._strip)
        if continuous and self.view.status:
            drawings.append(self.status)
        for drawing in drawings:
            drawing.draw(scene, faces)


def mirror(faces: list[Face], width: int) -> list[Face]:
    """The faces of a frame of that width, as in a mirror."""
    return [
        replace(face, box=(width - face.box[0] - face.box[2], face.box[1], face.box[2], face.box[3])) for face in faces
    ]
