"""Networks, augmentation, training: pinned sizes, two phases that really differ, resuming without a gap."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.applications import resnet
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from scipy.special import softmax

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.network import exporting
from src.network.augmentation import FaceAugmentation
from src.network.exporting import (
    build_classifier,
    build_multiview,
    calibrate,
    export_model,
    export_multiview,
    with_features,
)
from src.network.model import APPLICATIONS, EFFICIENTNET_STATISTICS, build_network, resolve_spec, split_view
from src.network.saving import TrainedNetwork, load_trained, save_trained
from src.network.state import (
    ARRAYS,
    TrainingKeys,
    TrainState,
    load_state,
    only_run,
    save_state,
    state_root,
    training_keys,
)
from src.network.temperature import fit_temperatures
from src.network.training import (
    FaceBatches,
    Phase,
    PlainBatches,
    TrainingRun,
    _kept_epoch,
    _renew_batch_statistics,
    make_optimizer,
    plan_phases,
    train_network,
)
from src.network.wandb_log import Tracker
from src.network.weights import load_initial_weights, resolve_weights, write_weights
from src.params import AugmentationParams, TrainParams, load_params
from src.recognition.classifier import Classifier
from tests.conftest import ROOT, random_faces, with_votes
from tests.realtime_fixtures import write_model

BACKBONES = ("compact", "cnn", "mobilenetv2", "vgg16", "resnet50", "efficientnetb2")
OFF = AugmentationParams(rotation=0, shift=0, zoom=0, flip=False, brightness=0, contrast=0, erasing=0)


def _params(**changes: object) -> TrainParams:
    """The committed parameters, made short and plain: one epoch of the small cnn."""
    short = {"backbone": "cnn", "epochs": 1, "frozen_epochs": 1, "batch_size": 16, "learning_rate": 0.01}
    base = {**short, "teacher_epochs": 0, "average_epochs": 0, "mixup": 0.0, "class_weights": "none"}
    return load_params(ROOT / "params.yaml").train.model_copy(update={**base, **changes})


def _sets() -> tuple[FaceSet, FaceSet]:
    return random_faces(8), random_faces(3, seed=1)


@pytest.mark.parametrize(("backbone", "count"), [("cnn", 551_687), ("compact", 2_642_359)])
def test_parameter_count(backbone: str, count: int) -> None:
    assert build_network(resolve_spec(_params(backbone=backbone), 48)).count_params() == count


def test_defaults_of_each_backbone() -> None:
    assert resolve_spec(_params(backbone="vgg16"), 48).input_size == 96
    assert resolve_spec(_params(backbone="vgg16", input_size=64), 48).input_size == 64
    assert resolve_weights(_params(backbone="vgg16", weights="auto")) == "imagenet"
    assert resolve_weights(_params(backbone="compact", weights="auto")) == "none"
    with pytest.raises(UserError, match=r"no ImageNet weights for train.backbone=cnn"):
        resolve_weights(_params(backbone="cnn", weights="imagenet"))


@pytest.mark.slow
def test_preprocessing_matches_keras_applications() -> None:
    """Grey levels reach every ImageNet backbone as `preprocess_input` would send them."""
    face = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 1)).astype(np.float32)
    rgb = np.repeat(face, 3, axis=-1)
    for backbone, module in (("mobilenetv2", "mobilenet_v2"), ("vgg16", "vgg16"), ("resnet50", "resnet50")):
        network = build_network(resolve_spec(_params(backbone=backbone, input_size=48), 48))
        before = keras.Model(network.input, network.get_layer("grey_to_rgb").output)
        expected = getattr(keras.applications, module).preprocess_input(rgb.copy())
        np.testing.assert_allclose(before(face), expected, atol=1e-3, err_msg=backbone)
    network = build_network(resolve_spec(_params(backbone="efficientnetb2", input_size=48), 48))
    before = keras.Model(network.input, network.get_layer("grey_to_rgb").output)
    expected = (rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(np.asarray(before(face)) / 255, expected, atol=1e-4)


def test_augmentation_is_off_outside_training_and_when_all_is_zero() -> None:
    faces = random_faces(4).images.astype(np.float32)[..., None]
    strong = _params().augmentation.model_copy(update={"erasing": 1.0})
    np.testing.assert_array_equal(FaceAugmentation(strong, 1)(faces, training=False), faces)
    np.testing.assert_allclose(FaceAugmentation(OFF, 1)(faces, training=True), faces, atol=1e-3)


def test_augmentation_and_view_share_one_resampling() -> None:
    """What training sees, with every change at zero, is what the network itself makes of the face."""
    spec = resolve_spec(_params(backbone="compact"), 48)
    network = build_network(spec)
    view, rest = split_view(network, spec)
    assert view is not None
    faces = random_faces(4).images.astype(np.float32)[..., None]
    seen = np.asarray(view.model(faces))
    assert seen.shape == (28, 40, 40, 1)
    np.testing.assert_allclose(FaceAugmentation(OFF, 1, view)(faces, training=True), seen, atol=1e-2)
    np.testing.assert_array_equal(FaceAugmentation(OFF, 1, view)(faces, training=False), seen)
    np.testing.assert_allclose(rest(seen, training=False), network(faces, training=False), atol=1e-5)
    assert rest.trainable_variables == network.trainable_variables


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rotation", 20.0),
        ("shift", 0.2),
        ("zoom", 0.3),
        ("flip", True),
        ("brightness", 0.2),
        ("contrast", 0.4),
        ("erasing", 1.0),
    ],
)
def test_each_augmentation_changes_faces_and_keeps_their_range(name: str, value: float) -> None:
    faces = random_faces(4).images.astype(np.float32)[..., None]
    params = OFF.model_copy(update={name: value})
    changed = np.asarray(FaceAugmentation(params, 1)(faces, training=True))
    assert changed.shape == faces.shape
    assert (np.abs(changed - faces).max((1, 2, 3)) > 1).mean() > 0.3
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_flip_mirrors_about_half_of_the_faces_exactly() -> None:
    faces = random_faces(20).images.astype(np.float32)[..., None]
    flipped = np.asarray(FaceAugmentation(OFF.model_copy(update={"flip": True}), 1)(faces, training=True))
    same = np.abs(flipped - faces).max((1, 2, 3)) < 0.01
    mirrored = np.abs(flipped - faces[:, :, ::-1]).max((1, 2, 3)) < 0.01
    assert (same | mirrored).all()
    assert 0.3 < mirrored.mean() < 0.7


@pytest.mark.parametrize(("policy", "power"), [("none", 1.0), ("square_root", 0.5), ("balanced", 0.0)])
def test_batches_cover_the_set_and_weigh_the_classes(policy: str, power: float) -> None:
    faces = random_faces(8).select(np.r_[0:8, 8:10, 16:56])
    batches = FaceBatches(faces, _params(batch_size=5, class_weights=policy), (1,))
    targets = np.concatenate([batches[i][1] for i in range(len(batches))]).argmax(1)
    weights = np.concatenate([batches[i][2] for i in range(len(batches))])
    np.testing.assert_array_equal(np.bincount(targets), np.bincount(faces.targets))
    totals = np.bincount(targets, weights)
    np.testing.assert_allclose(totals / totals[0], (np.bincount(targets) / 8) ** power, rtol=1e-5)
    assert weights.mean() == pytest.approx(1)


def test_mixup_blends_faces_and_targets_alike() -> None:
    batches = FaceBatches(random_faces(8), _params(mixup=0.4), (1,))
    faces, targets, _ = batches[0]
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert len(np.unique(targets.max(1).round(5))) > 4  # a share of its own for each face
    # random_faces: mean grey = 29.5 + 25 * class, so the mean of a blend follows its targets.
    np.testing.assert_allclose(faces.mean((1, 2, 3)), 29.5 + 25 * (targets @ np.arange(7)), atol=1.5)


@pytest.mark.slow
def test_phase_one_freezes_the_backbone_and_phase_two_moves_it(tmp_path: Path) -> None:
    """Reference 1 wrote `Trainable` for `trainable` and never unfroze its backbone."""
    train, validation = _sets()
    base = _params(backbone="mobilenetv2", input_size=32, weights="none")
    start = TrainingRun(base, 48, tmp_path / "none", Tracker({}))
    write_weights(start.network, tmp_path / "start.npz")
    params = base.model_copy(update={"weights": str(tmp_path / "start.npz")})
    run = TrainingRun(params, 48, tmp_path / "state", Tracker({}))
    assert [phase.name for phase in run.phases] == ["frozen", "fine-tune"]
    backbone, logits = run.network.get_layer("backbone"), run.network.get_layer("logits")
    kernels = [v for v in backbone.weights if v.path.endswith("kernel")]
    before = [np.asarray(kernel) for kernel in kernels]
    head_before = np.asarray(logits.kernel)
    statistics = [np.asarray(v) for v in backbone.weights if "moving_mean" in v.path]

    data = PlainBatches(validation.images, np.eye(7)[validation.targets])
    run._fit_phase(0, 0, train, data)
    for kernel, value in zip(kernels, before, strict=True):
        np.testing.assert_array_equal(np.asarray(kernel), value)
    for variable, value in zip([v for v in backbone.weights if "moving_mean" in v.path], statistics, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
    assert np.abs(np.asarray(logits.kernel) - head_before).max() > 0

    run._fit_phase(1, 0, train, data)
    assert all(np.abs(np.asarray(kernel) - value).max() > 0 for kernel, value in zip(kernels, before, strict=True))


def test_a_random_backbone_has_no_frozen_phase() -> None:
    assert [phase.name for phase in plan_phases(_params(), pretrained=False)] == ["scratch"]


@pytest.mark.parametrize(("pretrained", "phases"), [(True, ["frozen", "fine-tune"]), (False, ["teacher", "student"])])
def test_a_teacher_is_for_random_weights(pretrained: bool, phases: list[str]) -> None:
    assert [phase.name for phase in plan_phases(_params(teacher_epochs=2), pretrained)] == phases


@pytest.mark.slow
def test_imagenet_weights_of_efficientnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers that scale the input, which ours replace, are left out, whatever Keras has called them."""
    made = []

    def application(weights: str | None, **options: Any) -> keras.Model:
        made.append(keras.applications.EfficientNetB0(weights=None, **options))
        if weights == "imagenet":
            statistics = np.array([(mean, deviation**2) for _, mean, deviation in EFFICIENTNET_STATISTICS])
            (layer,) = [layer for layer in made[-1].layers if isinstance(layer, keras.layers.Normalization)]
            layer.set_weights([*statistics.T, np.int32(0)])
            layer.finalize_state()
        return made[-1]

    monkeypatch.setitem(APPLICATIONS, "efficientnetb2", application)
    spec = resolve_spec(_params(backbone="efficientnetb2", input_size=32), 48)
    network = build_network(spec)
    load_initial_weights(network, spec, "imagenet")
    ours, theirs = network.get_layer("backbone").get_weights(), made[-1].get_weights()
    assert len(ours) == len(theirs) - 3
    for own, their in zip(ours, theirs[3:], strict=True):
        np.testing.assert_array_equal(own, their)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    cnn = resolve_spec(_params(), 48)
    write_weights(build_network(cnn), tmp_path / "cnn.npz")
    compact = resolve_spec(_params(backbone="compact"), 48)
    with pytest.raises(UserError, match="do not fit the network compact"):
        load_initial_weights(build_network(compact), compact, str(tmp_path / "cnn.npz"))
    with pytest.raises(UserError, match="not a file"):
        load_initial_weights(build_network(cnn), cnn, str(tmp_path / "absent.npz"))


