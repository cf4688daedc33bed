"""Stage evaluate, run as DVC runs it, on a real (linear) ONNX model and small FaceSets."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn import metrics as sklearn_metrics

from src.evaluation.metrics import wilson_interval
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet, write_class_distribution
from src.recognition.classifier import METADATA_KEY, Classifier, ExportMetadata
from tests.conftest import Mount

ROOT = Path(__file__).resolve().parent.parent
SIZE = 24  # pixels, side of the test faces
TABLES = tuple(f"{name}_{source}.csv" for name in ("confusion", "reliability") for source in ("fer2013", "expw"))
PICTURES = (
    "confusion.png",
    "per_class.png",
    "reliability.png",
    "learning_curves.png",
    "class_distribution.png",
    "faces/mistakes.png",
)
OUTPUTS = (
    "metrics/evaluate.json",
    "metrics/details/evaluate.json",
    "models/model_card.md",
    *(f"plots/{name}" for name in TABLES + PICTURES),
)


def stripes() -> np.ndarray:
    """One pattern per class, float32 `(7, SIZE, SIZE)` in [-1, 1]: stripes of seven directions."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE * 2 * np.pi * 3
    angles = np.arange(7) * np.pi / 7
    return np.stack([np.sin(x * np.cos(a) + y * np.sin(a)) for a in angles]).astype(np.float32)


