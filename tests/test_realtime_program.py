"""`python -m src.realtime`: what it writes, what it refuses, what it hides, and what is left when it is stopped."""

import contextlib
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from src.expressions import EXPRESSIONS
from src.realtime.results import COLUMNS
from src.realtime.sources import LiveSource, VideoFile
from src.recognition import Settings
from src.recognition.detection import YuNetDetector
from tests.conftest import ROOT
from tests.realtime_fixtures import (
    Ended,
    command,
    count_frames,
    environment,
    find_real,
    find_yunet,
    read_lines,
    read_table,
    run_here,
    run_realtime,
    times_of,
    write_clip,
    write_collage,
    write_film,
    write_model,
    write_video,
)
from tools.drawn_faces import draw_clip, draw_photo

HAAR = ("--detector", "haar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model.onnx and the drawn clip.mp4 of 50 frames; tests write elsewhere."""
    path = tmp_path_factory.mktemp("inputs")
    write_model(path / "model.onnx")
    write_clip(path / "clip.mp4")
    return path


@pytest.fixture
def options(folder: Path) -> tuple[object, ...]:
    """The clip, the tiny model and Haar, without a window."""
    return ("--source", folder / "clip.mp4", "--model", folder / "model.onnx", *HAAR, "--headless")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process write into tmp_path, have no display, and no way to the network."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def _one_message(result: Ended, code: int, *words: str) -> str:
    """The one line that starts with `error:`; no traceback."""
    assert result.code == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


def test_a_video_into_all_outputs(options: tuple[object, ...], tmp_path: Path) -> None:
    result = run_realtime(
        *options, "--output", "o/seen.mp4", "--csv", "seen.csv", "--json", "seen.jsonl", "--summary", "s.png",
        "--summary", "s.json", folder=tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.stderr
    assert "detector: Haar" in result.stderr
    assert "50 frames" in result.stdout
    assert count_frames(tmp_path / "o/seen.mp4") == 50
    rows, lines = read_table(tmp_path / "seen.csv"), read_lines(tmp_path / "seen.jsonl")
    head = lines.pop(0)
    assert head["schema"] == "facial-expressions" and head["version"] == 1
    assert head["frames_per_second"] == pytest.approx(25, abs=0.6)
    assert (head["source"], head["model"], head["uncertain_below"]) == ("clip.mp4", "model.onnx", 0.2)
    assert tuple(rows[0]) == COLUMNS == tuple(lines[0])
    assert COLUMNS[-8:-1] == EXPRESSIONS
    assert len(rows) == len(lines) >= 45
    assert [row["frame"] for row in rows] == [str(line["frame"]) for line in lines]
    for row in rows:
        assert sum(float(row[name]) for name in EXPRESSIONS) == pytest.approx(1, abs=1e-3)
        assert float(row["time_s"]) == pytest.approx(int(row["frame"]) / 25, abs=0.002)
        assert row["expression"] in (*EXPRESSIONS, "uncertain")
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None and picture.shape[1] == 1400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o", "s.json", "s.png", "seen.csv", "seen.jsonl"]


_OFFLINE = """
import runpy, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise RuntimeError(f"{event}: {arguments}")
sys.addaudithook(watch)
runpy.run_module("src.realtime", run_name="__main__")
"""


def test_the_program_keeps_off_the_network(options: tuple[object, ...], tmp_path: Path) -> None:
    """As Python sees it; that ONNX Runtime's own code keeps off it is in tests/test_startup.py."""
    arguments = [*map(str, options), "--csv", "a.csv", "--output", "a.mp4", "--summary", "a.png"]
    result = subprocess.run(
        [sys.executable, "-c", _OFFLINE, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert read_table(tmp_path / "a.csv")


def test_the_runtime_lock_holds_the_tested_versions_and_nothing_heavy() -> None:
    pattern = re.compile(r"^([a-z0-9_.-]+)==(\S+)", re.MULTILINE)
    runtime = dict(pattern.findall((ROOT / "requirements-runtime.txt").read_text(encoding="utf-8")))
    whole = dict(pattern.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert runtime.items() <= whole.items()
    assert {"opencv-python", "onnxruntime", "numpy", "tqdm", "av"} <= runtime.keys()
    assert not {"tensorflow", "keras", "dvc", "pandas"} & runtime.keys()


def test_help_is_a_page_for_people() -> None:
    result = run_here("--help")
    assert result.code == 0
    for word in ("camera index", "examples:", "--headless", "space", "Exit codes"):
        assert word in result.stdout
    words = " ".join(result.stdout.split())
    settings = Settings()
    assert f"follow them between (default: {settings.detect_every_s:g};" in words
    assert f"of the smoothing (default: {settings.smoothing_s:g};" in words
    page = (ROOT / "docs/live.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z][a-z-]*", page)) <= set(re.findall(r"--[a-z][a-z-]*", words))
    assert max(map(len, result.stdout.splitlines())) <= 120


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drawn photos of different sizes, a damaged one, and a text file."""
    path = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, width, height in (("a.jpg", 300, 240), ("b.png", 420, 300)):
        cv2.imwrite(str(path / name), draw_photo(rng, [("happy", (80, 60, 120, 120))], width, height))
    (path / "c.jpg").write_bytes(b"not a picture")
    (path / "notes.txt").write_text("not a picture either", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "option", "output"),
    [
        ("", "--output", "."),
        ("", "--output", "../photos"),
        ("", "--summary", "b.png"),
        ("", "--csv", "link"),
        ("a.jpg", "--output", "."),
        ("b.png", "--output", "b.png"),
    ],
)
def test_no_picture_takes_its_originals_place(
    photos: Path, folder: Path, tmp_path: Path, source: str, option: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    (copy / "link").hardlink_to(copy / "a.jpg")
    monkeypatch.chdir(copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    result = run_here(
        "--source", copy / source, "--model", folder / "model.onnx", *HAAR, "--headless", option, output,
    )  # fmt: skip
    _one_message(result, 1, "the source itself")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_video_of_one_frame(options: tuple[object, ...], folder: Path, tmp_path: Path) -> None:
    frame, _ = next(draw_clip(np.random.default_rng(5), seconds=0.2, size=(320, 240), num_faces=1))
    write_video(tmp_path / "one.mp4", [frame])
    result = run_here(
        "--source", tmp_path / "one.mp4", *options[2:], "--csv", "a.csv", "--output", "a.mp4", "--summary", "a.png"
    )
    assert result.code == 0, result.stderr
    assert len(read_table(tmp_path / "a.csv")) == count_frames(tmp_path / "a.mp4") == 1


def _bad_source(kind: str, clip: Path, path: Path) -> None:
    content = clip.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a video at all\n" * 50, encoding="utf-8")
    elif kind == "truncated":  # an mp4 without its index
        path.write_bytes(content[: len(content) // 2])
    elif kind == "unknown codec":
        assert b"avc1" in content
        path.write_bytes(content.replace(b"avc1", b"zzzz"))
    elif kind == "damaged frames":
        start = content.index(b"mdat") + 4
        end = content.index(b"moov") - 4
        path.write_bytes(content[: start + 60] + bytes(end - start - 60) + content[end:])


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "truncated", "unknown codec", "damaged frames"])
def test_a_bad_video_is_one_message(kind: str, folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    _bad_source(kind, folder / "clip.mp4", bad)
    result = run_here("--source", bad, "--model", folder / "model.onnx", *HAAR, "--headless", "--csv", "a.csv")
    _one_message(result, 1, "bad.mp4")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "7"), ("No camera at index 7", "--source video.mp4")),
        (("--source", "http://127.0.0.1:9/video"), ("127.0.0.1:9",)),
        (("--model", "nowhere.onnx"), ("No model at nowhere.onnx",)),
        (("--model", "foreign.onnx"), ("foreign",)),
        (("--model", "broken.onnx"), ("broken.onnx", "cannot be read")),
        (("--model", "model.keras"), ("not an exported model",)),
        (("--detector-model", "nowhere.onnx", "--detector", "yunet"), ("No face detector",)),
        (("--csv", "same", "--json", "same"), ("same name",)),
        (("--output", "seen.gif"), ("seen.gif",)),
        (("--csv", "model.keras/a.csv"), ("cannot be written",)),
        (("--summary", "a.txt"), ("a.txt",)),
        (("--csv", "link.onnx", "--model", "model.onnx"), ("the model",)),
        (("--source", ""), ("empty",)),
    ],
    ids=lambda value: " ".join(value[:2]) if str(value[0]).startswith("--") else "",
)
def test_what_cannot_work_is_one_message(
    arguments: tuple[str, ...], words: tuple[str, ...], options: tuple[object, ...], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes((folder / "model.onnx").read_bytes()[:200])
    foreign = onnx.load(folder / "model.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "model.keras").write_bytes(b"")
    shutil.copy(folder / "model.onnx", tmp_path)
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    (tmp_path / "a.csv").write_text("before", encoding="utf-8")
    _one_message(run_here(*options, "--csv", "a.csv", *arguments), 1, *words)
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "before", "outputs are touched when all is well"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threads", "0"), "--threads must be at least 1"),
        (("--smoothing", "-1"), "--smoothing must not be negative"),
        (("--uncertain-below", "54"), "from 0 to 1"),
        (("--reconnect", "inf"), "--reconnect is a number of seconds"),
        (("--rate", "x"), "x is not a number above 0"),
        ((), "--headless shows nothing"),
    ],
)
def test_wrong_options_end_with_2(arguments: tuple[str, ...], words: str) -> None:
    result = run_here("--headless", *arguments, *(("--csv", "a.csv") if arguments else ()))
    assert result.code == 2
    usage, error = result.stderr.splitlines()
    assert "--help" in usage
    assert words in error


def test_without_a_display_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("displays are an X11 matter")
    arguments = ("--source", folder / "clip.mp4", "--model", folder / "model.onnx", *HAAR)
    _one_message(run_here(*arguments), 1, "no display", "--headless")
    monkeypatch.setenv("DISPLAY", ":987")
    _one_message(run_here(*arguments), 1, ":987", "--headless")


def test_a_tilde_is_the_home_folder(
    options: tuple[object, ...], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    result = run_here(*options, "--source", "~/clip.mp4", "--csv", "~/a.csv", "--summary=~/a.png", "--seconds", "0.2")
    assert result.code == 0, result.stderr
    assert (folder / "a.csv").exists() and (folder / "a.png").exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("program", "package"), [("src.realtime", "cv2"), ("src.web", "uvicorn")])
def test_what_is_not_installed_is_one_message(program: str, package: str, folder: Path) -> None:
    code = f"import runpy, sys; sys.modules['{package}'] = None; runpy.run_module('{program}', run_name='__main__')"
    options = ("--headless", "--csv", "a.csv") if program == "src.realtime" else ("--port", "0")
    done = subprocess.run([sys.executable, "-c", code, *options], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {package} is not installed") and "pip install -r" in done.stderr


def test_a_wrong_number_is_said_in_words() -> None:
    result = run_here("--seconds", "1,5")
    assert result.code == 2 and "--seconds: 1,5 is not a number above 0" in result.stderr


def test_haar_where_yunet_cannot_be_fetched(folder: Path, tmp_path: Path) -> None:
    result = run_realtime(
        "--source", folder / "clip.mp4", "--model", folder / "model.onnx", "--headless", "--csv", "a.csv",
        folder=tmp_path, HOME=str(tmp_path),
    )  # fmt: skip
    assert result.code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("detector:")]
    assert len(lines) == 1 and "Haar" in lines[0] and "because YuNet could not be fetched" in lines[0]


def test_without_a_home(options: tuple[object, ...], tmp_path: Path) -> None:
    """As in a container, for a user whom the system does not know."""
    program = "import pwd, runpy\ndef unknown(user): raise KeyError(user)\npwd.getpwuid = unknown\n"
    variables = {name: value for name, value in environment().items() if name not in ("HOME", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", program + "runpy.run_module('src.realtime', run_name='__main__')"]
        + [str(option) for option in options if option not in HAAR] + ["--csv", "a.csv"],
        cwd=tmp_path, env=variables, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path / "a.csv")


# --- what is hidden ---------------------------------------------------------------------------------------------------


def _visible(picture: np.ndarray) -> int:
    """Faces that a detector finds, at the scales at which it finds most."""
    detector = YuNetDetector(find_yunet())
    sizes = [min(1.0, side / max(picture.shape[:2])) for side in (640, 1280)]
    return max(len(detector.detect(cv2.resize(picture, None, fx=s, fy=s, interpolation=cv2.INTER_AREA))) for s in sizes)


def test_nobody_can_be_seen_in_a_blurred_class_photo_or_video(tmp_path: Path) -> None:
    """40 real faces, more than the classifier takes in one frame; a video from the first frame on."""
    write_collage(tmp_path / "class.png", side=150)
    page = cv2.imread("class.png")
    assert page is not None and _visible(page) >= 38
    moving = [np.roll(page, 3 * step, axis=1) for step in range(6)]
    write_film(tmp_path / "class.mp4", moving, [step / 10 for step in range(6)])
    result = run_here(
        "--source", "class.png", "class.mp4", "--detector-model", find_yunet(), "--headless", "--blur",
        "--output", "seen",
    )  # fmt: skip
    assert result.code == 0, result.stderr
    seen = cv2.imread("seen/class.png")
    assert seen is not None and _visible(seen) == 0
    frames = VideoFile(tmp_path / "seen/class.mp4", "class.mp4").frames()
    assert [_visible(frame.image) for frame in frames] == [0] * 6


# --- how it ends ------------------------------------------------------------------------------------------------------


def _start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, f"{path} got no {count} rows"
        time.sleep(0.02)


@pytest.fixture
def endless(options: tuple[object, ...]) -> tuple[object, ...]:
    """The clip as a camera: never ends by itself."""
    return (*options, "--as-camera")


@pytest.mark.slow
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_in_the_middle_everything_is_finished(
    sign: signal.Signals, code: int, endless: tuple[object, ...], tmp_path: Path
) -> None:
    program = _start(*endless, "--csv", "a.csv", "--output", "a.mp4", "--summary", "a.png", folder=tmp_path)
    _wait_for_rows(tmp_path / "a.csv", 20)
    program.send_signal(sign)
    _, stderr = program.communicate(timeout=30)
    assert program.returncode == code, stderr
    assert "Traceback" not in stderr
    assert len(read_table(tmp_path / "a.csv")) >= 20
    assert count_frames(tmp_path / "a.mp4") >= 15
    assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.slow
def test_a_closed_terminal_keeps_what_was_recorded(endless: tuple[object, ...], tmp_path: Path) -> None:
    """The program in a terminal of its own, with a progress bar; the terminal goes away."""
    ours, theirs = pty.openpty()
    program = subprocess.Popen(
        ["setsid", "--ctty", *command(*endless, "--csv", "a.csv", "--output", "a.mp4", "--summary", "a.json")],
        cwd=tmp_path, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    _wait_for_rows(tmp_path / "a.csv", 20)
    os.close(ours)
    assert program.wait(30) == 129
    assert len(read_table(tmp_path / "a.csv")) >= 20 and count_frames(tmp_path / "a.mp4") >= 15
    assert (tmp_path / "a.json").read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.15, 0.3, 0.5, 0.8, 1.2])
def test_ctrl_c_at_any_time(delay_s: float, endless: tuple[object, ...], tmp_path: Path) -> None:
    program = _start(*endless, "--csv", "a.csv", "--output", "a.mp4", folder=tmp_path)
    time.sleep(delay_s + random.uniform(0, 0.1))
    program.send_signal(signal.SIGINT)
    _, stderr = program.communicate(timeout=30)
    if program.returncode == -signal.SIGINT and "run_program" not in stderr:
        pytest.skip("Python had not got to the program yet")
    assert program.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.count("interrupted") == 1
    if (tmp_path / "a.csv").exists():
        read_table(tmp_path / "a.csv")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_killed_the_table_is_whole_and_the_video_plays(name: str, options: tuple[object, ...], tmp_path: Path) -> None:
    frames = [frame for frame, _ in draw_clip(np.random.default_rng(5), seconds=1.0, size=(320, 240), num_faces=1)]
    write_video(tmp_path / "long.mp4", frames * 40)
    program = _start(
        "--source", tmp_path / "long.mp4", *options[2:], "--csv", "a.csv", "--output", name, folder=tmp_path
    )
    _wait_for_rows(tmp_path / "a.csv", 200)
    program.kill()
    program.communicate(timeout=30)
    rows = len(read_table(tmp_path / "a.csv"))
    assert 200 <= rows < 1000, "killed in the middle"
    assert rows - 100 <= count_frames(tmp_path / name) <= rows


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root on Linux")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def _noisy_clip(path: Path) -> Path:
    """A drawn face in front of noise, which fills a disk quickly."""
    rng = np.random.default_rng(0)
    frames = []
    for frame, _ in draw_clip(rng, seconds=4.0, size=(320, 240), num_faces=1):
        noise = rng.integers(0, 256, frame.shape, dtype=np.uint8)
        noise[30:210, 80:240] = frame[30:210, 80:240]
        frames.append(noise)
    write_video(path, frames)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_full_disk_while_recording(name: str, folder: Path, small_disk: Path, tmp_path: Path) -> None:
    clip = _noisy_clip(tmp_path / "noisy.mp4")
    (small_disk / "others").write_bytes(bytes(2_000_000))
    result = run_realtime(
        "--source", clip, "--model", folder / "model.onnx", *HAAR, "--headless",
        "--csv", small_disk / "a.csv", "--output", small_disk / name, folder=tmp_path,
    )  # fmt: skip
    _one_message(result, 1, "The disk is full", name)
    assert read_table(small_disk / "a.csv")
    assert count_frames(small_disk / name) >= 20


@pytest.mark.slow
def test_disk_filled_by_others(folder: Path, small_disk: Path, tmp_path: Path) -> None:
    """The table's row that does not fit is cut off; the video, on the same disk, plays."""
    clip = write_clip(tmp_path / "calm.mp4", seconds=8.0)
    program = _start(
        "--source", clip, "--as-camera", "--model", folder / "model.onnx", *HAAR, "--headless",
        "--csv", small_disk / "a.csv", "--json", small_disk / "a.jsonl", "--output", small_disk / "a.mp4",
        folder=tmp_path,
    )  # fmt: skip
    _wait_for_rows(small_disk / "a.csv", 150)  # several fragments of the video
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    _, stderr = program.communicate(timeout=30)
    assert program.returncode == 1, stderr
    assert stderr.count("error: ") == 1 and "disk is full" in stderr
    assert len(read_table(small_disk / "a.csv")) >= 30
    assert len(read_lines(small_disk / "a.jsonl")) >= 30
    (small_disk / "filler").unlink()
    assert count_frames(small_disk / "a.mp4") >= 5


# --- live sources -----------------------------------------------------------------------------------------------------


def test_a_camera_for_some_seconds(options: tuple[object, ...], tmp_path: Path) -> None:
    result = run_here(*options, "--as-camera", "--seconds", 1.5, "--output", "a.mp4", "--csv", "a.csv")
    assert result.code == 0, result.stderr
    rows = read_table(tmp_path / "a.csv")
    assert 1 < float(rows[-1]["time_s"]) < 1.5
    shown = times_of(tmp_path / "a.mp4")
    seen = [float(row["time_s"]) for row in rows]
    assert all(min(abs(time_s - at_s) for at_s in shown) < 0.01 for time_s in seen), "skipped frames leave gaps"


@pytest.mark.parametrize("work_s", [0.0, 0.1], ids=["fast consumer", "slow consumer"])
def test_the_newest_frame_is_used(work_s: float, folder: Path) -> None:
    """A source of 25 frames/s: however slow the work, no lag builds up (one after the other it would reach .9 s)."""
    source = LiveSource(folder / "clip.mp4", "clip.mp4")
    ages, numbers = [], []
    for frame in source:
        ages.append(time.monotonic() - frame.captured_s)
        numbers.append(frame.number)
        time.sleep(work_s)
        if frame.time_s > 1.5:
            break
    source.close()
    assert np.median(ages) <= 2 / 25
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 20 if work_s else len(numbers) > 25


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_real_clip_through_the_program(folder: Path, tmp_path: Path) -> None:
    portrait, yunet = find_real("portrait.mp4"), find_yunet()
    released = ROOT / "pretrained/model.onnx"
    result = run_here(
        "--source", portrait, "--model", released if released.exists() else folder / "model.onnx",
        "--detector-model", yunet, "--headless", "--output", "a.mp4", "--csv", "a.csv", "--summary", "a.png",
    )  # fmt: skip
    assert result.code == 0, result.stderr
    assert "detector: YuNet" in result.stderr
    rows = read_table(tmp_path / "a.csv")
    assert len({row["frame"] for row in rows}) >= 0.98 * 464
    assert {row["face_id"] for row in rows} == {"1"}
    assert count_frames(tmp_path / "a.mp4") == 464