def test_released_weights_are_of_the_released_model() -> None:
    """So that a training starts where the released one ended."""
    spec = resolve_spec(_params(backbone="compact"), 48)
    network, faces = build_network(spec), random_faces(8).images
    load_initial_weights(network, spec, str(ROOT / "pretrained/network.npz"))
    logits = network.predict_on_batch(faces.astype(np.float32)[..., None])
    log_probabilities = np.log(Classifier(ROOT / "pretrained/model.onnx").predict(faces))
    for ours, theirs in zip(logits, log_probabilities, strict=True):  # apart from each face's temperature
        assert np.corrcoef(ours, theirs)[0, 1] > 0.9999


@pytest.mark.slow
def test_failed_imagenet_download_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from src.network.model import *; from src.network.weights import *;"
        "from src.params import load_params;"
        "p = load_params().train.model_copy(update=dict(backbone='mobilenetv2')); s = resolve_spec(p, 48);"
        "load_initial_weights(build_network(s), s, resolve_weights(p))"
    )
    closed = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **closed}, capture_output=True, text=True
    )
    assert "ImageNet weights of mobilenetv2 could not be downloaded" in result.stderr
    assert "train.weights=none" in result.stderr


@pytest.mark.slow
def test_same_seed_same_weights_and_history(tmp_path: Path) -> None:
    train, validation = _sets()
    params = _params(epochs=2, mixup=0.2)
    first, second, third = (
        train_network(train, validation, params.model_copy(update={"seed": seed}), tmp_path / str(index), Tracker({}))
        for index, seed in enumerate((1, 1, 2))
    )
    assert first.history == second.history != third.history
    save_trained(tmp_path / "first", first)
    save_trained(tmp_path / "second", second)
    for name in ("network.npz", "network.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_network import _params, _sets
from src.network.wandb_log import Tracker
from src.network.training import train_network
train_network(*_sets(), _params(**{changes!r}), Path({state!r}), Tracker({{}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "killed_after"),
    [
        pytest.param({"epochs": 20}, 2, id="scratch"),
        pytest.param({"teacher_epochs": 3, "epochs": 17}, 4, id="student"),
    ],
)
def test_killed_training_continues_without_a_gap(tmp_path: Path, changes: dict[str, int], killed_after: int) -> None:
    """kill -9 in the middle; what follows equals the run that nobody killed, to the last bit."""
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED.format(root=str(ROOT), changes=changes, state=str(state))],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        reached = load_state(state)
        if reached and len(reached.history) >= killed_after:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    reached = load_state(state)
    assert reached is not None
    assert killed_after <= len(reached.history) < 20
    train, validation = _sets()
    resumed = train_network(train, validation, _params(**changes), state, Tracker({}))
    undisturbed = train_network(train, validation, _params(**changes), tmp_path / "other", Tracker({}))
    assert [row["epoch"] for row in resumed.history] == list(range(1, 21))
    assert resumed.history == undisturbed.history
    for one, other in zip(resumed.network.get_weights(), undisturbed.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_student_learns_from_labels_and_teacher(tmp_path: Path) -> None:
    """The state after a student's epoch holds the teacher's answers; a student starts anew, and only it is kept."""
    train, validation = _sets()
    params = _params(teacher_epochs=2, epochs=2)
    run = TrainingRun(params, 48, tmp_path, Tracker({}))
    first = run.network.get_weights()
    run.fit(train, validation)
    assert [row["phase"] for row in run.state.history] == ["teacher", "teacher", "student", "student"]
    (answers,) = run.state.soft_targets
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)
    reached = load_state(tmp_path)
    assert reached is not None
    np.testing.assert_array_equal(reached.soft_targets[0], answers)
    batches = FaceBatches(train, params.model_copy(update={"teacher_weight": 0.25}), (1,), answers)
    rows = np.sort(np.random.default_rng((1,)).permutation(len(train))[: params.batch_size])
    expected = 0.75 * np.eye(7)[train.targets[rows]] + 0.25 * answers[rows]
    np.testing.assert_allclose(batches[0][1], expected, rtol=1e-5)
    other = TrainingRun(_params(teacher_epochs=0, epochs=1, learning_rate=1e-9), 48, tmp_path / "other", Tracker({}))
    for one, two in zip(first, other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)  # a teacher starts like a network of its own
    run.state.kept, run.state.soft_targets = first, []
    run._hand_over(train)
    assert max(np.abs(one - two).max() for one, two in zip(first, run.network.get_weights(), strict=True)) > 0.01


def test_an_experiment_in_a_copy_keeps_its_state_in_the_project() -> None:
    project = Path("/home/me/fer")
    assert state_root(project) == project / ".train_state"
    assert state_root(project / ".dvc/tmp/exps/tmpab12") == project / ".train_state"
    assert state_root(project / ".dvc/tmp/exps/standalone/tmpab12") == project / ".train_state"


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("bytes_left", [0, 100, -30])
def test_a_damaged_state_counts_as_none(tmp_path: Path, array: str, bytes_left: int) -> None:
    numbers = [np.arange(1000.0)]
    save_state(tmp_path / "a", TrainState(variables=numbers, optimizer=numbers, kept=numbers, soft_targets=numbers))
    assert load_state(tmp_path / "a") is not None
    path = tmp_path / "a" / f"{array}.npz"
    path.write_bytes(path.read_bytes()[:bytes_left])
    assert load_state(tmp_path / "a") is None


def test_what_a_state_belongs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other data, parameters, code, libraries or initial weights: another key, so nothing old is resumed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("src.network.state._ROOT", tmp_path)
    train, weights, code = Path("train"), Path("network.npz"), Path("model.py")
    random_faces(2).save(train)
    weights.write_bytes(b"one")
    code.write_text("")
    Path("dvc.yaml").write_text("stages: {train: {deps: [train, model.py]}}")
    params = _params(weights=str(weights))

    def key(**changes: Any) -> str:
        return training_keys((str(train),), params.model_copy(update=changes)).training

    keys = [key()]
    assert key() == keys[0]
    keys.append(key(epochs=9))
    weights.write_bytes(b"two")
    keys.append(key())
    with monkeypatch.context() as context:
        context.setattr("src.network.state.version", lambda package: "2.99.0")
        keys.append(key())
    code.write_text("layers = 9")
    keys.append(key())
    random_faces(2, seed=1).save(train)
    keys.append(key())
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_a_teacher_is_trained_once_for_all_its_students(tmp_path: Path) -> None:
    train, validation = random_faces(40), random_faces(10, seed=1)
    params = _params(teacher_epochs=1, epochs=1)

    def keys(**changes: Any) -> TrainingKeys:
        return training_keys((), params.model_copy(update=changes))

    assert keys(epochs=2).teacher == keys().teacher != keys(mixup=0.9).teacher
    reports = []
    for student in ("one", "two"):
        root = tmp_path / student
        reports.append(train_network(train, validation, params, root, Tracker({}), tmp_path / keys().teacher))
        np.testing.assert_equal(reports[0].history, reports[-1].history)
    for one, two in zip(*(report.network.get_weights() for report in reports), strict=True):
        np.testing.assert_array_equal(one, two)
    saved = load_state(tmp_path / keys().teacher)
    assert saved is not None
    saved.kept[0] = saved.kept[0] + 1  # were the teacher trained again, this would be lost
    save_state(tmp_path / keys().teacher, saved)
    other = train_network(train, validation, params, tmp_path / "three", Tracker({}), tmp_path / keys().teacher)
    assert other.history[0] == reports[0].history[0]
    assert other.history[1] != reports[0].history[1]


def test_states_that_nobody_has_come_back_to_are_removed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        save_state(tmp_path / name, TrainState())
    os.utime(tmp_path / "old", (0, 0))
    with only_run(tmp_path / "ab12"):
        assert {path.name for path in tmp_path.iterdir()} == {"new", "ab12.lock"}


_HELD = """
import sys, time
from pathlib import Path
from src.network.state import only_run
with only_run(Path(sys.argv[1])):
    print("in", time.monotonic(), flush=True)
    time.sleep(1)
    print("out", time.monotonic(), flush=True)
"""


@pytest.mark.slow
def test_the_same_training_twice_at_once_runs_one_after_the_other(tmp_path: Path) -> None:
    """As `dvc queue start --jobs 2` may start it. A lock that a killed run left behind stops nobody."""
    (tmp_path / "ab12.lock").write_text("")
    command = [sys.executable, "-c", _HELD, str(tmp_path / "ab12")]
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    spans = sorted(
        tuple(float(line.split()[1]) for line in output.splitlines() if line.startswith(("in", "out")))
        for output in outputs
    )
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize(("monitor", "kept"), [("val_accuracy", 3), ("val_loss", 4), ("last", 5)])
def test_which_epoch_is_kept(monitor: str, kept: int) -> None:
    """The first best one; a teacher's epochs do not count."""
    figures = [("teacher", 0.9, 0.1), ("student", 0.5, 1.0), ("student", 0.7, 0.8), ("student", 0.7, 0.6)]
    figures.append(("student", 0.6, 0.7))
    history = [
        {"epoch": number, "phase": phase, "val_accuracy": accuracy, "val_loss": loss}
        for number, (phase, accuracy, loss) in enumerate(figures, 1)
    ]
    assert _kept_epoch(history, monitor) == kept


def test_divergence_is_an_error(tmp_path: Path) -> None:
    train, validation = _sets()
    with pytest.raises(UserError, match=r"Lower train.learning_rate"):
        train_network(
            train, validation, _params(learning_rate=10.0, schedule="constant", epochs=3), tmp_path, Tracker({})
        )


def test_the_mean_of_the_last_epochs_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = []  # the weights after each epoch
    monkeypatch.setattr("src.network.training.save_state", lambda _, state: after.append(state.variables))
    params = _params(epochs=3, schedule="constant", average_epochs=2)
    trained = train_network(*_sets(), params, tmp_path, Tracker({}))
    assert trained.report["kept_epochs"] == [2, 3]
    assert [row["kept"] for row in trained.history] == [False, True, True]
    for two, three, mean in zip(*after[1:], trained.network.get_weights(), strict=True):
        np.testing.assert_allclose(mean, (two + three) / 2, atol=1e-6)


def test_averaged_weights_get_batch_statistics_of_their_own() -> None:
    network = build_network(resolve_spec(_params(backbone="compact"), 48))
    images = random_faces(90).images  # 630 faces: two batches
    _renew_batch_statistics(network, images)
    backbone = network.get_layer("backbone")
    (first, *_) = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    scaled = network.get_layer("scale").output
    before = keras.Model(network.input, scaled)(images.astype(np.float32)[..., None])
    values = np.asarray(keras.Model(backbone.input, first.input)(before))
    expected = np.mean([values[:500].mean((0, 1, 2)), values[500:].mean((0, 1, 2))], axis=0)
    np.testing.assert_allclose(np.asarray(first.moving_mean), expected, atol=1e-4)
    assert first.momentum == 0.9


def test_nothing_waits_for_the_tuner_of_tf_data() -> None:
    """It sleeps up to a minute, and the end of a pass over the data waits until it wakes up."""
    faces = random_faces(4)
    for batches in (FaceBatches(faces, _params(), (1,)), PlainBatches(faces.images)):
        assert PyDatasetAdapter(batches, shuffle=False).get_tf_dataset().options().autotune.enabled is False


def test_a_face_counts_as_its_source_does() -> None:
    faces = random_faces(4)
    faces.labels["source"] = np.where(np.arange(len(faces)) % 2, "expw", "fer2013")
    batches = FaceBatches(faces, _params(batch_size=28, expw_weight=3.0), seed=(1,))
    np.testing.assert_allclose(batches[0][2], [0.5, 1.5] * 14, rtol=1e-6)  # one batch, in the order of the faces


def test_a_plateau_halves_the_rate_and_patience_ends_it(tmp_path: Path) -> None:
    """So small a rate never improves. Synthetic faces do not count as learned."""
    train, validation = _sets()
    train.labels["synthetic"] = np.arange(len(train)) % 4 == 0
    params = _params(
        schedule="plateau", optimizer="adam", epochs=9, early_stopping=5, learning_rate=1e-6, precision="float32"
    )
    trained = train_network(train, validation, params, tmp_path, Tracker({}))
    assert [row["learning_rate"] for row in trained.history] == [1e-6] * 5 + [5e-7]
    assert trained.report["kept_epochs"] == [1]
    assert trained.report["train"]["n"] == len(train) * 3 // 4


def test_the_rate_rises_and_falls_as_a_cosine() -> None:
    params = _params(schedule="cosine", warmup_fraction=0.25)
    rate: Any = make_optimizer(params, Phase("scratch", 4, 0.1, False), 10)._learning_rate
    assert [float(rate(step)) for step in (0, 5, 10, 25, 40)] == pytest.approx([0.004, 0.052, 0.1, 0.05, 0], abs=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_decay_and_biases_do_not(optimizer: str) -> None:
    params = _params(schedule="constant", optimizer=optimizer, weight_decay=0.1)
    layer = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 3))
    weights = [layer.kernel, layer.bias]
    make_optimizer(params, Phase("scratch", 1, 0.5, False), 1).apply([0 * weight for weight in weights], weights)
    assert np.unique(layer.kernel) == pytest.approx(0.95)
    assert np.unique(layer.bias) == pytest.approx(1)


