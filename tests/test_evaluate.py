"""Stage evaluate, run as DVC runs it, on a real (linear) ONNX model and small FaceSets."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn import metrics as sklearn_metrics

from src.errors import UserError
from src.evaluation.failures import CORRUPTIONS
from src.expressions import CODE, EXPRESSIONS
from src.faceset import OTHER_VOTES, VOTES, FaceSet, write_class_distribution
from src.recognition.classifier import METADATA_KEY, Classifier, ExportMetadata
from stages import evaluate
from tests.conftest import ROOT, Mount, run_alone
from tests.test_dvc_graph import declared

SIZE = 24  # pixels, side of the test faces
SHORT = {"fer+": "ferplus", "fer": "fer2013", "expw": "expw"}
OUTPUTS = declared("evaluate", "outs", "metrics")


def stripes() -> np.ndarray:
    """One pattern per class, float32 `(7, SIZE, SIZE)` in [-1, 1]: stripes of seven directions."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE * 2 * np.pi * 3
    angles = np.arange(7) * np.pi / 7
    return np.stack([np.sin(x * np.cos(a) + y * np.sin(a)) for a in angles]).astype(np.float32)


def save_model(path: Path, *, image_size: int = SIZE, gain: float = 1) -> None:
    """A linear classifier that compares a face with `stripes`; uint8 (N, S, S, 1) -> float32 (N, 7)."""
    weights = np.zeros((image_size, image_size, 7), np.float32)
    weights[:SIZE, :SIZE] = gain * stripes().transpose(1, 2, 0) / 2000
    nodes = [
        helper.make_node("Cast", ["faces"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["grey"], ["pixels"]),
        helper.make_node("MatMul", ["pixels", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", image_size, image_size, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(weights.reshape(-1, 7), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    facts = ExportMetadata(EXPRESSIONS, image_size, 0.1, 0.4, "compact")
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
            "label_source": np.where(sources == "fer2013", "ferplus", "original"),
            "original_expression": np.array(EXPRESSIONS)[np.where(rng.uniform(size=count) < 0.7, targets, 3)],
        }
    )
    votes = np.zeros((count, 10), int)  # eight for the label, two for the next; every ninth face is one of contempt
    votes[np.arange(count), np.where(np.arange(count) % 9 == 4, 7, targets)] = 8
    votes[np.arange(count), 8] = 2
    table = pd.DataFrame(votes, columns=[*VOTES, *OTHER_VOTES], dtype="Int64")
    labels = labels.join(table.mask(np.tile(sources[:, None] == "expw", 10)))
    return FaceSet(np.clip(images, 0, 255).astype(np.uint8), labels)


def make_workspace(folder: Path) -> Path:
    params = (ROOT / "params.yaml").read_text()
    (folder / "params.yaml").write_text(re.sub(r"(bootstrap_samples): \d+", r"\1: 200", params))
    save_model(folder / "models/export/model.onnx")
    save_model(folder / "models/export/model.int8.onnx", gain=-1)  # a variant that answers otherwise
    for name, count, seed in (("validation", 150, 1), ("test", 240, 2)):
        striped_faces(count, seed).save(folder / "data/processed/split" / name)
    (folder / "data/interim").mkdir()
    expw = [f"face_{i:04d}" for i in range(0, 150, 3)]
    sides = pd.DataFrame({"image_name": expw, "width": 20, "height": range(40, 90)})
    sides.to_csv(folder / "data/interim/expw.csv", index=False)
    for stage in ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote"):
        path = folder / f"plots/class_distribution/{stage}.csv"
        write_class_distribution(path, stage, striped_faces(100, 3).labels)
    (folder / "plots/history.csv").write_text(
        "epoch,phase,loss,accuracy,val_loss,val_accuracy,learning_rate,kept\n"
        "1,frozen,1.9,0.2,1.8,0.25,0.01,False\n"
        "2,fine_tune,1.5,0.4,1.5,0.45,0.005,True\n"
    )
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the stage has run once. Tests only read it."""
    folder = make_workspace(tmp_path_factory.mktemp("evaluate"))
    result = run_alone("evaluate", folder)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    assert [name for name in OUTPUTS if not (folder / name).is_file()] == []
    assert [path.name for path in folder.rglob(".partial-*")] == []
    return folder


def test_figures_by_every_labelling(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    faces = FaceSet.load(finished / "data/processed/split/test")
    labels = faces.labels
    predicted = Classifier(finished / "models/export/model.onnx").predict(np.asarray(faces.images)).argmax(axis=1)
    fer2013, clean = (labels["source"] == "fer2013").to_numpy(), ~labels["copy_in_train"].to_numpy()
    contempt, own = np.arange(240) % 9 == 4, labels["original_expression"].map(CODE).to_numpy()
    sections = {
        "ferplus": (fer2013, np.where(contempt, 7, faces.targets)),
        "ferplus_7": (fer2013 & ~contempt, faces.targets),
        "ferplus_argmax": (fer2013, np.where(contempt, 7, faces.targets)),
        "ferplus_argmax_7": (fer2013 & ~contempt, faces.targets),
        "fer2013": (fer2013, own),
        "all": (np.ones(240, bool), faces.targets),
        "expw": (~fer2013, faces.targets),
    }
    assert set(figures["validation"]) == set(sections)
    main = ("ferplus", "fer2013", "expw", "all")
    sections |= {f"{name}_without_copies": (sections[name][0] & clean, sections[name][1]) for name in main}
    assert set(figures["test"]) == set(sections)
    for name, (rows, targets) in sections.items():
        section = figures["test"][name]
        expected = {
            "n": rows.sum(),
            "accuracy": (targets == predicted)[rows].mean(),
            "macro_f1": sklearn_metrics.f1_score(targets[rows], predicted[rows], labels=range(7), average="macro"),
        }
        assert {key: section[key] for key in expected} == pytest.approx(expected, abs=2e-5), name
        assert section["accuracy_low"] < section["accuracy"] < section["accuracy_high"]
    assert 0.4 < figures["test"]["all"]["accuracy"] < 0.95  # the faces are neither hopeless nor trivial
    headline = json.loads((finished / "metrics/evaluate.json").read_text())
    test = {short: round(figures["test"][name]["accuracy"], 4) for short, name in SHORT.items()}
    assert headline["test"] == test
    for short, long in (("f1", "macro_f1"), ("ece", "ece")):
        mean = np.mean([figures["validation"][name][long] for name in ("ferplus", "expw")])
        assert headline["val"][short] == pytest.approx(mean, abs=1e-4)


def test_a_variant_is_compared_on_the_same_faces(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    row, plain = figures["int8"]["validation"]["expw"], figures["validation"]["expw"]
    assert row["only_first_right"] - row["only_second_right"] == round(row["n"] * (plain["accuracy"] - row["accuracy"]))
    assert row["mcnemar_p"] < 0.001
    assert row["same_answer"] < 0.5


def test_where_it_fails(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    failures = figures["failures"]
    assert list(failures["conditions"]["ferplus"]) == ["sharpness", "brightness"]  # no boxes of FER2013
    size = failures["conditions"]["expw"]["size"]
    assert [group["n"] for group in size] == [13, 13, 12, 12]
    assert size[0]["from"] == 40
    for name in ("ferplus", "expw"):
        for groups in failures["conditions"][name].values():
            right = sum(group["n"] * group["accuracy"] for group in groups)
            assert right == pytest.approx(
                figures["validation"][name]["accuracy"] * sum(g["n"] for g in groups), abs=0.01
            )
        corruptions = failures["corruptions"][name]
        assert corruptions["none"] == figures["validation"][name]["accuracy"]
        assert corruptions["fewer pixels (share of the side)"]["0.25"] < corruptions["none"] - 0.1  # stripes vanish
    noise = failures["label_noise"]["fer2013"]  # three of ten own labels are wrong, and the votes know it
    assert noise["votes_for_model"] > 3 * noise["votes_for_label"]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow(name: str) -> None:
    face = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8), (0, 0), 1)
    corrupt, strengths = CORRUPTIONS[name]
    damaged = [corrupt(face, strength, np.random.default_rng(1)) for strength in strengths]
    assert all(picture.shape == face.shape and picture.dtype == np.uint8 for picture in damaged)
    distances = [np.abs(picture.astype(float) - face).mean() for picture in damaged]
    assert 1 < distances[0] < distances[1] < distances[2]


def test_tables_for_dvc(finished: Path) -> None:
    figures = json.loads((finished / "metrics/details/evaluate.json").read_text())
    for source, section in (("fer2013", "ferplus"), ("expw", "expw")):
        confusion, reliability = (
            pd.read_csv(finished / f"plots/{name}_{source}.csv") for name in ("confusion", "reliability")
        )
        accuracy = (confusion["actual"] == confusion["predicted"]).mean()
        assert accuracy == pytest.approx(figures["test"][section]["accuracy"], abs=1e-5)
        right = (reliability["accuracy"] * reliability["faces"]).sum()
        assert right / len(confusion) == pytest.approx(accuracy, abs=1e-4)
        assert reliability["faces"].min() >= 50
        curve = pd.read_csv(finished / f"plots/risk_coverage_{source}.csv").set_index("threshold")
        assert curve["accuracy"][0] == pytest.approx(figures["validation"][section]["accuracy"], abs=1e-5)
        threshold = figures["threshold"][source]
        assert curve["accuracy"][threshold["threshold"]] >= threshold["wanted_accuracy"]
    assert (pd.read_csv(finished / "plots/confusion_fer2013.csv")["actual"] == "contempt").sum() > 10


def test_the_worst_mistake_comes_first(finished: Path) -> None:
    sheet = cv2.imread(str(finished / "plots/faces/mistakes.png"))
    faces = FaceSet.load(finished / "data/processed/split/validation")
    probabilities = Classifier(finished / "models/export/model.onnx").predict(np.asarray(faces.images))
    is_wrong = (probabilities.argmax(axis=1) != faces.targets) | (np.arange(150) % 9 == 4)
    wrong = np.flatnonzero(is_wrong & (faces.labels["source"] == "fer2013"))
    worst = wrong[probabilities[wrong].max(axis=1).argmax()]
    tile = cv2.resize(faces.images[worst], (128, 128), interpolation=cv2.INTER_CUBIC)
    assert sheet is not None
    assert cv2.matchTemplate(sheet[:190, :150, 0], tile, cv2.TM_CCOEFF_NORMED).max() > 0.999


def test_model_card_gives_figures_with_split_n_interval_and_baselines(finished: Path) -> None:
    card = (finished / "models/model_card.md").read_text()
    row = json.loads((finished / "metrics/details/evaluate.json").read_text())["test"]["ferplus"]
    accuracy = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}–{row['accuracy_high']:.3f})"
    baselines = f"{row['chance_accuracy']:.3f} | {row['majority_class_accuracy']:.3f}"
    assert f"| test | FER+ majority, 8 classes | {row['n']} | {accuracy} | {baselines} |" in card
    assert "| VGG13 of the FER+ authors, from random weights, 8.75 M parameters | .850 |" in card
    headings = re.findall(r"\n\n## (.*)\n\n", card)
    assert {"How to call it", "Intended use", "Where it fails", "Limits and ethics"} < set(headings)
    assert [line for line in card.splitlines() if line != line.rstrip() or "{" in line.replace("{0", "")] == []
    tables = [block for block in card.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    assert all((finished / "models" / link).is_file() for link in re.findall(r"!\[.*?\]\((.*?)\)", card))


def test_the_call_shown_in_the_card_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pretrained").symlink_to(finished / "models/export")
    monkeypatch.chdir(tmp_path)
    example = (finished / "models/model_card.md").read_text().split("```python\n")[1].split("```")[0]
    exec(example, {"photo": np.zeros((90, 120, 3), np.uint8), "box": (10, 10, 50, 60)})
    assert "surprise" in capsys.readouterr().out


def test_summary_is_printed(finished: Path) -> None:
    printed = (finished / "stdout").read_text()
    for words in (r"^test +FER\+ majority, 8 classes, without copies  ", r"^int8 +validation +ExpW .* \d+ "):
        assert re.search(words, printed, re.MULTILINE)
    assert max(map(len, printed.splitlines())) <= 130


@pytest.mark.slow
def test_twice_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = make_workspace(tmp_path)
    (folder / "matplotlibrc").write_text("savefig.dpi: 40\naxes.grid: True\n")  # a user's own style must not matter
    assert run_alone("evaluate", folder).returncode == 0
    assert [name for name in OUTPUTS if (folder / name).read_bytes() != (finished / name).read_bytes()] == []


def test_one_source_no_mistakes_and_the_copies_left_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_workspace(tmp_path)
    images = np.clip(128 + 100 * stripes(), 0, 255).astype(np.uint8)  # one clean face per class
    labels = striped_faces(7, 0, "fer2013").labels.assign(expression=EXPRESSIONS, copy_in_train=True)
    FaceSet(images, labels).save(folder / "data/processed/split/test")
    params = (folder / "params.yaml").read_text().replace("remove_copies: true", "remove_copies: false")
    (folder / "params.yaml").write_text(params)
    monkeypatch.chdir(folder)
    evaluate.main()
    figures = json.loads((folder / "metrics/details/evaluate.json").read_text())
    assert "expw" not in figures["test"]
    assert figures["test"]["all"]["accuracy"] == 1
    assert figures["test"]["all"]["accuracy_low"] < 0.7  # seven faces are no proof
    assert "left in train" in (folder / "models/model_card.md").read_text()


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).rename(folder / "removed")


def shorten_history(folder: Path) -> None:
    (folder / "plots/history.csv").write_text("epoch,loss\n1,2\n")


def save_other_model(folder: Path) -> None:
    save_model(folder / MODEL, image_size=32)


def save_empty_set(folder: Path) -> None:
    faces = striped_faces(5, 0)
    faces.select(np.array([], int)).save(folder / "data/processed/split/test")


MODEL = "models/export/model.onnx"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(remove(MODEL), ["No model at", "dvc repro"], id="model missing"),
        pytest.param(save_other_model, ["24 pixels", "trained on 32", "dvc repro"], id="model of another face size"),
        pytest.param(remove("data/processed/split/test"), ["images.npy is missing", "dvc pull"], id="test set missing"),
        pytest.param(save_empty_set, ["no faces"], id="test set empty"),
        pytest.param(remove("plots/history.csv"), ["history.csv is missing", "train"], id="history missing"),
        pytest.param(remove("data/interim/expw.csv"), ["expw.csv is missing", "ingest_expw"], id="boxes missing"),
        pytest.param(shorten_history, ["damaged", "not in index"], id="history short"),
        pytest.param(remove("plots/class_distribution"), ["holds no tables"], id="class distribution missing"),
    ],
)
def test_bad_input_gives_one_message_and_touches_nothing(
    spoil: Callable[[Path], object], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(make_workspace(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        evaluate.main()
    assert [word for word in words if word not in str(caught.value)] == []
    assert [name for name in OUTPUTS if (tmp_path / name).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["metrics", "plots/faces"])
def test_full_disk(tmp_path: Path, mount: Mount, folder: str) -> None:
    """Nothing half-written; the figures of the last run stay whole."""
    mount(folder, "size=64k")
    make_workspace(tmp_path)
    (tmp_path / "metrics").mkdir(exist_ok=True)
    (tmp_path / "metrics/evaluate.json").write_text("earlier")
    with contextlib.suppress(OSError), (tmp_path / folder / "others").open("wb", buffering=0) as file:
        while file.write(bytes(4096)):  # nothing is left
            pass
    result = run_alone("evaluate", tmp_path)
    assert (result.returncode, result.stderr.count("error: ")) == (1, 1)
    assert "The disk is full" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "metrics/evaluate.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.rglob(".partial-*")] == []
