"""Drawn faces, and the bundled sample made of them, so that the pipeline runs without any real face.

Writes, the same for one seed,
- `fer2013/drawn_faces.zip`, holding `fer2013.csv` (emotion,pixels,Usage; 48 x 48 grey faces), with exact, mirrored and
  near copies and copies under another label, as in the real set, and `fer2013new.csv`, ten drawn votes for each row;
- `expw/origin/*.jpg` and `expw/label.lst` (colour photos of one to four faces), with bad rows and files (`BAD_ROWS`).

`draw_face`, `draw_photo` and `draw_clip` serve tests and demonstrations too.

    python -m tools.drawn_faces data/raw/sample        # about 15 s on one core, 2 MB
"""

import argparse
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from src.datasets.ferplus import VOTES_FILE
from src.errors import UserError, run_program
from src.expressions import CODE, EXPRESSIONS
from src.storage import replace_directory

Box = tuple[float, float, float, float]  # x, y, width, height in pixels; from hairline to chin
Points = Sequence[tuple[float, float]] | np.ndarray
Actions = dict[str, float]

USAGES = ("Training", "PublicTest", "PrivateTest")
# Different pictures per usage in the order of EXPRESSIONS: disgust rare and happy common, as in the real set.
FER2013_COUNTS = ((66, 26, 66, 114, 78, 58, 82), (8, 4, 8, 14, 10, 7, 10), (8, 4, 8, 14, 10, 7, 10))
# (kind, usage of the picture, usage of its copy, how many); "conflict" is an exact copy under another label.
FER2013_COPIES = (
    *(("exact", "Training", "PublicTest", 4), ("exact", "Training", "PrivateTest", 4)),
    *(("exact", "PublicTest", "PrivateTest", 2), ("exact", "Training", "Training", 3)),
    *(("mirrored", "Training", "PublicTest", 2), ("mirrored", "Training", "PrivateTest", 2)),
    *(("near", "Training", "PublicTest", 2), ("near", "Training", "PrivateTest", 2)),
    *(("conflict", "Training", "Training", 1), ("conflict", "Training", "PrivateTest", 1)),
)
VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTE_OF_CLASS = (4, 5, 6, 1, 3, 2, 0)
NUM_PHOTOS = 140
HOLD_SECONDS = 1.5
EXPW_SHARES = (0.11, 0.09, 0.07, 0.24, 0.15, 0.11, 0.23)
# What is wrong with the first photos' boxes (they can be clipped) and with the last rows of label.lst, in that order.
# The lost rows stay below 2 % of all, the share at which ingest_expw refuses a data set.
NUM_BOXES_OUTSIDE = 3
BAD_ROWS = (
    "inverted box", "empty box", "missing photo", "unknown label", "too few columns", "text file", "truncated photo",
)  # fmt: skip

# What the face does, 0 at rest and 1 in full, after the action units of Ekman and Friesen (EMFACS, 1983); below 0 an
# eye is narrowed, a lip corner pulled down, a mouth pursed.
ACTIONS = ("inner_brow", "outer_brow", "frown", "eye", "cheek", "nose", "lip", "corner", "width", "press", "jaw")
PROTOTYPES: dict[str, Actions] = {
    "angry": {"frown": 1.0, "eye": -0.1, "press": 0.9, "corner": -0.3},
    "disgust": {"frown": 0.45, "eye": -0.5, "cheek": 0.5, "nose": 1.0, "lip": 1.0, "corner": -0.25},
    "fear": {"inner_brow": 1.0, "outer_brow": 0.35, "eye": 0.9, "width": 0.6, "jaw": 0.35, "corner": -0.3},
    "happy": {"cheek": 0.9, "eye": -0.25, "corner": 1.0, "width": 0.35, "jaw": 0.25},
    "sad": {"inner_brow": 0.9, "frown": 0.15, "eye": -0.4, "corner": -0.95, "width": -0.1},
    "surprise": {"inner_brow": 0.95, "outer_brow": 1.0, "eye": 0.9, "width": -0.5, "jaw": 0.9},
    "neutral": {},
}

