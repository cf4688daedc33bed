"""From probabilities that jump to one calm answer: smoothing over seconds, and a change only by a clear margin.

Exponential smoothing with a time constant in seconds gives the same picture at 10 and at 60 frames/s.
"""

import math

import numpy as np

from src.expressions import EXPRESSIONS
from src.recognition.faces import UNCERTAIN


class ExpressionSmoother:
    """The smoothed probabilities and the shown expression of one face.

    time_constant_s: after that long a change has gone 63 % of its way; 0 switches smoothing off.
    switch_margin: another expression is shown once its probability is higher by this much.
    uncertain_below: shown is `UNCERTAIN` while the smoothed probability is lower.
    """

    def __init__(self, time_constant_s: float, switch_margin: float, uncertain_below: float) -> None:
        self._time_constant_s = time_constant_s
        self._switch_margin = switch_margin
        self._uncertain_below = uncertain_below
        self._time_s = 0.0
        self._leader = -1  # index of the expression shown, -1 before the first update
        self.probabilities = np.full(len(EXPRESSIONS), 1 / len(EXPRESSIONS), np.float32)  # (7,)

    def update(self, probabilities: np.ndarray, time_s: float) -> None:
        """Take in the classifier's probabilities, float32 `(7,)`, of the frame at `time_s`."""
        if self._leader < 0 or self._time_constant_s <= 0:
            share = 1.0
        else:
            share = 1 - math.exp(-max(0.0, time_s - self._time_s) / self._time_constant_s)
        self._time_s = time_s
        self.probabilities = self.probabilities + np.float32(share) * (probabilities - self.probabilities)
        best = int(self.probabilities.argmax())
        if self._leader < 0 or self.probabilities[best] > self.probabilities[self._leader] + self._switch_margin:
            self._leader = best

    @property
    def confidence(self) -> float:
        return float(self.probabilities[self._leader])

    @property
    def expression(self) -> str:
        return UNCERTAIN if self.confidence < self._uncertain_below else EXPRESSIONS[self._leader]
