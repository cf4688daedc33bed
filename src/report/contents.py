"""All that a report shows, read from the working tree once; what is missing stays empty.

In: dvc.yaml and params.yaml, without which there is no report; metrics/, plots/, models/ or pretrained/, Git and DVC.
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from src.errors import UserError
from src.evaluation.scoring import read_data_note
from src.report.experiments import file_at
from src.report.figures import Row, read_rows
from src.report.funnel import Funnel, read_funnel
from src.report.pipeline import Stage, read_stages
from src.report.revisions import Differences, Revision, compare, find_revision, uncommitted_files

CARDS = ("models/model_card.md", "pretrained/model_card.md")


@dataclass(frozen=True)
class Picture:
    path: str
    content: bytes  # PNG
    before: bytes | None = None  # as it was in the commit compared with, where it differs


@dataclass(frozen=True)
class Contents:
    """What `read_contents` found at `root`."""

    dataset: str
    stages: list[Stage]
    purposes: Mapping[str, str]  # stage -> the first paragraph of the docstring of its file in stages/
    params_text: str
    revision: Revision | None
    uncommitted: list[str]
    differences: Differences
    metrics: Mapping[str, Any]  # stem of a file in metrics/ -> its content
    rows: list[Row]
    funnel: Funnel
    fer2013_note: str  # stands beside figures measured on FER2013's PrivateTest, or empty
    plots: list[Picture]
    faces: list[Picture] | None  # pictures of people; None where they were not asked for
    card_path: str
    card: str  # Markdown, or empty


def _read_text(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{name} is missing. Run from the repository root; `git checkout {name}` restores it."
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text ({error}). `git checkout {name}` restores it.") from error


def _purpose(root: Path, stage: str) -> str:
    """What the file of a stage says that it does, or "" where it says nothing."""
    path = root / "stages" / f"{stage}.py"
    try:
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
    except (FileNotFoundError, SyntaxError, ValueError):
        return ""
    return " ".join(docstring.partition("\n\n")[0].split())


def _read_metrics(root: Path) -> dict[str, Any]:
    metrics = {}
    for path in sorted((root / "metrics").glob("*.json")):
        name = f"metrics/{path.name}"
        try:
            metrics[path.stem] = json.loads(_read_text(root, name))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{name} is not valid JSON ({error}). Write it again with `dvc repro -f -s {path.stem}`, or restore it "
                f"with `git checkout {name}`."
            ) from error
    return metrics


def _read_pictures(root: Path, folder: str, differences: Differences) -> list[Picture]:
    pictures = []
    for path in sorted((root / folder).glob("*.png")):
        name = f"{folder}/{path.name}"
        before = None
        if name in differences.plots and differences.against:
            before = file_at(differences.against.hash, name, root)
        pictures.append(Picture(name, path.read_bytes(), before))
    return pictures


def read_contents(root: Path, *, against: str | None = None, faces: bool = False) -> Contents:
    """Read what there is. `against`: the commit to compare with, the last one by default.

    Raises UserError when dvc.yaml or params.yaml is missing or a file is not what its stage writes.
    """
    params_text = _read_text(root, "params.yaml")
    try:
        params = yaml.safe_load(params_text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(
            f"params.yaml is not valid YAML: {' '.join(str(error).split())}. Correct the line it names."
        ) from error
    if not isinstance(params, dict):
        raise UserError("params.yaml must be a mapping of keys to values. `git checkout params.yaml` restores it.")
    dataset = str(params.get("dataset", ""))
    stages = read_stages(_read_text(root, "dvc.yaml"), params)
    metrics = _read_metrics(root)
    differences = compare(root, against)
    note = read_data_note(root / "data/raw" / dataset, "fer2013")
    # In the official protocol PrivateTest is test; in the random one its pictures are everywhere.
    everywhere = (metrics.get("split") or {}).get("protocol") == "random"
    starred = () if not note else ("test", "validation") if everywhere else ("test",)
    card_path = next((name for name in CARDS if (root / name).is_file()), "")
    return Contents(
        dataset=dataset,
        stages=stages,
        purposes={stage.name: purpose for stage in stages if (purpose := _purpose(root, stage.name))},
        params_text=params_text,
        revision=find_revision(root),
        uncommitted=uncommitted_files(root),
        differences=differences,
        metrics=metrics,
        rows=read_rows(metrics["evaluate"], differences, starred) if "evaluate" in metrics else [],
        funnel=read_funnel(root, metrics),
        fer2013_note=note,
        plots=_read_pictures(root, "plots", differences),
        faces=_read_pictures(root, "plots/faces", Differences()) if faces else None,
        card_path=card_path,
        card=_read_text(root, card_path) if card_path else "",
    )
