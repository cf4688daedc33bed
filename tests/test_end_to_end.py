"""The whole pipeline on the bundled sample, as a user runs it: real DVC, real stages, one epoch, in a clone."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.recognition.classifier import VARIANTS, Classifier
from tests.conftest import copy_of_project, run_in
from tests.test_dvc_graph import DESIGN, STAGES

ONE_EPOCH = (
    "train.teacher_epochs=0", "train.epochs=1", "train.batch_size=32", "split.copy_similarity=0.95",
    "evaluate.bootstrap_samples=100",
)  # fmt: skip


DATA = ("data/", "metrics/", "models/", "plots/")
# Loaded by every Python below DVC: which files a stage opens for reading, and which frameworks it has loaded.
WATCH = """
import atexit, json, os, sys

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("stages."):
    opened = set()

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            if not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
                opened.add(os.path.relpath(arguments[0]))

    def write():
        ours = (".partial-", ".outdated-", ".gitignore")  # of the outputs
        read = sorted(path for path in list(opened) if not any(name in path for name in ours))
        loaded = sorted({"tensorflow", "keras", "jax", "torch", "wandb"} & set(sys.modules))
        name = sys.orig_argv[2].removeprefix("stages.")
        with open(os.path.join(os.path.dirname(__file__), f"{name}.json"), "w") as file:
            json.dump([read, loaded], file)

    sys.addaudithook(hook)
    atexit.register(write)
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "sitecustomize.py").write_text(WATCH)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_project(tmp_path_factory.mktemp("project") / "clone")


@pytest.fixture(scope="module")
def experiment(clone: Path, watched: Path) -> str:
    """Revision of one isolated experiment on the sample."""
    settings = [word for setting in ("dataset=sample", *ONE_EPOCH) for word in ("-S", setting)]
    run_in(clone, "dvc", "exp", "run", "--temp", "--name", "sample", *settings, PYTHONPATH=str(watched))
    refs = run_in(clone, "git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").stdout.split("\n")
    return next(line.split()[0] for line in refs if line.endswith("/sample"))


@pytest.fixture(scope="module")
def results(clone: Path, experiment: str) -> Path:
    """The experiment's metrics, plots, data and models."""
    folder = clone.parent / "results"
    folder.mkdir(exist_ok=True)
    archive = subprocess.run(["git", "archive", experiment], cwd=clone, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    for path in ("data/processed", "models", "plots/faces"):
        shutil.rmtree(folder / path, ignore_errors=True)
        Repo.get(str(clone), path, out=str(folder / path), rev=experiment)
    return folder


def test_the_workspace_is_untouched(clone: Path, experiment: str) -> None:
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""
    assert "dataset: full" in (clone / "params.yaml").read_text()


@pytest.mark.parametrize("stage", DESIGN)
def test_a_stage_reads_what_it_declares_and_nothing_else(watched: Path, experiment: str, stage: str) -> None:
    opened, loaded = json.loads((watched / f"{stage}.json").read_text())
    read = {path for path in opened if path.startswith(DATA)}
    declared = {dep.replace("${dataset}", "sample") for dep in STAGES[stage]["deps"]}
    below = {dep: {path for path in read if f"{path}/".startswith(f"{dep}/")} for dep in declared}
    assert read - set().union(*below.values()) == set()
    assert [dep for dep in declared if dep.startswith(DATA) and not below[dep]] == []
    assert "params.yaml" in opened
    assert stage in ("train", "export") or loaded == []  # TensorFlow alone takes seconds and 500 MB


def test_every_split_holds_its_faces(results: Path) -> None:
    groups = []
    for name in ("train", "validation", "test"):
        faces = FaceSet.load(results / "data/processed/split" / name)
        assert faces.image_size == 48
        assert set(faces.labels["source"]) == {"fer2013", "expw"}
        groups.append(set(faces.labels["group"]))
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_exports_answer_alike_and_carry_their_metadata(results: Path) -> None:
    faces = FaceSet.load(results / "data/processed/split/test").images
    answers = []
    for name in ("model.onnx", "model.tflite"):
        classifier = Classifier(results / "models/export" / name)
        assert classifier.metadata.expressions == EXPRESSIONS
        assert (classifier.metadata.image_size, classifier.metadata.margin) == (48, 0.1)
        answers.append(classifier.predict(np.asarray(faces)))
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)
    np.testing.assert_allclose(answers[0].sum(1), 1, atol=1e-5)


