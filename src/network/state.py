"""Resume training after a kill: the state after every epoch, kept outside the declared outputs of the stage.

DVC deletes a stage's outputs before it runs again, so the state lives in `.train_state/<key>/`, where the key is a
hash of all that the training depends on: inputs, parameters, code, backend, precision, initial weights. Whatever of
these has changed, an old run is never resumed. The state is removed when training has finished.
"""

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from src.network.backend import choose_precision
from src.params import TrainParams
from src.storage import outdated_path, replace_directory

ARRAYS = ("variables", "optimizer", "kept", "soft_targets")
_FOLDER = ".train_state"
_COPIES = (".dvc", "tmp", "exps")  # below the project: where DVC runs experiments in copies of it


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


def state_key(inputs: tuple[str, ...], params: TrainParams) -> tuple[str, dict[str, Any]]:
    """A key for this training, and FaceSets and parameters as a readable mapping for tracking."""
    hashes = {
        directory: _hash([Path(directory, name) for name in ("images.npy", "labels.csv")]) for directory in inputs
    }
    config = {"train": dataclasses.asdict(params), "data": hashes}
    weights = Path(params.weights)
    depends = {
        **config,
        "code": _hash(sorted(Path(__file__).parent.glob("*.py"))),
        "keras": [keras.__version__, keras.backend.backend(), choose_precision(params.precision)],
        "weights": _hash([weights]) if weights.is_file() else "",
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16], config


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


@contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """Hold the state in `directory`: a second run of the same training waits here until the first has ended."""
    path = directory.with_name(f"{directory.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting: another process runs this very training (same data, parameters and code)", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue  # the run before has removed this file at its end
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


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
                arrays[name] = [file[f"arr_{index}"] for index in range(len(file.files))]
        return TrainState(**scalars, **arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def remove_state(directory: Path) -> None:
    """Forget a finished run."""
    for path in (directory, outdated_path(directory)):
        shutil.rmtree(path, ignore_errors=True)
