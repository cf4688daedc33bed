"""metrics/evaluate.json as rows to show: accuracy and its like with their 95 % intervals and their change.

Every figure is taken from the file as it is; nothing is computed here but differences, which come from DVC.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from src.errors import UserError
from src.report.revisions import Change, Differences

MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
    "loss": "loss",
}
_SOURCES = {"all": "all", "fer2013": "FER2013", "expw": "ExpW"}
_VARIANTS = {"int8": "8-bit variant", "multiview": "mean of several views"}
LOWER_IS_BETTER = ("ece", "loss")


@dataclass(frozen=True)
class Figure:
    value: float
    low: float | None  # of the 95 % interval, where there is one
    high: float | None
    change: Change | None  # against the commit compared with

    @property
    def text(self) -> str:
        """Like .649 (.632 to .665)."""
        return f"{decimal(self.value)} ({self.interval})" if self.interval else decimal(self.value)

    @property
    def interval(self) -> str:
        return "" if self.low is None or self.high is None else f"{decimal(self.low)} to {decimal(self.high)}"


@dataclass(frozen=True)
class Row:
    """The figures of one group of faces."""

    split: str
    section: str  # key in evaluate.json
    name: str
    n: int
    figures: Mapping[str, Figure]


def decimal(value: float) -> str:
    """Three decimals, without the zero in front: .649, 1.057, −.012."""
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) else "") + (text[1:] if text.startswith("0.") else text)


def signed(difference: float) -> str:
    """A difference with its sign, or "0" where three decimals do not show it."""
    text = decimal(difference)
    return "0" if text in (".000", "0.000") else text if text.startswith("−") else f"+{text}"


def section_name(section: str, starred: bool) -> str:
    """As shown; the star points to the note on FER2013's PrivateTest."""
    source = section.removesuffix("_without_copies")
    name = _SOURCES.get(source, source) + ("*" if starred and source in ("all", "fer2013") else "")
    return f"{name}, without copies" if section.endswith("_without_copies") else name


def read_rows(evaluation: Mapping[str, Any], differences: Differences, starred: Collection[str]) -> list[Row]:
    """One row per group of test and validation faces, in the order of the file; the variants last.

    starred: the splits that hold pictures of FER2013's PrivateTest to which there is a note.

    Raises UserError for content that stage evaluate does not write.
    """
    try:
        rows = [
            _row(f"{split}.{section}", split, section, values, differences, section_name(section, split in starred))
            for split in ("test", "validation")
            for section, values in evaluation[split].items()
        ]
        for key, title in _VARIANTS.items():
            if key in evaluation:
                values, name = evaluation[key]["test"]["all"], section_name("all", "test" in starred)
                rows.append(_row(f"{key}.test.all", "test", key, values, differences, f"{name}, {title}"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"metrics/evaluate.json is not as stage evaluate writes it ({error!r}). Write it again with "
            "`dvc repro -f -s evaluate`, or restore it with `git checkout metrics/evaluate.json`."
        ) from error
    return rows


def _row(path: str, split: str, section: str, values: Mapping[str, Any], differences: Differences, name: str) -> Row:
    figures = {
        measure: Figure(
            float(values[measure]),
            values.get(f"{measure}_low"),
            values.get(f"{measure}_high"),
            differences.of_metric(f"{path}.{measure}"),
        )
        for measure in MEASURES
        if values.get(measure) is not None
    }
    return Row(split, section, name, int(values["n"]), figures)
