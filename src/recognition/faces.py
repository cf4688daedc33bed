"""What is known about the faces of a frame."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from src.expressions import NUM_CLASSES
from src.recognition.crop_face import Box

UNCERTAIN = "uncertain"  # what is shown instead of an expression that is not probable enough


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    id: stays with a person from frame to frame. box: x, y, width, height in pixels of the frame, framed as the
    training faces are; it may reach outside. expression: one of the seven, or `UNCERTAIN`. confidence: the smoothed
    probability of the expression, also where that is too low to be named.
    probabilities: float32 `(7,)`, smoothed over time, in the order of `src.expressions.EXPRESSIONS`.
    """

    id: int
    box: Box
    expression: str
    confidence: float
    probabilities: np.ndarray


@dataclass(frozen=True)
class Result:
    """The faces of one frame; `for face in result`, `len(result)` and `result[0]` go over `faces`.

    faces: those with an expression, in order of their ids. candidates: the boxes of all that may be a face, `faces`
    included: those that wait for the classifier, that were found once only, or that were lost a moment ago. Whoever
    hides faces hides these. boxes, probabilities: of `faces`, as arrays.
    """

    faces: list[Face]
    candidates: list[Box]

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> Face:
        return self.faces[index]

    @property
    def boxes(self) -> np.ndarray:
        """float64 `(N, 4)`: x, y, width, height in pixels."""
        return np.array([face.box for face in self.faces], np.float64).reshape(-1, 4)

    @property
    def probabilities(self) -> np.ndarray:
        """float32 `(N, 7)`."""
        return np.array([face.probabilities for face in self.faces], np.float32).reshape(-1, NUM_CLASSES)
