"""Rows that cannot be used: counted by reason, with examples, and a stop when they are too many."""

from typing import Any

import pandas as pd

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import class_counts


class BadRow(Exception):
    """A row cannot be used; the text is the reason under which it is counted."""


class SkippedRows:
    """Rows by reason."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {}

    def add(self, reason: str, row: str) -> None:
        """Count one row; `row` says where to find it ("line 12", a file name)."""
        self._rows.setdefault(reason, []).append(row[:120])

    def report(self) -> dict[str, Any]:
        """For metrics files, sorted by reason, with the first few rows of each."""
        reasons = sorted(self._rows)
        return {
            "total": sum(len(rows) for rows in self._rows.values()),
            "by_reason": {reason: len(self._rows[reason]) for reason in reasons},
            "examples": {reason: self._rows[reason][:5] for reason in reasons},
        }

    def check(self, rows_read: int, max_bad_fraction: float, parameter: str, origin: str) -> None:
        """Raise UserError when more than `max_bad_fraction` of `rows_read` was skipped.

        parameter: the key in params.yaml that sets the limit. origin: what was read, for the message.
        """
        total = self.report()["total"]
        if total <= max_bad_fraction * rows_read:
            return
        frequent = sorted(self._rows.items(), key=lambda item: -len(item[1]))
        reasons = "; ".join(f"{len(rows)} x {reason} ({', '.join(rows[:3])})" for reason, rows in frequent)
        raise UserError(
            f"{origin}: {total} of {rows_read} rows ({total / rows_read:.1%}) cannot be used, expected at most "
            f"{max_bad_fraction:.1%} ({parameter} in params.yaml): {reasons}. Fetch the data again or mend these rows; "
            "if they are meant to be skipped, raise that parameter."
        )


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
