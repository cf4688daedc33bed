"""The networks: a grey face in, seven logits out.

Every network is preprocessing (crop to the view, resize, scale as the backbone expects) -> a nested model named
`backbone` -> head, all Keras layers, so that training and every export compute the same thing.

| backbone | source | pretrained |
|---|---|---|
| compact | ours: VGG-style pairs of 3x3 convolutions, 48-96-192-384 wide, 2.6 M parameters | no |
| cnn | ID2223 student project: convolutions 16-32-64 (ELU), dense 512, 551,687 parameters | no |
| mobilenetv2, vgg16, resnet50, efficientnetb2 | keras.applications | ImageNet |
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from src.errors import UserError
from src.expressions import NUM_CLASSES
from src.params import TrainParams

APPLICATIONS: dict[str, Callable[..., keras.Model]] = {
    "mobilenetv2": keras.applications.MobileNetV2,
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "efficientnetb2": keras.applications.EfficientNetB2,
}
IMAGENET_BACKBONES = tuple(APPLICATIONS)
# Mean and standard deviation of ImageNet, levels scaled to [0, 1].
EFFICIENTNET_STATISTICS = (("red", 0.485, 0.229), ("green", 0.456, 0.224), ("blue", 0.406, 0.225))


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to build a network again; travels beside its weights.

    image_size: side of the face given, pixels. input_size: side the backbone sees, pixels.
    view_fraction: central part of the face that is looked at. head_units: 0 = no hidden dense layer.
    """

    backbone: str
    image_size: int
    input_size: int
    view_fraction: float
    head_units: int
    dropout: float

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


_DEFAULTS: dict[str, dict[str, Any]] = {
    "compact": {"input_size": 40, "view_fraction": 0.9, "head_units": 0, "dropout": 0.3},
    "cnn": {"input_size": 48, "view_fraction": 1.0, "head_units": 0, "dropout": 0.2},
    **{
        name: {"input_size": 96, "view_fraction": 1.0, "head_units": 512, "dropout": 0.4} for name in IMAGENET_BACKBONES
    },
}


def resolve_spec(params: TrainParams, image_size: int) -> NetworkSpec:
    """Replace every `auto` by the backbone's own value."""
    if params.backbone in IMAGENET_BACKBONES and params.input_size != "auto" and params.input_size < 32:
        raise UserError(
            f"train.input_size={params.input_size} is too small for train.backbone={params.backbone}: expected at "
            "least 32 pixels, or auto (96)."
        )
    values = {
        key: default if getattr(params, key) == "auto" else getattr(params, key)
        for key, default in _DEFAULTS[params.backbone].items()
    }
    return NetworkSpec(backbone=params.backbone, image_size=image_size, **values)


def _compact(input_size: int) -> keras.Model:
    inputs = layers.Input((input_size, input_size, 1))
    x = inputs
    for width in (48, 96, 192, 384):
        for place in ("first", "second"):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
            if place == "first" and width != 384:
                # Inside the block, not after it: 109 M multiplications at 40 px instead of 183 M (cifar10-airbench).
                x = layers.MaxPooling2D()(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, x, name="backbone")


def _cnn(input_size: int) -> keras.Model:
    inputs = layers.Input((input_size, input_size, 1))
    x = inputs
    for width, pool in ((16, 2), (32, 2), (64, 3)):
        x = layers.Conv2D(width, 3, padding="same", activation="elu")(x)
        x = layers.MaxPooling2D(pool)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="elu")(x)
    return keras.Model(inputs, x, name="backbone")


def _application(name: str, input_size: int) -> keras.Model:
    backbone = APPLICATIONS[name](
        include_top=False, weights=None, input_shape=(input_size, input_size, 3), pooling="avg", name="backbone"
    )
    if name == "efficientnetb2":
        # Its Normalization layer keeps mean and variance outside the graph, which breaks the ONNX export.
        backbone = keras.models.clone_model(backbone, clone_function=_without_normalization)
    return backbone


def _without_normalization(layer: keras.Layer) -> keras.Layer:
    if isinstance(layer, layers.Normalization):
        return layers.Identity(name=layer.name)
    return layer.__class__.from_config(layer.get_config())


