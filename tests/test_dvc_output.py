"""What a DVC user sees: the real output of `dvc metrics`, `dvc exp show` and `dvc plots`, and its width."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, copy_of_project, run_in

HEADLINE = json.loads((ROOT / "metrics/evaluate.json").read_text(encoding="utf-8"))
KEYS = [f"{split}.{key}" for split, row in HEADLINE.items() for key in row]
EXPERIMENTS = ("scant-gaol", "lower-rate")


def _git(folder: Path, *arguments: str) -> str:
    return run_in(folder, "git", *arguments).stdout.strip()


def _dvc(folder: Path, *arguments: str) -> str:
    result = run_in(folder, sys.executable, "-m", "dvc", *arguments, DVC_NO_ANALYTICS="1", COLUMNS="80")
    assert "failed to load" not in result.stderr, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, with two experiments on train.learning_rate."""
    folder = copy_of_project(tmp_path_factory.mktemp("repository"))
    base = _git(folder, "rev-parse", "HEAD")
    params, lock = ((folder / name).read_text() for name in ("params.yaml", "dvc.lock"))
    for number, name in enumerate(EXPERIMENTS, start=1):
        other = {split: {key: value + number / 1000 for key, value in row.items()} for split, row in HEADLINE.items()}
        (folder / "metrics/evaluate.json").write_text(json.dumps(other))
        (folder / "params.yaml").write_text(re.sub(r"(\n  learning_rate: )\S+", rf"\g<1>0.0{number}", params))
        trained = re.sub(r"(- path: models/(?:train|export)\n\s+hash: md5\n\s+md5: )\w{2}", rf"\g<1>{number}a", lock)
        (folder / "dvc.lock").write_text(trained)
        _git(folder, "commit", "-qam", name)
        _git(folder, "update-ref", f"refs/exps/{base[:2]}/{base[2:]}/{name}", "HEAD")
        _git(folder, "reset", "-q", "--hard", base)
    return folder


def test_metrics_fit_into_120_columns(repository: Path) -> None:
    lines = _dvc(repository, "metrics", "show").splitlines()
    assert len(lines) == 2  # a heading and one file
    assert max(map(len, lines)) <= 120
    assert [key for key in KEYS if key not in lines[0]] == []
    better = {**HEADLINE, "test": {"fer+": HEADLINE["test"]["fer+"] + 0.01}}
    (repository / "metrics/evaluate.json").write_text(json.dumps(better))
    lines = _dvc(repository, "metrics", "diff").splitlines()
    _git(repository, "checkout", "-q", ".")
    assert max(map(len, lines)) <= 120
    assert any(re.search(r"test\.fer\+ +0\.\d+ +0\.\d+ +0\.01$", line.rstrip()) for line in lines)


def test_experiments_fit_into_160_columns(repository: Path) -> None:
    """Metrics and changed parameters; hashes of changed files follow to the right, 36 characters each."""
    lines = _dvc(repository, "exp", "show", "--only-changed").splitlines()
    heading = next(line for line in lines if "Experiment" in line)
    names = heading.split()[2:]
    assert names[: len(KEYS) + 1] == [*KEYS, "train.learning_rate"]
    files = names[len(KEYS) + 1 :]
    assert "models/train" in files and heading.index(files[0]) <= 160
    assert all(any(f"[{name}]" in line for line in lines) for name in EXPERIMENTS)


def test_the_designed_plots_are_drawn_and_no_others(repository: Path) -> None:
    content = json.loads(_dvc(repository, "plots", "show", "--json"))
    designed = [next(iter(entry)) for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"]]
    assert sorted(content["data"]) == sorted(designed)
    assert "errors" not in content or not content["errors"]
    for name in ("loss", "accuracy"):
        drawn = content["data"][name][0]["content"]
        assert drawn["encoding"]["column"]["field"] == "phase"  # teacher and student apart
        assert {"phase", "field"} <= set(drawn["data"]["values"][0])


def test_the_released_model_is_an_artifact() -> None:
    (artifact,) = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"].values()
    assert artifact["type"] == "model"
    assert (ROOT / artifact["path"]).is_file()
