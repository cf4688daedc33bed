"""Random changes of a face during training; the identity otherwise, and never part of an exported model."""

import math
from typing import Any

import keras
from keras import ops

from src.network.model import View
from src.params import AugmentationParams


class FaceAugmentation(keras.layers.Layer):
    """Rotate, shift, zoom and mirror in one resampling, then change brightness and contrast, then erase.

    float32 `(N, S, S, 1)`, grey [0, 255], in; `(N, T, T, 1)` out. With `view`, the cropping and shrinking that the
    network starts with, the same resampling does its work too; without, T = S. One affine resampling instead of a
    layer for each keeps the face as sharp as the network will see it in use, and costs a third of the time.
    Erasing: Zhong et al., "Random Erasing Data Augmentation" (2020).
    """

    def __init__(self, params: AugmentationParams, seed: int, view: View | None = None, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.params, self.view = params, view
        self.seed_generator = keras.random.SeedGenerator(seed)

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count, 1), low, high, seed=self.seed_generator)

    def call(self, faces: Any, training: bool | None = None) -> Any:
        if not training:
            return self.view.model(faces) if self.view else faces
        params, count, size = self.params, ops.shape(faces)[0], faces.shape[1]
        seen = self.view.output_size if self.view else size
        pixels = self.view.pixels if self.view else size
        angle = self._uniform(count, -1.0, 1.0) * (params.rotation * math.pi / 180)
        scale = 1.0 + self._uniform(count, -1.0, 1.0) * params.zoom
        mirror = ops.where(self._uniform(count, 0.0, 1.0) < (0.5 if params.flip else 0.0), -1.0, 1.0)
        shift_x = self._uniform(count, -1.0, 1.0) * (params.shift * size)
        shift_y = self._uniform(count, -1.0, 1.0) * (params.shift * size)
        # Output pixel (x, y) takes its value from input (a0 x + a1 y + a2, b0 x + b1 y + b2), about the centre.
        scale = scale * (pixels / seen)
        centre, middle = (size - 1) / 2, (seen - 1) / 2
        a0, a1 = mirror * scale * ops.cos(angle), -scale * ops.sin(angle)
        b0, b1 = mirror * scale * ops.sin(angle), scale * ops.cos(angle)
        a2 = centre + shift_x - (a0 + a1) * middle
        b2 = centre + shift_y - (b0 + b1) * middle
        zero = ops.zeros_like(a0)
        transform = ops.concatenate([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
        faces = ops.image.affine_transform(faces, transform, interpolation="bilinear", fill_mode="nearest")
        faces, size = faces[:, :seen, :seen], seen
        if params.contrast or params.brightness:
            gain = ops.reshape(1.0 + self._uniform(count, -1.0, 1.0) * params.contrast, (-1, 1, 1, 1))
            offset = ops.reshape(self._uniform(count, -1.0, 1.0) * (255 * params.brightness), (-1, 1, 1, 1))
            mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
            faces = ops.clip((faces - mean) * gain + mean + offset, 0.0, 255.0)
        if params.erasing:
            faces = self._erase(faces, count, size)
        return faces

    def _erase(self, faces: Any, count: Any, size: int) -> Any:
        """Overwrite a rectangle of 2 to 20 % of the face with one random grey."""
        area = self._uniform(count, 0.02, 0.2)
        aspect = ops.exp(self._uniform(count, -0.7, 0.7))
        half_width, half_height = ops.sqrt(area * aspect) * size / 2, ops.sqrt(area / aspect) * size / 2
        x, y = self._uniform(count, 0.0, float(size)), self._uniform(count, 0.0, float(size))
        position = ops.reshape(ops.arange(size, dtype="float32"), (1, size))
        columns = ops.abs(position - x) < half_width
        rows = ops.abs(position - y) < half_height
        chosen = ops.reshape(self._uniform(count, 0.0, 1.0) < self.params.erasing, (-1, 1, 1))
        erased = ops.logical_and(ops.logical_and(rows[:, :, None], columns[:, None, :]), chosen)[..., None]
        grey = ops.reshape(self._uniform(count, 0.0, 255.0), (-1, 1, 1, 1))
        return ops.where(erased, grey, faces)
