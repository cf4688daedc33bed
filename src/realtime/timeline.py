"""Which expression each face showed when, as segments: memory grows with changes, not with frames."""

from collections import defaultdict
from dataclasses import dataclass

from src.recognition.faces import Face

_LONGEST_GAP_S = 0.5  # a face unseen for longer starts a new segment


@dataclass
class Segment:
    """An expression shown from start_s to end_s."""

    expression: str
    start_s: float
    end_s: float


class Timeline:
    """Segments per face id; what a frame shows holds until the next frame. keep_s: forget what ended longer ago."""

    def __init__(self, keep_s: float | None = None) -> None:
        self._keep_s = keep_s
        self.start_s: float | None = None
        self.now_s = 0.0
        self.faces: dict[int, list[Segment]] = {}

    def add(self, time_s: float, faces: list[Face]) -> None:
        if self.start_s is None:
            self.start_s = self.now_s = time_s
        before_s, self.now_s = self.now_s, time_s
        # A face of the frame before is no gap, however long ago that was: think of one frame a second.
        seen_since_s = min(before_s, time_s - _LONGEST_GAP_S) - 1e-6
        for face in faces:
            segments = self.faces.setdefault(face.id, [])
            last = segments[-1] if segments else None
            if last is not None and last.end_s >= seen_since_s:
                last.end_s = time_s
            if last is None or last.end_s < time_s or last.expression != face.expression:
                segments.append(Segment(face.expression, time_s, time_s))
        if self._keep_s is not None:
            for number, segments in list(self.faces.items()):
                self.faces[number] = [segment for segment in segments if segment.end_s >= time_s - self._keep_s]
                if not self.faces[number]:
                    del self.faces[number]

    @property
    def length_s(self) -> float:
        return self.now_s - (self.start_s or 0.0)

    def shares(self, number: int) -> dict[str, float]:
        """Fraction of a face's time per expression, the longest first."""
        seconds: dict[str, float] = defaultdict(float)
        for segment in self.faces[number]:
            # A face seen in one frame only has no length; it still counts for something.
            seconds[segment.expression] += max(segment.end_s - segment.start_s, 1e-3)
        total = sum(seconds.values())
        return {name: value / total for name, value in sorted(seconds.items(), key=lambda item: -item[1])}

    def seconds(self, number: int) -> float:
        return sum(segment.end_s - segment.start_s for segment in self.faces[number])