def _scale(name: str, x: Any) -> Any:
    """Grey levels [0, 255] as the backbone expects them (keras.applications `preprocess_input`)."""
    if name in ("compact", "cnn"):
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)
    if name == "mobilenetv2":
        x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(x)
        return layers.Concatenate(name="grey_to_rgb")([x, x, x])
    if name in ("vgg16", "resnet50"):  # BGR minus the ImageNet means
        means = (("blue", 103.939), ("green", 116.779), ("red", 123.68))
        return layers.Concatenate(name="grey_to_rgb")(
            [layers.Rescaling(1.0, offset=-mean, name=f"minus_{colour}_mean")(x) for colour, mean in means]
        )
    # EfficientNet divides by 255 itself; the ImageNet mean and standard deviation of each channel come before that.
    return layers.Concatenate(name="grey_to_rgb")(
        [
            layers.Rescaling(1 / deviation, offset=-255 * mean / deviation, name=f"normalize_{colour}")(x)
            for colour, mean, deviation in EFFICIENTNET_STATISTICS
        ]
    )


@keras.saving.register_keras_serializable("facial_expressions")
class BilinearResize(layers.Layer):
    """Resize grey faces, float32 `(N, S, S, 1)` -> `(N, T, T, 1)`, bilinear, pixel centres at half integers.

    Two matrix products. keras.layers.Resizing gives the same numbers, but the ONNX converter computes the side of
    its result as floor(48 * float32(40 / 48)) = 39.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.size = size

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}

    def call(self, faces: Any) -> Any:
        side = faces.shape[1]
        matrix = _interpolation(side, self.size)
        rows = keras.ops.matmul(matrix, keras.ops.reshape(faces, (-1, side, side)))
        return keras.ops.reshape(keras.ops.matmul(rows, matrix.T.copy()), (-1, self.size, self.size, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.size, self.size, 1)


def _interpolation(source: int, target: int) -> np.ndarray:
    """float32 `(target, source)`: row i holds the weights of the source pixels in target pixel i."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(source))).astype(np.float32)


@dataclass(frozen=True)
class View:
    """What a network does to a face before anything is learned: crop to the view, shrink.

    model: float32 `(N, S, S, 1)` -> `(N, T, T, 1)`. pixels: side of the part of the face that is seen. output_size: T.
    """

    model: keras.Model
    pixels: int
    output_size: int


def split_view(network: keras.Model, spec: NetworkSpec) -> tuple[View | None, keras.Model]:
    """The view of a network and the rest, sharing its layers; no view where the network does not shrink the face."""
    pixels = spec.image_size - 2 * _border(spec)
    if pixels <= spec.input_size:
        return None, network
    seen = network.get_layer("resize").output
    return View(keras.Model(network.input, seen), pixels, spec.input_size), keras.Model(seen, network.output)


def _border(spec: NetworkSpec) -> int:
    return round(spec.image_size * (1 - spec.view_fraction) / 2)


def build_network(spec: NetworkSpec) -> keras.Model:
    """The network with random weights: float32 `(N, S, S, 1)`, grey [0, 255] -> logits float32 `(N, 7)`.

    Built under the global dtype policy: under mixed_bfloat16 it computes in bfloat16, its variables and
    its logits are float32.
    """
    size = spec.image_size
    inputs = layers.Input((size, size, 1), dtype="float32", name="face")
    border = _border(spec)
    x = layers.Cropping2D(border, name="view")(inputs) if border else inputs
    if size - 2 * border != spec.input_size:
        x = BilinearResize(spec.input_size, name="resize")(x)
    x = _scale(spec.backbone, x)
    small = {"compact": _compact, "cnn": _cnn}
    backbone = (
        small[spec.backbone](spec.input_size)
        if spec.backbone in small
        else _application(spec.backbone, spec.input_size)
    )
    x = backbone(x)
    if spec.head_units:
        x = layers.Dense(spec.head_units, activation="relu", name="head")(x)
    x = layers.Dropout(spec.dropout, name="dropout")(x)
    logits = layers.Dense(NUM_CLASSES, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name=spec.backbone)