def test_votes_are_learned_beside_the_label() -> None:
    faces = with_votes(random_faces(4))
    one_hot = np.eye(7)[faces.targets]
    assert np.abs(faces.distributions - one_hot).max() == pytest.approx(0.6)
    for share in (0.25, 1.0):
        batches = FaceBatches(faces, _params(batch_size=28, vote_weight=share), (1,))
        np.testing.assert_allclose(batches[0][1], (1 - share) * one_hot + share * faces.distributions, atol=1e-6)


@pytest.mark.slow
def test_patience_is_counted_within_a_phase(tmp_path: Path) -> None:
    """A rate of zero never improves: each phase ends after two epochs, the second one as well."""
    train, validation = _sets()
    write_weights(build_network(resolve_spec(_params(), 48)), tmp_path / "network.npz")
    params = _params(
        weights=str(tmp_path / "network.npz"), schedule="constant", early_stopping=1, precision="float32",
        frozen_epochs=4, epochs=4, frozen_learning_rate=0.0, fine_tune_learning_rate=0.0,
    )  # fmt: skip
    trained = train_network(train, validation, params, tmp_path / "state", Tracker({}))
    assert [row["phase"] for row in trained.history] == ["frozen", "frozen", "fine-tune", "fine-tune"]
    assert trained.report["kept_epochs"] == [1]


