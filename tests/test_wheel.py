"""The wheel: built, installed outside the repository, and used there as people would."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.realtime_fixtures import read_table, write_clip
from tools import wheel

_PROGRAM = """
import importlib.util
import cv2
from facial_expressions.recognition import DEFAULT_MODEL, ExpressionRecognizer
from facial_expressions.recognition.detection import HaarDetector

assert importlib.util.find_spec("src") is None
frame = cv2.VideoCapture("clip.mp4").read()[1]
print(len(ExpressionRecognizer(detector=HaarDetector()).recognize(frame)), DEFAULT_MODEL)
"""


def test_it_asks_for_what_the_live_program_asks_for() -> None:
    """The same packages as requirements-runtime.in, each with the oldest version that was tried."""
    wanted = tomllib.loads((wheel.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert all(">=" in requirement for requirement in wanted)
    lines = (ROOT / "requirements-runtime.in").read_text(encoding="utf-8").splitlines()
    names = {line.strip() for line in lines if line.strip() and line[0] not in "#-"}
    assert {re.split(r"[><=]", requirement)[0] for requirement in wanted} == names


@pytest.mark.slow
def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    built = wheel.build(tmp_path / "wheel")
    assert built.stat().st_size < 12e6
    installed = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed]
    subprocess.run([*map(str, install), str(built)], check=True)
    write_clip(tmp_path / "clip.mp4", seconds=1)
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*command: object) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    found, model = run(sys.executable, "-c", _PROGRAM).split()
    assert int(found) == 1
    assert Path(model).is_relative_to(installed) and Path(model).is_file()
    program = installed / "bin/facial-expressions"
    shown = run(program, "--help")
    assert shown.startswith("usage: facial-expressions ")
    assert "src" not in shown and "facial-expressions --source clip.mp4" in shown
    run(program, "--source", "clip.mp4", "--headless", "--detector", "haar", "--csv", "seen.csv")
    assert len(read_table(tmp_path / "seen.csv")) >= 20
