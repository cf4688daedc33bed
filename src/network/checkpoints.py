"""Resume training after a kill: the state after every epoch, kept outside the declared outputs of the stage.

DVC deletes a stage's outputs before it runs again, so the state lives in `.train_state/<key>/`, where the key is a
hash of the inputs and parameters: a changed input or parameter never resumes an old run. It is removed when
training has finished.
"""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.params import TrainParams
from src.storage import outdated_path, replace_directory

ARRAYS = ("variables", "optimizer", "kept", "soft_targets")
_FOLDER = ".train_state"
_COPIES = (".dvc", "tmp", "exps")  # below the project: where DVC runs experiments in copies of it


def state_root(directory: Path) -> Path:
    """Where trainings run in `directory`, a project, keep their states.

    An experiment in a copy (`dvc exp run --temp`, or from the queue) keeps it in the project: the copy is gone after a
    kill.
    """
    for parent in directory.parents:
        if parent.parts[-3:] == _COPIES:
            return parent.parents[2] / _FOLDER
    return directory / _FOLDER


@dataclass
class TrainState:
    """What training has reached.

    phase: index of the current phase. epoch: epochs finished in it. history: one row per finished epoch.
    best: value of the monitored metric at the kept epoch. waited: epochs since then, in this phase.
    variables, optimizer, kept: arrays in Keras's order. soft_targets: what the teacher says of the train faces, one
    array; empty before there is a student.
    """

    phase: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    waited: int = 0
    variables: list[np.ndarray] = field(default_factory=list)
    optimizer: list[np.ndarray] = field(default_factory=list)
    kept: list[np.ndarray] = field(default_factory=list)
    soft_targets: list[np.ndarray] = field(default_factory=list)


def state_key(inputs: tuple[str, ...], params: TrainParams) -> tuple[str, dict[str, Any]]:
    """A key for these FaceSets and parameters, and the same as a readable mapping for tracking."""
    hashes = {}
    for directory in inputs:
        digest = hashlib.sha256()
        for name in ("images.npy", "labels.csv"):
            with (Path(directory) / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        hashes[directory] = digest.hexdigest()[:16]
    config = {"train": dataclasses.asdict(params), "data": hashes}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16], config


def save_state(directory: Path, state: TrainState) -> None:
    """Write the state whole or not at all."""
    with replace_directory(directory) as partial:
        for name in ARRAYS:
            np.savez(partial / f"{name}.npz", *getattr(state, name))
        scalars = {key: getattr(state, key) for key in ("phase", "epoch", "history", "best", "waited")}
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
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_state(directory: Path) -> None:
    """Forget a finished run."""
    for path in (directory, outdated_path(directory)):
        shutil.rmtree(path, ignore_errors=True)
