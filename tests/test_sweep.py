"""Queued experiments with names that say what differs: real DVC, on a pipeline of one short stage."""

import subprocess
from pathlib import Path

import pytest
import yaml

from src import sweep
from src.errors import UserError
from src.sweep import plan
from tests.conftest import ROOT, copy_of_project, run_in


def test_names_say_what_differs(params_content: dict) -> None:
    experiments = plan(["train.backbone=cnn,compact", "smote.enabled=true,false", "train.epochs=3"], params_content)
    assert [experiment.name for experiment in experiments] == [
        "backbone-cnn-smote-enabled-true", "backbone-cnn-smote-enabled-false",
        "backbone-compact-smote-enabled-true", "backbone-compact-smote-enabled-false",
    ]  # fmt: skip
    assert experiments[0].settings == ("train.backbone=cnn", "smote.enabled=true", "train.epochs=3")
    assert plan(["train.learning_rate=0.1,1e-2"], params_content, "second")[1].name == "second-learning_rate-1e-2"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train.seed", "no setting"),
        ("train.sead=1,2", "did you mean train.seed"),
        ("train.backbone=cnn,vgg61", "Did you mean vgg16"),
        ("train.seed.deeper=1", "has no keys below it"),
        ("train.epochs=", "no setting"),
        ("train.epochs=[1,2]", "separated by commas, without brackets"),
        ("dataset=2026-99-99", "no value that params.yaml can hold"),
        ("train.epochs=3,3", "the same name: epochs-3"),
    ],
)
def test_nothing_is_queued_with_a_mistake_in_it(params_content: dict, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(["train.seed=1", word], params_content)


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_jobs_is_a_number_of_experiments(jobs: str) -> None:
    result = run_in(ROOT, "python", "-m", "src.sweep", "train.seed=1,2", "--jobs", jobs, check=False)
    assert result.returncode == 2
    assert "expected 1 or more" in result.stderr


def test_a_queue_that_nobody_works_on_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment taken out of the queue, and a worker that was stopped."""
    monkeypatch.setattr(sweep, "_POLL_S", 0.001)
    monkeypatch.setattr(sweep, "_dvc", lambda *words, check=True: "")
    monkeypatch.setattr(sweep, "_statuses", lambda: {"one": "Success", "two": "Queued"})
    experiments = [sweep.Experiment(name, ()) for name in ("one", "two", "three")]
    ended = sweep.wait(experiments, 1)
    assert ended == {"one": "Success", "two": "Queued", "three": "Removed"}
    assert "two: not run (queued); `dvc queue start`" in sweep.table(ended)


STAGE = """
import json, sys, yaml
train = yaml.safe_load(open("params.yaml"))["train"]
if train["weights"] != "none":
    sys.exit(f"error: train.weights={train['weights']} is not a file.")
row = {"n": 100, "accuracy": train["seed"] / 10, "accuracy_low": 0.1, "accuracy_high": 0.9, "macro_f1": 0.2, "loss": 1}
json.dump({"validation": {"all": row}}, open("metrics/evaluate.json", "w"))
"""
PIPELINE = """
stages:
  evaluate:
    cmd: python short.py
    deps: [short.py]
    params: [train]
    metrics:
      - metrics/evaluate.json: {cache: false}
"""


def _short_project(folder: Path) -> Path:
    """This project with a pipeline that takes a moment and is as good as its seed."""
    copy_of_project(folder)
    (folder / "short.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "dvc.lock").unlink()
    run_in(folder, "git", "add", "-A")
    run_in(folder, "git", "commit", "-qm", "short")
    return folder


def test_a_failing_experiment_does_not_stop_the_queue(tmp_path: Path) -> None:
    clone = _short_project(tmp_path / "clone")
    before = (clone / "params.yaml").read_bytes()
    settings = ("train.weights=missing.npz,none", "train.seed=5,7", "train.epochs=1")
    result = run_in(clone, "python", "-m", "src.sweep", *settings)
    lines = result.stdout.splitlines()
    failed = [line for line in lines if "failed: error: train.weights=missing.npz is not a file." in line]
    assert [line.partition(":")[0] for line in failed] == ["weights-missing-npz-seed-5", "weights-missing-npz-seed-7"]
    rows = [line.split() for line in lines if line.startswith("weights-none") and "failed" not in line]
    assert [row[:3] for row in rows] == [
        ["weights-none-seed-7", "100", "0.700"],
        ["weights-none-seed-5", "100", "0.500"],
    ]
    shown = run_in(clone, "git", "show", f"{_revision(clone, 'weights-none-seed-7')}:params.yaml").stdout
    assert (yaml.safe_load(shown)["train"]["seed"], yaml.safe_load(shown)["train"]["epochs"]) == (7, 1)
    assert (clone / "params.yaml").read_bytes() == before
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""
    again = run_in(clone, "python", "-m", "src.sweep", *settings, check=False)
    assert again.returncode == 1
    assert "experiments of these names already" in again.stderr


def _revision(clone: Path, name: str) -> str:
    shown = subprocess.run(
        ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"],
        cwd=clone, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return next(line.split()[0] for line in shown.splitlines() if line.endswith(f"/{name}"))
