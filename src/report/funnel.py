"""How many faces are left after each stage, per class, and why the others went.

In: metrics/{ingest_fer2013,ingest_expw,crop,split}.json and plots/class_distribution/<stage>.csv.
Out: Funnel, whose parts are empty where the stage has not run.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.expressions import EXPRESSIONS

# What a table of plots/class_distribution counts; `split` writes the faces of its train part.
_STEPS = {
    "ingest_fer2013": "FER2013, read",
    "ingest_expw": "ExpW, read",
    "crop": "cropped, both",
    "split": "split: train part",
    "undersample": "undersampled",
    "smote": "trained on",
}


@dataclass(frozen=True)
class Step:
    """Faces per class after one stage, in the order of EXPRESSIONS."""

    stage: str
    title: str
    faces: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.faces.values())


@dataclass(frozen=True)
class Loss:
    """Faces that do not go on to the next stage, and why."""

    stage: str
    reason: str
    faces: int


@dataclass(frozen=True)
class Funnel:
    steps: list[Step]
    held_out: list[Step]  # validation and test
    losses: list[Loss]
    missing: list[str]  # files that are not there


def _read_distribution(path: Path) -> dict[str, int]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            counted = {row["expression"]: int(row["faces"]) for row in csv.DictReader(file)}
        return {name: counted[name] for name in EXPRESSIONS}
    except (KeyError, ValueError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(
            f"{path} does not list the faces of the seven expressions ({error!r}). "
            f"Write it again with `dvc repro -f -s {path.stem}`, or restore it with `git checkout {path}`."
        ) from error


def read_funnel(root: Path, metrics: Mapping[str, Any]) -> Funnel:
    """`metrics` maps the stem of each file in metrics/ that is there to its content."""
    steps, missing = [], []
    for stage, title in _STEPS.items():
        path = Path("plots/class_distribution", f"{stage}.csv")
        if (root / path).is_file():
            steps.append(Step(stage, title, _read_distribution(root / path)))
        else:
            missing.append(str(path))
    held_out: list[Step] = []
    losses: list[Loss] = []
    for stage in ("ingest_fer2013", "ingest_expw", "crop", "split"):
        if stage not in metrics:
            missing.append(f"metrics/{stage}.json")
            continue
        try:
            if stage == "split":
                held_out = _held_out(metrics[stage])
                losses += [
                    Loss(stage, f"copies removed from {part}", faces)
                    for part, faces in metrics[stage]["removed"].items()
                    if faces
                ]
            else:
                losses += _skipped(stage, metrics[stage])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"metrics/{stage}.json is not as stage {stage} writes it ({error!r}). Write it again with "
                f"`dvc repro -f -s {stage}`, or restore it with `git checkout metrics/{stage}.json`."
            ) from error
    return Funnel(steps, held_out, losses, missing)


def _held_out(split: Mapping[str, Any]) -> list[Step]:
    return [
        Step("split", f"split: {part}", {
            name: sum(source[name] for source in split["faces"][part].values()) for name in EXPRESSIONS
        })
        for part in ("validation", "test")
    ]  # fmt: skip


def _skipped(stage: str, metric: Mapping[str, Any]) -> list[Loss]:
    losses = [Loss(stage, f"skipped: {reason}", faces) for reason, faces in metric["skipped"]["by_reason"].items()]
    if metric.get("below_confidence_min"):
        losses.append(Loss(stage, "below ingest_expw.confidence_min", metric["below_confidence_min"]))
    return losses