@pytest.mark.parametrize("backbone", ["mobilenetv2", "vgg16", "resnet50", "efficientnetb2"])
def test_faces_too_small_for_a_backbone(backbone: str) -> None:
    with pytest.raises(UserError, match=r"train.input_size=24 is too small .* at least 32 pixels"):
        resolve_spec(_params(backbone=backbone, input_size=24), 48)


def test_weights_that_dvc_would_have_removed() -> None:
    path = "models/train/network.npz"
    with pytest.raises(UserError, match=r"DVC empties before this stage runs. Copy the file"):
        load_initial_weights(build_network(resolve_spec(_params(), 48)), resolve_spec(_params(), 48), path)


def _drawn(probabilities: np.ndarray) -> np.ndarray:
    """A class of each row, as likely as the row says."""
    return (probabilities.cumsum(1) > np.random.default_rng(1).random((len(probabilities), 1))).argmax(1)


def _answered(temperatures: dict[str, float], count: int) -> tuple[np.ndarray, ...]:
    """Features, logits, targets and sources of pictures whose true probabilities are softmax(logits / temperature)."""
    generator = np.random.default_rng(0)
    sources = np.repeat(list(temperatures), count)
    logits = generator.normal(size=(len(sources), 7)) * 4
    tempered = softmax(logits / np.array([temperatures[name] for name in sources])[:, None], axis=1)
    targets = _drawn(tempered)
    features = generator.normal(size=(len(logits), 5))
    features[:, 2] += 20 * (sources == "expw")  # by which the sources can be told apart
    return features, logits, targets, sources


