"""The one step that window, files and page make: a frame and its time in, faces and a picture that may be shown out.

    session = Session(ExpressionRecognizer(), View(blur=True))
    result = session.step(frame, time_s)     # faces with probabilities, and every box that may be a face
    page = session.picture()                 # the frame, all faces unrecognizable; mirrored if asked for
    video = session.scene()                  # the same with boxes, bars and timeline

With `view.blur` nothing that leaves the session shows a face that was found: every frame is searched, and what was
found is hidden before anything is drawn. A face that the detector does not find cannot be hidden.
"""

import time
from dataclasses import replace

import cv2
import numpy as np

from src.realtime.overlay import Overlay, View, mirror
from src.recognition.crop_face import Box
from src.recognition.faces import Result
from src.recognition.following import iou
from src.recognition.recognizer import ExpressionRecognizer

_LINGER_S = 1.0  # a face that is found no more stays hidden for that long where it was
_SAME = 0.2  # IoU with a box that is still there


class Session:
    """One recognizer with what is on its screen. view: may be changed at any time, paused or not.

    For one thread at a time. `timings` holds the milliseconds of the last step, drawing included; `hidden` the boxes
    that `picture` blurs where asked to, for whoever draws the last frame elsewhere.
    """

    def __init__(self, recognizer: ExpressionRecognizer, view: View | None = None) -> None:
        self.view = view or View()
        self.recognizer = recognizer
        self.overlay = Overlay(self.view)
        self._settings = recognizer.settings
        self.restart()

    @property
    def timings(self) -> dict[str, float]:
        return self.recognizer.timings

    def restart(self) -> None:
        """Forget all faces: another source begins, and ids with it."""
        self.recognizer.reset()
        self.overlay.restart()
        self._frame: np.ndarray | None = None
        self._time_s: float | None = None
        self._result = Result([], [])
        self._searched = False  # whether every face of the last frame that can be found has been
        self._lost: list[tuple[Box, float]] = []  # with the time when each was found last
        self.hidden: list[Box] = []

    def step(self, frame: np.ndarray, time_s: float | None = None) -> Result:
        """The faces of a frame, uint8 `(H, W, 3)` BGR. time_s: seconds in its video, rising; None for a picture."""
        blur = self.view.blur
        self.recognizer.settings = replace(self._settings, detect_every_s=0.0) if blur else self._settings
        result = self.recognizer.recognize(frame, time_s)
        self._frame, self._time_s, self._result = frame, time_s, result
        self._searched = self.recognizer.searched
        now_s, known = (0.0, []) if time_s is None else (time_s, self._lost)
        lost = [
            (box, last_s)
            for box, last_s in known
            if now_s - last_s <= _LINGER_S and all(iou(box, found) < _SAME for found in result.candidates)
        ]
        self.hidden = [*result.candidates, *(box for box, _ in lost)]
        self._lost = lost + [(box, now_s) for box in result.candidates if blur]
        if time_s is not None:
            self.overlay.recent.add(time_s, result.faces)
        return result

    def picture(self) -> np.ndarray:
        """A copy of the last frame as it may be shown, sent or saved, uint8 `(H, W, 3)` BGR."""
        assert self._frame is not None, "no frame yet"
        if self.view.blur and not self._searched:  # blurring was switched on after the step
            self.step(self._frame, self._time_s)
        picture = self._frame.copy()
        if self.view.blur:
            for box in self.hidden:
                hide(picture, box)
        return cv2.flip(picture, 1) if self.view.mirror else picture

    def scene(self) -> np.ndarray:
        """The picture with what `view` asks for drawn on it."""
        picture = self.picture()
        begin_s = time.perf_counter()
        faces = self._result.faces
        if self.view.mirror:
            faces = mirror(faces, picture.shape[1])
        self.overlay.draw(picture, faces, continuous=self._time_s is not None)
        self.timings["draw"] = 1000 * (time.perf_counter() - begin_s)
        return picture


def hide(picture: np.ndarray, box: Box) -> None:
    """Make a face unrecognizable in place, hair and chin included: 6 x 6 blocks of one colour each. (Blocks that fade
    into each other still look like a face, to people and to detectors.)"""
    x, y, side, _ = box
    grown = 0.2 * side
    left, top = max(0, int(x - grown)), max(0, int(y - grown))
    right, bottom = int(x + side + grown) + 1, int(y + side + grown) + 1
    patch = picture[top : max(0, bottom), left : max(0, right)]
    if patch.size:
        blocks = cv2.resize(patch, (6, 6), interpolation=cv2.INTER_AREA)
        patch[:] = cv2.resize(blocks, (patch.shape[1], patch.shape[0]), interpolation=cv2.INTER_NEAREST)
