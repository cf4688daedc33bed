"""The 8-bit variant: small, readable as any other export, and close in its answers."""

from pathlib import Path

import numpy as np

from src.classifier import Classifier
from src.network.quantizing import quantize_onnx
from tests.conftest import ROOT, random_faces

RELEASED = ROOT / "pretrained/model.onnx"


def test_variant_keeps_metadata_and_answers(tmp_path: Path) -> None:
    faces = random_faces(8).images
    quantize_onnx(RELEASED, faces, tmp_path / "model.int8.onnx")
    assert (tmp_path / "model.int8.onnx").stat().st_size < RELEASED.stat().st_size / 3
    whole, variant = Classifier(RELEASED), Classifier(tmp_path / "model.int8.onnx")
    assert variant.metadata == whole.metadata
    np.testing.assert_allclose(variant.predict(faces), whole.predict(faces), atol=0.15)
