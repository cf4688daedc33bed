"""What the server recognizes with: one classifier and detector for all, and the session of the live program for each.

Pictures come as bytes and are decoded here, in memory; none is kept.
"""

import re
import time
from pathlib import Path

import cv2
import numpy as np
from starlette.exceptions import HTTPException

from src.expressions import EXPRESSIONS
from src.realtime.overlay import View
from src.realtime.results import SCHEMA, describe_run, face_row
from src.realtime.session import Session
from src.recognition.classifier import Classifier
from src.recognition.detection import open_detector
from src.recognition.pictures import decode_picture
from src.recognition.recognizer import ExpressionRecognizer
from src.web.limits import FRAME_PIXELS, PICTURE_PIXELS
from src.web.schema import Example, Figure, LiveFrame, Picture

_EXAMPLES = Path(__file__).parent / "static/examples"
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class Engine:
    """model: an export of this project, its card beside it. Raises UserError when model or detector cannot be used.

    May be shared by threads; a session may not.
    """

    def __init__(self, model: Path, detector: str, detector_model: Path | None) -> None:
        self._classifier = Classifier(model)
        self._detector, self.reason = open_detector(detector, detector_model)
        self.run = describe_run(model, self._detector.name, self._classifier.metadata.uncertain_below)
        card = model.with_name("model_card.md")
        self.card = card.read_text(encoding="utf-8") if card.is_file() else ""
        self.examples = [
            Example(url=f"/static/examples/{name}", result=self.picture((_EXAMPLES / name).read_bytes()))
            for name in ("one.jpg", "three.jpg", "more.jpg")
        ]

    def session(self) -> Session:
        """A session of one visitor; for one thread at a time."""
        return Session(ExpressionRecognizer(self._classifier, self._detector), View())

    def picture(self, content: bytes) -> Picture:
        """Raises HTTPException."""
        seen = _look(self.session(), decode(content), "picture")
        return Picture.model_validate({**SCHEMA, "source": "picture", **self.run, "expressions": EXPRESSIONS, **seen})

    def figures(self) -> list[Figure]:
        """Accuracies on test, as the card says."""
        rows = re.findall(r"^\| test \| ([^|]+) \| ([\d,]+) \| ([^|]+) \|", self.card, re.MULTILINE)
        return [Figure(labels=labels, n=n, accuracy=accuracy) for labels, n, accuracy in rows]


def _look(
    session: Session, image: np.ndarray, source: str, time_s: float | None = None, number: int = 0
) -> dict[str, object]:
    """The fields of `Seen`. time_s: of a frame; None for a picture."""
    begin_s = time.perf_counter()
    faces = session.step(image, time_s)
    height, width = image.shape[:2]
    return {
        "width": width,
        "height": height,
        "faces": [face_row(source, number, time_s or 0.0, face) for face in faces],
        "hidden": [[round(value, 1) for value in box] for box in session.hidden],
        "milliseconds": round(1000 * (time.perf_counter() - begin_s), 1),
    }


class Visitor:
    """The live session of one visitor, frame by frame. For one thread at a time."""

    def __init__(self, engine: Engine) -> None:
        self.session, self._time_s, self._frame = engine.session(), -1.0, 0

    def step(self, content: bytes) -> LiveFrame:
        """content: 8 bytes of time stamp, a JPEG. Raises HTTPException."""
        if len(content) < 9:
            raise HTTPException(400, "A frame is 8 bytes of time stamp and a JPEG.")
        time_s = float(np.frombuffer(content[:8], "<f8")[0])
        if not 0 <= time_s < 1e9 or time_s <= self._time_s:
            raise HTTPException(400, "The time stamp of a frame must be a number of seconds that rises.")
        image = decode(content[8:], jpeg_only=True)
        if image.shape[0] * image.shape[1] > FRAME_PIXELS:
            raise HTTPException(413, f"A frame may have {FRAME_PIXELS / 1e6:.1f} megapixels at most.")
        seen = _look(self.session, image, "live", time_s, self._frame)
        answer = LiveFrame.model_validate({"time_s": time_s, "frame": self._frame, **seen})
        self._time_s, self._frame = time_s, self._frame + 1
        return answer


def decode(content: bytes, *, jpeg_only: bool = False) -> np.ndarray:
    """An upright picture, uint8 `(H, W, 3)` BGR. Raises HTTPException on all but a good JPEG, PNG or WebP."""
    webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not content.startswith(_JPEG) and (jpeg_only or not (content.startswith(_PNG) or webp)):
        sentence = "This is not a JPEG." if jpeg_only else "This is not a picture: send a JPEG, PNG or WebP."
        raise HTTPException(415, sentence)
    try:
        image = decode_picture(content)
    except cv2.error as error:
        if "PIXELS" not in str(error):
            raise
        sentence = f"The picture has more than {PICTURE_PIXELS / 1e6:.0f} megapixels. Make it smaller."
        raise HTTPException(413, sentence) from error
    if image is None:
        raise HTTPException(422, "The picture is damaged.")
    return image
