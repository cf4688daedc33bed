"""Rows that cannot be used: counted by reason, with examples, and a stop when they are too many."""

from typing import Any

import pandas as pd

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import class_counts

_EXAMPLES = 5  # kept per reason


def check_classes(labels: pd.DataFrame, origin: str, remedy: str) -> dict[str, int]:
    """Faces per class. Raises UserError when a class has none."""
    counts = class_counts(labels)
    empty = [name for name, count in counts.items() if not count]
    if empty:
        raise UserError(
            f"{origin} has no usable face of {', '.join(empty)}; expected faces of all seven classes "
            f"({', '.join(EXPRESSIONS)}). Download it again, or {remedy}."
        )
    return counts


class BadRow(Exception):
    """A row cannot be used; the text is the reason under which it is counted."""


class SkippedRows:
    """Counts by reason, in order of first appearance, and the first few examples of each."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str) -> None:
        """Count one row; `example` says where to find it ("line 12", a file name)."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES:
            examples.append(example[:120])

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def report(self) -> dict[str, Any]:
        """For metrics files, sorted by reason."""
        return {
            "total": self.total,
            "by_reason": dict(sorted(self.counts.items())),
            "examples": dict(sorted(self.examples.items())),
        }

    def check(self, rows_read: int, max_bad_fraction: float, parameter: str, origin: str) -> None:
        """Raise UserError when more than `max_bad_fraction` of `rows_read` was skipped.

        parameter: the key in params.yaml that sets the limit. origin: what was read, for the message.
        """
        if self.total <= max_bad_fraction * rows_read:
            return
        reasons = "; ".join(
            f"{count} x {reason} ({', '.join(self.examples[reason][:3])})"
            for reason, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        )
        raise UserError(
            f"{origin}: {self.total} of {rows_read} rows ({self.total / rows_read:.1%}) cannot be used, expected at "
            f"most {max_bad_fraction:.1%} ({parameter} in params.yaml): {reasons}. "
            "Fetch the data again or mend these rows; if they are meant to be skipped, raise that parameter."
        )
