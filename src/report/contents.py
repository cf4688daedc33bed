"""All that a report shows, read from the working tree once; what is missing stays empty.

In: dvc.yaml and params.yaml, without which there is no report; metrics/, plots/, models/ or pretrained/, Git and DVC.
Every figure is shown as its stage has written it; nothing is computed here but sums and differences.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.report.experiments import file_at, flat
from src.report.pipeline import Stage, read_stages
from src.report.revisions import Differences, Revision, compare, find_revision, uncommitted_files

HEADLINE, DETAILS = "metrics/evaluate.json", "metrics/details/evaluate.json"
CARDS = ("models/model_card.md", "pretrained/model_card.md")
MEASURES = {
    "accuracy": "accuracy",
    "majority_class_accuracy": "majority class",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error",
}
_OF_VARIANTS = ("ferplus", "fer2013", "expw")  # the sections of which the 8-bit variant and its like are shown


@dataclass(frozen=True)
class Figure:
    value: float
    low: float | None = None  # of the 95 % interval, where there is one
    high: float | None = None
    change: float | None = None  # against the commit compared with, where it was there and differed


@dataclass(frozen=True)
class Row:
    """The figures of some faces."""

    group: str  # the split
    section: str  # key in the file, such as fer2013_without_copies
    n: int
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Step:
    """Faces per class after one stage, in the order of EXPRESSIONS."""

    stage: str
    part: str  # of a split, or empty
    faces: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.faces.values())


@dataclass(frozen=True)
class Picture:
    path: str
    content: bytes  # PNG
    before: bytes | None = None  # as it was in the commit compared with, where it differs


@dataclass
class Contents:
    dataset: str
    params_text: str
    stages: list[Stage]
    differences: Differences
    revision: Revision | None
    uncommitted: list[str]
    headline: dict[str, Figure] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    losses: list[tuple[str, str, int]] = field(default_factory=list)  # stage, reason, faces that do not go on
    missing: list[str] = field(default_factory=list)
    plots: list[Picture] = field(default_factory=list)
    faces: list[Picture] | None = None  # pictures of people; None where they were not asked for
    card_path: str = ""
    card: str = ""  # Markdown


@contextmanager
def _reading(name: str, stage: str = "") -> Iterator[None]:
    """Around whatever reads a file, of a stage or of the repository: what it cannot read is one message."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(
            f"{name} is missing. Run from the repository root; `git checkout {name}` restores it."
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:  # bad JSON, UTF-8: ValueErrors
        writes = f"stage {stage} writes it" if stage else "it should be"
        again = f"Write it again with `dvc repro -f -s {stage}`, or restore it" if stage else "Restore it"
        message = " ".join(str(error).split())
        raise UserError(f"{name} is not as {writes} ({message}). {again} with `git checkout {name}`.") from error


@contextmanager
def _json_of(contents: Contents, root: Path, name: str, stage: str) -> Iterator[dict[str, Any]]:
    """The content of a file of metrics, for what is done with it; {} where it is missing."""
    with _reading(name, stage):
        if not (root / name).is_file():
            contents.missing.append(name)
            yield {}
        else:
            content = json.loads((root / name).read_text(encoding="utf-8"))
            yield dict(content.items())


def _earlier(root: Path, name: str, differences: Differences) -> dict[str, Any]:
    """A file of metrics as it was in the commit compared with, flat; empty where it was not there."""
    content = file_at(differences.against.hash, name, root) if differences.against else None
    try:
        return flat(json.loads(content)) if content else {}
    except (ValueError, AttributeError):
        return {}


def _figure(values: Mapping[str, Any], key: str, path: str, before: Mapping[str, Any]) -> Figure:
    value, old = float(values[key]), before.get(path + key)
    low, high = (float(values[end]) if end in values else None for end in (f"{key}_low", f"{key}_high"))
    return Figure(value, low, high, value - old if isinstance(old, int | float) and old != value else None)


