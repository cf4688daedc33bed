"""How stages start, and what their libraries do in doing so."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_a_stage_says_one_line_when_interrupted_while_loading(tmp_path: Path) -> None:
    """Certain to be within loading: the first library that the stage loads sends the signal itself."""
    (tmp_path / "numpy.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-m", "stages.evaluate"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (130, "interrupted; nothing was written\n")


def test_onnx_runtime_keeps_no_usage_events(tmp_path: Path) -> None:
    """ONNX Runtime 1.31 may put usage events into a database in the home folder, and send them later; we turn that off.

    Alone it does so on some machines only: on others this shows nothing.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ORT_")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache"), "PYTHONPATH": str(ROOT)}
    code = f"from src.recognition.classifier import Classifier; Classifier({str(ROOT / 'pretrained/model.onnx')!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.rglob("onnxruntime.db")) == []
