"""The whole pipeline on the bundled sample, as a user runs it: real DVC, real stages, one epoch, in a clone."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.recognition.classifier import VARIANTS, Classifier
from tests.conftest import copy_of_project, run_in
from tests.test_dvc_graph import STAGES, declared

ONE_EPOCH = (
    "dataset=sample", "train.teacher_epochs=0", "train.epochs=1", "train.batch_size=32", "split.copy_similarity=0.95",
    "evaluate.bootstrap_samples=100",
)  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone to which an experiment on the sample was applied, which had left it as it was."""
    clone = copy_of_project(tmp_path_factory.mktemp("project") / "clone")
    settings = [word for setting in ONE_EPOCH for word in ("-S", setting)]
    run_in(clone, "dvc", "exp", "run", "--temp", "--name", "sample", *settings)
    assert run_in(clone, "git", "status", "--porcelain").stdout == ""
    assert not (clone / "models").exists()
    run_in(clone, "dvc", "exp", "apply", "sample")
    return clone


def test_figures_and_card_are_those_of_the_exported_files(results: Path) -> None:
    test = FaceSet.load(results / "data/processed/split/test")
    files = {"onnx": "model.onnx", "tflite": "model.tflite", **VARIANTS}
    exports = {key: Classifier(results / "models/export" / name) for key, name in files.items()}
    answers = {key: classifier.predict(np.asarray(test.images)) for key, classifier in exports.items()}
    for metadata in (classifier.metadata for classifier in exports.values()):
        assert (metadata.expressions, metadata.image_size, metadata.margin) == (EXPRESSIONS, 48, 0.1)
    np.testing.assert_allclose(answers["onnx"], answers["tflite"], atol=1e-4)
    predicted = {key: answer.argmax(axis=1) for key, answer in answers.items()}
    figures = json.loads((results / "metrics/details/evaluate.json").read_text())
    assert set(test.labels["source"]) == {"fer2013", "expw"}
    assert figures["test"]["all"]["accuracy"] == pytest.approx((predicted["onnx"] == test.targets).mean(), abs=1e-5)
    card = (results / "models/model_card.md").read_text()
    exported = json.loads((results / "metrics/details/export.json").read_text())
    whole = (results / "models/export/model.onnx").stat().st_size
    for key, (low, high) in {"int8": (0.1, 0.5), "multiview": (0.95, 1.05)}.items():
        row = figures[key]["test"]["all"]
        assert row["accuracy"] == pytest.approx((predicted[key] == test.targets).mean(), abs=1e-5)
        assert row["same_answer"] == pytest.approx((predicted[key] == predicted["onnx"]).mean(), abs=1e-5)
        assert exported[key]["validation_accuracy"] == figures[key]["validation"]["all"]["accuracy"]
        assert whole * low < exported[key]["bytes"] < whole * high
        assert VARIANTS[key] in card


def test_every_picture_shows_something_and_history_has_an_epoch(results: Path) -> None:
    for path in (path for stage in STAGES for path in declared(stage, "outs") if path.endswith(".png")):
        picture = cv2.imread(str(results / path))
        assert picture is not None, path
        assert picture.std() > 1, f"{path} is blank"
    with (results / "plots/history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
