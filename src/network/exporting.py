"""Export a trained network to ONNX and LiteRT with its metadata inside, compare both with Keras, and make variants.

In: uint8 `(N, S, S, 1)`, grey [0, 255]. Out: float32 `(N, 7)`, calibrated probabilities. N is free.
"""

import contextlib
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from keras import layers

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.network.model import BilinearResize, split_view
from src.network.quantizing import calibration_faces, quantize_onnx
from src.network.saving import TrainedNetwork
from src.network.temperature import Temperatures, fit_temperatures
from src.recognition.classifier import METADATA_FILE, METADATA_KEY, VARIANTS, Classifier, ExportMetadata

Writer = Callable[[keras.Model, ExportMetadata, Path], None]
PARITY = 1e-4  # largest difference of a probability that an export may have


def build_classifier(answers: keras.Model, temperatures: Temperatures) -> keras.Model:
    """The model that is exported: uint8 faces -> calibrated probabilities.

    answers: float32 faces -> logits and features, of `with_features` or `build_multiview`.
    """
    faces = layers.Input(answers.input_shape[1:], dtype="uint8", name="faces")
    x = layers.Rescaling(1.0, name="to_float")(faces)
    # Passed explicitly: Keras's ONNX export traces the model without a training flag, and dropout and batch
    # normalization then run as in training.
    logits, features = answers(x, training=False)
    if len(temperatures.sources) == 1:
        x = layers.Rescaling(float(np.exp(temperatures.log_inverse[0])), name="inverse_temperature")(logits)
    else:
        sources = layers.Dense(len(temperatures.sources), activation="softmax", name="sources")
        log_inverse = layers.Dense(1, use_bias=False, name="log_inverse_temperature")
        inverse = layers.Activation("exponential", name="inverse_temperature")(log_inverse(sources(features)))
        sources.set_weights([temperatures.kernel, temperatures.bias])
        log_inverse.set_weights([temperatures.log_inverse[:, None]])
        x = layers.Multiply(name="calibrated_logits")([logits, inverse])
    return keras.Model(faces, layers.Softmax(name="probabilities")(x), name="facial_expression")


def with_features(network: keras.Model, start: Any = None) -> keras.Model:
    """The network with two outputs: its logits, float32 `(N, 7)`, and what its last layer sees, `(N, F)`.

    start: a tensor of the network from which on it computes; None = its input.
    """
    start = network.input if start is None else start
    return keras.Model(start, [network.output, network.get_layer("dropout").input])


def calibrate(answers: keras.Model, validation: FaceSet) -> Temperatures:
    """The temperatures that fit the validation faces. answers: of `with_features` or `build_multiview`."""
    faces = np.asarray(validation.images, np.float32)[..., None]
    logits, features = answers.predict(faces, batch_size=256, verbose=0)
    return fit_temperatures(features, logits, validation.targets, validation.labels["source"].to_numpy(str))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters, which write pages to both streams, from C++ too. What they raise is not silenced."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(os.devnull, "wb") as sink:  # noqa: PTH123
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def _name_by_position(graph: onnx.GraphProto) -> None:
    """Rename every inner tensor and node by its place in the graph: tf2onnx numbers some differently at each run."""
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    for position, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{position}"
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                if name:
                    tensors[index] = names.setdefault(name, f"t{len(names)}")
    del graph.value_info[:]  # shapes of inner tensors, under their old names; the runtime infers them
    for weights in graph.initializer:
        weights.name = names.setdefault(weights.name, f"t{len(names)}")
    ordered = sorted(graph.initializer, key=lambda weights: int(weights.name[1:]))
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _write_onnx(model: keras.Model, metadata: ExportMetadata, path: Path) -> None:
    with _quiet():
        model.export(path, format="onnx", verbose=False)
    content = onnx.load(path)
    _name_by_position(content.graph)
    content.graph.name = "facial_expression"
    entry = content.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    onnx.checker.check_model(content)
    onnx.save(content, path)


def _write_litert(model: keras.Model, metadata: ExportMetadata, path: Path) -> None:
    with _quiet():
        model.export(path, format="litert", verbose=False)
    with zipfile.ZipFile(path, "a") as archive:
        # A fixed date keeps the bytes equal from run to run.
        archive.writestr(zipfile.ZipInfo(METADATA_FILE, (1980, 1, 1, 0, 0, 0)), metadata.to_json())


def build_multiview(trained: TrainedNetwork) -> keras.Model:
    """Logits and features as the mean over a face and its mirror image, and over the full frame and its mirror image
    where the network looks at the central part only: float32 `(N, S, S, 1)` -> `(N, 7)` and `(N, F)`.

    Averaging over views at test time: Simonyan and Zisserman (2015), section 3.2. Shares the network's weights.
    """
    view, _ = split_view(trained.network, trained.spec)
    rest = with_features(trained.network, view and view.model.output)
    faces = layers.Input(trained.network.input_shape[1:], dtype="float32", name="face")
    seen = [faces] if view is None else [view.model(faces)]
    if view is not None and view.pixels < trained.spec.image_size:
        seen.append(BilinearResize(view.output_size, name="full_frame")(faces))
    views = [*seen, *(layers.Lambda(_mirror, name=f"mirror_{place}")(x) for place, x in enumerate(seen))]
    answers = rest(layers.Concatenate(axis=0, name="views_as_batch")(views), training=False)
    means = [
        layers.Lambda(partial(_mean_of_views, count=len(views)), name=f"mean_{name}")(answer)
        for name, answer in zip(("logits", "features"), answers, strict=True)
    ]
    return keras.Model(faces, means, name=f"{trained.spec.backbone}_multiview")


