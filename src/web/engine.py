"""What the server recognizes with: one classifier for all, a pool of detectors, and the session of the live program.

Pictures come as bytes and are decoded here, in memory; none is kept.
"""

import queue
import re
import time
from pathlib import Path

import cv2
import numpy as np

from src.expressions import COLOURS, EXPRESSIONS
from src.realtime.overlay import View
from src.realtime.results import SCHEMA, describe_run, face_row
from src.realtime.session import Session
from src.recognition.classifier import Classifier
from src.recognition.detection import Detection, Detector, open_detector
from src.recognition.faces import UNCERTAIN
from src.recognition.recognizer import ExpressionRecognizer
from src.web.limits import FRAME_PIXELS, PICTURE_PIXELS
from src.web.schema import FaceRow, Figure, LiveFrame, Picture

EXAMPLES = Path(__file__).parent / "static/examples"
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class Refused(Exception):
    """An answer that is not a result: status of HTTP, and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class DetectorPool:
    """Several detectors as one that many threads may use; whoever comes when all are busy waits."""

    def __init__(self, detectors: list[Detector]) -> None:
        first = detectors[0]
        self.name, self.sure = first.name, first.sure
        self.smallest_side, self.largest_side = first.smallest_side, first.largest_side
        self._idle: queue.SimpleQueue[Detector] = queue.SimpleQueue()
        for detector in detectors:
            self._idle.put(detector)

    def detect(self, frame: np.ndarray) -> list[Detection]:
        detector = self._idle.get()
        try:
            return detector.detect(frame)
        finally:
            self._idle.put(detector)


class Engine:
    """model: an export of this project, its card beside it. Raises UserError when model or detector cannot be used.

    cores: how many threads may recognize at once. May be shared by threads; a session may not.
    """

    def __init__(self, model: Path, detector: str, detector_model: Path | None, cores: int) -> None:
        self._classifier = Classifier(model)
        opened = [open_detector(detector, detector_model) for _ in range(cores)]
        self._detectors, self.reason = DetectorPool([one for one, _ in opened]), opened[0][1]
        self.run = describe_run(model, self._detectors.name, self._classifier.metadata.uncertain_below)
        self.expressions, self.colours = list(EXPRESSIONS), {**COLOURS, UNCERTAIN: "#e1e1e1"}
        card = model.with_name("model_card.md")
        self.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        self.examples = {
            path.name: self.picture(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.jpg"), key=_few_faces_first)
        }

    def session(self) -> Session:
        """A session of one visitor; for one thread at a time."""
        return Session(ExpressionRecognizer(self._classifier, self._detectors), View())

    def picture(self, content: bytes) -> Picture:
        """Raises Refused."""
        image = decode(content)
        begin_s, session = time.perf_counter(), self.session()
        result = session.step(image)
        faces = [face_row("picture", 0, 0.0, face) for face in result]
        return Picture.model_validate(
            {**SCHEMA, "source": "picture", **self.run, "expressions": self.expressions, "faces": faces}
            | {"height": image.shape[0], "width": image.shape[1], "hidden": _boxes(session)}
            | {"milliseconds": round(1000 * (time.perf_counter() - begin_s), 1)}
        )

    def figures(self) -> list[Figure]:
        """Accuracies on test, as the card says."""
        rows = re.findall(r"^\| test \| ([^|]+) \| ([\d,]+) \| ([^|]+) \|", self.card, re.MULTILINE)
        return [Figure(labels=labels, n=n, accuracy=accuracy) for labels, n, accuracy in rows]


def _boxes(session: Session) -> list[tuple[float, float, float, float]]:
    return [(round(x, 1), round(y, 1), round(w, 1), round(h, 1)) for x, y, w, h in session.hidden]


def _few_faces_first(path: Path) -> int:
    return ("one", "three", "more").index(path.stem) if path.stem in ("one", "three", "more") else 9


class Visitor:
    """The live session of one visitor, frame by frame. For one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self._session, self._time_s, self._frame = engine.session(), -1.0, 0

    def blur(self, wanted: bool) -> None:
        self._session.view.blur = wanted

    def step(self, content: bytes) -> LiveFrame:
        """content: 8 bytes of time stamp, a JPEG. Raises Refused."""
        if len(content) < 9:
            raise Refused(400, "A frame is 8 bytes of time stamp and a JPEG.")
        time_s = float(np.frombuffer(content[:8], "<f8")[0])
        if not 0 <= time_s < 1e9 or time_s <= self._time_s:
            raise Refused(400, "The time stamp of a frame must be a number of seconds that rises.")
        image = decode(content[8:], jpeg_only=True)
        height, width = image.shape[:2]
        if height * width > FRAME_PIXELS:
            raise Refused(413, f"A frame may have {FRAME_PIXELS / 1e6:.1f} megapixels at most.")
        begin_s = time.perf_counter()
        result = self._session.step(image, time_s)
        faces = [FaceRow.model_validate(face_row("live", self._frame, time_s, face)) for face in result]
        answer = LiveFrame(
            time_s=time_s,
            frame=self._frame,
            width=width,
            height=height,
            faces=faces,
            hidden=_boxes(self._session),
            milliseconds=round(1000 * (time.perf_counter() - begin_s), 1),
        )
        self._time_s, self._frame = time_s, self._frame + 1
        return answer


def decode(content: bytes, *, jpeg_only: bool = False) -> np.ndarray:
    """An upright picture, uint8 `(H, W, 3)` BGR. Raises Refused on all but a good JPEG, PNG or WebP."""
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not content.startswith(_JPEG) and (jpeg_only or not (content.startswith(_PNG) or webp)):
        raise Refused(415, "This is not a JPEG." if jpeg_only else "This is not a picture: send a JPEG, PNG or WebP.")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "PIXELS" not in str(error):
            raise
        raise Refused(
            413, f"The picture has more than {PICTURE_PIXELS / 1e6:.0f} megapixels. Make it smaller."
        ) from error
    if image is None:
        raise Refused(422, "The picture is damaged.")
    return image
