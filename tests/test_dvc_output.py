"""What a DVC user sees: the real output of `dvc metrics`, `dvc exp show` and `dvc plots`, and its width."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.evaluation.labellings import SOURCES
from tests.conftest import ROOT, run_in

HEADLINE = {
    "test": {"fer+": 0.8145, "fer": 0.6524, "expw": 0.3841},
    "val": {"fer+": 0.8102, "fer": 0.6541, "expw": 0.4044, "f1": 0.5013, "ece": 0.0675},
}
KEYS = [f"{split}.{key}" for split, row in HEADLINE.items() for key in row]
EXPERIMENTS = ("scant-gaol", "lower-rate")


def _git(folder: Path, *arguments: str) -> str:
    return run_in(folder, "git", *arguments).stdout.strip()


def _dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "COLUMNS": "80"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "failed to load" not in result.stderr, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after a run of the pipeline, with two experiments on train.learning_rate."""
    folder = tmp_path_factory.mktemp("repository")
    files = ["dvc.yaml", "dvc.lock", "params.yaml", ".dvcignore", ".dvc/config", ".dvc/plots/phases.json"]
    paths = [ROOT / name for name in files]
    for path in [*paths, *(ROOT / "metrics/details").glob("*"), *(ROOT / "plots").glob("*.*")]:
        (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / path.relative_to(ROOT))
    (folder / "metrics/evaluate.json").write_text(json.dumps(HEADLINE))
    for source in SOURCES:
        (folder / f"plots/confusion_{source}.csv").write_text("actual,predicted\nhappy,happy\nsad,happy\n")
        (folder / f"plots/reliability_{source}.csv").write_text("confidence,accuracy,faces\n0.4,0.3,40\n0.8,0.7,40\n")
        (folder / f"plots/risk_coverage_{source}.csv").write_text(
            "threshold,coverage,accuracy\n0.3,1,0.6\n0.5,0.8,0.7\n"
        )
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "config", "user.name", "t")
    _git(folder, "config", "user.email", "t@example.org")
    _git(folder, "add", "-A")
    _git(folder, "commit", "-qm", "run")
    base = _git(folder, "rev-parse", "HEAD")
    params, lock = ((folder / name).read_text() for name in ("params.yaml", "dvc.lock"))
    for number, name in enumerate(EXPERIMENTS, start=1):
        other = {
            split: {key: round(value + 0.0011 * number, 4) for key, value in row.items()}
            for split, row in HEADLINE.items()
        }
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
    (repository / "metrics/evaluate.json").write_text(json.dumps({**HEADLINE, "test": {"fer+": 0.85}}))
    lines = _dvc(repository, "metrics", "diff").splitlines()
    _git(repository, "checkout", "-q", ".")
    assert max(map(len, lines)) <= 120
    assert any(re.search(r"test\.fer\+ +0\.8145 +0\.85 +0\.0355", line) for line in lines)


def test_experiments_fit_into_160_columns(repository: Path) -> None:
    """Metrics and changed parameters; hashes of changed files follow to the right, 36 characters each."""
    lines = _dvc(repository, "exp", "show", "--only-changed").splitlines()
    heading = next(line for line in lines if "Experiment" in line)
    assert "models/train" in heading
    assert heading.index("models/export") < 160
    lines = _dvc(repository, "exp", "show", "--only-changed", "--drop", ".*/").splitlines()
    heading = next(line for line in lines if "Experiment" in line)
    assert max(len(line.rstrip()) for line in lines) <= 160
    assert heading.split()[2:] == [*KEYS, "train.learning_rate"]
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
