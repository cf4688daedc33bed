"""What users get wrong between split and export: one message, a non-zero exit code, earlier outputs intact.

Each case runs the real stage in this process, one case of each stage in a process of its own. Raw data in every state
of damage: test_fer2013, test_expw, test_cropping; damaged models at evaluate: test_evaluate.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from tests.conftest import Mount, random_faces, random_network
from tests.raw_data import contents, write_files

RunStage = Callable[..., subprocess.CompletedProcess[str]]

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


def one_message(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    # TensorFlow writes lines of its own to stderr.
    lines = [line for line in result.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def check_refusal(folder: Path, run: Callable[[], subprocess.CompletedProcess[str]], words: list[str]) -> None:
    """`run` fails with one message that holds `words`, and changes no file."""
    before = contents(folder)
    message = one_message(run())
    assert [word for word in words if word not in message] == [], message
    after = contents(folder)
    # A lock stays: to remove it would leave a moment in which two runs hold it.
    assert {name: after[name] for name in after if name != "params.yaml" and not name.endswith(".lock")} == before


WRONG_PARAMETERS: dict[str, tuple[str, dict[str, dict], list[str]]] = {
    "unknown key of another stage": ("smote", {"train": {"epoch": 1}}, ["unknown key train.epoch", "train.epochs?"]),
    "ImageNet weights of a backbone without": (
        "train",
        {"train": {**SHORT, "weights": "imagenet"}},
        ["no ImageNet weights for train.backbone=cnn", "train.weights=auto"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_PARAMETERS)
def test_wrong_parameter(tmp_path: Path, run_stage: RunStage, case: str) -> None:
    stage, sections, words = WRONG_PARAMETERS[case]
    prepare(tmp_path, stage)
    check_refusal(tmp_path, lambda: run_stage(stage, **sections), words)


def test_class_with_fewer_faces_than_neighbors(tmp_path: Path, run_stage: RunStage) -> None:
    faces = random_faces(9)
    prepare(tmp_path, "smote", faces.select(np.r_[0:12, 18:63]))
    check_refusal(
        tmp_path,
        lambda: run_stage("smote", smote={"enabled": True}),
        ["smote.neighbors = 5", "3 of disgust", "Lower smote.neighbors"],
    )


def test_a_class_that_would_be_dropped_whole(tmp_path: Path, run_stage: RunStage) -> None:
    prepare(tmp_path, "undersample")
    fractions = {**dict.fromkeys(EXPRESSIONS, 0.0), "disgust": 0.96}
    check_refusal(
        tmp_path,
        lambda: run_stage("undersample", undersample={"policy": "custom", "drop_fraction": fractions}),
        ["0.96 of the 9 faces of disgust", "leaves none", "undersample.drop_fraction.disgust"],
    )


def test_split_without_faces(tmp_path: Path, run_stage: RunStage) -> None:
    prepare(tmp_path, "split", random_faces(9))
    check_refusal(tmp_path, lambda: run_stage("split"), ["validation split has no faces", "split.protocol"])


def drop_a_label(folder: Path) -> None:
    lines = (folder / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join(lines[:-1]) + "\n")


def drop_a_column(folder: Path) -> None:
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace("expression", "emotion", 1))


def cut_the_images(folder: Path) -> None:
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "files disagree": (drop_a_label, ["63 images but 62 rows of labels"]),
    "column missing": (drop_a_column, ["lack the columns ['expression']"]),
    "images missing": (lambda folder: (folder / "images.npy").unlink(), ["images.npy is missing"]),
}


@pytest.mark.parametrize(("stage", "case"), zip(("split", "undersample", "smote"), DAMAGE, strict=True))
def test_damaged_face_set(tmp_path: Path, run_stage: RunStage, stage: str, case: str) -> None:
    spoil, words = DAMAGE[case]
    prepare(tmp_path, stage)
    spoil(tmp_path / INPUTS[stage][0])
    check_refusal(tmp_path, lambda: run_stage(stage), [*words, INPUTS[stage][0], "dvc repro"])


@pytest.mark.parametrize("stage", INPUTS)
def test_exit_code_and_message_of_a_process(tmp_path: Path, run_stage: RunStage, stage: str) -> None:
    prepare(tmp_path, stage)
    cut_the_images(tmp_path / INPUTS[stage][-1])
    if stage == "export":
        random_network(tmp_path / "models/train")
    check_refusal(tmp_path, lambda: run_stage(stage, alone=True, train=SHORT), ["is damaged", INPUTS[stage][-1]])


def test_weights_of_another_network(tmp_path: Path, run_stage: RunStage) -> None:
    prepare(tmp_path, "train")
    np.savez(tmp_path / "other.npz", np.zeros((3, 3, 1, 8), np.float32), np.zeros(8, np.float32))
    check_refusal(
        tmp_path,
        lambda: run_stage("train", train={**SHORT, "weights": "other.npz"}),
        ["other.npz holds 2 arrays", "do not fit the network cnn", "train.weights=none"],
    )


def test_export_without_a_trained_network(tmp_path: Path, run_stage: RunStage) -> None:
    prepare(tmp_path, "export")
    check_refusal(tmp_path, lambda: run_stage("export"), ["models/train has no trained network", "dvc repro train"])


FULL_DISK = {  # stage: (folder of the outputs, its size; the inputs fit, the outputs do not)
    "split": ("data/processed", "size=64k"),
    "undersample": ("data/processed", "size=256k"),
    "smote": ("data/processed", "size=256k"),
    "train": (".train_state", "size=512k"),
}


@pytest.mark.parametrize("stage", FULL_DISK)
def test_full_disk(tmp_path: Path, run_stage: RunStage, mount: Mount, stage: str) -> None:
    mount(*FULL_DISK[stage])
    prepare(tmp_path, stage)
    check_refusal(
        tmp_path, lambda: run_stage(stage, train=SHORT), ["The disk is full", "Nothing half-written was left"]
    )


@pytest.mark.parametrize("free", ["2600k", "4700k", "6800k", "8500k"], ids=["onnx", "litert", "int8", "multiview"])
def test_full_disk_while_exporting(tmp_path: Path, run_stage: RunStage, mount: Mount, free: str) -> None:
    """The network takes 2.2 MB of the disk, each 32-bit file 2.2 MB, the 8-bit one .6 MB; in this order."""
    mount("models", f"size={free}")
    prepare(tmp_path, "export")
    random_network(tmp_path / "models/train")
    check_refusal(tmp_path, lambda: run_stage("export"), ["The disk is full", "Nothing half-written was left"])


def test_read_only_file_system(tmp_path: Path, run_stage: RunStage, mount: Mount) -> None:
    mount("data/processed", "size=1m")
    prepare(tmp_path, "smote")
    mount("data/processed", "remount,ro")
    check_refusal(tmp_path, lambda: run_stage("smote"), ["data/processed", "file system is read-only"])


def test_output_folder_without_write_permission(tmp_path: Path, run_stage: RunStage) -> None:
    prepare(tmp_path, "smote")
    folder = tmp_path / "data/processed"
    if os.geteuid() == 0:  # permissions do not bind root, the immutable flag does
        if not shutil.which("chattr") or subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
            pytest.skip("root may write anywhere, and this file system has no immutable flag")
    else:
        folder.chmod(0o555)
    try:
        check_refusal(tmp_path, lambda: run_stage("smote"), ["data/processed", "Permission denied", "writable"])
    finally:
        if os.geteuid() == 0:
            subprocess.run(["chattr", "-i", folder], check=True)
        else:
            folder.chmod(0o755)