def save_model(path: Path, *, image_size: int = SIZE, metadata: bool = True, softmax: bool = True) -> None:
    """A linear classifier that compares a face with `stripes`; uint8 (N, S, S, 1) -> float32 (N, 7)."""
    weights = np.zeros((image_size, image_size, 7), np.float32)
    weights[:SIZE, :SIZE] = stripes().transpose(1, 2, 0) / 2000
    nodes = [
        helper.make_node("Cast", ["faces"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["grey"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["scores"]),
        helper.make_node("Softmax" if softmax else "Identity", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", image_size, image_size, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(weights.reshape(-1, 7), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if metadata:
        facts = ExportMetadata(EXPRESSIONS, image_size, 0.1, 0.4, "compact", 1.25)
        helper.set_model_props(model, {METADATA_KEY: facts.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def striped_faces(count: int, seed: int, source: str = "mixed") -> FaceSet:
    """Noisy stripes, some of them too faint to be told apart."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 7, count)
    contrast = rng.uniform(0, 40, (count, 1, 1))
    images = 128 + contrast * stripes()[targets] + rng.normal(0, 60, (count, SIZE, SIZE))
    sources = np.where(np.arange(count) % 3 == 0, "expw", "fer2013") if source == "mixed" else np.full(count, source)
    labels = pd.DataFrame(
        {
            "image_name": [f"face_{i:04d}" for i in range(count)],
            "source": sources,
            "usage": np.where(sources == "fer2013", "PrivateTest", ""),
            "expression": np.array(EXPRESSIONS)[targets],
            "group": [f"photo_{i // 2}" for i in range(count)],
            "copy_of": "",
            "synthetic": False,
            "copy_in_train": rng.uniform(size=count) < 0.1,
        }
    )
    return FaceSet(np.clip(images, 0, 255).astype(np.uint8), labels)


def make_workspace(folder: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", folder)
    save_model(folder / "models/export/model.onnx")
    for name, count, seed in (("validation", 150, 1), ("test", 240, 2)):
        striped_faces(count, seed).save(folder / "data/processed/split" / name)
    for stage in ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote"):
        path = folder / f"plots/class_distribution/{stage}.csv"
        write_class_distribution(path, stage, striped_faces(100, 3).labels)
    (folder / "plots/history.csv").write_text(
        "epoch,phase,loss,accuracy,val_loss,val_accuracy,learning_rate,kept\n"
        "1,frozen,1.9,0.2,1.8,0.25,0.01,False\n"
        "2,frozen,1.7,0.3,1.6,0.35,0.01,False\n"
        "3,fine_tune,1.5,0.4,1.5,0.45,0.005,True\n"
    )
    return folder


def run_stage(folder: Path, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(["-c", code] if code else ["-m", "stages.evaluate"])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the stage has run once. Tests only read it."""
    folder = make_workspace(tmp_path_factory.mktemp("evaluate"))
    result = run_stage(folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


def test_every_output_is_written(finished: Path) -> None:
    assert [name for name in OUTPUTS if not (finished / name).is_file()] == []
    assert [path.name for path in finished.rglob(".partial-*")] == []


def test_figures_are_those_of_scikit_learn(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    faces = FaceSet.load(finished / "data/processed/split/test")
    probabilities = Classifier(finished / "models/export/model.onnx").predict(np.asarray(faces.images)).astype(float)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = faces.labels
    clean = ~labels["copy_in_train"].to_numpy()
    sections = {
        "all": np.ones(len(faces), bool),
        "fer2013": (labels["source"] == "fer2013").to_numpy(),
        "expw": (labels["source"] == "expw").to_numpy(),
    }
    sections |= {f"{name}_without_copies": rows & clean for name, rows in sections.items()}
    assert list(figures["test"]) == list(sections)
    for name, rows in sections.items():
        section, targets, predicted = figures["test"][name], faces.targets[rows], probabilities[rows].argmax(axis=1)
        expected = {
            "n": rows.sum(),
            "accuracy": sklearn_metrics.accuracy_score(targets, predicted),
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(targets, predicted),
            "macro_f1": sklearn_metrics.f1_score(targets, predicted, average="macro"),
            "loss": sklearn_metrics.log_loss(targets, probabilities[rows], labels=range(7)),
        }
        assert {key: section[key] for key in expected} == pytest.approx(expected, abs=2e-5), name
        low, high = wilson_interval(int((targets == predicted).sum()), len(targets))
        assert (section["accuracy_low"], section["accuracy_high"]) == pytest.approx((low, high), abs=1e-5)
    assert 0.4 < figures["test"]["all"]["accuracy"] < 0.95  # the faces are neither hopeless nor trivial


def test_validation_has_the_same_headline_figures(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    assert list(figures["validation"]) == ["all", "fer2013", "expw"]
    assert set(figures["validation"]["all"]) == set(figures["test"]["all"]) - {"per_class"}
    assert figures["validation"]["all"]["n"] == 150


def test_tables_for_dvc(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())["test"]
    for source in ("fer2013", "expw"):
        confusion, reliability = (
            pd.read_csv(finished / f"plots/{name}_{source}.csv") for name in ("confusion", "reliability")
        )
        accuracy = (confusion["actual"] == confusion["predicted"]).mean()
        assert accuracy == pytest.approx(figures[source]["accuracy"], abs=1e-5)
        gap = (reliability["accuracy"] - reliability["confidence"]).abs() * reliability["faces"] / len(confusion)
        assert gap.sum() == pytest.approx(figures[source]["ece"], abs=1e-4)


def test_the_worst_mistake_comes_first(finished: Path) -> None:
    sheet = cv2.imread(str(finished / "plots/faces/mistakes.png"))
    faces = FaceSet.load(finished / "data/processed/split/test")
    probabilities = Classifier(finished / "models/export/model.onnx").predict(np.asarray(faces.images))
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != faces.targets)
    worst = wrong[probabilities[wrong].max(axis=1).argmax()]
    tile = cv2.resize(faces.images[worst], (128, 128), interpolation=cv2.INTER_CUBIC)
    assert sheet is not None
    assert cv2.matchTemplate(sheet[:190, :150, 0], tile, cv2.TM_CCOEFF_NORMED).max() > 0.999


def test_model_card_gives_figures_with_split_n_and_interval(finished: Path) -> None:
    card = (finished / "models/model_card.md").read_text()
    row = json.loads((finished / "metrics/details/evaluate.json").read_text())["test"]["fer2013"]
    accuracy = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})"
    assert f"| test | FER2013 | {row['n']} | {accuracy} |" in card
    for heading in ("Intended use", "Data", "Results", "Calibration", "Per class", "Limits and ethics", "Licences"):
        assert f"\n## {heading}" in card


def test_the_call_shown_in_the_card_runs(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "models/export", tmp_path / "pretrained")
    card = (finished / "models/model_card.md").read_text()
    example = card.split("```python\n")[1].split("```")[0]
    setting = "import numpy as np\nphoto, box = np.zeros((90, 120, 3), np.uint8), (10, 10, 50, 60)\n"
    result = run_stage(tmp_path, setting + example)
    assert result.returncode == 0, result.stderr
    assert "surprise" in result.stdout


def test_summary_is_printed(finished: Path) -> None:
    printed = (finished / "stdout").read_text()
    assert "test fer2013_without_copies" in printed
    assert "validation all" in printed


def test_twice_gives_the_same_bytes_and_no_deep_learning_framework(finished: Path, tmp_path: Path) -> None:
    folder = make_workspace(tmp_path)
    (folder / "matplotlibrc").write_text("savefig.dpi: 40\naxes.grid: True\n")  # a user's own style must not matter
    result = run_stage(
        folder,
        "import sys; from stages import evaluate; evaluate.main(); "
        "sys.exit(str({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)) if "
        "{'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules) else 0)",
    )
    assert result.returncode == 0, result.stderr

    def digests(place: Path) -> dict[str, str]:
        return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in OUTPUTS}

    assert digests(folder) == digests(finished)


def test_one_source_no_mistakes_and_the_copies_left_in(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path)
    images = np.clip(128 + 100 * stripes(), 0, 255).astype(np.uint8)  # one clean face per class
    labels = striped_faces(7, 0, "fer2013").labels.assign(expression=EXPRESSIONS, copy_in_train=True)
    FaceSet(images, labels).save(folder / "data/processed/split/test")
    params = (folder / "params.yaml").read_text().replace("remove_copies: true", "remove_copies: false")
    (folder / "params.yaml").write_text(params)

    result = run_stage(folder)

    assert result.returncode == 0, result.stderr
    figures = json.loads((folder / "metrics/details/evaluate.json").read_text())
    assert list(figures["test"]) == ["all", "fer2013"]
    assert figures["test"]["all"]["accuracy"] == 1
    card = (folder / "models/model_card.md").read_text()
    assert "left in train" in card
    assert "\\*" not in card


def remove(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def overwrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def drop_copy_column(folder: Path) -> None:
    path = folder / "data/processed/split/test/labels.csv"
    pd.read_csv(path, keep_default_na=False).drop(columns="copy_in_train").to_csv(path, index=False)


def save_empty_set(folder: Path) -> None:
    faces = striped_faces(5, 0)
    faces.select(np.array([], int)).save(folder / "data/processed/split/test")


MODEL = "models/export/model.onnx"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(remove(MODEL), ["No model at", "dvc repro"], id="model missing"),
        pytest.param(overwrite(MODEL, b"not a model"), ["cannot be read", "dvc repro export"], id="model damaged"),
        pytest.param(lambda folder: save_model(folder / MODEL, metadata=False), ["foreign model"], id="foreign model"),
        pytest.param(
            lambda folder: save_model(folder / MODEL, image_size=32),
            ["24 pixels", "trained on 32", "dvc repro"],
            id="model of another face size",
        ),
        pytest.param(
            lambda folder: save_model(folder / MODEL, softmax=False),
            ["not probabilities"],
            id="scores, not probabilities",
        ),
        pytest.param(remove("data/processed/split/test"), ["images.npy is missing", "dvc pull"], id="test set missing"),
        pytest.param(overwrite("data/processed/split/test/images.npy", b""), ["damaged"], id="test set damaged"),
        pytest.param(save_empty_set, ["no faces"], id="test set empty"),
        pytest.param(drop_copy_column, ["copy_in_train", "dvc repro -f -s split"], id="copies not marked"),
        pytest.param(remove("plots/history.csv"), ["history.csv is missing", "train"], id="history missing"),
        pytest.param(overwrite("plots/history.csv", b""), ["damaged"], id="history empty"),
        pytest.param(overwrite("plots/history.csv", b"epoch,loss\n1,2\n"), ["lacks the columns"], id="history short"),
        pytest.param(remove("plots/class_distribution"), ["holds no tables"], id="class distribution missing"),
    ],
)
def test_bad_input_gives_one_message_and_touches_nothing(
    spoil: Callable[[Path], object], words: list[str], tmp_path: Path
) -> None:
    folder = make_workspace(tmp_path)
    spoil(folder)
    result = run_stage(folder)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert [word for word in words if word not in result.stderr] == []
    assert [name for name in OUTPUTS if (folder / name).exists()] == []


@pytest.mark.parametrize("folder", ["metrics", "models", "plots", "plots/faces"])
def test_full_disk(tmp_path: Path, mount: Mount, folder: str) -> None:
    """Nothing half-written; the figures of the last run stay whole."""
    mount(folder, "size=500k" if folder == "models" else "size=64k")
    make_workspace(tmp_path)
    (tmp_path / "metrics").mkdir(exist_ok=True)
    (tmp_path / "metrics/evaluate.json").write_text("earlier")
    with contextlib.suppress(OSError), (tmp_path / folder / "others").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):  # nothing is left
            pass
    result = run_stage(tmp_path)
    assert result.returncode == 1
    assert result.stderr.count("error: ") == 1
    assert "The disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "metrics/evaluate.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.rglob(".partial-*")] == []
