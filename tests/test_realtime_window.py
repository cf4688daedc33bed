"""The window on a virtual display: keys pressed by xdotool, the screen read back. Skipped where those are missing."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.recognition.detection import HaarDetector
from tests.realtime_fixtures import command, count_frames, environment, read_table, write_clip, write_model
from tools.drawn_faces import draw_photo

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("Xvfb", "xdotool", "openbox"))),
        reason="install xvfb, xdotool and openbox to press keys in a window",
    ),
]


class Desktop:
    """A virtual display with the program in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._screen = folder / "screen"
        self._screen.mkdir()
        self._server = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-fbdir", str(self._screen)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._server.stdout is not None
        self.display = ":" + self._server.stdout.readline().strip()
        # Windows are shown and get keys as on a desktop: without a manager Qt may miss that its window can be seen.
        self._manager = subprocess.Popen(
            ["openbox", "--sm-disable"],
            env=environment(DISPLAY=self.display),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.program: subprocess.Popen[str] | None = None
        self.window = ""

    def start(self, *arguments: object) -> None:
        """Start the program and wait for its window to show a picture."""
        self.program = subprocess.Popen(
            command(*arguments),
            cwd=self.folder,
            env=environment(DISPLAY=self.display),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait(lambda: bool(self._find()), "the window")
        self.window = self._find()
        self.wait(lambda: len(np.unique(self.screenshot())) > 100, "a picture in the window")
        self._xdotool("windowactivate", "--sync", self.window)

    def _xdotool(self, *words: str) -> str:
        result = subprocess.run(
            ["xdotool", *words], env=environment(DISPLAY=self.display), capture_output=True, text=True
        )
        return result.stdout.strip()

    def _find(self) -> str:
        return self._xdotool("search", "--name", "^Facial expressions").partition("\n")[0]

    def press(self, key: str) -> None:
        self._xdotool("key", key)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 40
        while not condition():
            if self.program is not None and self.program.poll() is not None:
                pytest.fail(f"the program ended: {self.program.communicate()}")
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.05)

    def screenshot(self) -> np.ndarray:
        """The screen, uint8 `(600, 800, 3)` BGR, from the server's frame buffer (XWD format, 32 bits per pixel)."""
        content = (self._screen / "Xvfb_screen0").read_bytes()
        header, colours = int.from_bytes(content[:4], "big"), int.from_bytes(content[76:80], "big")
        pixels = np.frombuffer(content, np.uint8, 800 * 600 * 4, header + 12 * colours)
        return pixels.reshape(600, 800, 4)[:, :, :3].copy()

    def picture(self) -> np.ndarray:
        """What the window shows, uint8 `(H, W, 3)` BGR."""
        place = dict(
            line.split("=") for line in self._xdotool("getwindowgeometry", "--shell", self.window).splitlines()
        )
        x, y, width, height = (int(place[name]) for name in ("X", "Y", "WIDTH", "HEIGHT"))
        return self.screenshot()[y : y + height, x : x + width]

    def end(self) -> tuple[int, str, str]:
        """Exit code and both streams of the program, which has been told to end."""
        assert self.program is not None
        stdout, stderr = self.program.communicate(timeout=30)
        return self.program.returncode, stdout, stderr

    def close(self) -> None:
        if self.program is not None and self.program.poll() is None:
            self.program.kill()
            self.program.communicate()
        self._manager.terminate()
        self._manager.wait()
        self._server.terminate()
        self._server.communicate()


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Desktop]:
    if not sys.platform.startswith("linux"):
        pytest.skip("Xvfb is an X11 server")
    desktop = Desktop(tmp_path)
    yield desktop
    desktop.close()


@pytest.fixture
def camera(tmp_path: Path) -> tuple[object, ...]:
    """A drawn clip that plays as a camera, 320 x 240."""
    clip = write_clip(tmp_path / "clip.mp4", seconds=2.0)
    model = write_model(tmp_path / "model.onnx")
    return ("--source", clip, "--as-camera", "--model", model, "--detector", "haar")


def shows_red(picture: np.ndarray) -> bool:
    """In the upper right, where the badge is."""
    blue, green, red = np.moveaxis(picture[:60, -160:].astype(int), -1, 0)
    return bool((red - np.maximum(blue, green) > 90).any())