# Colours are BGR, [0, 255]: skin from light to dark, hair from dark to fair, shirts.
_SKINS = np.array([[198, 214, 242], [172, 196, 232], [140, 172, 216], [104, 140, 192], [74, 106, 156], [54, 78, 120]])
_HAIRS = np.array([[28, 26, 30], [30, 42, 62], [42, 66, 98], [46, 74, 140], [92, 140, 178], [128, 130, 134]])
_SHIRTS = np.array([[120, 70, 40], [60, 60, 150], [80, 120, 70], [150, 150, 150], [60, 60, 66], [60, 140, 180]])
_MOUTH, _TEETH, _EYE_WHITE, _IRIS = (28, 22, 48), (206, 216, 220), (205, 212, 218), (40, 46, 60)


class Person(NamedTuple):
    """Who: what stays the same while the expression changes."""

    skin: np.ndarray  # BGR
    hair: np.ndarray  # BGR
    shirt: np.ndarray  # BGR
    long_hair: bool
    wide: np.ndarray  # of the face, jaw, eyes, nose, mouth, lips, brows; 1 is usual


class DrawnFace(NamedTuple):
    """A face in a frame of `draw_clip`: what a detector and a classifier should find."""

    face_box: Box
    expression: str


def draw_person(rng: np.random.Generator) -> Person:
    """A random person."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = np.array([np.interp(tone, range(len(_SKINS)), _SKINS[:, channel]) for channel in range(3)])
    hair = _HAIRS[rng.integers(len(_HAIRS) if tone < 2.5 else 2)] * rng.uniform(0.85, 1.15)  # fair hair on fair skin
    shirt = _SHIRTS[rng.integers(len(_SHIRTS))] * rng.uniform(0.7, 1.2)
    wide = rng.uniform((0.93, 0.88, 0.9, 0.85, 0.88, 0.75, 0.8), (1.07, 1.1, 1.12, 1.2, 1.12, 1.25, 1.3))
    return Person(skin, hair, shirt, bool(rng.random() < 0.35), wide)


def draw_actions(rng: np.random.Generator, expression: str) -> Actions:
    """The prototype of an expression at a random strength, with every action a little off, as people are."""
    strength = rng.uniform(0.5, 1.1)
    actions = {name: strength * PROTOTYPES[expression].get(name, 0.0) + rng.normal(0, 0.1) for name in ACTIONS}
    if expression in ("happy", "angry"):  # a broad laugh, a shout: both come with the mouth open or shut
        actions["jaw"] += rng.choice((-0.25, 0.0, 0.3)) * strength
    return actions


# --- painting ---


def _smooth(points: Points, *, closed: bool = True) -> np.ndarray:
    """The polygon with its corners cut three times (G. Chaikin, 1974): a smooth curve, float64 `(N, 2)`."""
    curve = np.array(points, np.float64)
    for _ in range(3):
        following = np.roll(curve, -1, axis=0)
        cut = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], axis=1).reshape(-1, 2)
        curve = cut if closed else np.concatenate([curve[:1], cut[:-2], curve[-1:]])
    return curve


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    angles = np.arange(24) * (2 * np.pi / 24)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def _stroke(points: Points, width: float) -> np.ndarray:
    """A brush stroke along a curve, thin at its ends: a polygon."""
    line = _smooth(points, closed=False)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / (np.hypot(*along.T)[:, None] + 1e-9)
    half = width / 2 * (1 - 0.7 * np.linspace(-1, 1, len(line))[:, None] ** 2)
    return np.concatenate([line + half * normal, (line - half * normal)[::-1]])


class _Brush:
    """Paints shapes given in face units, in which the face box is [-1, 1] x [-1, 1], onto a photo in place.

    Shapes are integer polygons on 8-bit masks and blending is plain float32 multiplication and addition, so that every
    processor draws the same pixels.
    """

    def __init__(self, photo: np.ndarray, face_box: Box, tilt: float, yaw: float) -> None:
        x, y, width, height = face_box
        self.photo = photo  # (H, W, 3) float32, BGR [0, 255]
        self._scale, self._centre = np.array([width / 2, height / 2]), np.array([x + width / 2, y + height / 2])
        self._turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self._yaw = yaw

    def place(self, shape: np.ndarray) -> np.ndarray:
        """In pixels. The nose stands out most and moves most when the head turns; the outline stays."""
        depth = np.clip(1 - (shape[:, 0] / 0.85) ** 2, 0, None) * np.clip(1.2 - np.abs(shape[:, 1]), 0, 1)
        turned = shape + np.stack([0.11 * self._yaw * depth, np.zeros(len(shape))], axis=1)
        return (turned @ self._turn) * self._scale + self._centre

    def paint(
        self,
        shape: np.ndarray,
        colour: float | Sequence[float] | np.ndarray,
        opacity: float = 1.0,
        blur: float = 0.01,
        inside: np.ndarray | None = None,
    ) -> None:
        """Cover a shape with a colour, or multiply its brightness by a number.

        blur: of its edge, sigma in face units. inside: a shape that the paint stays in.
        """
        placed, sigma = self.place(shape), blur * self._scale[0]
        limit = np.array(self.photo.shape[1::-1])
        left, top = np.clip(np.floor(placed.min(axis=0) - 3 * sigma - 2), 0, limit).astype(int)
        right, bottom = np.clip(np.ceil(placed.max(axis=0) + 3 * sigma + 3), 0, limit).astype(int)
        if left >= right or top >= bottom or opacity <= 0:
            return
        patch = self.photo[top:bottom, left:right]

        def fill(points: np.ndarray) -> np.ndarray:
            corners = np.round((points - (left, top)) * 16).astype(np.int32)
            return cv2.fillPoly(np.zeros(patch.shape[:2], np.uint8), [corners], 255, lineType=cv2.LINE_AA, shift=4)

        mask = fill(placed)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        if inside is not None:
            mask = np.minimum(mask, fill(self.place(inside)))
        weight = mask[:, :, None] * np.float32(min(opacity, 1.0) / 255)
        target = patch * np.float32(colour) if isinstance(colour, float) else np.asarray(colour, np.float32)
        patch += weight * (target - patch)

    def both(self, shape: np.ndarray, *how: Any, **more: Any) -> None:
        """Paint a shape of the right half and its mirror image."""
        for side in (1, -1):
            self.paint(shape * (side, 1), *how, **more)


def paint_face(
    photo: np.ndarray, person: Person, actions: Actions, face_box: Box, tilt: float = 0.0, yaw: float = 0.0
) -> None:
    """Draw a head with neck and shoulders onto a photo, float32 `(H, W, 3)` BGR [0, 255], in place.

    The face fills `face_box` from hairline to chin; hair and shoulders reach outside it.
    tilt: radians, in the picture plane. yaw: -1..1, features shifted to one side.
    """
    brush = _Brush(photo, face_box, tilt, yaw)
    do = {name: actions.get(name, 0.0) for name in ACTIONS}
    up = {name: max(0.0, value) for name, value in do.items()}
    face, jaw, eye, nose, mouth, lips, brow = person.wide
    skin, hair = person.skin, person.hair

    # Hair behind, shoulders, neck, ears, head. An opening mouth takes the chin down with it.
    if person.long_hair:
        long = [(-1.0, 1.5), (-1.05, 0.0), (-0.7, -1.4), (0.7, -1.4), (1.05, 0.0), (1.0, 1.5)]
        brush.paint(_smooth(long), hair * 0.8)
    brush.paint(_smooth([(-2.0, 9.0), (-1.6, 1.5), (-0.2, 1.3), (0.2, 1.3), (1.6, 1.5), (2.0, 9.0)]), person.shirt)
    brush.paint(_smooth([(-0.45, 0.4), (-0.4, 1.7), (0.4, 1.7), (0.45, 0.4)]), skin * 0.7)
    brush.both(_ellipse(0.78 * face, -0.05, 0.1, 0.24), skin * 0.8)
    chin = 1.04 + 0.12 * up["jaw"]
    right = [(0.55 * face, -1.18), (0.84 * face, -0.7), (0.8 * face, 0.2), (0.66 * jaw, 0.72), (0.3 * jaw, chin)]
    head = _smooth([*right, *[(-x, y) for x, y in right[::-1]]])
    brush.paint(head, skin)

    # Light and shadow, by which a face detector knows a face: dark sides and sockets, bright forehead, nose and cheeks.
    brush.both(_stroke([(0.7, -0.8), (0.85, 0.0), (0.75, 0.6), (0.3, 1.1)], 0.4), 0.66, blur=0.09, inside=head)
    brush.paint(_ellipse(0, -0.72, 0.4, 0.16), 1.1, blur=0.1)
    brush.both(_ellipse(0.4, 0.12, 0.18, 0.13), 1.14 + 0.06 * up["cheek"], blur=0.07)
    brush.both(_ellipse(0.36, -0.28, 0.25, 0.15), 0.66, blur=0.06)
    brush.paint(_stroke([(0, -0.5), (0, -0.1), (0, 0.12)], 0.13), 1.2, blur=0.035)
    wing = 0.15 * nose
    brush.both(_stroke([(0.12, -0.35), (0.1, -0.1), (wing, 0.1)], 0.09), 0.75, blur=0.03)
    brush.paint(_stroke([(-wing, 0.16), (0.0, 0.3), (wing, 0.16)], 0.09), 0.6, blur=0.02)
    brush.both(_ellipse(0.5 * wing, 0.2, 0.045, 0.022), skin * 0.25)

    # Folds: forehead, frown, wrinkled nose, from nose to mouth, crow's feet.
    for y in (-0.86, -0.74):
        brush.paint(_stroke([(-0.4, y), (0.0, y - 0.04), (0.4, y)], 0.04), 0.6, 0.8 * up["inner_brow"])
    brush.both(_stroke([(0.07, -0.62), (0.05, -0.38)], 0.045), 0.5, 0.9 * up["frown"])
    for y in (-0.28, -0.16):
        brush.paint(_stroke([(-0.13, y + 0.03), (0.0, y - 0.02), (0.13, y + 0.03)], 0.045), 0.45, 0.8 * up["nose"])
    fold = 0.2 + 0.45 * up["corner"] + 0.6 * up["nose"]
    brush.both(_stroke([(0.18, 0.08), (0.34, 0.26), (0.4 + 0.06 * up["corner"], 0.5)], 0.06), 0.6, fold, blur=0.015)
    brush.both(_stroke([(0.58, -0.22), (0.72, -0.27)], 0.04), 0.65, 0.8 * up["cheek"])

    # Eyes and brows.
    above = max(0.02, 0.1 * (1 + 0.6 * do["eye"] - 0.1 * up["cheek"]))
    below = max(0.012, 0.06 * (1 + 0.5 * do["eye"] - 0.5 * up["cheek"]))
    inner, outer, middle = 0.36 - 0.19 * eye, 0.36 + 0.19 * eye, -0.24
    upper = [(inner, middle + 0.02), (0.29, middle - 1.3 * above), (0.43, middle - 1.3 * above), (outer, middle)]
    lower = [(0.43, middle + 1.3 * below), (0.29, middle + 1.3 * below)]
    almond = np.concatenate([_smooth(upper, closed=False), _smooth([upper[-1], *lower, upper[0]], closed=False)])
    brow_line = [
        (0.13 - 0.04 * do["frown"], -0.45 - 0.16 * do["inner_brow"] + 0.12 * do["frown"]),
        (0.34, -0.56 - 0.07 * do["inner_brow"] - 0.12 * do["outer_brow"] + 0.06 * do["frown"]),
        (0.6, -0.44 + 0.03 * do["inner_brow"] - 0.12 * do["outer_brow"] - 0.02 * do["frown"]),
    ]
    for side in (1, -1):
        flip = np.array((side, 1))
        brush.paint(almond * flip, _EYE_WHITE, inside=head)
        brush.paint(_ellipse(0.36 * side, middle - 0.01, 0.085, 0.085), _IRIS, inside=almond * flip)
        brush.paint(_ellipse(0.36 * side + 0.025, middle - 0.04, 0.018, 0.018), (245, 245, 245), inside=almond * flip)
    brush.both(_stroke(upper, 0.05), skin * 0.2, blur=0.006)
    brush.both(_stroke([(x, y - 0.06) for x, y in upper], 0.04), 0.65)
    brush.both(_stroke([(x, y + 0.07) for x, y in lower], 0.05), 0.7, 0.4 + 0.6 * up["cheek"])
    brush.both(_stroke(brow_line, 0.11 * brow), hair * 0.65, 0.95, blur=0.012)

    # Mouth: its line from corner to corner, the lips above and below, what shows between them.
    half = 0.29 * mouth * (1 + 0.3 * do["width"] + 0.15 * up["corner"])
    raised, dropped = 0.07 * up["jaw"] + 0.06 * up["lip"], 0.3 * up["jaw"] + 0.02 * up["lip"]
    full = 0.1 * lips * (1 - 0.6 * min(1.0, up["press"]))
    across = np.linspace(-1, 1, 9)

    def edge(height: float) -> list[tuple[float, float]]:
        y = 0.53 - 0.14 * do["corner"] * across**2 + height * (1 - across**2) ** 0.7
        return list(zip(half * across, y, strict=True))

    lip_colour = skin * 0.6 + np.array((10, 8, 44))
    brush.paint(np.array([*edge(-raised - full), *edge(dropped + full)[::-1]]), lip_colour, 0.9)
    gap = np.array([*edge(-raised - 0.012), *edge(dropped + 0.012)[::-1]])
    brush.paint(gap, _MOUTH, 0.95, blur=0.008)
    bared = min(1.0, 0.2 + up["corner"] + up["width"] + up["lip"]) * (raised + dropped > 0.03)
    teeth = min(0.11 * bared, 0.8 * (raised + dropped))
    brush.paint(np.array([*edge(-raised), *edge(teeth - raised)[::-1]]), _TEETH, 0.95, blur=0.008, inside=gap)
    brush.both(_ellipse(half, 0.53 - 0.14 * do["corner"], 0.045, 0.045), 0.6, blur=0.02)
    brush.paint(_ellipse(0, 0.62 + dropped + full, 0.18, 0.035), 0.7, blur=0.03)

    line = -0.92 if person.long_hair else -0.72
    outline = [(0.6, -1.5), (0.95, -0.9), (0.86, -0.3), (0.72, -0.2), (0.68, line - 0.05), (0.35, line)]
    brush.paint(_smooth([*outline, *[(-x, y) for x, y in outline[::-1]]]) * (face, 1), hair, blur=0.02)


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall with blurred shapes: float32 `(height, width, 3)`, BGR [0, 255]."""
    wall = np.full((height, width, 3), rng.uniform(60, 190, 3) * 0.5 + rng.uniform(20, 90), np.float32)
    for _ in range(rng.integers(3, 8)):
        left, top, across, down = rng.uniform((-0.2, -0.2, 0.2, 0.2), (0.9, 0.9, 0.8, 0.8))
        rows = slice(max(0, int(top * height)), int((top + down) * height))
        columns = slice(max(0, int(left * width)), int((left + across) * width))
        wall[rows, columns] = 0.5 * wall[rows, columns] + 0.5 * (rng.uniform(20, 130) + rng.uniform(0, 80, 3))
    return cv2.GaussianBlur(wall.astype(np.uint8), (0, 0), max(1.0, 0.01 * width)).astype(np.float32)


