"""The bundled sample: drawn faces in the two download formats, so that the pipeline runs without any real face.

Writes, byte-identically for one seed,
- `<directory>/fer2013/drawn_faces.zip`, holding `fer2013.csv` (emotion,pixels,Usage; 48 x 48 grey faces), with exact,
  mirrored and near copies across the usages and copies under another label, as in the real set;
- `<directory>/expw/origin/*.jpg` and `<directory>/expw/label.lst` (colour photos of one to four faces), with the
  kinds of bad rows and files of `BAD_ROWS`.

Every face is drawn from a `Person` (who), `Actions` (which facial muscles, after Ekman's FACS) and a `Pose` (where
and in what light); `draw_face`, `draw_photo` and `draw_clip` serve tests and demonstrations too.

    python -m tools.drawn_faces data/raw/sample        # about 15 s on one core, about 3 MB
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from src.datasets.ferplus import VOTES_FILE
from src.errors import UserError, run_program
from src.expressions import CODE, EXPRESSIONS
from src.storage import replace_directory

USAGES = ("Training", "PublicTest", "PrivateTest")
# Different pictures per usage in the order of EXPRESSIONS: disgust rare and happy common, as in the real set.
FER2013_COUNTS = {
    "Training": (66, 26, 66, 114, 78, 58, 82),
    "PublicTest": (8, 4, 8, 14, 10, 7, 10),
    "PrivateTest": (8, 4, 8, 14, 10, 7, 10),
}
# (kind, usage of the picture, usage of its copy, how many); "conflict" is an exact copy under another label.
FER2013_COPIES = (
    ("exact", "Training", "PublicTest", 4),
    ("exact", "Training", "PrivateTest", 4),
    ("exact", "PublicTest", "PrivateTest", 2),
    ("exact", "Training", "Training", 3),
    ("mirrored", "Training", "PublicTest", 2),
    ("mirrored", "Training", "PrivateTest", 2),
    ("near", "Training", "PublicTest", 2),
    ("near", "Training", "PrivateTest", 2),
    ("conflict", "Training", "Training", 1),
    ("conflict", "Training", "PrivateTest", 1),
)
NUM_PHOTOS = 140
EXPW_SHARES = (0.11, 0.09, 0.07, 0.24, 0.15, 0.11, 0.23)
# What is wrong with the last rows of label.lst, in that order. The first kind can be clipped, the others are lost;
# the lost ones stay below 2 % of all rows, the share at which ingest_expw refuses a data set.
BAD_ROWS = (
    "box outside",
    "box outside",
    "box outside",
    "inverted box",
    "empty box",
    "missing photo",
    "unknown label",
    "too few columns",
    "text file",
    "truncated photo",
)
# Zip members carry a time; this is the earliest that the format can hold.
FERPLUS_NAMES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # in class order
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

# Colours are BGR, [0, 255].
_SKINS = np.array(
    [[198, 214, 242], [172, 196, 232], [140, 172, 216], [104, 140, 192], [74, 106, 156], [54, 78, 120]], np.float64
)
_HAIRS = ((28, 26, 30), (30, 42, 62), (42, 66, 98), (92, 140, 178), (46, 74, 140), (128, 130, 134))
_SHIRTS = ((120, 70, 40), (60, 60, 150), (80, 120, 70), (150, 150, 150), (60, 60, 66), (60, 140, 180), (130, 80, 120))
_IRISES = ((40, 60, 90), (30, 40, 60), (140, 110, 70), (90, 110, 80), (40, 50, 70))


@dataclass(frozen=True)
class Person:
    """Who: what stays the same while the expression changes. Lengths are fractions of the usual one."""

    skin: tuple[float, float, float]  # BGR
    hair: tuple[float, float, float]  # BGR
    iris: tuple[float, float, float]  # BGR
    shirt: tuple[float, float, float]  # BGR
    hair_style: str  # short | fringe | long | bald
    face_width: float
    jaw_width: float
    eye_size: float
    eye_spacing: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_fullness: float
    brow_thickness: float
    beard: float  # 0 none .. 1 full
    glasses: bool


@dataclass(frozen=True)
class Actions:
    """What the face does: 0 is at rest, 1 a full action; the numbers are FACS action units."""

    inner_brow: float = 0.0  # AU 1, raised
    outer_brow: float = 0.0  # AU 2, raised
    brow_lower: float = 0.0  # AU 4, lowered and drawn together
    eye_open: float = 0.0  # AU 5 above 0, AU 7 and 43 below
    cheek_raise: float = 0.0  # AU 6
    nose_wrinkle: float = 0.0  # AU 9
    lip_raise: float = 0.0  # AU 10, upper lip
    lip_corner: float = 0.0  # AU 12 above 0 (up), AU 15 below (down)
    mouth_width: float = 0.0  # AU 20 above 0 (stretched), AU 18 below (pursed)
    lip_press: float = 0.0  # AU 23 and 24
    mouth_open: float = 0.0  # AU 26 and 27


@dataclass(frozen=True)
class Pose:
    """Where the face is and how it is lit."""

    face_box: tuple[float, float, float, float]  # x, y, width, height in pixels; from hairline to chin
    tilt: float = 0.0  # radians, in the picture plane
    yaw: float = 0.0  # -1..1, features shifted to one side
    light: tuple[float, float] = (0.0, 0.0)  # brightening per half face to the right and downwards, fraction


@dataclass(frozen=True)
class DrawnFace:
    """A face in a frame of `draw_clip`: what a detector and a classifier should find."""

    face_box: tuple[float, float, float, float]
    expression: str


# Prototypes after Ekman and Friesen, EMFACS (1983).
PROTOTYPES = {
    "angry": Actions(brow_lower=1.0, eye_open=-0.1, lip_press=0.9, lip_corner=-0.3, mouth_width=-0.05),
    "disgust": Actions(
        brow_lower=0.45, eye_open=-0.5, cheek_raise=0.5, nose_wrinkle=1.0, lip_raise=1.0, lip_corner=-0.25
    ),
    "fear": Actions(
        inner_brow=1.0, outer_brow=0.35, brow_lower=0.2, eye_open=0.9, mouth_width=0.6, mouth_open=0.35, lip_corner=-0.3
    ),
    "happy": Actions(cheek_raise=0.9, eye_open=-0.25, lip_corner=1.0, mouth_width=0.35, mouth_open=0.25),
    "sad": Actions(inner_brow=0.9, brow_lower=0.15, eye_open=-0.4, lip_corner=-0.95, mouth_width=-0.1),
    "surprise": Actions(inner_brow=0.95, outer_brow=1.0, eye_open=0.9, mouth_width=-0.5, mouth_open=0.9),
    "neutral": Actions(),
}


def draw_person(rng: np.random.Generator) -> Person:
    """A random person."""
    tone = rng.uniform(0, len(_SKINS) - 1)
    lower = int(tone)
    skin = _SKINS[lower] + (tone - lower) * (_SKINS[min(lower + 1, len(_SKINS) - 1)] - _SKINS[lower])
    # Fair hair goes with fair skin; the darkest two hair colours go with any.
    hair = np.array(_HAIRS[rng.integers(len(_HAIRS) if tone < 2.5 else 2)]) * rng.uniform(0.85, 1.15)
    iris = _IRISES[rng.integers(len(_IRISES) if tone < 2.5 else 2)]
    hair_style = ("short", "fringe", "long", "bald")[rng.choice(4, p=(0.4, 0.2, 0.32, 0.08))]
    bearded = hair_style != "long" and rng.random() < 0.3
    return Person(
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(iris),
        shirt=_colour(np.array(_SHIRTS[rng.integers(len(_SHIRTS))]) * rng.uniform(0.7, 1.2)),
        hair_style=hair_style,
        face_width=rng.uniform(0.93, 1.07),
        jaw_width=rng.uniform(0.88, 1.1),
        eye_size=rng.uniform(0.9, 1.12),
        eye_spacing=rng.uniform(0.95, 1.06),
        nose_length=rng.uniform(0.92, 1.1),
        nose_width=rng.uniform(0.85, 1.2),
        mouth_width=rng.uniform(0.88, 1.12),
        lip_fullness=rng.uniform(0.75, 1.25),
        brow_thickness=rng.uniform(0.8, 1.3),
        beard=rng.uniform(0.3, 1.0) if bearded else 0.0,
        glasses=bool(rng.random() < 0.06),
    )


def draw_actions(rng: np.random.Generator, expression: str) -> Actions:
    """The prototype of an expression at a random strength, with every action a little off, as people are."""
    strength = rng.uniform(0.5, 1.1)
    prototype = PROTOTYPES[expression]
    values = {field.name: strength * getattr(prototype, field.name) + rng.normal(0, 0.1) for field in fields(Actions)}
    if expression in ("happy", "angry"):
        # A broad laugh, a shout: both expressions come with the mouth open or shut.
        values["mouth_open"] += rng.choice((-0.25, 0.0, 0.3)) * strength
    for name in ("mouth_open", "nose_wrinkle", "lip_raise", "lip_press", "cheek_raise"):
        values[name] = max(0.0, values[name])
    return Actions(**values)


def draw_pose(rng: np.random.Generator, face_box: tuple[float, float, float, float]) -> Pose:
    """A nearly upright, nearly frontal pose in light from a random side."""
    return Pose(
        face_box,
        tilt=float(np.clip(rng.normal(0, 0.05), -0.13, 0.13)),
        yaw=float(np.clip(rng.normal(0, 0.3), -0.8, 0.8)),
        light=(rng.uniform(-0.18, 0.18), rng.uniform(-0.14, 0.04)),
    )


def draw_face(rng: np.random.Generator, expression: str, size: int) -> np.ndarray:
    """A tight crop of a random person with the expression: uint8 `(size, size, 3)`, BGR.

    Drawn at twice the size and averaged, which keeps the thin lines of a small face.
    """
    side = 2 * size
    photo = _draw_background(rng, side, side)
    face_side = side * rng.uniform(0.96, 1.1)
    left, top = ((side - face_side) / 2 + side * rng.normal(0, 0.02) for _ in range(2))
    pose = draw_pose(rng, (left, top, face_side, face_side))
    paint_face(photo, draw_person(rng), draw_actions(rng, expression), pose)
    shrunk = photo.reshape(size, 2, size, 2, 3).mean(axis=(1, 3), dtype=np.float32)
    return _develop(rng, shrunk, _draw_exposure(rng), blur=0.0, noise=1.2)


def draw_photo(
    rng: np.random.Generator,
    faces: list[tuple[str, tuple[float, float, float, float]]],
    width: int,
    height: int,
) -> np.ndarray:
    """A photo of random people: uint8 `(height, width, 3)`, BGR.

    faces: (expression, face_box) of each, the box as (x, y, width, height) in pixels; it may reach outside.
    """
    photo = _draw_background(rng, height, width)
    for expression, face_box in faces:
        paint_face(photo, draw_person(rng), draw_actions(rng, expression), draw_pose(rng, face_box))
    return _develop(rng, photo, _draw_exposure(rng), blur=0.5, noise=1.2)


def draw_clip(
    rng: np.random.Generator,
    *,
    seconds: float = 6.0,
    frames_per_second: float = 25.0,
    size: tuple[int, int] = (640, 480),
    num_faces: int = 2,
    hold_seconds: float = 1.5,
) -> Iterator[tuple[np.ndarray, list[DrawnFace]]]:
    """The frames of a short video of people who sway a little and take on one expression after another.

    size: width and height, pixels. hold_seconds: an expression lasts that long; its last fifth turns into the next.
    Yields the frame, uint8 `(height, width, 3)` BGR, and the faces from left to right with the expression shown.
    """
    width, height = size
    background = _draw_background(rng, height, width)
    face_side = min(0.45 * height, 0.55 * width / num_faces)
    persons = [draw_person(rng) for _ in range(num_faces)]
    phases = rng.uniform(0, 2 * np.pi, (num_faces, 3))
    lights = [(rng.uniform(-0.15, 0.15), rng.uniform(-0.12, 0.0)) for _ in range(num_faces)]
    # One camera setting for the whole clip: a new one for every frame would flicker.
    exposure = _draw_exposure(rng)
    num_holds = int(np.ceil(seconds / hold_seconds)) + 1
    orders = [np.concatenate([rng.permutation(EXPRESSIONS) for _ in range(num_holds)]) for _ in range(num_faces)]
    moods = [[_scaled(PROTOTYPES[name], rng.uniform(0.85, 1.0)) for name in order] for order in orders]
    for number in range(round(seconds * frames_per_second)):
        time = number / frames_per_second
        hold, part = int(time / hold_seconds), time / hold_seconds % 1.0
        ramp = np.clip((part - 0.8) / 0.2, 0.0, 1.0)
        ramp = float(ramp * ramp * (3 - 2 * ramp))
        frame = background.copy()
        faces = []
        for index, person in enumerate(persons):
            sway = np.sin(phases[index] + 2 * np.pi * time * np.array((0.13, 0.17, 0.11)))
            x = (index + 0.5) * width / num_faces + 0.12 * face_side * sway[0] - face_side / 2
            y = 0.46 * height + 0.08 * face_side * sway[1] - face_side / 2
            face_box = (float(x), float(y), face_side, face_side)
            pose = Pose(face_box, tilt=0.05 * float(sway[2]), yaw=0.3 * float(sway[0]), light=lights[index])
            paint_face(frame, person, _between(moods[index][hold], moods[index][hold + 1], ramp), pose)
            faces.append(DrawnFace(face_box, str(orders[index][hold + (ramp > 0.5)])))
        yield _develop(rng, frame, exposure, blur=0.5, noise=1.2), faces


def _scaled(actions: Actions, strength: float) -> Actions:
    return Actions(**{field.name: strength * getattr(actions, field.name) for field in fields(Actions)})


def _between(first: Actions, second: Actions, part: float) -> Actions:
    mixed = {
        field.name: (1 - part) * getattr(first, field.name) + part * getattr(second, field.name)
        for field in fields(Actions)
    }
    return Actions(**mixed)


def _colour(values: np.ndarray | tuple[float, ...]) -> tuple[float, float, float]:
    blue, green, red = (float(np.clip(value, 0, 255)) for value in values)
    return blue, green, red


def _mixed(colour: tuple[float, float, float], other: tuple[float, float, float], part: float) -> np.ndarray:
    return np.array(colour) * (1 - part) + np.array(other) * part


def _smooth(points: list[tuple[float, float]], *, closed: bool = True) -> np.ndarray:
    """A Catmull-Rom curve through the points, float64 `(8 * pieces, 2)`."""
    knots = np.array(points, np.float64)
    padded = np.concatenate([knots[-1:], knots, knots[:2]] if closed else [knots[:1], knots, knots[-1:]])
    t = (np.arange(8) / 8)[:, None, None]
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    angles = np.arange(32) * (2 * np.pi / 32)
    return np.stack([x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)], axis=1)


def _stroke(points: list[tuple[float, float]], width: float, *, taper: float = 0.7) -> np.ndarray:
    """A brush stroke along a curve, thinner at its ends: a polygon."""
    line = _smooth(points, closed=False)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
    normal /= np.sqrt((normal**2).sum(axis=1, keepdims=True)) + 1e-9
    position = np.linspace(-1, 1, len(line))[:, None]
    half = width / 2 * (1 - taper * position**2)
    return np.concatenate([line + half * normal, (line - half * normal)[::-1]])


class _Brush:
    """Paints shapes given in face units onto a photo, in place.

    In face units the face box is [-1, 1] x [-1, 1]. Shapes are integer polygons on 8-bit masks and blending is plain
    float32 multiplication and addition, so that every processor draws the same bytes.
    """

    def __init__(self, photo: np.ndarray, pose: Pose) -> None:
        x, y, width, height = pose.face_box
        self.photo = photo  # (H, W, 3) float32, BGR [0, 255]
        self.pixels = (width + height) / 4  # per face unit
        self.silhouette = np.zeros(photo.shape[:2], np.uint8)
        self._scale = np.array([width / 2, height / 2])
        self._centre = np.array([x + width / 2, y + height / 2])
        cosine, sine = np.cos(pose.tilt), np.sin(pose.tilt)
        self._turn = np.array([[cosine, sine], [-sine, cosine]])
        self._yaw = pose.yaw

    def _place(self, shape: np.ndarray) -> np.ndarray:
        # The nose stands out most and moves most when the head turns; the outline stays.
        depth = np.clip(1 - (shape[:, 0] / 0.85) ** 2, 0, None) * np.clip(1.2 - np.abs(shape[:, 1]), 0, 1)
        turned = shape + np.stack([0.11 * self._yaw * depth, np.zeros(len(shape))], axis=1)
        return (turned @ self._turn) * self._scale + self._centre

    def mask(self, shape: np.ndarray, blur: float = 0.0) -> tuple[slice, slice, np.ndarray] | None:
        """Rows, columns and uint8 mask of a polygon; None outside the photo. blur: sigma in face units."""
        placed = self._place(shape)
        sigma = blur * self.pixels
        reach = 3 * sigma + 2
        height, width = self.photo.shape[:2]
        left, top = (max(0, int(np.floor(value - reach))) for value in placed.min(axis=0))
        right, bottom = (int(np.ceil(value + reach)) + 1 for value in placed.max(axis=0))
        right, bottom = min(width, right), min(height, bottom)
        if left >= right or top >= bottom:
            return None
        rows, columns = slice(top, bottom), slice(left, right)
        mask = self._fill(placed, rows, columns)
        if sigma > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return rows, columns, mask

    @staticmethod
    def _fill(placed: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        """The part of a polygon in pixels that falls on some rows and columns: uint8, 255 inside."""
        mask = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        points = np.round((placed - (columns.start, rows.start)) * 16).astype(np.int32)
        return cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=4)

    def paint(
        self,
        shape: np.ndarray,
        colour: np.ndarray | tuple[float, float, float],
        opacity: float = 1.0,
        blur: float = 0.0,
        clip: np.ndarray | None = None,
        solid: bool = False,
    ) -> None:
        """Cover a shape with a colour. clip: a shape to stay inside. solid: the shape belongs to the silhouette."""
        found = self.mask(shape, blur)
        if found is None or opacity <= 0:
            return
        rows, columns, mask = found
        if solid:
            self.silhouette[rows, columns] = np.maximum(self.silhouette[rows, columns], mask)
        weight = self._weight(found, opacity, clip)
        patch = self.photo[rows, columns]
        patch += weight[:, :, None] * (np.asarray(colour, np.float32) - patch)

    def shade(
        self, shape: np.ndarray, factor: float, blur: float, clip: np.ndarray | None = None, opacity: float = 1.0
    ) -> None:
        """Multiply a shape's brightness by `factor`; red falls less than blue, as in shaded skin."""
        found = self.mask(shape, blur)
        if found is None or opacity <= 0:
            return
        rows, columns, _ = found
        weight = self._weight(found, opacity, clip)
        change = ((factor - 1) * np.array((1.08, 1.02, 0.9))).astype(np.float32)
        self.photo[rows, columns] *= 1 + weight[:, :, None] * change

    def _weight(self, found: tuple[slice, slice, np.ndarray], opacity: float, clip: np.ndarray | None) -> np.ndarray:
        rows, columns, mask = found
        weight = mask.astype(np.float32) * np.float32(min(opacity, 1.0) / 255)
        if clip is not None:
            weight *= self._fill(self._place(clip), rows, columns).astype(np.float32) * np.float32(1 / 255)
        return weight

    def light(self, right: float, down: float) -> None:
        """Brighten the silhouette towards one side."""
        left, top, width, height = cv2.boundingRect(self.silhouette)
        x = (np.arange(left, left + width) - self._centre[0]) / self._scale[0]
        y = (np.arange(top, top + height) - self._centre[1]) / self._scale[1]
        ramp = np.clip(right * x[None, :] + down * y[:, None], -0.3, 0.3).astype(np.float32)
        part = slice(top, top + height), slice(left, left + width)
        self.photo[part] *= 1 + (ramp * self.silhouette[part].astype(np.float32) * np.float32(1 / 255))[:, :, None]


