"""What the real-time program knows about a face in a frame."""

from dataclasses import dataclass

import numpy as np

from src.recognition.crop_face import Box

UNCERTAIN = "uncertain"  # what is shown instead of an expression that is not probable enough


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    id: stays with a person from frame to frame. box: x, y, width, height in pixels of the frame, framed as the
    training faces are; it may reach outside. expression: one of the seven, or `UNCERTAIN`. confidence: the smoothed
    probability of the expression, or of the most probable one where that is too low to be named.
    probabilities: float32 `(7,)`, smoothed over time, in the order of `src.expressions.EXPRESSIONS`.
    """

    id: int
    box: Box
    expression: str
    confidence: float
    probabilities: np.ndarray
