"""Pictures from anywhere: what is whole is decoded, what lies about its size takes no memory."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from src.recognition.pictures import decode_picture
from tests.conftest import ROOT

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()


def test_whole_pictures_are_decoded() -> None:
    for content in (PNG, PNG + b"more", PNG[:33] + b"\0\0\0\1tEXtA\0\0\0\0" + PNG[33:]):
        np.testing.assert_array_equal(decode_picture(content), PICTURE)
    assert decode_picture(cv2.imencode(".jpg", PICTURE)[1].tobytes()) is not None
    assert all(decode_picture(content) is None for content in (b"", b"text", PNG[:8], PNG[:-20], PNG[: len(PNG) // 2]))


_PEAK = """
import sys
from pathlib import Path
from src.recognition.pictures import decode_picture
from tools.benchmarks.measuring import memory
assert decode_picture(Path(sys.argv[1]).read_bytes()) is None
print(memory("VmHWM"))
"""


def test_a_forged_length_takes_no_memory(tmp_path: Path) -> None:
    at = PNG.index(b"IDAT") - 4
    (tmp_path / "forged.png").write_bytes(PNG[:at] + (2**31 - 1).to_bytes(4) + PNG[at + 4 :])
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "forged.png")]
    peak = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout
    assert float(peak) < 500, "MB; OpenCV alone takes 2,100"