def test_every_source_gets_its_own_temperature() -> None:
    features, logits, targets, sources = _answered({"fer2013": 0.6, "expw": 2.0}, 10_000)
    found = fit_temperatures(features, logits, targets, sources)
    assert found.by_source() == pytest.approx({"expw": 2.0, "fer2013": 0.6}, rel=0.1)
    np.testing.assert_allclose(1 / found.inverse(features), np.where(sources == "expw", 2.0, 0.6), rtol=0.1)


def test_one_source_has_one_temperature() -> None:
    features, logits, targets, sources = _answered({"fer2013": 3.0}, 20_000)
    found = fit_temperatures(features, logits, targets, sources)
    np.testing.assert_allclose(1 / found.inverse(features), 3.0, rtol=0.05)


def test_more_sources_than_two_and_too_few_pictures() -> None:
    features, logits, targets, sources = _answered({"a": 1.0, "b": 0.5, "expw": 2.0}, 4000)
    found = fit_temperatures(features, logits, targets, sources)
    assert found.kernel.shape == (5, 3) and found.by_source()["expw"] == pytest.approx(2.0, rel=0.1)
    few = fit_temperatures(features[:1], logits[:1], logits[:1].argmax(1), sources[:1])
    assert np.isfinite(few.inverse(features)).all()  # the best is an infinite confidence: it is bounded