def _rows(figures: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[Row]:
    """Every section of both splits, whatever it is called; of variants of the model the main ones of test."""
    parts = [(split, "", f"{split}.", figures[split]) for split in ("test", "validation")]
    for variant, splits in figures.items():
        main = {name: values for name, values in splits.get("test", {}).items() if name in _OF_VARIANTS}
        parts.append(("test, variants", f"{variant}_", f"{variant}.test.", main))
    for group, prefix, path, sections in parts:
        for name, values in sections.items():
            row = {key: _figure(values, key, f"{path}{name}.", before) for key in MEASURES if key in values}
            yield Row(group, prefix + name, int(values["n"]), row)


def _add_results(contents: Contents, root: Path) -> None:
    with _json_of(contents, root, HEADLINE, "evaluate") as values:
        before, headline = _earlier(root, HEADLINE, contents.differences), flat(values)
        contents.headline = {key: _figure(headline, key, "", before) for key in headline}
    with _json_of(contents, root, DETAILS, "evaluate") as values:
        contents.rows = list(_rows(values, _earlier(root, DETAILS, contents.differences))) if values else []


def _add_faces_per_stage(contents: Contents, root: Path) -> None:
    """From the tables and reports that the data stages declare."""
    for stage in contents.stages:
        table, report = f"plots/class_distribution/{stage.name}.csv", f"metrics/details/{stage.name}.json"
        if table not in stage.outputs:
            continue
        if (root / table).is_file():
            with _reading(table, stage.name), (root / table).open(encoding="utf-8", newline="") as file:
                faces = {row["expression"]: int(row["faces"]) for row in csv.DictReader(file)}
                part = "train" if stage.name == "split" else ""
                contents.steps.append(Step(stage.name, part, {name: faces[name] for name in EXPRESSIONS}))
        else:
            contents.missing.append(table)
        if report in stage.outputs:
            with _json_of(contents, root, report, stage.name) as values:
                _add_report(contents, stage.name, values)


def _add_report(contents: Contents, stage: str, report: Mapping[str, Any]) -> None:
    losses = {f"skipped: {reason}": n for reason, n in report.get("skipped", {}).get("by_reason", {}).items()}
    losses["below ingest_expw.confidence_min"] = report.get("below_confidence_min", 0)
    losses |= {f"copies, left out of {part}": n for part, n in report.get("removed", {}).items()}
    losses["people saw no face or no expression"] = report.get("removed_no_face_or_unknown", 0)
    contents.losses += [(stage, reason, int(n)) for reason, n in losses.items() if n]
    if stage == "split" and report:
        for part in ("validation", "test"):
            sources = report["faces"][part].values()
            contents.steps.append(Step(stage, part, {name: sum(row[name] for row in sources) for name in EXPRESSIONS}))


def _read_pictures(root: Path, paths: list[str], differences: Differences) -> list[Picture]:
    pictures = []
    for path in filter(lambda path: (root / path).is_file(), paths):
        content = (root / path).read_bytes()
        before = file_at(differences.against.hash, path, root) if differences.against else None
        pictures.append(Picture(path, content, before if before != content else None))
    return pictures


def read_contents(root: Path, *, against: str | None = None, faces: bool = False) -> Contents:
    """Read what there is. `against`: the commit to compare with, the last one by default.

    Raises UserError when dvc.yaml or params.yaml is missing or a file is not what its stage writes.
    """
    with _reading("params.yaml"):
        params_text = (root / "params.yaml").read_text(encoding="utf-8")
        params = dict(yaml.safe_load(params_text).items())
    with _reading("dvc.yaml"):
        stages = read_stages(root, (root / "dvc.yaml").read_text(encoding="utf-8"), params)
    contents = Contents(
        dataset=str(params.get("dataset", "")),
        params_text=params_text,
        stages=stages,
        differences=compare(root, against),
        revision=find_revision(root),
        uncommitted=uncommitted_files(root),
    )
    _add_results(contents, root)
    _add_faces_per_stage(contents, root)
    pictures = {
        path: path in stage.in_git for stage in contents.stages for path in stage.outputs if path[-4:] == ".png"
    }
    # What is in Git shows figures; pictures of people are in DVC's cache.
    in_git = [path for path, public in pictures.items() if public]
    contents.plots = _read_pictures(root, in_git, contents.differences)
    if faces:
        contents.faces = _read_pictures(root, [path for path in pictures if path not in in_git], Differences())
    contents.card_path = next((name for name in CARDS if (root / name).is_file()), "")
    if contents.card_path:
        with _reading(contents.card_path):
            contents.card = (root / contents.card_path).read_text(encoding="utf-8")
    return contents
