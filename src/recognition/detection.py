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
import math
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from src.errors import UserError
from src.recognition.crop_face import Box
from src.storage import replace_file

YUNET_FILE = "face_detection_yunet_2026may.onnx"
YUNET_SHA256 = "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0"
YUNET_URL = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_FILE}"
MODEL_VARIABLE = "FER_DETECTOR_MODEL"  # environment variable: a YuNet file to use instead of the download
CACHE = Path.home() / ".cache/facial-expressions"
CHOICES = ("auto", "yunet", "haar")
_DOWNLOAD_TIMEOUT_S = 10


@dataclass(frozen=True)
class Detection:
    """A face found in a frame: box in pixels, score in [0, 1]."""

    box: Box
    score: float


class Detector(Protocol):
    """Finds the faces of a frame. smallest_side: faces below this many pixels are often missed."""

    name: str
    smallest_side: float

    def detect(self, frame: np.ndarray) -> list[Detection]: ...


class YuNetDetector:
    """YuNet through `cv2.FaceDetectorYN`. Raises UserError when the file is missing or not a YuNet model."""

    name = "YuNet"
    smallest_side = 24.0  # measured: 41 of 60 faces found at 24 px, 54 at 40 px, 58 at 80 px
    _SCORE, _NMS_IOU, _MOST = 0.6, 0.3, 200
    # Side = scale * sqrt(width * height); the centre moves up by `lift` of that root.
    _SCALE, _LIFT = 1.174, 0.064

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"No face detector at {path}. Name the YuNet file ({YUNET_FILE}), or pass --detector haar.")
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (32, 32), self._SCORE, self._NMS_IOU, self._MOST)
            self._network.detect(np.zeros((32, 32, 3), np.uint8))
        except cv2.error as error:
            raise UserError(
                f"{path} cannot be used as a YuNet face detector. Name {YUNET_FILE} of the OpenCV Zoo, "
                "or pass --detector haar."
            ) from error

    def detect(self, frame: np.ndarray) -> list[Detection]:
        height, width = frame.shape[:2]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(frame)  # (N, 15): box, five landmarks, score
        found = []
        for row in () if rows is None else rows.astype(float):
            if not np.isfinite(row).all() or row[2] <= 0 or row[3] <= 0:
                continue
            side = math.sqrt(row[2] * row[3])
            box = _square(row[0] + row[2] / 2, row[1] + row[3] / 2 - self._LIFT * side, self._SCALE * side)
            if _inside(box, width, height):
                found.append(Detection(box, float(row[14])))
        return found


class HaarDetector:
    """The frontal-face cascade of the OpenCV wheels."""

    name = "Haar"
    smallest_side = 33.0  # the cascade's window of 24 px, mapped, and room for one step
    _STEP, _NEIGHBOURS, _WINDOW = 1.1, 5, 24
    _SCALE, _LIFT = 1.095, 0.045

    def __init__(self) -> None:
        path = Path(cv2.__file__).parent / "data/haarcascade_frontalface_default.xml"
        if not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
            raise UserError("This OpenCV has no Haar cascades. Install requirements-runtime.txt (opencv-python < 5).")
        self._cascade = cv2.CascadeClassifier(str(path))

    def detect(self, frame: np.ndarray) -> list[Detection]:
        height, width = frame.shape[:2]
        if min(height, width) < self._WINDOW:
            return []
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        boxes, _, weights = self._cascade.detectMultiScale3(
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


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_yunet(cache: Path = CACHE, url: str = YUNET_URL) -> Path:
    """The cached YuNet file, downloaded on first use (230 kB). Raises OSError or UserError when that fails."""
    path = cache / YUNET_FILE
    if path.is_file() and _sha256(path) == YUNET_SHA256:
        return path
    with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() != YUNET_SHA256:
        raise UserError(f"{url} sent another file than expected (sha256 differs)")
    with replace_file(path) as partial:
        partial.write_bytes(content)
    return path


def open_detector(choice: str = "auto", model_file: str | Path | None = None) -> tuple[Detector, str]:
    """A detector and one line that says which it is and why.

    choice: `auto` (YuNet, else Haar), `yunet` or `haar`. model_file: a YuNet file; by default the environment
    variable `FER_DETECTOR_MODEL`, else the download. Raises UserError when what was asked for cannot be had.
    """
    model_file = model_file or os.environ.get(MODEL_VARIABLE) or None
    if choice == "haar":
        return HaarDetector(), "detector: Haar, as asked for"
    if model_file is not None:
        return YuNetDetector(Path(model_file)), f"detector: YuNet, from {model_file}"
    try:
        path = fetch_yunet()
        return YuNetDetector(path), f"detector: YuNet, from {path}"
    except (OSError, UserError) as error:
        reason = str(getattr(error, "reason", error))
        if choice == "yunet":
            raise UserError(
                f"YuNet could not be fetched ({reason}). Download {YUNET_URL} and pass it with --detector-model FILE, "
                "or pass --detector haar."
            ) from error
        return HaarDetector(), f"detector: Haar, built in, because YuNet could not be fetched ({reason})"
