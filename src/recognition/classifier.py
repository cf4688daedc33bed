"""An exported model, ready to use: ONNX Runtime or LiteRT, no TensorFlow.

Every export of this project takes uint8 `(N, S, S, 1)` grey crops, gives float32 `(N, 7)` calibrated
probabilities, and carries an `ExportMetadata` as JSON: in an ONNX file under the metadata key `METADATA_KEY`,
in a LiteRT file as `METADATA_FILE` in a zip archive behind the flatbuffer, which is where LiteRT's own
metadata format keeps associated files.
"""

import dataclasses
import json
import os
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import UserError
from src.expressions import EXPRESSIONS

# ONNX Runtime 1.31 can send usage events; read when its library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Other exports of the same network, by their key in metrics; each where export.<key> is true.
VARIANTS = {"int8": "model.int8.onnx", "multiview": "model.multiview.onnx"}
_PACKAGE = Path(__file__).resolve().parents[1]  # the installed package holds the model, else the repository's root
RELEASED_MODEL = (_PACKAGE if (_PACKAGE / "pretrained").is_dir() else _PACKAGE.parent) / "pretrained/model.onnx"
METADATA_KEY = "facial_expression"
METADATA_FILE = "facial_expression.json"


@dataclass(frozen=True)
class ExportMetadata:
    """What a program needs to know to use an exported model."""

    expressions: tuple[str, ...]  # class names, in output order
    image_size: int  # S, pixels
    margin: float  # crop margin, fraction of the box side on each end
    uncertain_below: float  # calibrated probability below which the answer is "uncertain"
    backbone: str

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "ExportMetadata":
        content = json.loads(text)
        content["expressions"] = tuple(content["expressions"])
        return ExportMetadata(**{field.name: content[field.name] for field in dataclasses.fields(ExportMetadata)})


class Classifier:
    """Faces in, probabilities out.

    path: an `.onnx` or `.tflite` file exported by this project. threads: CPU threads of the runtime. May be shared by
    threads of the program. Raises UserError when the file is missing, unreadable, or not an export of this project.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        path = Path(path)
        if not path.is_file():
            raise UserError(
                f"No model at {path}. Make one with `dvc repro export`, or pass an exported .onnx or .tflite file."
            )
        runtimes: dict[str, Any] = {".onnx": _OnnxRuntime, ".tflite": _LiteRtRuntime}
        if path.suffix not in runtimes:
            raise UserError(f"{path} is not an exported model; expected a .onnx or .tflite file of this project.")
        try:
            self._runtime: Any = runtimes[path.suffix](path, threads)
            text = self._runtime.metadata()
        except ImportError:
            raise
        except Exception as error:  # each runtime raises types of its own for a damaged file
            raise UserError(
                f"{path} cannot be read as a model ({error}). Export it again with `dvc repro export`."
            ) from error
        if text is None:
            raise UserError(
                f"{path} is a foreign model: it has no `{METADATA_KEY}` metadata with "
                "class names, face size and margin. "
                "Expected an export of this project (`dvc repro export`)."
            )
        try:
            self.metadata = ExportMetadata.from_json(text)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path} has unreadable `{METADATA_KEY}` metadata ({error}). Export it again with `dvc repro export`."
            ) from error
        if self.metadata.expressions != EXPRESSIONS:
            raise UserError(f"{path} knows the classes {self.metadata.expressions}; expected {EXPRESSIONS}.")

    def predict(self, faces: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Probabilities, float32 `(N, 7)`, of faces uint8 `(N, S, S)` or `(N, S, S, 1)`, grey [0, 255]."""
        size = self.metadata.image_size
        if faces.dtype != np.uint8 or faces.shape[1:3] != (size, size):
            raise ValueError(f"faces are {faces.dtype} {faces.shape}; expected uint8 (N, {size}, {size})")
        faces = faces.reshape(-1, size, size, 1)
        if not len(faces):
            return np.zeros((0, len(self.metadata.expressions)), np.float32)
        batches = [
            self._runtime.run(np.ascontiguousarray(faces[i : i + batch_size])) for i in range(0, len(faces), batch_size)
        ]
        return np.concatenate(batches)


def open_onnx(path: Path, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU; several threads may run it at once."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work in a loop take the core from the face detector and the decoder: measured with two
    # threads on two cores, 127 frames/s with it and 156 without.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_onnx(path, threads)
        self._input = self._session.get_inputs()[0].name

    def metadata(self) -> str | None:
        return self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)

    def run(self, faces: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: faces})[0]


class _LiteRtRuntime:
    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        self._interpreter = Interpreter(model_content=path.read_bytes(), num_threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._batch = -1
        self._lock = threading.Lock()  # an interpreter holds the inputs and outputs of one call

    def metadata(self) -> str | None:
        if not zipfile.is_zipfile(self._path):
            return None
        with zipfile.ZipFile(self._path) as archive:
            if METADATA_FILE not in archive.namelist():
                return None
            return archive.read(METADATA_FILE).decode("utf-8")

    def run(self, faces: np.ndarray) -> np.ndarray:
        with self._lock:
            if len(faces) != self._batch:
                self._interpreter.resize_tensor_input(self._input, faces.shape)
                self._interpreter.allocate_tensors()
                self._batch = len(faces)
            self._interpreter.set_tensor(self._input, faces)
            self._interpreter.invoke()
            return self._interpreter.get_tensor(self._output).copy()