def test_keys(camera: tuple[object, ...], desktop: Desktop, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    desktop.start(*camera, "--save-to", saved)
    desktop.press("h")  # the list of keys, shown at the start, goes
    time.sleep(0.5)
    assert not shows_red(desktop.picture())
    desktop.press("space")
    time.sleep(0.4)
    first = desktop.screenshot()
    time.sleep(0.4)
    assert (desktop.screenshot() == first).all(), "paused"
    desktop.press("space")
    desktop.wait(lambda: bool((desktop.screenshot() != first).any()), "the picture to go on")

    desktop.press("r")
    desktop.wait(lambda: shows_red(desktop.picture()), "a red dot while recording")
    time.sleep(1.2)
    desktop.press("r")
    desktop.wait(lambda: not shows_red(desktop.picture()), "the recording to end")
    assert 5 <= count_frames(next(saved.glob("recording-*.mp4"))) <= 60

    shots: list[Path] = []
    for key in ("s", "b", "t", "m", "p"):
        if key != "s":
            desktop.press(key)
            time.sleep(0.3)
        desktop.press("s")
        desktop.wait(lambda: len(set(saved.glob("snapshot-*.png")) - set(shots)) == 1, "a snapshot")
        shots.append(sorted(saved.glob("snapshot-*.png"))[-1])
    pictures = [cv2.imread(str(path)) for path in shots]
    assert all(picture is not None and picture.shape == (240, 320, 3) for picture in pictures)
    desktop.press("p")  # not blurred again
    time.sleep(0.3)
    desktop.press("space")
    time.sleep(0.3)
    for key in ("p", "s"):
        desktop.press(key)
    desktop.wait(lambda: len(set(saved.glob("snapshot-*.png")) - set(shots)) == 1, "a snapshot while paused")
    paused = cv2.imread(str(sorted(saved.glob("snapshot-*.png"))[-1]))
    assert paused is not None and not HaarDetector().detect(paused), "blurred while paused"
    desktop.press("q")
    code, stdout, stderr = desktop.end()
    assert code == 0, stderr
    assert "Traceback" not in stderr
    assert stdout.count("saved ") == 7


@pytest.mark.parametrize("key", ["Escape", "alt+F4"], ids=["key", "closed by the window manager"])
def test_leaving(key: str, camera: tuple[object, ...], desktop: Desktop, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    desktop.start(*camera)
    desktop.press(key)
    code, _, stderr = desktop.end()
    assert code == 0, stderr
    assert "Traceback" not in stderr
    assert {path.name for path in tmp_path.iterdir()} - before <= {"screen"}, "nothing is saved unless asked"


def test_ctrl_c_in_the_window_finishes_the_table(camera: tuple[object, ...], desktop: Desktop, tmp_path: Path) -> None:
    desktop.start(*camera, "--csv", "a.csv", "--output", "a.mp4")
    desktop.wait(lambda: (tmp_path / "a.csv").read_bytes().count(b"\n") > 10, "rows")
    assert desktop.program is not None
    desktop.program.send_signal(2)
    code, _, stderr = desktop.end()
    assert code == 130, stderr
    assert "Traceback" not in stderr
    assert read_table(tmp_path / "a.csv")
    assert count_frames(tmp_path / "a.mp4") >= 5


def test_a_picture_stays_until_space_is_pressed(desktop: Desktop, tmp_path: Path) -> None:
    """Pictures and a video in one call; blurred from the first on."""
    photo = draw_photo(np.random.default_rng(3), [("happy", (70.0, 60.0, 120.0, 120.0))], 260, 240)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), photo)
    clip, model = write_clip(tmp_path / "clip.mp4", seconds=0.5), write_model(tmp_path / "model.onnx")
    desktop.start(
        "--source", "a.png", "b.png", clip, "--model", model, "--detector", "haar", "--csv", "a.csv", "--blur",
        "--save-to", "saved",
    )  # fmt: skip
    desktop.press("s")
    desktop.wait(lambda: len(list(tmp_path.glob("saved/snapshot-*.png"))) == 1, "a snapshot")
    shot = cv2.imread(str(next(tmp_path.glob("saved/snapshot-*.png"))))
    assert shot is not None and HaarDetector().detect(photo) and not HaarDetector().detect(shot)
    desktop.press("space")
    time.sleep(0.5)
    desktop.press("space")
    code, _, stderr = desktop.end()
    assert code == 0, stderr
    assert list(dict.fromkeys(row["source"] for row in read_table(tmp_path / "a.csv"))) == [
        "a.png",
        "b.png",
        "clip.mp4",
    ]


def test_a_file_ends_by_itself(desktop: Desktop, tmp_path: Path) -> None:
    clip, model = write_clip(tmp_path / "clip.mp4", seconds=4.0), write_model(tmp_path / "model.onnx")
    desktop.start("--source", clip, "--model", model, "--detector", "haar", "--json", "a.jsonl")
    code, _, stderr = desktop.end()
    assert code == 0, stderr
