"""Train a network in one or two phases and keep the mean of its last epochs or the best one.

A pretrained backbone is first frozen while the head learns (phase "frozen"), then everything is fine-tuned
(phase "fine-tune"). Without pretrained weights there is one phase ("scratch"), or a network like the one wanted is
trained first ("teacher") and a fresh one then learns from its answers as well as from the labels ("student").
After every epoch the state is saved, and a killed run continues with the next epoch exactly as if it had not been
killed: order, augmentation and dropout of an epoch depend on the seed and the epoch's number only.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from scipy.special import softmax

from src.errors import UserError
from src.expressions import NUM_CLASSES
from src.faceset import FaceSet
from src.network.augmentation import FaceAugmentation
from src.network.backend import choose_precision, jit_compile, make_deterministic
from src.network.model import (
    NetworkSpec,
    build_network,
    resolve_spec,
    split_view,
)
from src.network.state import TrainState, load_state, load_teacher, remove_state, save_state, save_teacher
from src.network.wandb_log import Tracker
from src.network.weights import load_initial_weights, resolve_weights
from src.params import TrainParams

_STATISTICS_FACES, _STATISTICS_BATCH = 10_000, 500  # for the statistics of averaged weights
_CHUNK = 4096  # faces classified at a time: a set may be larger than memory
# Batches are made by threads of Keras, not by tf.data: its tuner sleeps up to a minute at a time, and TensorFlow 2.21
# waits at the end of every pass over the data until the tuner wakes up.
_THREADS = 2
_AT_ONCE = 512  # faces in a batch that is not trained on


def class_weights(targets: np.ndarray, policy: str) -> np.ndarray:
    """Weight of each class in the loss, float64 `(7,)`, 1 on average over the faces.

    targets: distributions over the classes, `(N, 7)`. policy: "none", "balanced" (every class counts the same) or
    "square_root" (halfway: n faces count as sqrt(n)).
    """
    counts = targets.sum(axis=0, dtype=np.float64)
    power = {"none": 0.0, "square_root": 0.5, "balanced": 1.0}[policy]
    weights = 1 / np.maximum(counts, 1) ** power
    return np.asarray(weights * len(targets) / np.sum(weights * counts))


class FaceBatches(keras.utils.PyDataset):
    """Shuffled batches of one epoch: faces float32 `(B, S, S, 1)`, targets `(B, 7)`, sample weights `(B,)`.

    Targets are people's votes where they are known, mixed with the single label (`vote_weight`), and with a teacher's
    probabilities, float32 `(N, 7)`, where soft_targets gives them. A face counts as its target's classes and its source
    do.
    The last incomplete batch is dropped, unless it is the only one. mixup: Zhang et al. (2018), a share of its own for
    each face.
    """

    def __init__(
        self, faces: FaceSet, params: TrainParams, seed: tuple[int, ...], soft_targets: np.ndarray | None = None
    ) -> None:
        super().__init__(workers=_THREADS)
        self._soft_targets = soft_targets
        self._images, self._params = faces.images, params
        one_hot, voted = np.eye(NUM_CLASSES, dtype=np.float32)[faces.targets], np.float32(params.vote_weight)
        self._targets = (1 - voted) * one_hot + voted * faces.distributions
        self._batch_size = min(params.batch_size, len(faces))
        of_source = np.where(faces.labels["source"] == "expw", params.expw_weight, 1.0)
        of_class = self._targets @ class_weights(self._targets, params.class_weights)
        self._weights = (of_class * of_source / of_source.mean()).astype(np.float32)
        self.start_epoch(seed)

    def start_epoch(self, seed: tuple[int, ...]) -> None:
        """Draw the order of the next epoch."""
        self._seed = seed
        self._order = np.random.default_rng(seed).permutation(len(self._targets))

    def __len__(self) -> int:
        return len(self._targets) // self._batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Sorted rows read a memory map in one sweep; the order within a batch does not matter.
        rows = np.sort(self._order[index * self._batch_size : (index + 1) * self._batch_size])
        faces = self._images[rows].astype(np.float32)[..., None]
        targets = self._targets[rows]
        if self._soft_targets is not None:
            taught = np.float32(self._params.teacher_weight)
            targets = (1 - taught) * targets + taught * self._soft_targets[rows]
        weights = self._weights[rows]
        if self._params.mixup:
            generator = np.random.default_rng((*self._seed, index))
            share = generator.beta(self._params.mixup, self._params.mixup, len(rows)).astype(np.float32)
            partner = generator.permutation(len(rows))
            faces = share[:, None, None, None] * faces + (1 - share)[:, None, None, None] * faces[partner]
            targets = share[:, None] * targets + (1 - share)[:, None] * targets[partner]
            weights = share * weights + (1 - share) * weights[partner]
        return faces, targets, weights


class PlainBatches(keras.utils.PyDataset):
    """Faces in their order, float32 `(B, S, S, 1)`, and their targets, float32 `(B, 7)`, where they are given."""

    def __init__(self, images: np.ndarray, targets: np.ndarray | None = None) -> None:
        super().__init__(workers=_THREADS)
        self._images, self._targets = images, targets

    def __len__(self) -> int:
        return -(-len(self._images) // _AT_ONCE)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = slice(index * _AT_ONCE, (index + 1) * _AT_ONCE)
        faces = np.asarray(self._images[rows], np.float32)[..., None]
        return (faces,) if self._targets is None else (faces, self._targets[rows])


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimizer."""

    name: str
    epochs: int
    learning_rate: float
    freeze_backbone: bool


