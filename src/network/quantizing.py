"""An 8-bit variant of an exported ONNX model: a quarter of the size, several times as quick on one CPU thread.

Static quantization (ONNX Runtime, QDQ): weights int8 per channel, activations uint8, their ranges calibrated on
training faces. Input, output and metadata stay those of the export, so the same classifier reads it.

Weights have 7 bits: x86 without VNNI adds two products in 16 bits, which overflow with 8. Measured on such a machine
(AVX2), accuracy on FER2013's and ExpW's validation part: float32 .815 and .367, 8 bits .763 and .311, 7 bits .813 and
.365. See https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "reduce_range".
"""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from src.faceset import FaceSet

CALIBRATION_FACES = 600
_BATCH = 50
# What lies between the first convolution and the last large layer; scaling, classes and calibration stay in float32.
_QUANTIZED = ["Conv", "MatMul", "Gemm", "MaxPool", "Relu", "Add"]
_LARGE = 10_000  # weights; smaller dense layers would lose in accuracy and gain no time


class _Faces(CalibrationDataReader):
    def __init__(self, name: str, faces: np.ndarray) -> None:
        self._batches = iter([{name: faces[start : start + _BATCH]} for start in range(0, len(faces), _BATCH)])

    def get_next(self) -> Any:
        return next(self._batches, None)


def calibration_faces(train: FaceSet) -> np.ndarray:
    """About CALIBRATION_FACES pictures of `train`, as many of each class where it has them, none synthetic; uint8
    `(N, S, S)`. The same set gives the same pictures."""
    real = np.flatnonzero(~train.labels["synthetic"].to_numpy(bool))
    shuffled = np.random.default_rng(0).permutation(real)
    classes = np.unique(train.targets[real])
    share = -(-CALIBRATION_FACES // max(len(classes), 1))
    rows = [shuffled[train.targets[shuffled] == code][:share] for code in classes]
    return np.asarray(train.images[np.sort(np.concatenate(rows))])


def quantize_onnx(source: Path, faces: np.ndarray, target: Path) -> None:
    """Write the 8-bit variant of `source` to `target`.

    faces: uint8 `(N, S, S)`, grey, from train; about CALIBRATION_FACES of them, of all classes.
    """
    graph = onnx.load(source)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        content = onnx.load(prepared).graph
        nodes, sizes = list(content.node), {weights.name: math.prod(weights.dims) for weights in content.initializer}
        large = [
            place
            for place, node in enumerate(nodes)
            if node.op_type in ("Conv", "MatMul", "Gemm") and max(sizes.get(name, 0) for name in node.input) > _LARGE
        ]
        first = next((place for place, node in enumerate(nodes) if node.op_type == "Conv"), 0)
        quantize_static(
            str(prepared),
            str(target),
            _Faces(graph.graph.input[0].name, np.asarray(faces)[..., None]),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=[node.name for node in (*nodes[:first], *nodes[max(large, default=len(nodes)) + 1 :])],
            calibrate_method=CalibrationMethod.MinMax,
        )
    quantized = onnx.load(target)
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(graph.metadata_props)
    onnx.save(quantized, target)
