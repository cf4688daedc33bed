"""Find faces: YuNet where its model file is at hand, else Haar, which every OpenCV 4 wheel carries.

In: a frame, uint8 `(H, W, 3)` BGR. Out: `Detection`s whose boxes are squares framed like the boxes the classifier was
trained on (ExpW's), so that the one crop function cuts the same part of a face out. The mapping is a constant per
detector, the median over 685 (YuNet) and 437 (Haar) of 700 random ExpW training photos at 480 px; mean IoU with the
labelled box went from .629 to .773 (YuNet) and from .721 to .754 (Haar).

YuNet: W. Wu, H. Peng, S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023;
MIT licence, from the OpenCV Zoo. Haar: P. Viola, M. Jones, "Rapid Object Detection using a Boosted Cascade of Simple
Features", CVPR 2001.
"""

import hashlib
import itertools
import math
import os
import sys
import tempfile
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from src.errors import UserError
from src.recognition.classifier import open_onnx
from src.recognition.crop_face import Box
from src.storage import replace_file

YUNET_FILE = "face_detection_yunet_2026may.onnx"
YUNET_SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
YUNET_URL = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_FILE}"
MODEL_VARIABLE = "FER_DETECTOR_MODEL"  # environment variable: a YuNet file to use instead of the download
CHOICES = ("auto", "yunet", "haar")
LARGEST_SEARCH = 1280  # pixels; the longest side of what a detector is shown, whoever asks
_TILED = 1.5  # times that: photos from here on are searched in tiles too
_TILE_FACE, _TILE_DOUBT = 120, 0.2  # pixels, score: in a tile, larger or weaker detections are mostly mistakes
_SHARED = 160  # pixels that neighbouring tiles share, for the faces at their edges
_SAME_FACE = 0.5  # share of the smaller box from which two detections are one face
_DOWNLOAD_TIMEOUT_S = 10


@dataclass(frozen=True)
class Detection:
    """Where a face was found in a frame: box in pixels, score in [0, 1]."""

    box: Box
    score: float


class Detector(Protocol):
    """Finds the faces of a frame in the size it has; `find_faces` chooses the size.

    smallest_side, largest_side: faces below or above so many pixels are often missed. sure: the score from which a
    detection is a face; the weaker ones only may be one.
    """

    name: str
    smallest_side: float
    largest_side: float
    sure: float

    def detect(self, frame: np.ndarray) -> list[Detection]: ...