def _both(shape: np.ndarray) -> Iterator[np.ndarray]:
    """A shape of the right half of the picture, and its mirror image."""
    yield shape
    yield shape * (-1, 1)


def paint_face(photo: np.ndarray, person: Person, actions: Actions, pose: Pose) -> None:
    """Draw one head with neck and shoulders onto a photo, in place, with soft edges.

    photo: float32 `(H, W, 3)`, BGR [0, 255]. The face fills `pose.face_box` from hairline to chin; hair and
    shoulders reach outside it.
    """
    brush = _Brush(photo, pose)
    head = _head_outline(person, actions)
    _paint_body(brush, person)
    brush.paint(head, person.skin, blur=0.012, solid=True)
    _shade_head(brush, person, actions, head)
    _paint_nose(brush, person, actions)
    _paint_mouth(brush, person, actions, head)
    for side in (-1, 1):
        _paint_eye(brush, person, actions, side)
        _paint_brow(brush, person, actions, side)
    _paint_hair(brush, person)
    if person.glasses:
        _paint_glasses(brush, person)
    brush.light(*pose.light)


def _head_outline(person: Person, actions: Actions) -> np.ndarray:
    wide, jaw = person.face_width, person.jaw_width * person.face_width
    # An opening mouth takes the chin down with it.
    drop = 0.1 * actions.mouth_open
    right = [
        (0.44 * wide, -1.02),
        (0.7 * wide, -0.68),
        (0.76 * wide, -0.15),
        (0.7 * jaw, 0.38),
        (0.5 * jaw, 0.76 + 0.6 * drop),
        (0.24 * jaw, 0.96 + drop),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    return _smooth([(0.0, -1.12), *right, (0.0, 1.0 + drop), *left])


def _paint_body(brush: _Brush, person: Person) -> None:
    if person.hair_style == "long":
        right = [(0.5, -1.16), (0.88, -0.7), (0.94, 0.0), (0.96, 0.7), (0.9, 1.35), (0.5, 1.5)]
        brush.paint(
            _smooth([(0.0, -1.3), *right, (0.0, 1.4), *[(-x, y) for x, y in reversed(right)]]),
            np.array(person.hair) * 0.8,
            blur=0.03,
            solid=True,
        )
    shirt = [(0.36, 1.28), (0.8, 1.42), (1.25, 1.62), (1.45, 2.1), (1.55, 4.0), (1.6, 9.0)]
    body = _smooth([(0.0, 1.42), *shirt, *[(-x, y) for x, y in reversed(shirt)]])
    neck = _smooth([(0.4, 0.5), (0.38, 1.1), (0.46, 1.36), (0.0, 1.56), (-0.46, 1.36), (-0.38, 1.1), (-0.4, 0.5)])
    brush.paint(body, person.shirt, blur=0.015, solid=True)
    brush.shade(_stroke([(0.75, 2.8), (0.8, 2.1), (0.62, 1.7)], 0.12), 0.8, blur=0.04)
    brush.shade(_stroke([(-0.75, 2.8), (-0.8, 2.1), (-0.62, 1.7)], 0.12), 0.8, blur=0.04)
    brush.paint(neck, np.array(person.skin) * 0.86, blur=0.012, solid=True)
    brush.shade(_ellipse(0, 0.95, 0.5, 0.3), 0.62, blur=0.07, clip=neck)
    for ear in _both(_smooth([(0.7, -0.22), (0.85, -0.27), (0.88, -0.05), (0.8, 0.2), (0.7, 0.16)])):
        ear = ear * (person.face_width, 1)
        brush.paint(ear, np.array(person.skin) * 0.88, blur=0.012, solid=True)
        brush.shade(_ellipse(float(ear[:, 0].mean()), -0.04, 0.03, 0.11), 0.75, blur=0.02)


def _shade_head(brush: _Brush, person: Person, actions: Actions, head: np.ndarray) -> None:
    # The sides and the jaw turn away from the light.
    for cheek in _both(_stroke([(0.66, -0.6), (0.78, 0.0), (0.66, 0.5), (0.42, 0.92)], 0.26, taper=0.3)):
        brush.shade(cheek * (person.face_width, 1), 0.68, blur=0.08, clip=head)
    brush.shade(_stroke([(-0.5, 0.86), (0.0, 1.06), (0.5, 0.86)], 0.16, taper=0.2), 0.72, blur=0.05, clip=head)
    brush.shade(_ellipse(0, -0.72, 0.36, 0.16), 1.1, blur=0.1, clip=head)
    raised = max(0.0, actions.cheek_raise)
    for cheek in _both(_ellipse(0.4, 0.14 - 0.05 * raised, 0.17, 0.11 + 0.02 * raised)):
        brush.shade(cheek, 1.13 + 0.05 * raised, blur=0.07, clip=head)
        brush.paint(cheek, _mixed(person.skin, (90, 90, 210), 0.35), 0.16, blur=0.08, clip=head)
    for socket in _both(_ellipse(0.36 * person.eye_spacing, -0.27, 0.23, 0.13)):
        brush.shade(socket, 0.66, blur=0.055, clip=head)
    for inner in _both(_ellipse(0.15, -0.26, 0.06, 0.1)):
        brush.shade(inner, 0.72, blur=0.04)
    if person.beard:
        beard = [(0.7, 0.1), (0.56, 0.4), (0.34, 0.34), (0.0, 0.3)]
        outer = [(-x, y) for x, y in reversed(beard[:-1])]
        shape = _smooth([*beard, *outer, (-0.74, 0.5), (-0.5, 1.0), (0.0, 1.2), (0.5, 1.0), (0.74, 0.5)])
        brush.paint(shape, _mixed(person.hair, person.skin, 0.15), 0.65 * person.beard, blur=0.045, clip=head)

    # Folds that the muscles draw: forehead, between the brows, beside the nose, crow's feet.
    lift = max(0.0, min(actions.inner_brow, 1.2) * 0.6 + max(0.0, actions.outer_brow) * 0.4)
    for y in (-0.84, -0.75, -0.66):
        line = _stroke([(-0.38, y + 0.02), (0.0, y - 0.02), (0.38, y + 0.02)], 0.03)
        brush.shade(line, 0.66, blur=0.012, opacity=0.75 * lift)
    frown = max(0.0, actions.brow_lower)
    for line in _both(_stroke([(0.07, -0.6), (0.05, -0.5), (0.06, -0.38)], 0.035)):
        brush.shade(line, 0.5, blur=0.012, opacity=0.85 * frown)
    smile = max(0.0, actions.lip_corner)
    fold = 0.2 + 0.45 * smile + 0.5 * actions.nose_wrinkle + 0.25 * actions.lip_raise
    out = 0.08 * smile
    for line in _both(_stroke([(0.17, 0.1), (0.3 + 0.5 * out, 0.26), (0.36 + out, 0.46)], 0.045)):
        brush.shade(line, 0.6, blur=0.018, opacity=fold)
    for y in (-0.3, -0.2):
        for line in _both(_stroke([(0.58, y + 0.03), (0.69, y)], 0.025)):
            brush.shade(line, 0.7, blur=0.01, opacity=0.8 * raised)


def _paint_nose(brush: _Brush, person: Person, actions: Actions) -> None:
    wide = 0.15 * person.nose_width * (1 + 0.15 * actions.nose_wrinkle + 0.1 * max(0.0, actions.lip_corner))
    tip = 0.15 * person.nose_length - 0.05 * actions.nose_wrinkle
    for side in _both(_stroke([(0.09, -0.3), (0.08, -0.05), (wide, tip)], 0.07)):
        brush.shade(side, 0.8, blur=0.03)
    brush.shade(_stroke([(0.0, -0.42), (0.0, -0.1), (0.0, tip - 0.02)], 0.09), 1.2, blur=0.03)
    brush.shade(_ellipse(0, tip - 0.02, 0.07, 0.06), 1.12, blur=0.03)
    brush.shade(_stroke([(-wide, tip + 0.04), (0.0, tip + 0.12), (wide, tip + 0.04)], 0.07), 0.62, blur=0.022)
    for wing in _both(_stroke([(wide + 0.01, tip - 0.07), (wide + 0.035, tip), (wide - 0.01, tip + 0.06)], 0.03)):
        brush.shade(wing, 0.6, blur=0.012)
    for nostril in _both(_ellipse(wide * 0.5, tip + 0.065, 0.038, 0.02)):
        brush.paint(nostril, np.array(person.skin) * 0.25, 0.9, blur=0.01)
    for y in (-0.3, -0.22, -0.14):
        line = _stroke([(-0.11, y + 0.03), (0.0, y - 0.01), (0.11, y + 0.03)], 0.03)
        brush.shade(line, 0.5, blur=0.01, opacity=0.7 * actions.nose_wrinkle)
    for line in _both(_stroke([(0.12, -0.12), (0.19, -0.04), (0.23, 0.04)], 0.03)):
        brush.shade(line, 0.6, blur=0.015, opacity=0.6 * actions.nose_wrinkle)


def _paint_eye(brush: _Brush, person: Person, actions: Actions, side: int) -> None:
    x, y = side * 0.36 * person.eye_spacing, -0.24
    half = 0.165 * person.eye_size
    squint = max(0.0, actions.cheek_raise)
    above = max(0.014, 0.078 * person.eye_size * (1 + 0.62 * actions.eye_open - 0.1 * squint))
    below = max(0.008, 0.052 * person.eye_size * (1 + 0.4 * actions.eye_open - 0.5 * squint))
    # The frown presses on the inner part of the upper lid; grief lifts it.
    slant = 0.035 * max(0.0, actions.brow_lower) - 0.03 * actions.inner_brow * (actions.eye_open < 0.2)
    inner, outer = (x - side * half, y + 0.02), (x + side * half, y - 0.005)
    upper = [
        inner,
        (x - side * half * 0.5, y - 0.75 * above + slant),
        (x, y - above + 0.3 * slant),
        (x + side * half * 0.55, y - 0.78 * above),
        outer,
    ]
    lower = [(x + side * half * 0.5, y + 0.8 * below), (x, y + below), (x - side * half * 0.5, y + 0.85 * below)]
    almond = _smooth([*upper, *lower])
    brush.paint(almond, _mixed((214, 220, 224), person.skin, 0.12), blur=0.006)
    iris = _ellipse(x, y - 0.012, 0.078, 0.082)
    brush.paint(iris, np.array(person.iris) * 0.7, blur=0.005, clip=almond)
    brush.paint(_ellipse(x, y - 0.012, 0.055, 0.058), person.iris, 0.8, blur=0.008, clip=almond)
    brush.paint(_ellipse(x, y - 0.012, 0.036, 0.038), (14, 12, 12), blur=0.004, clip=almond)
    brush.shade(_stroke(upper, 0.06), 0.6, blur=0.015, clip=almond)
    brush.paint(_ellipse(x + 0.024, y - 0.042, 0.016, 0.016), (245, 245, 245), 0.9, clip=almond)
    brush.paint(_stroke(upper, 0.032, taper=0.5), np.array(person.skin) * 0.2, 0.95, blur=0.006)
    brush.shade(_stroke([inner, *lower[::-1], outer], 0.025), 0.62, blur=0.008)
    crease = [(px, py - 0.045 - 0.012 * max(0.0, actions.eye_open)) for px, py in upper]
    brush.shade(_stroke(crease, 0.028), 0.62, blur=0.008)
    bag = [(px, py + 0.055) for px, py in lower]
    brush.shade(_stroke(bag, 0.03), 0.72, blur=0.014, opacity=0.35 + 0.6 * squint)


def _paint_brow(brush: _Brush, person: Person, actions: Actions, side: int) -> None:
    raise_in, raise_out, lower = actions.inner_brow, actions.outer_brow, actions.brow_lower
    thick = 0.062 * person.brow_thickness
    line = [
        (side * (0.13 - 0.035 * lower), -0.45 - 0.15 * raise_in + 0.11 * lower),
        (side * 0.27, -0.5 - 0.1 * raise_in - 0.06 * raise_out + 0.07 * lower),
        (side * 0.43, -0.52 - 0.02 * raise_in - 0.14 * raise_out + 0.01 * lower),
        (side * 0.57, -0.44 + 0.02 * raise_in - 0.12 * raise_out - 0.02 * lower),
    ]
    colour = _mixed(person.hair, (20, 20, 20), 0.35)
    brush.shade(_stroke([(px, py + 0.05) for px, py in line], thick), 0.8, blur=0.03)
    brush.paint(_stroke(line, 1.25 * thick, taper=0.6), colour, 0.45, blur=0.015)
    brush.paint(_stroke(line, 0.8 * thick, taper=0.7), colour, 0.9, blur=0.008)


def _paint_mouth(brush: _Brush, person: Person, actions: Actions, head: np.ndarray) -> None:
    corner, pressed = actions.lip_corner, min(1.0, actions.lip_press)
    half = 0.275 * person.mouth_width * (1 + 0.3 * actions.mouth_width + 0.14 * corner * (corner > 0))
    open_down = 0.25 * actions.mouth_open + 0.015 * actions.lip_raise
    # Between a lens (pulled corners) and an oval (a dropped jaw).
    oval = float(np.clip(1.2 * actions.mouth_open - 1.2 * actions.mouth_width - abs(corner), 0, 1))
    half *= 1 - 0.15 * oval
    open_up = (0.05 + 0.06 * oval) * actions.mouth_open + 0.055 * actions.lip_raise
    full = person.lip_fullness * (1 - 0.5 * pressed)
    y = 0.5 + 0.02 * max(0.0, corner)
    bend = -0.135 * corner

    def edge(height: float, power: float = 2.0) -> list[tuple[float, float]]:
        """A line from corner to corner that passes `height` below the mouth's middle."""
        position = np.linspace(-1, 1, 9)
        arch = (1 - oval) * (1 - np.abs(position) ** power) + oval * np.sqrt(1 - position**2)
        line = y + bend * position**2 + height * arch
        return [(float(half * x), float(value)) for x, value in zip(position, line, strict=True)]

    top = edge(-open_up - 0.075 * full - 0.045 * actions.lip_raise)
    # Cupid's bow.
    top[4] = (top[4][0], top[4][1] + 0.014)
    inner_top, inner_bottom = edge(-open_up), edge(open_down, power=2.6)
    bottom = edge(open_down + 0.095 * full, power=2.4)
    lip = _mixed(tuple(np.array(person.skin) * 0.72), (80, 70, 170), 0.3)

    brush.shade(_stroke([(-0.04, 0.3), (0.0, 0.38), (0.04, 0.3)], 0.05), 0.85, blur=0.025)
    upper_lip = _smooth([*top, *inner_top[::-1][1:-1]])
    lower_lip = _smooth([*inner_bottom, *bottom[::-1][1:-1]])
    brush.paint(upper_lip, lip * 0.8, 0.9, blur=0.01)
    brush.paint(lower_lip, lip, 0.9, blur=0.012)
    brush.shade(_ellipse(0, y + open_down + 0.045 * full, 0.1, 0.016), 1.3, blur=0.018)
    if open_up + open_down > 0.02:
        inside = _smooth([*inner_top, *inner_bottom[::-1][1:-1]])
        brush.paint(inside, (28, 22, 48), blur=0.006)
        if open_down > 0.12:
            brush.paint(_ellipse(0, y + open_down, 0.6 * half, 0.5 * open_down), (86, 80, 150), 0.8, 0.02, clip=inside)
        # Smiling, grinning in fear and sneering bare the upper teeth; a jaw that just drops hardly does.
        bared = (0.3 + 0.7 * min(1.0, max(0.0, corner) + max(0.0, actions.mouth_width) + actions.lip_raise)) * (
            1 - oval
        )
        teeth = min(0.095 * bared, 0.8 * (open_up + open_down))
        band = _smooth([*inner_top, *[(px * 0.97, py + teeth) for px, py in inner_top[::-1][1:-1]]])
        brush.paint(band, (206, 216, 220), 0.95, blur=0.008, clip=inside)
    else:
        brush.paint(_stroke(edge(-0.005), 0.04, taper=0.6), np.array(person.skin) * 0.25, 0.9, blur=0.008)
    for px in (-half, half):
        brush.shade(_ellipse(px, y + bend, 0.035, 0.035), 0.6, blur=0.02)
    brush.shade(_ellipse(0, y + open_down + 0.16 * full + 0.02, 0.17, 0.03), 0.7, blur=0.03, clip=head)
    brush.shade(_ellipse(0, 0.84 + 0.1 * actions.mouth_open, 0.14, 0.06), 1.1, blur=0.05, clip=head)
    for line in _both(_stroke([(half + 0.03, y + bend), (half + 0.05, y + bend + 0.14)], 0.04)):
        brush.shade(line, 0.62, blur=0.015, opacity=0.8 * max(0.0, -corner))


def _paint_hair(brush: _Brush, person: Person) -> None:
    if person.hair_style == "bald":
        brush.shade(_ellipse(0.08, -1.0, 0.25, 0.06), 1.15, blur=0.05)
        return
    wide = person.face_width
    hairline = {
        "short": [(0.72, -0.42), (0.64, -0.68), (0.42, -0.84), (0.0, -0.88)],
        "fringe": [(0.74, -0.2), (0.66, -0.56), (0.4, -0.7), (0.0, -0.72)],
        "long": [(0.72, -0.1), (0.62, -0.5), (0.36, -0.8), (0.0, -0.96)],
    }[person.hair_style]
    outline = [(0.0, -1.3), (0.5, -1.22), (0.82, -0.85), (0.84, -0.4)]
    if person.hair_style == "long":
        outline += [(0.93, 0.1), (0.95, 0.7), (0.86, 1.05), (0.78, 0.6), (0.76, 0.2)]
    right = [(x * wide, y) for x, y in [*outline[1:], *hairline[:-1]]]
    shape = _smooth([outline[0], *right, hairline[-1], *[(-x, y) for x, y in reversed(right)]])
    brush.shade(shape + np.array((0.0, 0.05)), 0.75, blur=0.04)
    brush.paint(shape, person.hair, blur=0.018, solid=True)
    for x in (-0.55, -0.3, 0.0, 0.3, 0.55):
        lock = _stroke([(0.7 * x, -1.24), (1.05 * x, -1.02), (1.2 * x * wide, -0.84)], 0.07)
        brush.paint(lock, np.minimum(np.array(person.hair) * 1.5 + 12, 255), 0.35, blur=0.03, clip=shape)
        brush.shade(lock + np.array((0.09, 0.0)), 0.75, blur=0.03, clip=shape)


def _paint_glasses(brush: _Brush, person: Person) -> None:
    x = 0.36 * person.eye_spacing
    for side in (-1, 1):
        ring = _ellipse(side * x, -0.22, 0.25, 0.2)
        closed = [tuple(point) for point in np.concatenate([ring, ring[:1]])]
        brush.paint(_stroke(closed, 0.024, taper=0.0), (40, 36, 36), 0.85, blur=0.006)
    brush.paint(_stroke([(-0.11, -0.25), (0.0, -0.28), (0.11, -0.25)], 0.024, taper=0.0), (40, 36, 36), 0.85)


def _draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gradient with blurred shapes: float32 `(height, width, 3)`, BGR [0, 255]."""
    first, second = 0.4 * rng.uniform(50, 210, (2, 3)) + rng.uniform(30, 130, (2, 1))
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.arange(width)[None, :] / width - 0.5, np.arange(height)[:, None] / height - 0.5
    ramp = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1)[:, :, None]
    scene = (first + ramp * (second - first)).astype(np.uint8)
    for _ in range(rng.integers(3, 8)):
        colour = tuple(float(value) for value in rng.uniform(30, 220) * 0.6 + rng.uniform(0, 80, 3))
        corner = rng.uniform(-0.2, 1.0, 2) * (width, height)
        extent = rng.uniform(0.15, 0.6, 2) * (width, height)
        if rng.random() < 0.5:
            shape = corner + extent * np.array(((0, 0), (1, 0), (1, 1), (0, 1)))
        else:
            shape = _ellipse(*corner, *(extent / 2))
        layer = scene.copy()
        cv2.fillPoly(layer, [np.round(shape).astype(np.int32)], colour)
        scene = cv2.addWeighted(scene, 0.5, layer, 0.5, 0)
    return cv2.GaussianBlur(scene, (0, 0), max(1.0, 0.008 * width)).astype(np.float32)


def _draw_exposure(rng: np.random.Generator) -> tuple[float, float]:
    """Contrast as a factor, brightness in grey levels."""
    return rng.uniform(0.9, 1.08), rng.uniform(-14, 12)


def _develop(
    rng: np.random.Generator, photo: np.ndarray, exposure: tuple[float, float], blur: float, noise: float
) -> np.ndarray:
    """What the camera does: exposure, lens blur (sigma in pixels), noise (grey levels). Returns uint8."""
    contrast, brightness = exposure
    photo = (photo - 128) * np.float32(contrast) + np.float32(128 + brightness)
    picture: np.ndarray = np.clip(np.round(photo), 0, 255).astype(np.uint8)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    # One value for the three channels: brightness noise, which JPEG keeps.
    grain = np.round(rng.normal(0, noise, picture.shape[:2])).astype(np.int16)
    return np.clip(picture.astype(np.int16) + grain[:, :, None], 0, 255).astype(np.uint8)


def write_sample(directory: str | Path, seed: int = 42) -> None:
    """Write the whole sample; the same seed writes the same bytes.

    Replaces an earlier sample in `directory`. Raises UserError when the directory holds anything else, since that may
    be a real data set.
    """
    directory = Path(directory)
    _refuse_foreign_files(directory)
    fer2013_rng, expw_rng = np.random.default_rng(seed).spawn(2)
    with replace_directory(directory) as partial:
        _write_fer2013(partial / "fer2013", fer2013_rng)
        _write_expw(partial / "expw", expw_rng)


def _refuse_foreign_files(directory: Path) -> None:
    if not directory.exists():
        return
    entries = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()]
    ours = {"fer2013/drawn_faces.zip", f"fer2013/{VOTES_FILE}", "expw/label.lst"}
    photos = [name for name in entries if name.startswith("expw/origin/") and "_drawn_" in name]
    foreign = sorted(set(entries) - ours - set(photos))
    # expw/label.lst alone could be the real one: only the drawn photos prove that this is the sample.
    if foreign or (entries and not photos):
        raise UserError(
            f"{directory} holds files that are not part of the sample, such as {(foreign or entries)[0]}. "
            "Name another directory, such as data/raw/sample, or move these files away."
        )


def _write_fer2013(directory: Path, rng: np.random.Generator) -> None:
    pictures: dict[str, list[np.ndarray]] = {usage: [] for usage in USAGES}  # (48, 48) uint8, grey
    codes: dict[str, list[int]] = {usage: [] for usage in USAGES}
    for usage, counts in FER2013_COUNTS.items():
        for expression, count in zip(EXPRESSIONS, counts, strict=True):
            for _ in range(count):
                pictures[usage].append(cv2.cvtColor(draw_face(rng, expression, 48), cv2.COLOR_BGR2GRAY))
                codes[usage].append(CODE[expression])
    # No picture is copied twice, so the copies can be counted.
    originals = {usage: iter(rng.permutation(len(pictures[usage])).tolist()) for usage in USAGES}
    for kind, source, target, count in FER2013_COPIES:
        for _ in range(count):
            number = next(originals[source])
            picture, code = pictures[source][number], codes[source][number]
            if kind == "mirrored":
                picture = picture[:, ::-1]
            elif kind == "near":
                picture = np.where(picture < 255, picture + 1, 254).astype(np.uint8)
            elif kind == "conflict":
                code = (code + 1) % len(EXPRESSIONS)
            pictures[target].append(picture)
            codes[target].append(code)
    lines = ["emotion,pixels,Usage"]
    for usage in USAGES:
        for number in rng.permutation(len(pictures[usage])):
            pixels = " ".join(map(str, pictures[usage][number].ravel().tolist()))
            lines.append(f"{codes[usage][number]},{pixels},{usage}")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        member = zipfile.ZipInfo("fer2013.csv", _ZIP_TIME)
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, "\n".join(lines) + "\n", compresslevel=9)
    directory.mkdir(parents=True)
    (directory / "drawn_faces.zip").write_bytes(packed.getvalue())
    _write_votes(directory / VOTES_FILE, [line.split(",") for line in lines[1:]])


def _write_votes(path: Path, rows: list[list[str]]) -> None:
    """Ten votes a face, as FER+ has them: six to ten for what was drawn, the rest for neighbours; a few see no face."""
    rng = np.random.default_rng(7)
    columns = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
    column_of = [columns.index(name) for name in FERPLUS_NAMES]
    lines = [",".join(["Usage", "Image name", *columns])]
    for number, (emotion, _, usage) in enumerate(rows):
        votes = rng.multinomial(10 - (own := int(rng.integers(6, 11))), np.full(10, 0.1))
        votes[column_of[int(emotion)]] += own
        if number % 97 == 96:
            votes = np.eye(10, dtype=int)[9] * 10
        lines.append(",".join([usage, f"fer{number:07d}.png", *map(str, votes)]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_expw(directory: Path, rng: np.random.Generator) -> None:
    origin = directory / "origin"
    origin.mkdir(parents=True)
    rows, names = [], []
    for number in range(NUM_PHOTOS):
        num_faces = int(rng.choice((1, 2, 3, 4), p=(0.12, 0.28, 0.37, 0.23)))
        # The name of a photo is what it was searched by; its first face shows it, the others may not.
        keyword = str(rng.choice(EXPRESSIONS, p=EXPW_SHARES))
        others = [str(rng.choice((keyword, rng.choice(EXPRESSIONS, p=EXPW_SHARES)))) for _ in range(num_faces - 1)]
        width, height, boxes = _place_faces(rng, num_faces)
        if number < BAD_ROWS.count("box outside"):
            _, y, side, _ = boxes[0]
            boxes[0] = (-0.18 * side, y, side, side)
        faces = list(zip([keyword, *others], boxes, strict=True))
        names.append(f"{keyword}_drawn_{number}.jpg")
        (origin / names[-1]).write_bytes(_encode_jpeg(draw_photo(rng, faces, width, height)))
        rows += [_label_row(rng, names[-1], face, *labelled) for face, labelled in enumerate(faces)]
    # The rows of the photos with a box outside are good once clipped; the lost rows are added to the table's end.
    inverted, empty = rows[20].split(" "), rows[40].split(" ")
    inverted[2], inverted[5] = inverted[5], inverted[2]
    empty[5] = empty[2]
    rows += [" ".join([inverted[0], "8", *inverted[2:]]), " ".join([empty[0], "8", *empty[2:]])]
    rows.append("happy_drawn_900.jpg 0 40 40 140 140 88.00 3")
    unknown = rows[60].split(" ")
    rows.append(" ".join([unknown[0], "8", *unknown[2:7], "7"]))
    rows.append(" ".join([*rows[80].split(" ")[:1], "8", *rows[80].split(" ")[2:5]]))
    (origin / "neutral_drawn_901.jpg").write_text("This is a text file under the name of a photo.\n", encoding="utf-8")
    rows.append("neutral_drawn_901.jpg 0 40 40 140 140 71.00 6")
    whole = _encode_jpeg(draw_photo(rng, [("surprise", (70.0, 70.0, 120.0, 120.0))], 260, 260))
    (origin / "surprise_drawn_902.jpg").write_bytes(whole[: len(whole) // 3])
    rows.append("surprise_drawn_902.jpg 0 70 70 190 190 64.00 5")
    (directory / "label.lst").write_text("\n".join(rows) + "\n", encoding="utf-8")


def _place_faces(rng: np.random.Generator, num_faces: int) -> tuple[int, int, list[tuple[float, float, float, float]]]:
    """Width and height of a photo and its face boxes from left to right, pixels; heads do not overlap."""
    slot = int(rng.integers(*{1: (200, 300), 2: (135, 200), 3: (118, 155), 4: (108, 120)}[num_faces]))
    width, height = num_faces * slot, int(rng.integers(200, 300))
    boxes = []
    for index in range(num_faces):
        side = round(min(0.74 * slot, 0.56 * height) * rng.choice((0.62, 0.85, 0.95, 1.0)))
        # Hair is up to .2 of the side wider on either side, and .15 higher.
        x = (index + 0.5) * slot - side / 2 + rng.uniform(-1, 1) * max(0.0, slot / 2 - 0.66 * side)
        y = rng.uniform(0.18 * side, height - 1.3 * side)
        boxes.append((float(round(x)), float(round(y)), float(side), float(side)))
    return width, height, boxes


def _label_row(
    rng: np.random.Generator, name: str, face: int, expression: str, face_box: tuple[float, float, float, float]
) -> str:
    x, y, width, height = face_box
    # The boxes of ExpW come from a detector and are never exact.
    edges = np.array((y, x, x + width, y + height)) + rng.normal(0, 0.015, 4) * width
    top, left, right, bottom = np.round(edges).astype(int).tolist()
    return f"{name} {face} {top} {left} {right} {bottom} {rng.uniform(5, 95):.2f} {CODE[expression]}"


def _encode_jpeg(photo: np.ndarray) -> bytes:
    encoded, packed = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not encoded:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return packed.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.drawn_faces",
        description="Write the sample of drawn faces in the FER2013 and ExpW formats.",
    )
    parser.add_argument("directory", type=Path, help="where to write it, such as data/raw/sample")
    parser.add_argument("--seed", type=int, default=42, help="another seed draws other faces (default: 42)")
    arguments = parser.parse_args()
    write_sample(arguments.directory, arguments.seed)
    files = [path for path in arguments.directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"wrote {len(files)} files, {size / 1e6:.2f} MB, to {arguments.directory}")


if __name__ == "__main__":
    run_program(main)
