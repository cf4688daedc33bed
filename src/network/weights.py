"""The weights of a network: where they start from, and how they are kept.

Weights are kept as `.npz`, one array for each variable in Keras's order. Not as `.weights.h5` or `.keras`: those store
automatic layer names, so their bytes differ from run to run, and loading them into another network may skip in
silence what does not fit.
"""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from src.errors import UserError
from src.network.model import APPLICATIONS, EFFICIENTNET_STATISTICS, IMAGENET_BACKBONES, NetworkSpec
from src.params import TrainParams


def write_weights(network: keras.Model, path: Path) -> None:
    """Write every variable; equal weights give equal bytes."""
    with path.open("wb") as file:
        np.savez(file, *network.get_weights())


def read_weights(network: keras.Model, path: Path) -> None:
    """Fill `network`. Raises UserError when the file is unreadable or of a network with other shapes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = [file[f"arr_{index}"] for index in range(len(file.files))]
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is not a readable weights file ({str(error).splitlines()[0][:120]}). Expected the network.npz of "
            "a trained model of this project."
        ) from error
    expected = [tuple(variable.shape) for variable in network.weights]
    found = [value.shape for value in values]
    if found != expected:
        raise UserError(
            f"{path} holds {len(found)} arrays with {sum(value.size for value in values):,} numbers, which do not fit "
            f"the network {network.name} ({len(expected)} arrays, {network.count_params():,} numbers). Use weights "
            "saved from the same train.backbone, input_size and head_units, or train.weights=none."
        )
    network.set_weights(values)


def resolve_weights(params: TrainParams) -> str:
    """`none`, `imagenet` or a path. Raises UserError for ImageNet weights of a backbone that has none."""
    if params.weights == "auto":
        return "imagenet" if params.backbone in IMAGENET_BACKBONES else "none"
    if params.weights == "imagenet" and params.backbone not in IMAGENET_BACKBONES:
        raise UserError(
            f"There are no ImageNet weights for train.backbone={params.backbone}; expected one of "
            f"{', '.join(IMAGENET_BACKBONES)}. Set train.weights=auto."
        )
    return params.weights


def load_initial_weights(network: keras.Model, spec: NetworkSpec, weights: str) -> None:
    """Fill `network` with `imagenet` (backbone only), a file of `write_weights` (everything), or leave it (`none`).

    Raises UserError when ImageNet weights cannot be downloaded or the file is not of this network.
    """
    if weights == "none":
        return
    if weights == "imagenet":
        network.get_layer("backbone").set_weights(_imagenet_weights(spec))
        return
    path = Path(weights)
    if path.resolve().is_relative_to(Path("models/train").resolve()):
        raise UserError(
            f"train.weights={weights} lies in models/train, which DVC empties before this stage runs. Copy the file to "
            "another place and name that one."
        )
    if not path.is_file():
        raise UserError(
            f"train.weights={weights} is not a file. Expected auto, imagenet, none, or the path of a network.npz."
        )
    read_weights(network, path)


def _imagenet_weights(spec: NetworkSpec) -> list[Any]:
    try:
        pretrained = APPLICATIONS[spec.backbone](
            include_top=False, weights="imagenet", input_shape=(spec.input_size, spec.input_size, 3), pooling="avg"
        )
    except Exception as error:  # Keras raises plain Exception for a failed download
        if "fetch" not in str(error) and "hash" not in str(error):
            raise
        raise UserError(
            f"The ImageNet weights of {spec.backbone} could not be downloaded ({str(error).splitlines()[0][:160]}). "
            "Connect to the internet and run again (they are kept in ~/.keras/models), copy that folder from a machine "
            "that has them, or start from random weights with train.weights=none."
        ) from error
    if spec.backbone == "efficientnetb2":
        _check_input_statistics(pretrained)
    replaced = [layer for layer in pretrained.layers if isinstance(layer, layers.Normalization)]
    left_out = {id(variable) for layer in replaced for variable in layer.weights}
    return [keras.ops.convert_to_numpy(variable) for variable in pretrained.weights if id(variable) not in left_out]


def _check_input_statistics(pretrained: keras.Model) -> None:
    """Make sure that the layers we replaced by `_scale` computed the same as it does."""
    blank = np.zeros((1, 1, 1, 3), np.float32)
    white = np.ones((1, 1, 1, 3), np.float32)
    for layer in pretrained.layers:
        if layer.name.startswith("stem"):
            break
        if isinstance(layer, layers.Normalization) or (isinstance(layer, layers.Rescaling) and np.ndim(layer.scale)):
            blank, white = (keras.ops.convert_to_numpy(layer(x)) for x in (blank, white))
    expected = np.array([(-mean / deviation, (1 - mean) / deviation) for _, mean, deviation in EFFICIENTNET_STATISTICS])
    if not np.allclose(np.stack([blank.ravel(), white.ravel()], axis=1), expected, atol=0.02):
        raise UserError(
            "The downloaded EfficientNet weights scale their input differently from the keras release in "
            "requirements.txt. Run `make setup` to install that release."
        )