class YuNetDetector:
    """YuNet on ONNX Runtime, which takes less than half the time of OpenCV's own `FaceDetectorYN` and gives its boxes.

    May be shared by threads. Raises UserError when the file is missing or not a YuNet model.
    """

    name = "YuNet"
    smallest_side = 24.0  # measured: 41 of 60 faces found at 24 px, 54 at 40 px, 58 at 80 px
    largest_side = 640.0  # and 58 of 60 at 480 px, 47 of 53 at 640 px
    sure = 0.6
    _WEAKEST, _NMS_IOU, _STRIDES = 0.35, 0.3, (8, 16, 32)
    # Side = scale * sqrt(width * height); the centre moves up by `lift` of that root.
    _SCALE, _LIFT = 1.174, 0.064

    def __init__(self, path: Path, threads: int = 1) -> None:
        if not path.is_file():
            raise UserError(f"No face detector at {path}. Name the YuNet file ({YUNET_FILE}), or pass --detector haar.")
        self._outputs = [f"{kind}_{stride}" for stride in self._STRIDES for kind in ("cls", "obj", "bbox")]
        advice = f"Name {YUNET_FILE} of the OpenCV Zoo, or pass --detector haar."
        try:
            self._session = open_onnx(path, threads)
        except ImportError:
            raise
        except Exception as error:  # the runtime raises types of its own for a damaged file
            raise UserError(f"{path} cannot be used as a YuNet face detector. {advice}") from error
        names = {output.name for output in self._session.get_outputs()}
        inputs = self._session.get_inputs()
        if not names.issuperset(self._outputs) or isinstance(inputs[0].shape[-1], int):  # older files: one size only
            raise UserError(f"{path} is no YuNet face detector for frames of any size. {advice}")
        self._input = inputs[0].name

    def detect(self, frame: np.ndarray) -> list[Detection]:
        height, width = frame.shape[:2]
        columns = -(-width // 32)
        image = np.zeros((1, 3, 32 * -(-height // 32), 32 * columns), np.float32)  # black on the right and below
        image[0, :, :height, :width] = frame.transpose(2, 0, 1)
        values = self._session.run(self._outputs, {self._input: image})
        boxes, scores = [], []
        for index, stride in enumerate(self._STRIDES):
            classes, objects, offsets = (value[0] for value in values[3 * index : 3 * index + 3])
            score = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))  # (anchors,)
            found = np.flatnonzero(score >= self._WEAKEST)
            anchors = np.stack(np.divmod(found, 32 * columns // stride)[::-1], axis=1)  # (n, 2): column, row
            centres, sides = (anchors + offsets[found, :2]) * stride, np.exp(offsets[found, 2:]) * stride
            boxes.append(np.concatenate([centres - sides / 2, sides], axis=1))
            scores.append(score[found])
        rows, score = np.concatenate(boxes).astype(float), np.concatenate(scores).astype(float)
        kept = cv2.dnn.NMSBoxes(rows.tolist(), score.tolist(), self._WEAKEST, self._NMS_IOU)
        detections = []
        for index in kept:
            x, y, w, h = rows[index]
            side = math.sqrt(w * h)
            box = _square(x + w / 2, y + h / 2 - self._LIFT * side, self._SCALE * side)
            if _inside(box, width, height):
                detections.append(Detection(box, float(score[index])))
        return detections


class HaarDetector:
    """The frontal-face cascade of the OpenCV wheels. May be shared by threads: each has a cascade of its own."""

    name = "Haar"
    smallest_side = 33.0  # the cascade's window of 24 px, mapped, and room for one step
    largest_side = math.inf
    sure = 0.0
    _STEP, _NEIGHBOURS, _WINDOW = 1.1, 5, 24
    _SCALE, _LIFT = 1.095, 0.045

    def __init__(self) -> None:
        path = Path(cv2.__file__).parent / "data/haarcascade_frontalface_default.xml"
        if not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
            raise UserError("This OpenCV has no Haar cascades. Install requirements-runtime.txt (opencv-python < 5).")
        self._path, self._thread = str(path), threading.local()

    def detect(self, frame: np.ndarray) -> list[Detection]:
        height, width = frame.shape[:2]
        if min(height, width) < self._WINDOW:
            return []
        if not hasattr(self._thread, "cascade"):
            self._thread.cascade = cv2.CascadeClassifier(self._path)
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        boxes, _, weights = self._thread.cascade.detectMultiScale3(
            grey, self._STEP, self._NEIGHBOURS, minSize=(self._WINDOW, self._WINDOW), outputRejectLevels=True
        )
        found = []
        for (x, y, w, h), weight in zip(boxes, np.ravel(weights), strict=True):
            box = _square(x + w / 2, y + h / 2 - self._LIFT * h, self._SCALE * float(w))
            if _inside(box, width, height):
                found.append(Detection(box, float(1 / (1 + math.exp(2 - weight)))))
        return found


def _square(centre_x: float, centre_y: float, side: float) -> Box:
    return float(centre_x - side / 2), float(centre_y - side / 2), float(side), float(side)


def _inside(box: Box, width: int, height: int) -> bool:
    """Whether the box's centre lies in the frame; a crop of anything else would be mostly repeated edge."""
    return 0 <= box[0] + box[2] / 2 < width and 0 <= box[1] + box[3] / 2 < height


def find_faces(
    detector: Detector, photo: np.ndarray, *, thorough: bool = True, largest: int = LARGEST_SEARCH
) -> tuple[list[Detection], list[Detection]]:
    """The faces of a picture of any size, and what only may be one; boxes in pixels of the picture.

    photo: uint8 `(H, W, 3)` BGR. It is searched with a longest side of at most `largest` pixels and, where that makes
    faces too large for the detector, reduced further. thorough: also at half that size, and a large photo in tiles at
    twice that size, for the small faces; a frame of a video has no time for it.
    """
    longest = max(photo.shape[:2])
    side = min(longest, largest)
    sides = [side] + [side // 4] * (side > detector.largest_side)
    if thorough and detector.largest_side < math.inf:
        sides = [side, side // 2, side // 4]
    found = [detection for side in sides for detection in _search(detector, reduce(photo, side / longest), photo)]
    if thorough and longest >= _TILED * LARGEST_SEARCH:
        large = reduce(photo, 2 * LARGEST_SEARCH / longest)
        scale = large.shape[1] / photo.shape[1]
        for top, left in itertools.product(*(_tile_starts(length) for length in large.shape[:2])):
            tile = large[top : top + LARGEST_SEARCH, left : left + LARGEST_SEARCH]
            in_tile = _search(detector, tile, photo, (left, top), scale)
            found += [
                Detection(detection.box, detection.score - _TILE_DOUBT)
                for detection in in_tile
                if detection.box[2] * scale < _TILE_FACE
            ]
    return _merge(found, detector.sure)


def _search(
    detector: Detector,
    picture: np.ndarray,
    photo: np.ndarray,
    corner: tuple[int, int] = (0, 0),
    scale: float | None = None,
) -> list[Detection]:
    """Detections in pixels of the photo, found in the photo reduced to `picture` or in a part of it."""
    factor_x = 1 / scale if scale else photo.shape[1] / picture.shape[1]  # as rounded to whole pixels
    factor_y = 1 / scale if scale else photo.shape[0] / picture.shape[0]
    found = []
    for detection in detector.detect(picture):
        x, y, side, _ = detection.box
        centre = (corner[0] + x + side / 2) * factor_x, (corner[1] + y + side / 2) * factor_y
        found.append(Detection(_square(*centre, side * factor_x), detection.score))
    return found


def _merge(found: list[Detection], sure: float) -> tuple[list[Detection], list[Detection]]:
    """Of detections of the same face the one of the highest score; those from `sure` on, and the weaker ones."""
    found = sorted(found, key=lambda detection: -detection.score)
    boxes = np.array([detection.box for detection in found]).reshape(-1, 4)
    shared = shared_areas(boxes, boxes)
    areas = boxes[:, 2] * boxes[:, 3]
    same = shared > _SAME_FACE * np.minimum(areas[:, None], areas)
    kept: list[int] = []
    for index in range(len(found)):
        if not same[index, kept].any():
            kept.append(index)
    faces = [found[index] for index in kept]
    return [face for face in faces if face.score >= sure], [face for face in faces if face.score < sure]


def shared_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that each of N boxes shares with each of M, float64 `(N, M)`; boxes `(., 4)`: x, y, width, height."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum((first[:, :2] + first[:, 2:])[:, None], (second[:, :2] + second[:, 2:])[None])
    return np.maximum(high - low, 0).prod(axis=2)


def _tile_starts(length: int) -> list[int]:
    """Where tiles of `LARGEST_SEARCH` pixels begin, evenly spaced, so that neighbours share `_SHARED` at least."""
    count = max(1, math.ceil((length - _SHARED) / (LARGEST_SEARCH - _SHARED)))
    return [round(start) for start in np.linspace(0, max(0, length - LARGEST_SEARCH), count)]


def reduce(frame: np.ndarray, scale: float) -> np.ndarray:
    """The frame at `scale` of its size; itself from 1 on."""
    if scale >= 1:
        return frame
    height, width = frame.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Linear interpolation at one half is the mean of 2 x 2 pixels, several times faster than INTER_AREA.
    while 2 * size[0] < width and 2 * size[1] < height:
        height, width = height // 2, width // 2
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cache_folder() -> Path:
    """Where the download is kept: the system's folder for caches, or for temporary files where there is no home."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if home == Path() or not os.access(home, os.W_OK):
        return Path(tempfile.gettempdir()) / "facial-expressions"
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local")
    elif sys.platform == "darwin":
        caches = home / "Library/Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return caches / "facial-expressions"


def fetch_yunet(cache: Path | None = None, url: str = YUNET_URL) -> Path:
    """The cached YuNet file, downloaded on first use (230 kB). Raises OSError or UserError when that fails."""
    path = (cache or cache_folder()) / YUNET_FILE
    if path.is_file() and _sha256(path) == YUNET_SHA256:
        return path
    with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != YUNET_SHA256:
        raise UserError(f"{url} sent another file than expected (sha256 differs)")
    with replace_file(path) as partial:
        partial.write_bytes(content)
    return path


def open_detector(choice: str = "auto", model_file: str | Path | None = None, threads: int = 1) -> tuple[Detector, str]:
    """A detector and one line that says which it is and why.

    choice: `auto` (YuNet, else Haar), `yunet` or `haar`. model_file: a YuNet file; by default the environment
    variable `FER_DETECTOR_MODEL`, else the download. threads: CPU threads of YuNet. Raises UserError when what was
    asked for cannot be had.
    """
    model_file = model_file or os.environ.get(MODEL_VARIABLE) or None
    if choice == "haar":
        return HaarDetector(), "detector: Haar, as asked for"
    if model_file is not None:
        return YuNetDetector(Path(model_file), threads), f"detector: YuNet, from {model_file}"
    try:
        path = fetch_yunet()
        return YuNetDetector(path, threads), f"detector: YuNet, from {path}"
    except (OSError, UserError) as error:
        reason = str(getattr(error, "reason", error))
        if choice == "yunet":
            raise UserError(
                f"YuNet could not be fetched ({reason}). Download {YUNET_URL} and pass it with --detector-model FILE, "
                "or pass --detector haar."
            ) from error
        return HaarDetector(), f"detector: Haar, built in, because YuNet could not be fetched ({reason})"