def _camera(rng: np.random.Generator) -> np.ndarray:
    """Contrast, brightness in grey levels, light from the right and from below as fractions."""
    return rng.uniform((0.9, -14, -0.15, -0.12), (1.08, 12, 0.15, 0.04))


def _develop(rng: np.random.Generator, photo: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """What the camera makes of the scene, with a little noise: uint8."""
    contrast, brightness, right, down = camera.astype(np.float32)
    height, width = photo.shape[:2]
    light = right * np.linspace(-1, 1, width, dtype=np.float32) + down * np.linspace(-1, 1, height)[:, None]
    photo = (photo * (1 + light.astype(np.float32))[:, :, None] - 128) * contrast + (128 + brightness)
    grain = np.round(rng.normal(0, 0.7, (height, width))).astype(np.float32)
    return np.clip(np.round(photo) + grain[:, :, None], 0, 255).astype(np.uint8)


def _paint_someone(rng: np.random.Generator, photo: np.ndarray, expression: str, face_box: Box) -> None:
    """A random person, nearly upright and nearly frontal."""
    tilt, yaw = np.clip(rng.normal(0, (0.05, 0.3)), (-0.13, -0.8), (0.13, 0.8))
    paint_face(photo, draw_person(rng), draw_actions(rng, expression), face_box, tilt, yaw)


def draw_face(rng: np.random.Generator, expression: str, size: int) -> np.ndarray:
    """A tight crop of a random person with the expression: uint8 `(size, size, 3)`, BGR.

    Drawn at twice the size and averaged, which keeps the thin lines of a small face.
    """
    photo = _background(rng, 2 * size, 2 * size)
    side = 2 * size * rng.uniform(0.96, 1.1)
    left, top = size - side / 2 + 2 * size * rng.normal(0, 0.02, 2)
    _paint_someone(rng, photo, expression, (left, top, side, side))
    shrunk = photo.reshape(size, 2, size, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    return _develop(rng, shrunk, _camera(rng))


def draw_photo(rng: np.random.Generator, faces: Sequence[tuple[str, Box]], width: int, height: int) -> np.ndarray:
    """A photo of random people: uint8 `(height, width, 3)`, BGR. faces: expression and box, which may reach outside."""
    photo = _background(rng, height, width)
    for expression, face_box in faces:
        _paint_someone(rng, photo, expression, face_box)
    return _develop(rng, photo, _camera(rng))


def draw_clip(
    rng: np.random.Generator,
    *,
    seconds: float = 6.0,
    frames_per_second: float = 25.0,
    size: tuple[int, int] = (640, 480),
    num_faces: int = 2,
) -> Iterator[tuple[np.ndarray, list[DrawnFace]]]:
    """The frames of a short video of people who sway a little and take on one expression after another.

    size: width and height, pixels. An expression lasts `HOLD_SECONDS`; its last fifth turns into the next.
    Yields the frame, uint8 `(height, width, 3)` BGR, and the faces from left to right with the expression shown.
    """
    width, height = size
    background, camera = _background(rng, height, width), _camera(rng)
    side = min(0.45 * height, 0.55 * width / num_faces)
    people = [draw_person(rng) for _ in range(num_faces)]
    phases = rng.uniform(0, 2 * np.pi, (num_faces, 3))
    num_holds = int(np.ceil(seconds / HOLD_SECONDS)) + 1
    shown = [np.concatenate([rng.permutation(EXPRESSIONS) for _ in range(num_holds)]) for _ in range(num_faces)]
    for number in range(round(seconds * frames_per_second)):
        time_s = number / frames_per_second
        hold, part = divmod(time_s / HOLD_SECONDS, 1.0)
        turning = float(np.clip((part - 0.8) / 0.2, 0.0, 1.0))
        frame, faces = background.copy(), []
        for index, person in enumerate(people):
            sway = np.sin(phases[index] + 2 * np.pi * time_s * np.array((0.13, 0.17, 0.11)))
            x = (index + 0.5) * width / num_faces + 0.12 * side * sway[0] - side / 2
            y = 0.46 * height + 0.08 * side * sway[1] - side / 2
            face_box = (float(x), float(y), side, side)
            before, after = (str(name) for name in shown[index][int(hold) : int(hold) + 2])
            actions = {
                name: (1 - turning) * PROTOTYPES[before].get(name, 0.0) + turning * PROTOTYPES[after].get(name, 0.0)
                for name in ACTIONS
            }
            paint_face(frame, person, actions, face_box, 0.05 * sway[2], 0.3 * sway[0])
            faces.append(DrawnFace(face_box, after if turning > 0.5 else before))
        yield _develop(rng, frame, camera), faces


# --- the sample ---


def write_sample(directory: str | Path, seed: int = 42) -> None:
    """Write the whole sample; the same seed draws the same faces.

    Replaces an earlier sample in `directory`. Raises UserError when the directory holds anything else, since that may
    be a real data set.
    """
    directory = Path(directory)
    found = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir())
    ours = {"fer2013/drawn_faces.zip", "expw/label.lst"}
    photos = {name for name in found if name.startswith("expw/origin/") and "_drawn_" in name}
    # expw/label.lst alone could be the real one: only the drawn photos prove that this is the sample.
    if foreign := (set(found) - ours - photos) or (found if not photos else []):
        raise UserError(
            f"{directory} holds files that are not part of the sample, such as {min(foreign)}. "
            "Name another directory, such as data/raw/sample, or move these files away."
        )
    fer2013_rng, expw_rng = np.random.default_rng(seed).spawn(2)
    with replace_directory(directory) as partial:
        _write_fer2013(partial / "fer2013", fer2013_rng)
        _write_expw(partial / "expw", expw_rng)


def _write_fer2013(directory: Path, rng: np.random.Generator) -> None:
    faces: dict[str, list[tuple[int, np.ndarray]]] = {}  # usage -> code and picture, (48, 48) uint8, grey
    for usage, counts in zip(USAGES, FER2013_COUNTS, strict=True):
        names = [name for name, count in zip(EXPRESSIONS, counts, strict=True) for _ in range(count)]
        pictures = [cv2.cvtColor(draw_face(rng, name, 48), cv2.COLOR_BGR2GRAY) for name in names]
        faces[usage] = [(CODE[name], picture) for name, picture in zip(names, pictures, strict=True)]
    originals = {usage: iter(rng.permutation(len(faces[usage])).tolist()) for usage in USAGES}  # none is copied twice
    for kind, source, target, count in FER2013_COPIES:
        for _ in range(count):
            code, picture = faces[source][next(originals[source])]
            if kind == "mirrored":
                picture = picture[:, ::-1]
            elif kind == "near":
                picture = np.where(picture < 255, picture + 1, 254).astype(np.uint8)
            elif kind == "conflict":
                code = (code + 1) % len(EXPRESSIONS)
            faces[target].append((code, picture))
    lines, votes = ["emotion,pixels,Usage"], [VOTES_HEADER]
    for usage in USAGES:
        for number in rng.permutation(len(faces[usage])):
            code, picture = faces[usage][number]
            votes.append(f"{usage},fer{len(lines) - 1:07d}.png," + ",".join(map(str, _votes(rng, code, len(lines)))))
            lines.append(f"{code},{' '.join(map(str, picture.ravel().tolist()))},{usage}")
    directory.mkdir(parents=True)
    with zipfile.ZipFile(directory / "drawn_faces.zip", "w", zipfile.ZIP_BZIP2) as archive:
        for name, rows in (("fer2013.csv", lines), (VOTES_FILE, votes)):
            member = zipfile.ZipInfo(name)  # its time is 1980
            archive.writestr(member, "\n".join(rows) + "\n", zipfile.ZIP_BZIP2)


def _votes(rng: np.random.Generator, code: int, row: int) -> list[int]:
    """Ten votes, as FER+ has them: six to ten for what was drawn, the rest for anything; a few see no face."""
    if row % 97 == 0:
        return [0] * 9 + [10]
    own = int(rng.integers(6, 11))
    votes = rng.multinomial(10 - own, np.full(10, 0.1))
    votes[VOTE_OF_CLASS[code]] += own
    return votes.tolist()


def _write_expw(directory: Path, rng: np.random.Generator) -> None:
    origin = directory / "origin"
    origin.mkdir(parents=True)
    rows: list[str] = []
    for number in range(NUM_PHOTOS):
        num_faces = int(rng.choice((1, 2, 3, 4), p=(0.12, 0.28, 0.37, 0.23)))
        # The name of a photo is what it was searched by; its first face shows it, the others may not.
        keyword = str(rng.choice(EXPRESSIONS, p=EXPW_SHARES))
        others = [str(rng.choice((keyword, rng.choice(EXPRESSIONS, p=EXPW_SHARES)))) for _ in range(num_faces - 1)]
        width, height, boxes = _place_faces(rng, num_faces)
        if number < NUM_BOXES_OUTSIDE:
            boxes[0] = (-0.18 * boxes[0][2], *boxes[0][1:])
        faces = list(zip([keyword, *others], boxes, strict=True))
        name = f"{keyword}_drawn_{number}.jpg"
        (origin / name).write_bytes(_jpeg(draw_photo(rng, faces, width, height)))
        for face, (expression, (x, y, side, _)) in enumerate(faces):
            # The boxes of ExpW come from a detector and are never exact: top, left, right, bottom.
            edges = np.round(np.array((y, x, x + side, y + side)) + rng.normal(0, 0.015, 4) * side).astype(int)
            box = " ".join(map(str, edges.tolist()))
            rows.append(f"{name} {face} {box} {rng.uniform(5, 95):.2f} {CODE[expression]}")
    photo, _, top, left, right, bottom, confidence, code = rows[20].split(" ")
    (origin / "neutral_drawn_901.jpg").write_text("This is a text file under the name of a photo.\n", encoding="utf-8")
    whole = _jpeg(draw_photo(rng, [("surprise", (70.0, 70.0, 120.0, 120.0))], 260, 260))
    (origin / "surprise_drawn_902.jpg").write_bytes(whole[: len(whole) // 3])
    rows += [  # as BAD_ROWS says
        f"{photo} 8 {bottom} {left} {right} {top} {confidence} {code}",
        f"{photo} 8 {top} {left} {right} {top} {confidence} {code}",
        "happy_drawn_900.jpg 0 40 40 140 140 88.00 3",
        f"{photo} 8 {top} {left} {right} {bottom} {confidence} 7",
        f"{photo} 8 {top} {left} {right}",
        "neutral_drawn_901.jpg 0 40 40 140 140 71.00 6",
        "surprise_drawn_902.jpg 0 70 70 190 190 64.00 5",
    ]
    (directory / "label.lst").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _place_faces(rng: np.random.Generator, num_faces: int) -> tuple[int, int, list[Box]]:
    """Width and height of a photo and its face boxes from left to right, pixels; heads do not overlap."""
    slot = int(rng.integers(*{1: (200, 300), 2: (135, 200), 3: (118, 155), 4: (108, 120)}[num_faces]))
    width, height = num_faces * slot, int(rng.integers(200, 300))
    boxes = []
    for index in range(num_faces):
        side = round(min(0.74 * slot, 0.56 * height) * rng.choice((0.62, 0.85, 0.95, 1.0)))
        # Hair is up to .2 of the side wider on either side, and .2 higher.
        x = (index + 0.5) * slot - side / 2 + rng.uniform(-1, 1) * max(0.0, slot / 2 - 0.66 * side)
        y = rng.uniform(0.22 * side, height - 1.3 * side)
        boxes.append((float(round(x)), float(round(y)), float(side), float(side)))
    return width, height, boxes


def _jpeg(photo: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 50])[1].tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.drawn_faces", description="Draw the bundled sample.")
    parser.add_argument("directory", type=Path, help="where to write it, such as data/raw/sample")
    directory = parser.parse_args().directory
    write_sample(directory)
    sizes = [path.stat().st_size for path in directory.rglob("*") if path.is_file()]
    print(f"wrote {len(sizes)} files, {sum(sizes) / 1e6:.2f} MB, to {directory}")


if __name__ == "__main__":
    run_program(main)
