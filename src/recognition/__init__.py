"""Pictures in, faces with expression probabilities out; what every program of the project shares.

    import cv2
    from src.recognition import ExpressionRecognizer

    recognizer = ExpressionRecognizer()
    for face in recognizer.recognize(cv2.imread("group.jpg")):
        print(face.id, face.expression, f"{face.confidence:.0%}", face.box)

For a video pass each frame with its time, `recognize(frame, time_s)`: faces then keep their ids and their values are
smoothed. Needs requirements-runtime.txt only; no TensorFlow, Keras or DVC.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from src.recognition.faces import UNCERTAIN, Face, Result
    from src.recognition.recognizer import DEFAULT_MODEL, ExpressionRecognizer, Settings

__all__ = ["DEFAULT_MODEL", "UNCERTAIN", "ExpressionRecognizer", "Face", "Result", "Settings"]


def __getattr__(name: str) -> Any:
    """Import on first use: OpenCV and the runtime load after a program can answer Ctrl-C and set its options."""
    if name in ("UNCERTAIN", "Face", "Result"):
        from src.recognition import faces as module
    elif name in __all__:
        from src.recognition import recognizer as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(module, name)
