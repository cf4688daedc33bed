"""dvc.yaml says the truth: every import and every parameter of a stage is declared, and test feeds evaluate alone."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from src.params import Params
from tests.conftest import ROOT
from tests.import_graph import imported_files

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict] = DVC["stages"]
DESIGN = ["ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote", "train", "export", "evaluate"]


def _paths(stage: str, *kinds: str) -> list[str]:
    entries = [entry for kind in kinds for entry in STAGES[stage].get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_one_name_for_one_thing() -> None:
    assert list(STAGES) == DESIGN
    assert {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")} == set(DESIGN)
    assert set(Params.__dataclass_fields__) - {"dataset"} == set(DESIGN)
    for name, stage in STAGES.items():
        assert stage["cmd"] == f"python -m stages.{name}"


@pytest.mark.parametrize("stage", DESIGN)
def test_every_import_is_a_dependency(stage: str) -> None:
    declared = {path for path in _paths(stage, "deps") if path.endswith(".py")}
    assert declared == imported_files(f"stages/{stage}.py")


def _params_read(stage: str) -> set[str]:
    """`params.x.y` and `load_params().x` in the stage's file, as dotted keys."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if match := re.match(r"(?:params|load_params\(\))\.(.+)", text):
                found.add(match[1])
    return found


@pytest.mark.parametrize("stage", DESIGN)
def test_every_parameter_read_is_declared(stage: str) -> None:
    declared = STAGES[stage].get("params", [])
    sections = set(Params.__dataclass_fields__)
    read = _params_read(stage)
    whole = {key for key in read if key in sections and key not in ("dataset",)}
    for key in read:
        section = key.split(".")[0]
        if section not in sections:  # `params = load_params().split` makes params.split.seed appear as params.seed
            section, key = stage, stage
        covered = section in declared or any(key == name or key.startswith(f"{name}.") for name in declared)
        # A section seen on the way to one of its keys (params.crop in params.crop.margin) needs no entry of its own.
        on_the_way = key in whole and any(other.startswith(f"{key}.") for other in read)
        assert covered or on_the_way, f"{stage} reads {key}, which dvc.yaml does not declare"


def test_nothing_but_evaluate_sees_the_test_split() -> None:
    for stage in DESIGN:
        readers = [path for path in _paths(stage, "deps") if path.startswith("data/processed/split")]
        if stage == "evaluate":
            assert "data/processed/split/test" in readers
        else:
            assert not [path for path in readers if path in ("data/processed/split", "data/processed/split/test")]


def test_everything_downstream_starts_from_train() -> None:
    assert "data/processed/split/train" in _paths("undersample", "deps")
    for stage in ("smote", "train"):
        assert "data/processed/split/train" not in _paths(stage, "deps")


def test_pictures_of_people_stay_out_of_git() -> None:
    for stage in DESIGN:
        for kind in ("outs", "plots", "metrics"):
            for entry in STAGES[stage].get(kind, []):
                path = entry if isinstance(entry, str) else next(iter(entry))
                cached = isinstance(entry, str) or entry[path].get("cache", True)
                assert cached or not path.startswith(("plots/faces", "data", "models"))


def test_lower_layers_do_not_import_upper_ones() -> None:
    """Data flows one way: datasets -> preparation -> network -> evaluation; realtime stands beside."""
    layers = ["datasets", "preparation", "network", "evaluation"]
    for index, layer in enumerate(layers):
        for file in (ROOT / "src" / layer).glob("*.py"):
            for later in layers[index + 1 :]:
                assert f"src.{later}" not in file.read_text(encoding="utf-8"), f"{file} imports src.{later}"
    for file in (ROOT / "src").rglob("*.py"):
        assert "from stages" not in file.read_text(encoding="utf-8"), f"{file} imports a stage"


def test_no_absolute_paths() -> None:
    for stage in DESIGN:
        for path in _paths(stage, "deps", "outs", "metrics", "plots"):
            assert not Path(path).is_absolute()
