"""Stages that need no deep-learning framework start without one: TensorFlow alone takes seconds and 500 MB."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

FRAMEWORKS = ("tensorflow", "keras", "jax", "torch", "wandb")


@pytest.mark.parametrize(
    "stage", ["ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote", "evaluate"]
)
def test_stage_imports_no_deep_learning_framework(stage: str) -> None:
    code = f"import sys, stages.{stage}; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
