"""Resume training after a kill: the state after every epoch, kept outside the declared outputs of the stage.

DVC deletes a stage's outputs before it runs again, so the state lives in `.train_state/<key>/`, where the key is a
hash of all that the training depends on: inputs, parameters, code, libraries, precision, initial weights. Whatever of
these has changed, an old run is never resumed. The state is removed when training has finished; one that nobody has
come back to for a month is removed by the next training. A trained teacher stays, under a key of its own, for the next
student.
"""

import contextlib
import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from filelock import FileLock, Timeout

from src.network.backend import choose_precision
from src.params import TrainParams
from src.storage import outdated_path, replace_directory

ARRAYS = ("variables", "optimizer", "kept", "soft_targets")
_FOLDER = ".train_state"
_ROOT = Path(__file__).resolve().parents[2]
_COPIES = (".dvc", "tmp", "exps")  # below the project: where DVC runs experiments in copies of it
_STUDENT_ONLY = {"epochs", "teacher_weight", "average_epochs"}  # parameters that a teacher does not depend on
_FORGOTTEN_S = 30 * 24 * 3600.0


def project_root(directory: Path) -> Path:
    """The project that `directory` is, or is a copy of.

    DVC runs experiments in copies (`dvc exp run --temp`, the queue) and removes a copy when its experiment ends,
    however it ends. What must outlast that belongs into the project itself.
    """
    for parent in directory.parents:
        if parent.parts[-3:] == _COPIES:
            return parent.parents[2]
    return directory


def state_root(directory: Path) -> Path:
    """Where trainings run in `directory`, a project or a copy of it, keep their states."""
    return project_root(directory) / _FOLDER


@dataclass
class TrainState:
    """What training has reached.

    phase: index of the current phase. epoch: epochs finished in it. history: one row per finished epoch.
    best: value of the monitored metric at the kept epoch. phase_best: the best value in this phase. waited: epochs
    since that one.
    variables, optimizer, kept: arrays in Keras's order. soft_targets: what the teacher says of the train faces, one
    array; empty before there is a student.
    """

    phase: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    phase_best: float | None = None
    waited: int = 0
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    soft_targets: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingKeys:
    """Keys of a training and of its teacher; data and parameters as a readable mapping for tracking."""

    training: str
    teacher: str
    config: dict[str, Any]


def training_keys(inputs: tuple[str, ...], params: TrainParams) -> TrainingKeys:
    """What a training depends on, hashed: the same code that makes DVC run it again, and the libraries below it."""
    hashes = {
        directory: _hash([Path(directory, name) for name in ("images.npy", "labels.csv")]) for directory in inputs
    }
    values = params.model_dump()
    deps = yaml.safe_load((_ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["deps"]
    weights, backend = Path(params.weights), keras.backend.backend()
    depends = {
        "data": hashes,
        "code": _hash([_ROOT / path for path in deps if path.endswith(".py")]),
        "keras": [keras.__version__, backend, version(backend), choose_precision(params.precision)],
        "weights": _hash([weights]) if weights.is_file() else "",
    }

    def key(values: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps({**depends, "train": values}, sort_keys=True).encode()).hexdigest()[:16]

    teacher = key({name: value for name, value in values.items() if name not in _STUDENT_ONLY})
    return TrainingKeys(key(values), f"teacher-{teacher}", {"train": values, "data": hashes})


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """Hold the state in `directory`: a second run of the same training waits here until the first has ended."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    _remove_forgotten(directory.parent)
    lock = FileLock(f"{directory}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("waiting: another process runs this very training (same data, parameters and code)", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_forgotten(root: Path) -> None:
    """Remove states, teachers and locks that no run has written to for a month."""
    for entry in root.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another training renames its own
            if time.time() - entry.stat().st_mtime > _FORGOTTEN_S:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


def save_teacher(directory: Path, state: TrainState) -> None:
    """Keep what a student needs of a trained teacher: its weights and its history."""
    save_state(directory, TrainState(phase=1, history=state.history, kept=state.kept))


def load_teacher(directory: Path) -> TrainState | None:
    """A state in which the teacher is trained and its student has not begun; None where there is no teacher."""
    state = load_state(directory)
    if state:
        print(f"a teacher of {len(state.history)} epochs is there already")
    return state


def save_state(directory: Path, state: TrainState) -> None:
    """Write the state whole or not at all."""
    with replace_directory(directory) as partial:
        for name in ARRAYS:
            np.savez(partial / f"{name}.npz", *getattr(state, name))
        scalars = {key: getattr(state, key) for key in ("phase", "epoch", "history", "best", "phase_best", "waited")}
        (partial / "state.json").write_text(json.dumps(scalars), encoding="utf-8")


def load_state(directory: Path) -> TrainState | None:
    """The state to continue from, or None when there is none. A state that cannot be read counts as none."""
    return _read_state(directory) or _read_state(outdated_path(directory))


def _read_state(directory: Path) -> TrainState | None:
    try:
        scalars = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {}
        for name in ARRAYS:
            with np.load(directory / f"{name}.npz", allow_pickle=False) as file:
                arrays[name] = list(file.values())
        return TrainState(**scalars, **arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def remove_state(directory: Path) -> None:
    """Forget a finished run."""
    for path in (directory, outdated_path(directory)):
        shutil.rmtree(path, ignore_errors=True)
