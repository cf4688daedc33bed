"""The 8-bit variant: small, readable as any other export, and close in its answers."""

from pathlib import Path

import numpy as np

from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.network.quantizing import CALIBRATION_FACES, calibration_faces, quantize_onnx
from src.recognition.classifier import Classifier
from tests.conftest import ROOT, random_faces

RELEASED = ROOT / "pretrained/model.onnx"


def test_variant_keeps_metadata_and_answers(tmp_path: Path) -> None:
    faces = random_faces(8).images
    quantize_onnx(RELEASED, faces, tmp_path / "model.int8.onnx")
    assert (tmp_path / "model.int8.onnx").stat().st_size < RELEASED.stat().st_size / 3
    whole, variant = Classifier(RELEASED), Classifier(tmp_path / "model.int8.onnx")
    assert variant.metadata == whole.metadata
    np.testing.assert_allclose(variant.predict(faces), whole.predict(faces), atol=0.15)


def test_ranges_come_from_real_faces_of_all_classes() -> None:
    faces = random_faces(200)
    images, labels = faces.images.copy(), faces.labels.copy()
    labels["synthetic"] = np.arange(len(labels)) % 2 == 0
    images[labels["synthetic"]] = 0
    labels.loc[labels.index[(labels["expression"] == "disgust")][3:], "synthetic"] = True  # a rare class
    chosen = calibration_faces(FaceSet(images, labels))
    assert 500 <= len(chosen) <= CALIBRATION_FACES + len(EXPRESSIONS)
    assert chosen.reshape(len(chosen), -1).max(1).min() > 0