def plan_phases(params: TrainParams, pretrained: bool) -> list[Phase]:
    """The phases to run: freezing is for pretrained backbones, which have something to keep; a teacher for others."""
    if not pretrained and params.teacher_epochs:
        return [
            Phase("teacher", params.teacher_epochs, params.learning_rate, False),
            Phase("student", params.epochs, params.learning_rate, False),
        ]
    if not pretrained:
        return [Phase("scratch", params.epochs, params.learning_rate, False)]
    phases = [Phase("fine-tune", params.epochs, params.fine_tune_learning_rate, False)]
    if params.frozen_epochs:
        phases.insert(0, Phase("frozen", params.frozen_epochs, params.frozen_learning_rate, True))
    return phases


def make_optimizer(params: TrainParams, phase: Phase, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """SGD with Nesterov momentum .9, or Adam; decoupled weight decay (Loshchilov and Hutter, 2019) on kernels."""
    steps = max(1, phase.epochs * steps_per_epoch)
    rate: Any = phase.learning_rate
    if params.schedule == "cosine":
        warmup = int(steps * params.warmup_fraction)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=phase.learning_rate / 25 if warmup else phase.learning_rate,
            decay_steps=max(1, steps - warmup),
            warmup_target=phase.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    decay = params.weight_decay or None
    optimizer: keras.optimizers.Optimizer
    if params.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    else:
        optimizer = keras.optimizers.Adam(rate, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def _score(row: dict[str, Any], monitor: str) -> float:
    """What decides which epoch is kept; more is better."""
    return float({"val_accuracy": row["val_accuracy"], "val_loss": -row["val_loss"], "last": row["epoch"]}[monitor])


class _EpochEnd(keras.callbacks.Callback):
    """Reseeds before every epoch; records, keeps the best weights and saves the state after it."""

    def __init__(self, run: "TrainingRun", phase_index: int, batches: FaceBatches) -> None:
        super().__init__()
        self.run, self.phase_index, self.batches = run, phase_index, batches

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for number, generator in enumerate(_seed_generators(self.model)):
            seed = np.random.default_rng((self.run.params.seed, self.phase_index, epoch, number)).integers(1 << 32)
            generator.state.assign(np.array([seed, 0], dtype="uint32"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        run, state, logs = self.run, self.run.state, logs or {}
        optimizer = self.model.optimizer
        if not (np.isfinite(logs["loss"]) and np.isfinite(logs["val_loss"])):
            remove_state(run.state_directory)  # a run that diverged is not worth continuing
            raise UserError(
                f"Training diverged in epoch {len(state.history) + 1}: the loss is {logs['loss']}. "
                "Lower train.learning_rate or raise train.warmup_fraction."
            )
        row: dict[str, Any] = {
            "epoch": len(state.history) + 1,
            "phase": run.phases[self.phase_index].name,
            "loss": round(float(logs["loss"]), 6),
            "accuracy": round(float(logs["accuracy"]), 6),
            "val_loss": round(float(logs["val_loss"]), 6),
            "val_accuracy": round(float(logs["val_accuracy"]), 6),
            "learning_rate": round(float(keras.ops.convert_to_numpy(optimizer.learning_rate)), 8),
        }
        state.history.append(row)
        state.phase, state.epoch = self.phase_index, epoch + 1
        value = _score(row, run.params.monitor)
        ahead = run.phases[self.phase_index].epochs - state.epoch
        averaged = run.averaged_epochs(self.phase_index)
        if averaged:
            if ahead < averaged:
                _add_to_mean(state.kept, run.network.get_weights(), averaged - ahead)
        elif state.best is None or value > state.best:
            state.best = value
            state.kept = run.network.get_weights()
        if state.phase_best is None or value > state.phase_best:
            state.phase_best, state.waited = value, 0
        else:
            state.waited += 1
        if run.params.schedule == "plateau" and state.waited and state.waited % 4 == 0:
            optimizer.learning_rate.assign(optimizer.learning_rate * 0.5)
        if run.params.early_stopping and state.waited >= run.params.early_stopping:
            state.epoch = run.phases[self.phase_index].epochs
            self.model.stop_training = True
        state.variables = run.network.get_weights()
        state.optimizer = [np.asarray(variable) for variable in optimizer.variables]
        save_state(run.state_directory, state)
        run.tracker.log_epoch(row)
        self.batches.start_epoch((run.params.seed, self.phase_index, epoch + 1))


def _add_to_mean(mean: list[np.ndarray], weights: list[np.ndarray], count: int) -> None:
    """Make `mean`, of count - 1 sets of weights, the mean of `count`, in place."""
    if count == 1:
        mean[:] = [weight.copy() for weight in weights]
    for kept, weight in zip(mean, weights, strict=True):
        kept += (weight - kept) / count


def _renew_batch_statistics(network: keras.Model, images: np.ndarray) -> None:
    """Take the means and variances of batch normalization anew: averaged weights have none of their own.

    P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization" (2018), section 3.2.
    """
    norms = [layer for layer in _layers(network) if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.momentum for layer in norms]
    rows = np.linspace(0, len(images) - 1, min(len(images), _STATISTICS_FACES)).astype(int)
    for count, start in enumerate(range(0, len(rows), _STATISTICS_BATCH)):
        for layer in norms:
            layer.momentum = count / (count + 1)  # the running value becomes the mean over batches
        batch = images[rows[start : start + _STATISTICS_BATCH]].astype(np.float32)[..., None]
        network(batch, training=True)
    for layer, momentum in zip(norms, before, strict=True):
        layer.momentum = momentum


def _layers(model: Any) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _seed_generators(model: Any) -> list[keras.random.SeedGenerator]:
    """The random state of every dropout and augmentation layer, in layer order."""
    return [
        layer.seed_generator
        for layer in _layers(model)
        if isinstance(getattr(layer, "seed_generator", None), keras.random.SeedGenerator)
    ]


class TrainingRun:
    """One training, from random or pretrained weights to the kept epoch; resumes from its state directory.

    teacher: where the trained teacher is kept for other students, and looked for; None = nowhere.
    """

    def __init__(
        self, params: TrainParams, image_size: int, state_directory: Path, tracker: Tracker, teacher: Path | None = None
    ) -> None:
        self.params, self.state_directory, self.tracker, self.teacher = params, state_directory, tracker, teacher
        make_deterministic(params.seed)
        self.precision = choose_precision(params.precision)
        keras.config.set_dtype_policy(self.precision)
        try:
            self.spec: NetworkSpec = resolve_spec(params, image_size)
            self.network = build_network(self.spec)
        finally:
            keras.config.set_dtype_policy("float32")
        weights = resolve_weights(params)
        self.phases = plan_phases(params, pretrained=weights != "none")
        self.state = load_state(state_directory) or TrainState()
        if self.phases[0].name == "teacher" and not self.state.history and teacher:
            self.state = load_teacher(teacher) or self.state
        if self.state.history:
            print(f"continuing after epoch {len(self.state.history)} of {sum(phase.epochs for phase in self.phases)}")
            self.network.set_weights(self.state.variables or self.state.kept)
        else:
            load_initial_weights(self.network, self.spec, weights)

    def fit(self, train: FaceSet, validation: FaceSet) -> None:
        """Run the phases that are left, then put the kept weights into `network`."""
        validation_data = PlainBatches(validation.images, np.eye(NUM_CLASSES, dtype=np.float32)[validation.targets])
        for index in range(self.state.phase, len(self.phases)):
            phase = self.phases[index]
            done = self.state.epoch if index == self.state.phase else 0
            if not done:  # patience is counted within a phase: a new one may begin below the best of the last
                self.state.phase_best, self.state.waited = None, 0
            if done < phase.epochs:
                self._fit_phase(index, done, train, validation_data)
        self.network.set_weights(self.state.kept)
        if self.averaged_epochs(len(self.phases) - 1):
            _renew_batch_statistics(self.network, train.images)

    def averaged_epochs(self, phase_index: int) -> int:
        """Of how many last epochs this phase keeps the mean; 0 = it keeps one epoch."""
        is_last = phase_index == len(self.phases) - 1
        return min(self.params.average_epochs, self.phases[phase_index].epochs) if is_last else 0

    def _fit_phase(self, index: int, done: int, train: FaceSet, validation_data: PlainBatches) -> None:
        phase = self.phases[index]
        if phase.name == "student" and not done:
            self._hand_over(train)
        print(f"phase {phase.name}: {phase.epochs - done} epochs, {len(train)} faces, {self.precision}")
        self.network.get_layer("backbone").trainable = not phase.freeze_backbone
        inputs = keras.Input(self.network.input_shape[1:], name="face")
        view, rest = split_view(self.network, self.spec)
        augmentation = FaceAugmentation(self.params.augmentation, self.params.seed, view, name="augmentation")
        model = keras.Model(inputs, rest(augmentation(inputs)))
        soft_targets = self.state.soft_targets[0] if self.state.soft_targets else None
        batches = FaceBatches(train, self.params, (self.params.seed, index, done), soft_targets)
        model.compile(
            optimizer=make_optimizer(self.params, phase, len(batches)),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.params.label_smoothing),
            metrics=["accuracy"],
            jit_compile=jit_compile(),
        )
        if done:
            model.optimizer.build(model.trainable_variables)
            for variable, value in zip(model.optimizer.variables, self.state.optimizer, strict=True):
                variable.assign(value)
        self.tracker.step = len(self.state.history) * len(batches)
        model.fit(
            batches,
            validation_data=validation_data,
            initial_epoch=done,
            epochs=phase.epochs,
            shuffle=False,  # FaceBatches shuffles, reproducibly
            callbacks=[self.tracker, _EpochEnd(self, index, batches)],
            verbose="auto",
        )

    def _hand_over(self, train: FaceSet) -> None:
        """Keep what the best teacher says of the train faces, and start again from other random weights.

        Its answers to a face and to the mirror image are averaged. Furlanello et al., "Born-Again Neural Networks"
        (2018).
        """
        if self.teacher:
            save_teacher(self.teacher, self.state)
        self.network.set_weights(self.state.kept)
        answers = []
        for start in range(0, len(train), _CHUNK):
            faces = train.images[start : start + _CHUNK]
            logits = [_logits(self.network, views) for views in (faces, faces[:, :, ::-1])]
            answers.append(np.mean([softmax(view, axis=1) for view in logits], axis=0))
        self.state.soft_targets = [np.concatenate(answers).astype(np.float32)]
        self.state.best, self.state.kept = None, []
        keras.utils.set_random_seed((self.params.seed + 1) % (1 << 32))
        keras.config.set_dtype_policy(self.precision)
        try:
            self.network.set_weights(build_network(self.spec).get_weights())
        finally:
            keras.config.set_dtype_policy("float32")


@dataclass(frozen=True)
class TrainedModel:
    """The kept network (float32), and how it came about."""

    network: keras.Model
    spec: NetworkSpec
    history: list[dict[str, Any]]
    report: dict[str, Any]
    predicted: np.ndarray  # int64 (N,), classes of the validation faces


def train_network(
    train: FaceSet,
    validation: FaceSet,
    params: TrainParams,
    state_directory: Path,
    tracker: Tracker,
    teacher: Path | None = None,
) -> TrainedModel:
    """Train, and keep the mean of the last epochs or the best one on validation. teacher: see `TrainingRun`.

    Raises UserError for weights that cannot be had, a face size the backbone cannot use, or divergence.
    """
    started = time.monotonic()
    run = TrainingRun(params, train.image_size, state_directory, tracker, teacher)
    run.fit(train, validation)
    network = build_network(run.spec)  # float32: what is exported computes in float32
    network.set_weights(run.network.get_weights())
    predicted = _logits(network, validation.images).argmax(1)
    accuracy = float((predicted == validation.targets).mean())
    averaged = run.averaged_epochs(len(run.phases) - 1)
    epochs = len(run.state.history)
    kept = range(epochs - averaged + 1, epochs + 1) if averaged else [_kept_epoch(run.state.history, params.monitor)]
    real = train.select(~train.labels["synthetic"].to_numpy(bool)) if train.labels["synthetic"].any() else train
    history = [{**row, "kept": row["epoch"] in kept} for row in run.state.history]
    report = {
        "validation": {"n": len(validation), "accuracy": round(accuracy, 5)},
        # On the faces as they are, synthetic ones left out: how far the network has learned them by heart.
        "train": {"n": len(real), "accuracy": round(_accuracy(network, real), 5)},
        "epochs": epochs,
        "kept_epochs": list(kept),
        "parameters": int(network.count_params()),
        "precision": run.precision,
    }
    minutes = (time.monotonic() - started) / 60
    print(f"trained in {minutes:.1f} minutes; validation accuracy {accuracy:.4f}")
    return TrainedModel(network, run.spec, history, report, predicted)


def _logits(network: keras.Model, images: np.ndarray) -> np.ndarray:
    return np.asarray(network.predict(PlainBatches(images), verbose=0))


def _accuracy(network: keras.Model, faces: FaceSet) -> float:
    """Share of `faces` that the network gets right; a chunk at a time, for sets larger than memory."""
    right = 0
    for start in range(0, len(faces), _CHUNK):
        rows = slice(start, start + _CHUNK)
        right += int((_logits(network, faces.images[rows]).argmax(1) == faces.targets[rows]).sum())
    return right / len(faces)


def _kept_epoch(history: list[dict[str, Any]], monitor: str) -> int:
    """Number of the first epoch with the best monitored value; a teacher's epochs do not count."""
    return int(np.argmax([-np.inf if row["phase"] == "teacher" else _score(row, monitor) for row in history])) + 1
