"""What the tests of the real-time program share: a tiny model, drawn clips, and the program as a subprocess."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from src.expressions import EXPRESSIONS
from src.recognition.classifier import METADATA_KEY, ExportMetadata
from src.recognition.detection import MODEL_VARIABLE, YUNET_FILE
from tests.conftest import ROOT
from tools.drawn_faces import draw_clip

REAL_DATA = os.environ.get("FER_REAL_DATA")
NO_REAL_DATA = "FER_REAL_DATA names no folder with portrait.mp4"


def write_model(path: Path, *, margin: float = 0.1, uncertain_below: float = 0.2, size: int = 48) -> Path:
    """An ONNX file like the project's exports: brightness of 16 parts of the face, weighed at random, softmax."""
    rng = np.random.default_rng(1)
    weights = numpy_helper.from_array(rng.normal(0, 0.05, (16, 7)).astype(np.float32), "weights")
    shape = numpy_helper.from_array(np.array([-1, 1, size, size], np.int64), "shape")
    nodes = [
        helper.make_node("Cast", ["faces"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["levels", "shape"], ["planes"]),
        helper.make_node(
            "AveragePool", ["planes"], ["parts"], kernel_shape=[size // 4, size // 4], strides=[size // 4, size // 4]
        ),
        helper.make_node("Flatten", ["parts"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["n", size, size, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 7])],
        [weights, shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = ExportMetadata(EXPRESSIONS, size, margin, uncertain_below, "tiny", 1.0)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_clip(path: Path, *, seconds: float = 2.0, num_faces: int = 1, size: tuple[int, int] = (320, 240)) -> Path:
    """A drawn clip at 25 frames/s."""
    frames = draw_clip(np.random.default_rng(5), seconds=seconds, size=size, num_faces=num_faces)
    write_video(path, [frame for frame, _ in frames])
    return path


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    number = 0
    while capture.read()[0]:
        number += 1
    return number


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; fails if the last one is not whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert all(None not in row.values() and None not in row for row in rows)
    return rows


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment without a display and without a way to the network."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", MODEL_VARIABLE)
    }
    return {**kept, "PYTHONPATH": str(ROOT), "HTTPS_PROXY": "http://127.0.0.1:9", **changes}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "src.realtime", *map(str, arguments)]


def run_realtime(*arguments: object, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The program as a user runs it, in `folder`, to its end."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=120
    )


def find_yunet() -> Path:
    """The YuNet file beside the real data; skips the test where there is none."""
    if REAL_DATA is None:
        pytest.skip(NO_REAL_DATA)
    for folder in (Path(REAL_DATA).parent / "models", Path(REAL_DATA) / "models"):
        if (folder / YUNET_FILE).is_file():
            return folder / YUNET_FILE
    pytest.skip(f"no {YUNET_FILE} beside the real data")


def find_real(name: str) -> Path:
    """A file of the real data; skips the test where there is none."""
    if REAL_DATA is None or not (Path(REAL_DATA) / name).is_file():
        pytest.skip(NO_REAL_DATA)
    return Path(REAL_DATA) / name


def find_portrait() -> Path:
    """The real clip; skips the test where there is none."""
    return find_real("portrait.mp4")
