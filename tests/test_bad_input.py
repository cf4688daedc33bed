"""What users get wrong between split and export: one message, a non-zero exit code, earlier outputs intact.

Each case runs the real stage in this process, and one in a process of its own (of each stage: the slow tests). Raw data
in every state of damage: test_fer2013, test_expw, test_cropping; wrong parameters: test_params; damaged FaceSets and
networks: test_faceset, test_network; at evaluate: test_evaluate.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from tests.conftest import ROOT, Mount, Result, RunStage, random_faces, random_network
from tests.raw_data import contents, write_files

# A run far too short to learn anything; batch_size is given so that an epoch has several steps.
SHORT: dict[str, Any] = {"backbone": "cnn", "teacher_epochs": 0, "average_epochs": 0, "epochs": 1, "batch_size": 16}
INPUTS = {
    "split": ("data/interim/faces",),
    "undersample": ("data/processed/split/train",),
    "smote": ("data/processed/undersample",),
    "train": ("data/processed/smote", "data/processed/split/validation"),
    "export": ("data/processed/smote", "data/processed/split/validation"),
}
OUTPUTS = {
    "split": "data/processed/split/train/images.npy",
    "undersample": "data/processed/undersample/images.npy",
    "smote": "data/processed/smote/images.npy",
    "train": "models/train/network.npz",
    "export": "models/export/model.onnx",
}


def faces_of_every_usage(per_class: int = 9) -> FaceSet:
    faces = random_faces(per_class)
    usages = ("Training", "PublicTest", "PrivateTest")
    faces.labels["usage"] = [usages[row % 3] for row in range(len(faces))]
    return faces


def prepare(folder: Path, stage: str, faces: FaceSet | None = None) -> None:
    """The inputs of a stage, and something in the place of its outputs."""
    for path in INPUTS[stage]:
        (faces or faces_of_every_usage()).save(folder / path)
    write_files(folder, {OUTPUTS[stage]: b"earlier"})


def check_refusal(folder: Path, run: Callable[[], Result], words: list[str]) -> None:
    """`run` fails with one message that holds `words`, and changes no file."""
    before = contents(folder)
    result = run()
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    # TensorFlow writes lines of its own to stderr.
    (message,) = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert [word for word in words if word not in message] == [], message
    after = contents(folder)
    # A lock stays: to remove it would leave a moment in which two runs hold it.
    assert {name: after[name] for name in after if name != "params.yaml" and not name.endswith(".lock")} == before


DROP_DISGUST = {"policy": "custom", "drop_fraction": {**dict.fromkeys(EXPRESSIONS, 0.0), "disgust": 0.96}}
# stage: (its faces, sections of params.yaml, words of the message)
UNUSABLE: dict[str, tuple[FaceSet, dict[str, dict], list[str]]] = {
    "split": (random_faces(9), {}, ["validation split has no faces", "split.protocol"]),
    "undersample": (
        random_faces(9),
        {"undersample": DROP_DISGUST},
        ["0.96 of the 9 faces of disgust", "leaves none", "undersample.drop_fraction.disgust"],
    ),
    "smote": (
        random_faces(9).select(np.r_[0:12, 18:63]),
        {"smote": {"enabled": True}},
        ["smote.neighbors = 5", "3 of disgust", "Lower smote.neighbors"],
    ),
}


@pytest.mark.parametrize("stage", UNUSABLE)
def test_faces_that_do_not_go_with_the_parameters(tmp_path: Path, run_stage: RunStage, stage: str) -> None:
    faces, sections, words = UNUSABLE[stage]
    prepare(tmp_path, stage, faces)
    check_refusal(tmp_path, lambda: run_stage(stage, **sections), words)


def damage(folder: Path, stage: str) -> list[str]:
    """Cut the end off one of the stage's inputs; words of the message."""
    prepare(folder, stage)
    path = folder / INPUTS[stage][-1] / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])
    if stage == "export":
        random_network(folder / "models/train")
    return ["is damaged", INPUTS[stage][-1]]


@pytest.mark.parametrize("stage", INPUTS)
def test_damaged_faces_stop_a_stage(tmp_path: Path, run_stage: RunStage, stage: str) -> None:
    words = damage(tmp_path, stage)
    check_refusal(tmp_path, lambda: run_stage(stage, train=SHORT), words)


def test_every_stage_ends_through_one_door() -> None:
    for path in (ROOT / "stages").glob("[a-z]*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.endswith('\n\nif __name__ == "__main__":\n    run_program(main)\n'), path


@pytest.mark.parametrize(
    "stage", [name if name == "split" else pytest.param(name, marks=pytest.mark.slow) for name in INPUTS]
)
def test_exit_code_and_message_of_a_process(tmp_path: Path, run_stage: RunStage, stage: str) -> None:
    words = damage(tmp_path, stage)
    check_refusal(tmp_path, lambda: run_stage(stage, alone=True, train=SHORT), words)


FULL_DISK = {  # stage: (folder of the outputs, its size; the inputs fit, the outputs do not)
    "split": ("data/processed", "size=64k"),
    "undersample": ("data/processed", "size=256k"),
    "smote": ("data/processed", "size=256k"),
    "train": (".train_state", "size=512k"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", FULL_DISK)
def test_full_disk(tmp_path: Path, run_stage: RunStage, mount: Mount, stage: str) -> None:
    mount(*FULL_DISK[stage])
    prepare(tmp_path, stage)
    check_refusal(
        tmp_path, lambda: run_stage(stage, train=SHORT), ["The disk is full", "Nothing half-written was left"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("free", ["2600k", "4700k", "6800k", "8500k"], ids=["onnx", "litert", "int8", "multiview"])
def test_full_disk_while_exporting(tmp_path: Path, run_stage: RunStage, mount: Mount, free: str) -> None:
    """The network takes 2.2 MB of the disk, each 32-bit file 2.2 MB, the 8-bit one .6 MB; in this order."""
    mount("models", f"size={free}")
    prepare(tmp_path, "export")
    random_network(tmp_path / "models/train")
    check_refusal(tmp_path, lambda: run_stage("export"), ["The disk is full", "Nothing half-written was left"])