def test_metrics_are_those_of_the_exported_model(results: Path) -> None:
    figures = json.loads((results / "metrics/details/evaluate.json").read_text())["test"]["all"]
    test = FaceSet.load(results / "data/processed/split/test")
    predicted = Classifier(results / "models/export/model.onnx").predict(np.asarray(test.images)).argmax(1)
    assert figures["n"] == len(test)
    assert figures["accuracy"] == pytest.approx((predicted == test.targets).mean(), abs=1e-5)
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]


@pytest.mark.parametrize("key", VARIANTS)
def test_a_variant_has_its_accuracy_beside_it(results: Path, key: str) -> None:
    test = FaceSet.load(results / "data/processed/split/test")
    answers = [
        Classifier(results / "models/export" / name).predict(np.asarray(test.images)).argmax(1)
        for name in ("model.onnx", VARIANTS[key])
    ]
    figures = json.loads((results / "metrics/details/evaluate.json").read_text())[key]
    assert figures["test"]["all"]["accuracy"] == pytest.approx((answers[1] == test.targets).mean(), abs=1e-5)
    assert figures["test"]["all"]["same_answer"] == pytest.approx((answers[0] == answers[1]).mean(), abs=1e-5)
    export = json.loads((results / "metrics/details/export.json").read_text())[key]
    assert export["validation_accuracy"] == figures["validation"]["all"]["accuracy"]
    whole = (results / "models/export/model.onnx").stat().st_size
    low, high = {"int8": (0.1, 0.5), "multiview": (0.95, 1.05)}[key]
    assert whole * low < export["bytes"] < whole * high
    assert VARIANTS[key] in (results / "models/model_card.md").read_text()


def test_history_has_one_row_per_epoch(results: Path) -> None:
    with (results / "plots/history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]


def test_every_declared_output_is_a_picture_or_a_text_with_content(results: Path) -> None:
    stages = yaml.safe_load((results / "dvc.yaml").read_text())["stages"]
    outs = [
        entry if isinstance(entry, str) else next(iter(entry)) for stage in stages.values() for entry in stage["outs"]
    ]
    pictures = [path for path in outs if path.endswith(".png")]
    assert len(pictures) >= 10
    for path in pictures:
        picture = cv2.imread(str(results / path))
        assert picture is not None, path
        assert picture.std() > 1, f"{path} is blank"
    assert "angry" in (results / "models/model_card.md").read_text()


@pytest.mark.slow
def test_a_second_repro_runs_nothing_and_a_changed_parameter_runs_its_stages_alone(
    clone: Path, experiment: str
) -> None:
    settings = [word for setting in ("dataset=sample", *ONE_EPOCH) for word in ("-S", setting)]
    run_in(clone, "dvc", "exp", "run", "--name", "workspace", *settings)
    again = run_in(clone, "dvc", "repro").stdout
    assert "Running stage" not in again
    assert "up to date" in again
    run_in(clone, "dvc", "exp", "run", "-S", "evaluate.reliability_bins=5", "--name", "bins")
    diff = run_in(clone, "dvc", "metrics", "diff", "--json", experiment).stdout
    assert list(json.loads(diff)) == ["metrics/evaluate.json"]
    assert '.ece"' in diff
    shown = run_in(clone, "dvc", "exp", "show", "--csv").stdout
    assert "bins" in shown
    assert "sample" in shown
    plots = run_in(clone, "dvc", "plots", "diff", experiment, "-o", "plots_html").stdout
    assert "index.html" in plots


def test_full_data_missing_says_what_to_do(clone: Path) -> None:
    result = run_in(clone, "python", "-m", "src.datasets.download", "--check", check=False)
    assert result.returncode == 1
    assert "dvc add data/raw/full" in result.stderr
    assert "Traceback" not in result.stderr
