"""Queued experiments with names that say what differs: real DVC, on the bundled sample."""

import json
import subprocess
from pathlib import Path

import pytest

from src.errors import UserError
from src.sweep import plan
from tests.conftest import copy_of_project, run_in


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
    ],
)
def test_nothing_is_queued_with_a_mistake_in_it(params_content: dict, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(["train.seed=1", word], params_content)


def test_a_failing_experiment_does_not_stop_the_queue(tmp_path: Path) -> None:
    clone = copy_of_project(tmp_path / "clone")
    before = (clone / "params.yaml").read_bytes()
    settings = ("dataset=sample", "train.backbone=cnn", "train.epochs=1", "train.batch_size=32",
                "split.copy_similarity=0.95", "evaluate.bootstrap_samples=100")  # fmt: skip
    result = run_in(clone, "python", "-m", "src.sweep", "train.weights=missing.npz,none", *settings)
    assert "weights-missing-npz: failed: error: train.weights=missing.npz is not a file" in result.stdout
    row = next(line for line in result.stdout.splitlines() if line.startswith("weights-none "))
    shown = run_in(clone, "git", "show", f"{_revision(clone, 'weights-none')}:metrics/evaluate.json").stdout
    assert f"{json.loads(shown)['validation']['all']['accuracy']:.3f}" in row
    assert (clone / "params.yaml").read_bytes() == before
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""
    again = run_in(clone, "python", "-m", "src.sweep", "train.weights=missing.npz,none", *settings, check=False)
    assert again.returncode == 1
    assert "experiments of these names already" in again.stderr


def _revision(clone: Path, name: str) -> str:
    shown = subprocess.run(
        ["git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps"],
        cwd=clone, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return next(line.split()[0] for line in shown.splitlines() if line.endswith(f"/{name}"))