def _mirror(faces: Any) -> Any:
    # A gather: the converter writes a flip as a slice with step -1, of which ONNX Runtime infers a wrong width.
    return keras.ops.take(faces, np.arange(faces.shape[2])[::-1].copy(), axis=2)


def _mean_of_views(answers: Any, count: int) -> Any:
    return keras.ops.mean(keras.ops.reshape(answers, (count, -1, answers.shape[-1])), axis=0)


def _metadata(trained: TrainedNetwork, margin: float, uncertain_below: float) -> ExportMetadata:
    return ExportMetadata(
        expressions=EXPRESSIONS,
        image_size=trained.spec.image_size,
        margin=margin,
        uncertain_below=uncertain_below,
        backbone=trained.spec.backbone,
    )


def _export(write: Writer, model: keras.Model, metadata: ExportMetadata, path: Path, faces: np.ndarray) -> None:
    """Write the file; raises UserError where its answers to `faces` differ from Keras's by more than `PARITY`."""
    expected = model.predict(np.asarray(faces)[..., None], batch_size=64, verbose=0)
    write(model, metadata, path)
    difference = float(np.abs(Classifier(path, threads=2).predict(np.asarray(faces)) - expected).max())
    if not difference <= PARITY:
        raise UserError(
            f"{path.name} differs from Keras by {difference:.2g} in probability; expected at most {PARITY}. "
            f"The converter does not support a layer of {metadata.backbone}; use another backbone."
        )
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, largest difference to Keras {difference:.1e}")


def export_model(
    trained: TrainedNetwork, validation: FaceSet, margin: float, uncertain_below: float, parity: int, directory: Path
) -> dict[str, Any]:
    """Write `model.onnx` and `model.tflite` into `directory`, calibrated on validation; return sizes and temperatures.

    parity: number of validation faces on which the exports must agree with Keras to `PARITY`.
    Raises UserError when one does not.
    """
    answers = with_features(trained.network)
    temperatures = calibrate(answers, validation)
    model, metadata = build_classifier(answers, temperatures), _metadata(trained, margin, uncertain_below)
    faces = np.asarray(validation.images[:parity])
    report: dict[str, Any] = {"parity_faces": len(faces), "temperature": temperatures.by_source()}
    for name, write in (("onnx", _write_onnx), ("tflite", _write_litert)):
        path = directory / f"model.{name}"
        _export(write, model, metadata, path, faces)
        report[name] = {"bytes": path.stat().st_size, "agrees_with_keras": True}
    return report


def export_multiview(
    trained: TrainedNetwork, validation: FaceSet, margin: float, uncertain_below: float, parity: int, directory: Path
) -> dict[str, Any]:
    """Write `model.multiview.onnx` into `directory`, calibrated by itself; return its size and its accuracy on the
    validation faces. Raises UserError when it differs from Keras by more than `PARITY`."""
    averaged = build_multiview(trained)
    temperatures = calibrate(averaged, validation)
    path, images = directory / VARIANTS["multiview"], np.asarray(validation.images)
    metadata = _metadata(trained, margin, uncertain_below)
    _export(_write_onnx, build_classifier(averaged, temperatures), metadata, path, images[:parity])
    answers = Classifier(path, os.cpu_count() or 1).predict(images).argmax(1)
    accuracy = float((answers == validation.targets).mean())
    print(f"{path.name}: validation accuracy {accuracy:.4f} (n {len(validation):,})")
    return {
        "bytes": path.stat().st_size,
        "agrees_with_keras": True,
        "validation_faces": len(validation),
        "validation_accuracy": round(accuracy, 5),
        "temperature": temperatures.by_source(),
    }


def export_quantized(source: Path, train: FaceSet, validation: FaceSet) -> dict[str, Any]:
    """Write `model.int8.onnx` beside `source`; return its size and what it costs on the validation faces.

    The ranges of its activations come from train. Its answers are not those of Keras: the report holds the accuracy of
    both, and the share of faces to which both give the same answer.
    """
    path = source.with_name(VARIANTS["int8"])
    with _quiet():
        quantize_onnx(source, calibration_faces(train), path)
    faces = np.asarray(validation.images)
    threads = os.cpu_count() or 1
    answers = {name: Classifier(file, threads).predict(faces).argmax(1) for name, file in (("", source), ("8", path))}
    report = {
        "bytes": path.stat().st_size,
        "validation_faces": len(faces),
        "validation_accuracy": round(float((answers["8"] == validation.targets).mean()), 5),
        "validation_accuracy_float32": round(float((answers[""] == validation.targets).mean()), 5),
        "same_answer": round(float((answers["8"] == answers[""]).mean()), 5),
    }
    print(
        f"{path.name}: {report['bytes'] / 1e6:.2f} MB, validation accuracy {report['validation_accuracy']:.4f}; "
        f"32 bits: {report['validation_accuracy_float32']:.4f} (n {len(faces):,})"
    )
    return report
