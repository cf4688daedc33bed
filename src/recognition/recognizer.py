"""The one core: frame in, list of faces out. The window, headless runs and Python users all go through it.

detector (every few frames) -> tracker -> one batched classifier call -> smoothing.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.recognition.classifier import RELEASED_MODEL, Classifier
from src.recognition.crop_face import Box, crop_face
from src.recognition.detection import LARGEST_SEARCH, Detector, find_faces, open_detector, reduce
from src.recognition.faces import Face, Result
from src.recognition.following import FaceTracker, Track
from src.recognition.smoothing import ExpressionSmoother

DEFAULT_MODEL = RELEASED_MODEL
_FLOW_SIDE = 400  # longest side of the frame in which faces are followed, pixels
# Where all faces known are at least so many times the detector's smallest, a video is searched at half the size, in a
# quarter of the time, and in full so often, seconds, for smaller ones that have come.
_LARGE_FACE, _FULL_SEARCH_S = 6.0, 0.75
_CLASSIFY_EVERY_S = 0.05  # how often a face of a video is classified; twice that in frames that are searched


@dataclass(frozen=True)
class Settings:
    """How to recognize; the defaults are measured, see tools/benchmarks/bench_realtime.py.

    detect_every_s: how often a video is searched for faces, seconds; between, they are followed. 0: every frame.
    smoothing_s, switch_margin: see `ExpressionSmoother`. uncertain_below: None = the model's own threshold.
    faces_per_call: most faces classified in one frame, half as many in one that is searched; more take turns.
    """

    detect_every_s: float = 0.1
    smoothing_s: float = 0.6
    switch_margin: float = 0.1
    uncertain_below: float | None = None
    faces_per_call: int = 4

    def __post_init__(self) -> None:
        if self.faces_per_call < 1:
            raise UserError("faces_per_call must be at least 1.")
        if min(self.detect_every_s, self.smoothing_s, self.switch_margin) < 0:
            raise UserError("detect_every_s, smoothing_s and switch_margin must not be negative.")


class ExpressionRecognizer:
    """Finds faces, follows them and names their expressions.

    model: an export of this project (.onnx or .tflite), or a `Classifier` to share with other recognizers.
    detector: from `open_detector`, or None for the best at hand. threads: CPU threads of the classifier.
    Raises UserError when the model cannot be used.
    After each call `timings` holds the milliseconds of detect, track and classify, and `searched` whether that frame
    was searched for faces in full size.

    A recognizer belongs to one video; calls from several threads take turns. A `Classifier` and a detector of
    `open_detector` may be shared by any number of recognizers in any threads.
    """

    def __init__(
        self,
        model: str | Path | Classifier = DEFAULT_MODEL,
        detector: Detector | None = None,
        settings: Settings | None = None,
        threads: int = 1,
    ) -> None:
        try:
            self._classifier = model if isinstance(model, Classifier) else Classifier(model, threads)
        except ImportError as error:
            raise UserError(
                f"{model} needs {error.name}, which is not installed. Use the .onnx export, or `pip install "
                f"{'ai-edge-litert' if str(model).endswith('.tflite') else 'onnxruntime'}`."
            ) from error
        self._detector = detector if detector is not None else open_detector()[0]
        self.settings = settings or Settings()
        self.metadata = self._classifier.metadata
        self.timings: dict[str, float] = {}  # milliseconds
        self.searched = False
        self._turn = threading.Lock()
        self.reset()

    @property
    def uncertain_below(self) -> float:
        own = self.settings.uncertain_below
        return self.metadata.uncertain_below if own is None else own

    def reset(self) -> None:
        """Forget all faces: the next frame has nothing to do with the last."""
        self._tracker = FaceTracker()
        self._smoothers: dict[int, ExpressionSmoother] = {}
        self._classified_s: dict[int, float] = {}  # when each face last went through the classifier
        self._frame_size: tuple[int, int] | None = None
        self._searched_s = self._fully_searched_s = -np.inf  # times of the last search, and of the last in full
        self._weak: list[Box] = []  # what may have been faces then

    def recognize(self, frame: np.ndarray, time_s: float | None = None) -> Result:
        """The faces of a frame, and all boxes that may be one.

        frame: uint8 `(H, W, 3)` BGR. time_s: the frame's time in its video, rising from call to call; None for a
        picture of its own, whose faces are numbered anew and not smoothed. Raises ValueError where it is no frame.
        """
        if not isinstance(frame, np.ndarray):
            raise ValueError(f"expected a frame of uint8 (H, W, 3), BGR, not {frame!r:.80}; was the picture read?")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"expected a frame of uint8 (H, W, 3), BGR, not {frame.dtype} {frame.shape}")
        with self._turn:
            self.timings = dict.fromkeys(("detect", "track", "classify"), 0.0)
            return self._recognize_picture(frame) if time_s is None else self._recognize_next(frame, time_s)

    def _recognize_next(self, frame: np.ndarray, time_s: float) -> Result:
        height, width = frame.shape[:2]
        if self._frame_size is not None and self._frame_size != (width, height):
            self._tracker.resize(width / self._frame_size[0], height / self._frame_size[1])
            self._searched_s = self._fully_searched_s = -np.inf
        self._frame_size = width, height
        self._follow(frame, time_s)
        shown = self._tracker.shown(time_s)
        due = shown
        if self.settings.detect_every_s > 0:
            wait_s = _CLASSIFY_EVERY_S * (2 if self._searched_s == time_s else 1) - 1e-3
            due = [track for track in shown if time_s >= self._classified_s.get(track.id, -np.inf) + wait_s]
        self._classify(frame, due, time_s)
        alive = {track.id for track in self._tracker.tracks}
        self._smoothers = {key: value for key, value in self._smoothers.items() if key in alive}
        self._classified_s = {key: value for key, value in self._classified_s.items() if key in alive}
        return Result(self._faces(shown), [track.box for track in self._tracker.tracks] + self._weak)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[stage] += 1000 * (time.perf_counter() - start)

    def _recognize_picture(self, frame: np.ndarray) -> Result:
        self.reset()
        self.searched = True
        with self._timed("detect"):
            detections, weak = find_faces(self._detector, frame)
        detections.sort(key=lambda detection: detection.box[0])
        tracks = [
            Track(number, np.array((x + side / 2, y + side / 2)), side, True, np.zeros(0))
            for number, (x, y, side, _) in enumerate((detection.box for detection in detections), start=1)
        ]
        self._classify(frame, tracks, 0.0, all_faces=True)
        boxes = [track.box for track in tracks] + [detection.box for detection in weak]
        result = Result(self._faces(tracks), boxes)
        self.reset()
        return result

    def _follow(self, frame: np.ndarray, time_s: float) -> None:
        with self._timed("track"):
            small = reduce(frame, min(1.0, _FLOW_SIDE / max(frame.shape[:2])))
            scale = small.shape[1] / frame.shape[1]  # as rounded to whole pixels
            self._tracker.follow(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), scale, time_s)
        due_s = self._searched_s + self.settings.detect_every_s - 1e-3
        self.searched = False
        if time_s < due_s and not self._tracker.lost_sight:
            return
        longest = max(frame.shape[:2])
        largest = min(longest, LARGEST_SEARCH)
        self.searched = not self._half_will_do(largest / longest, time_s)
        if self.searched:
            self._fully_searched_s = time_s
        else:
            largest //= 2
        with self._timed("detect"):
            detections, weak = find_faces(self._detector, frame, thorough=False, largest=largest)
            self._weak = [detection.box for detection in weak]
        with self._timed("track"):
            smallest = self._detector.smallest_side * longest / largest
            self._tracker.update(detections, frame, smallest, time_s, exact=self.searched)
        self._searched_s = time_s

    def _half_will_do(self, scale: float, time_s: float) -> bool:
        tracks = self._tracker.tracks
        smallest = _LARGE_FACE * self._detector.smallest_side / scale
        return (
            self.settings.detect_every_s > 0
            and time_s < self._fully_searched_s + _FULL_SEARCH_S
            and len(tracks) > 0
            and not self._tracker.lost_sight
            and all(track.side >= smallest and track.missing_since_s is None for track in tracks)
        )

    def _classify(self, frame: np.ndarray, tracks: list[Track], time_s: float, *, all_faces: bool = False) -> None:
        with self._timed("classify"):
            most = self.settings.faces_per_call
            if self._searched_s == time_s and self.settings.detect_every_s > 0:
                most = max(1, most // 2)
            if not all_faces and len(tracks) > most:
                tracks = sorted(tracks, key=lambda track: self._classified_s.get(track.id, -np.inf))[:most]
            size, margin = self.metadata.image_size, self.metadata.margin
            crops = [crop_face(frame, track.box, size, margin) for track in tracks]
            if not crops:
                return
            for track, probabilities in zip(tracks, self._classifier.predict(np.stack(crops)), strict=True):
                smoother = self._smoothers.get(track.id)
                if smoother is None:
                    smoother = self._smoothers[track.id] = ExpressionSmoother(
                        self.settings.smoothing_s, self.settings.switch_margin, self.uncertain_below
                    )
                smoother.update(probabilities, time_s)
                self._classified_s[track.id] = time_s

    def _faces(self, tracks: list[Track]) -> list[Face]:
        faces = []
        for track in tracks:
            smoother = self._smoothers.get(track.id)
            if smoother is not None:  # else it waits for its turn
                faces.append(
                    Face(track.id, track.box, smoother.expression, smoother.confidence, smoother.probabilities.copy())
                )
        return sorted(faces, key=lambda face: face.id)