def _shallow_resnet(**options: Any) -> keras.Model:
    """The layers of ResNet50, with one block of each width instead of sixteen blocks."""

    def stack(x: Any) -> Any:
        for place, width in enumerate((64, 128, 256, 512), 2):
            x = resnet.stack_residual_blocks_v1(x, width, 1, stride1=1 if place == 2 else 2, name=f"conv{place}")
        return x

    return resnet.ResNet(stack, preact=False, use_bias=True, **options)


@pytest.mark.parametrize(
    "backbone",
    [name if name == "cnn" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES],
)
def test_exports_agree_with_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    """Logits spread so that the answers differ from face to face, and a converter's mistake would show.

    The converters need a minute for each of the two deepest backbones: shallower ones of the same layers stand in for
    them, unless FER_FULL_BACKBONES is set.
    """
    if "FER_FULL_BACKBONES" not in os.environ:
        monkeypatch.setitem(APPLICATIONS, "resnet50", _shallow_resnet)
        monkeypatch.setitem(APPLICATIONS, "efficientnetb2", keras.applications.EfficientNetB0)
    spec = resolve_spec(_params(backbone=backbone, input_size=32 if backbone not in ("cnn", "compact") else "auto"), 48)
    network = build_network(spec)
    validation = random_faces(2)
    faces = validation.images
    logits = network.predict(faces[..., None].astype(np.float32), verbose=0)
    head, spread = network.get_layer("logits"), 1 / logits.std(0)
    head.set_weights([head.get_weights()[0] * spread, -logits.mean(0) * spread])
    validation.labels["expression"] = np.array(EXPRESSIONS)[_drawn(softmax((logits - logits.mean(0)) * spread, axis=1))]
    validation.labels["source"] = ["fer2013", "expw"] * (len(faces) // 2)
    save_trained(tmp_path / "trained", TrainedNetwork(network, spec))
    trained = load_trained(tmp_path / "trained")
    report = export_model(trained, validation, 0.1, 0.4, len(faces), tmp_path)
    assert report["onnx"]["agrees_with_keras"]
    assert report["tflite"]["agrees_with_keras"]
    answers = with_features(trained.network)
    probabilities = build_classifier(answers, calibrate(answers, validation)).predict(faces[..., None], verbose=0)
    assert np.ptp(probabilities, axis=0).max() > 0.1, "the network answers the same to every face"


@pytest.mark.parametrize(("off", "refused"), [(5e-5, False), (3e-4, True), (float("nan"), True)])
def test_an_export_that_answers_otherwise_is_refused(tmp_path: Path, off: float, refused: bool) -> None:
    faces, path = random_faces(2).images, tmp_path / "model.onnx"
    answers = Classifier(write_model(path)).predict(faces) + off
    model: Any = SimpleNamespace(predict=lambda *_, **__: answers)
    facts: Any = SimpleNamespace(backbone="cnn")
    with pytest.raises(UserError, match="differs from Keras") if refused else contextlib.nullcontext():
        exporting._export(lambda *_: None, model, facts, path, faces)


@pytest.mark.parametrize("backbone", [pytest.param("compact", marks=pytest.mark.slow), "cnn"])
def test_multiview_is_the_mean_over_the_views(tmp_path: Path, backbone: str) -> None:
    """A face and its mirror image; for `compact`, which looks at the centre, the full frame shrunk by Keras as well."""
    spec = resolve_spec(_params(backbone=backbone), 48)
    network = build_network(spec)
    faces = random_faces(2)
    images = faces.images[..., None].astype(np.float32)
    view, rest = split_view(network, spec)
    views = [images] if view is None else [view.model(images), keras.layers.Resizing(40, 40)(images)]
    views = [np.asarray(view) for view in views]
    expected = np.mean([rest(x, training=False) for view in views for x in (view, view[:, :, ::-1])], axis=0)
    trained = TrainedNetwork(network, spec)
    answers, features = build_multiview(trained).predict(images, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=2e-4)
    rest = with_features(network, view and view.model.output)
    alone = np.mean([rest(x, training=False)[1] for v in views for x in (v, v[:, :, ::-1])], axis=0)
    np.testing.assert_allclose(features, alone, atol=2e-4)
    report = export_multiview(trained, faces, 0.1, 0.4, 14, tmp_path)
    exported = Classifier(tmp_path / "model.multiview.onnx")
    (temperature,) = report["temperature"].values()
    tempered = softmax(answers / temperature, axis=1)
    np.testing.assert_allclose(exported.predict(faces.images), tempered, atol=1e-4)
    assert report["validation_accuracy"] == pytest.approx((answers.argmax(1) == faces.targets).mean(), abs=1e-5)


def test_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro train"):
        load_trained(tmp_path)
    (tmp_path / "network.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="damaged"):
        load_trained(tmp_path)
