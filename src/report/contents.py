"""All that the report shows, read from the working tree once; what is missing stays empty.

In: params.yaml, without which there is no report; metrics/, plots/, models/ or pretrained/, Git and DVC.
Every figure is shown as its stage has written it; nothing is computed here but sums and differences.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.params import Params, load_params
from src.report.experiments import file_at, flat
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
_STAGES = list(Params.model_fields)
DATA_STAGES = _STAGES[1 : _STAGES.index("train")]  # each writes a table of faces per class; "dataset" is no stage
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
class Picture:
    path: str
    content: bytes  # PNG
    before: bytes | None = None  # as it was in the commit compared with, where it differs


@dataclass
class Contents:
    dataset: str
    params_text: str
    differences: Differences
    revision: Revision | None
    uncommitted: list[str]
    headline: dict[str, Figure] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    steps: dict[str, dict[str, int]] = field(default_factory=dict)  # stage, or stage: split -> faces per class
    losses: list[tuple[str, str, int]] = field(default_factory=list)  # stage, reason, faces that do not go on
    missing: list[str] = field(default_factory=list)
    plots: list[Picture] = field(default_factory=list)
    faces: list[Picture] | None = None  # pictures of people; None where they were not asked for
    card_path: str = ""
    card: str = ""  # Markdown


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Around whatever reads a file that a stage has written: what is wrong in it is one message."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # bad JSON and UTF-8 are ValueErrors
        raise UserError(
            f"{name} is not as stage {Path(name).stem} writes it ({' '.join(str(error).split())}). Write it again with "
            f"`dvc repro -f -s {Path(name).stem}`, or restore it with `git checkout {name}`."
        ) from error


def _load(path: Path) -> dict[str, Any]:
    """A file of metrics; {} where it is missing."""
    return dict(json.loads(path.read_text(encoding="utf-8")).items()) if path.is_file() else {}


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
    contents.missing += [name for name in (HEADLINE, DETAILS) if not (root / name).is_file()]
    with _reading(HEADLINE):
        before, headline = _earlier(root, HEADLINE, contents.differences), flat(_load(root / HEADLINE))
        contents.headline = {key: _figure(headline, key, "", before) for key in headline}
    with _reading(DETAILS):
        figures = _load(root / DETAILS)
        contents.rows = list(_rows(figures, _earlier(root, DETAILS, contents.differences))) if figures else []


def _add_faces_per_stage(contents: Contents, root: Path) -> None:
    """From the tables and reports of the data stages."""
    for stage in DATA_STAGES:
        table, report = f"plots/class_distribution/{stage}.csv", f"metrics/details/{stage}.json"
        if not (root / table).is_file():
            contents.missing.append(table)
            continue
        with _reading(table), (root / table).open(encoding="utf-8", newline="") as file:
            faces = {row["expression"]: int(row["faces"]) for row in csv.DictReader(file)}
            name = "split: train" if stage == "split" else stage
            contents.steps[name] = {name: faces[name] for name in EXPRESSIONS}
        with _reading(report):
            _add_report(contents, stage, _load(root / report))


def _add_report(contents: Contents, stage: str, report: Mapping[str, Any]) -> None:
    losses = {f"skipped: {reason}": n for reason, n in report.get("skipped", {}).get("by_reason", {}).items()}
    losses["below ingest_expw.confidence_min"] = report.get("below_confidence_min", 0)
    losses |= {f"copies, left out of {part}": n for part, n in report.get("removed", {}).items()}
    losses["people saw no face or no expression"] = report.get("removed_no_face_or_unknown", 0)
    contents.losses += [(stage, reason, int(n)) for reason, n in losses.items() if n]
    if stage == "split" and report:
        for part in ("validation", "test"):
            sources = report["faces"][part].values()
            contents.steps[f"split: {part}"] = {name: sum(row[name] for row in sources) for name in EXPRESSIONS}


def _read_pictures(root: Path, folder: str, differences: Differences) -> list[Picture]:
    pictures = []
    for file in sorted((root / folder).glob("*.png")):
        path, content = f"{folder}/{file.name}", file.read_bytes()
        before = file_at(differences.against.hash, path, root) if differences.against else None
        pictures.append(Picture(path, content, before if before != content else None))
    return pictures


def read_contents(root: Path, *, against: str | None = None, faces: bool = False) -> Contents:
    """Read what there is. `against`: the commit to compare with, the last one by default. `faces`: people's pictures.

    Raises UserError when params.yaml is missing or wrong, or a file is not what its stage writes.
    """
    params, differences = load_params(root / "params.yaml"), compare(root, against)
    contents = Contents(
        dataset=params.dataset,
        params_text=(root / "params.yaml").read_text(encoding="utf-8"),
        differences=differences,
        revision=find_revision(root),
        uncommitted=uncommitted_files(root),
        plots=_read_pictures(root, "plots", differences),  # figures; what shows people is in plots/faces
        faces=_read_pictures(root, "plots/faces", Differences()) if faces else None,
    )
    _add_results(contents, root)
    _add_faces_per_stage(contents, root)
    contents.card_path = next((name for name in CARDS if (root / name).is_file()), "")
    if contents.card_path:
        contents.card = (root / contents.card_path).read_text(encoding="utf-8", errors="replace")
    return contents
