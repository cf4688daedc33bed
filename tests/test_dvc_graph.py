"""dvc.yaml says the truth: every import and every parameter of a stage is declared, and test feeds evaluate alone."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from src.params import Params
from tests.conftest import ROOT
from tests.import_graph import UNLISTED, direct_imports, rewritten

TEXT = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
STAGES: dict[str, dict] = yaml.safe_load(TEXT)["stages"]
DESIGN = ["ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote", "train", "export", "evaluate"]
SECTIONS = set(Params.model_fields) - {"dataset"}


def declared(stage: str, *kinds: str) -> list[str]:
    """Paths in these lists of a stage in dvc.yaml."""
    entries = [entry for kind in kinds for entry in STAGES[stage].get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_one_name_for_one_thing() -> None:
    assert list(STAGES) == DESIGN
    assert {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")} == set(DESIGN) == SECTIONS
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m stages.{name}"


def test_every_import_that_can_change_outputs_is_a_dependency() -> None:
    assert rewritten(TEXT) == TEXT, "run `python -m tests.import_graph --write`"
    assert [name for name in UNLISTED if not (ROOT / name).is_file()] == []
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "src/evaluation").glob("*.jinja")}
    assert templates <= set(declared("evaluate", "deps"))  # read, not imported


EDITS: dict[str, set[str]] = {
    "network/model": {"train", "export"},
    "network/exporting": {"export"},
    "preparation/smote": {"smote"},
    "recognition/following": set(),
    "recognition/crop_face": {"crop"},
    "evaluation/plots": {"evaluate"},
}


@pytest.mark.parametrize("module", EDITS)
def test_an_edit_runs_the_stages_again_that_it_can_change(module: str) -> None:
    """By hand, for what the import graph says."""
    assert {stage for stage in DESIGN if f"src/{module}.py" in declared(stage, "deps")} == EDITS[module]


def _params_read(stage: str) -> set[str]:
    """`params.x.y` and `load_params().x` in the stage's file, as dotted keys."""
    found, pattern = set(), r"(?:params|load_params\(\))\.(.+)"
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and (match := re.match(pattern, ast.unparse(node))):
            key = match[1]  # `params = load_params().split` makes params.split.seed appear as params.seed
            found.add(key if key.split(".")[0] in SECTIONS | {"dataset"} else f"{stage}.{key}")
    return found


@pytest.mark.parametrize("stage", DESIGN)
def test_parameters_read_are_those_declared(stage: str) -> None:
    read = _params_read(stage)
    # A section seen on the way to one of its keys (params.crop in params.crop.margin) is not read as a whole,
    # unless it is the stage's own.
    read = {key for key in read if key == stage or not any(other.startswith(f"{key}.") for other in read)}
    assert set(STAGES[stage]["params"]) == {key for key in read if not key.startswith(f"{stage}.")} | {stage}
    text = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8")
    assert "params = load_params()\n" not in text or not re.search(r"[(,]\s*params\s*[,)]", text), "passed on whole"


def test_nothing_but_evaluate_sees_the_test_split() -> None:
    for stage in DESIGN:
        readers = {path for path in declared(stage, "deps") if path.startswith("data/processed/split")}
        assert ("data/processed/split/test" in readers) == (stage == "evaluate")
        assert "data/processed/split" not in readers
        assert ("data/processed/split/train" in readers) == (stage == "undersample")


def test_what_is_cached_and_what_is_in_git() -> None:
    """Pictures of people stay out of Git; no designed plot and no metric is cached; no path is absolute."""
    for stage in DESIGN:
        for entry in [entry for kind in ("outs", "metrics") for entry in STAGES[stage].get(kind, [])]:
            path = entry if isinstance(entry, str) else next(iter(entry))
            cached = isinstance(entry, str) or entry[path].get("cache", True)
            assert cached == path.startswith(("plots/faces", "data", "models")), path
        assert not any(Path(path).is_absolute() for path in declared(stage, "deps", "outs", "metrics"))


# From the ground up; a module imports from its own folder and from those before it. Files straight in src are "".
FLOORS = (
    "", "recognition", "datasets", "preparation", "network", "evaluation", "realtime", "web", "remote", "report",
    "cluster",
)  # fmt: skip


def test_nothing_below_imports_from_above() -> None:
    def floor(file: Path) -> int:
        return FLOORS.index(file.relative_to(ROOT / "src").parts[0] if file.parent != ROOT / "src" else "")

    for file in (ROOT / "src").rglob("*.py"):
        for imported in direct_imports(file):
            assert imported.is_relative_to(ROOT / "src"), f"{file} imports {imported}"
            assert floor(imported) <= floor(file), f"{file} imports {imported}"
