"""How fast and how faithful `python -m src.realtime` is, beside `fer` from PyPI, in one run.

    make bench-realtime            # about 8 minutes on two cores: every section, printed as tables
    python -m tools.benchmarks.bench_realtime --video clip.mp4 --photos expw.zip --only speed faces

Sections: `speed` (end-to-end frames/s beside fer 25.10.3, held to one core, then to two), `faces` (growth from 1 to 20
faces), `defaults` (agreement of detection schedules with detection on every frame).

In: a video with a face (`--video`), ExpW photos (`--photos`, a zip with `origin/*.jpg`), a model (`--model`).
fer has an environment of its own, made once: `python3.11 -m venv build/bench-fer && build/bench-fer/bin/pip install
fer==25.10.3 'opencv-contrib-python<5' 'setuptools<81'` (8 GB, since it requires TensorFlow and PyTorch).
"""

import argparse
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from src.errors import UserError, run_program
from src.realtime.overlay import Overlay, View
from src.realtime.sources import VideoFile
from src.recognition import DEFAULT_MODEL, ExpressionRecognizer, Face, Settings
from src.recognition.detection import open_detector
from src.recognition.following import assign, iou
from tools.benchmarks.measuring import machine, parser, show

FER_PYTHON = Path("build/bench-fer/bin/python")
SIZE = (640, 480)  # pixels
RATE = 30  # frames per second

# Runs in fer's own environment. Its model is loaded and warmed up before the clock starts, as ours is.
_FER_PROGRAM = """
import json, logging, sys, time, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
import cv2
from fer.fer import FER
video, threads = sys.argv[1], int(sys.argv[2])
cv2.setNumThreads(threads)
recognizer = FER()
def frames():
    capture = cv2.VideoCapture(video)
    while True:
        read, frame = capture.read()
        if not read: return
        yield cv2.resize(frame, (640, 480))
first = next(frames())
for _ in range(3): recognizer.detect_emotions(first)
milliseconds, found = [], 0
last, cpu = time.perf_counter(), time.process_time()
for frame in frames():
    found += bool(recognizer.detect_emotions(frame))
    now = time.perf_counter(); milliseconds.append(1000 * (now - last)); last = now
cpu = 1000 * (time.process_time() - cpu) / len(milliseconds)
print("RESULT" + json.dumps([milliseconds, found, cpu]))
"""


def _result(milliseconds: Sequence[float], found: int, cpu_ms: float) -> dict[str, float]:
    """Of the milliseconds of each frame, the frames with a face, and processor time per frame.

    first: the first frame, with which the video is opened. max: of all others.
    """
    median, p95 = np.percentile(milliseconds, (50, 95))
    row = {"frames/s": 1000 / np.mean(milliseconds), "median ms": median, "p95": p95}
    row |= {"max": max(milliseconds[1:]), "first": milliseconds[0]}
    return {**row, "CPU ms": cpu_ms, "found": found}


def _frames(video: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Frames of a video as uint8 `(480, 640, 3)` BGR, and their times in seconds."""
    source = VideoFile(video, video.name)
    try:
        for frame in source:
            yield cv2.resize(frame.image, SIZE), frame.time_s
    finally:
        source.close()


def _recognizer(options: Any, settings: Settings | None = None, threads: int = 1) -> ExpressionRecognizer:
    cv2.setNumThreads(threads)
    detector, _ = open_detector(options.detector, options.detector_model)
    return ExpressionRecognizer(options.model, detector, settings or Settings(), threads)


def _measure_fer(options: argparse.Namespace, threads: int) -> dict[str, float]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [FER_PYTHON, "-c", _FER_PROGRAM, options.video, str(threads)]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if result.returncode:
        raise UserError("fer failed; its message is above.")
    return _result(*json.loads(result.stdout.partition("RESULT")[2]))


def _measure_ours(
    options: argparse.Namespace, settings: Settings, threads: int, *, drawn: bool
) -> tuple[dict[str, float], pd.Series]:
    """Decode, scale, recognize and, if asked, draw; also mean milliseconds per stage."""
    recognizer, overlay = _recognizer(options, settings, threads), Overlay(View())
    first, _ = next(_frames(options.video))
    for step in range(3):
        recognizer.recognize(first, step / RATE)
    recognizer.reset()
    milliseconds, stages, found = [], [], 0
    last, cpu = time.perf_counter(), time.process_time()
    for image, time_s in _frames(options.video):
        faces = recognizer.recognize(image, time_s).faces
        timings = dict(recognizer.timings)
        if drawn:
            start = time.perf_counter()
            overlay.recent.add(time_s, faces)
            overlay.draw(image.copy(), faces)
            timings["draw"] = 1000 * (time.perf_counter() - start)
        found += bool(faces)
        now = time.perf_counter()
        milliseconds.append(1000 * (now - last))
        last = now
        stages.append(timings)
    cpu = 1000 * (time.process_time() - cpu) / len(milliseconds)
    means = pd.DataFrame(stages).mean()
    means["decode and scale"] = np.mean(milliseconds) - means.sum()
    return _result(milliseconds, found, cpu), means


def speed(options: argparse.Namespace) -> None:
    """End-to-end frames/s beside fer, and milliseconds per stage. CPU ms: processor time per frame, all threads, which
    a busy machine changes less than frames/s."""
    cases = (
        ("ours, defaults", Settings(), False),
        ("ours, defaults, with overlay drawn", Settings(), True),
        ("ours, detection on every frame", Settings(detect_every_s=0.0), False),
    )
    all_cores = os.sched_getaffinity(0)
    for threads in (1, 2):
        os.sched_setaffinity(0, sorted(all_cores)[:threads])  # what is started from here on is held to them too
        results, stages = {}, {}
        if FER_PYTHON.exists():
            results["fer 25.10.3 (Haar, TFLite)"] = _measure_fer(options, threads)
        else:
            print(f"fer is not installed in {FER_PYTHON.parent.parent}; see the head of this file")
        for name, settings, drawn in cases:
            results[name], stages[name] = _measure_ours(options, settings, threads, drawn=drawn)
        table = pd.DataFrame(results).T
        table.insert(1, "ratio", table["frames/s"] / table["frames/s"].iloc[0])
        print(f"\ncores and threads: {threads}; video scaled to 640 x 480; ratio to the first line")
        show(table)
        print("\nmilliseconds per stage")
        show(pd.DataFrame(stages).T, decimals=2)
    os.sched_setaffinity(0, all_cores)


def _crowd(video: Path, num_faces: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The video's face repeated `num_faces` times in a grid on one frame."""
    columns = int(np.ceil(np.sqrt(num_faces * 1.3)))
    cell = (size[0] // columns, size[1] // -(-num_faces // columns))
    for image, _ in _frames(video):
        side = max(200, min(SIZE[1], SIZE[1] * cell[0] // cell[1]))
        middle = image[:, max(0, SIZE[0] // 2 - side // 2) : SIZE[0] // 2 + side // 2]
        tile = cv2.resize(middle, cell, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        for index in range(num_faces):
            y, x = index // columns * cell[1], index % columns * cell[0]
            canvas[y : y + cell[1], x : x + cell[0]] = tile
        yield canvas


def faces(options: argparse.Namespace) -> None:
    """Growth from 1 to 20 faces in a 1280 x 720 frame, and 100 faces in one of 1920 x 1080."""
    print("\nFaces in a frame of 1280 x 720 (100 faces: 1920 x 1080), defaults, 1 thread, without drawing; mean ms")
    rows = []
    for num_faces in (1, 2, 4, 8, 12, 16, 20, 100):
        recognizer = _recognizer(options)
        size = (1280, 720) if num_faces < 100 else (1920, 1080)
        milliseconds, found, stages = [], [], []
        for number, image in enumerate(islice(_crowd(options.video, num_faces, size), 150)):
            start = time.perf_counter()
            found.append(len(recognizer.recognize(image, number / RATE)))
            milliseconds.append(1000 * (time.perf_counter() - start))
            stages.append(dict(recognizer.timings))
        parts = pd.DataFrame(stages)
        without = parts["track"] + parts["classify"]
        means = {"faces": num_faces, "found": int(np.median(found)), "all": np.mean(milliseconds)}
        means |= {"all, p95": np.percentile(milliseconds, 95), **parts.mean()}
        rows.append({**means, "track + classify": without.mean(), "p95": np.percentile(without, 95)})
    show(rows)


def pan_over_photos(photos: Path, *, num_photos: int = 12, seconds: float = 3.0) -> Iterator[np.ndarray]:
    """A hand-held-like tour of ExpW photos at 30 frames/s, uint8 `(480, 640, 3)`: pans, zooms, and hard cuts."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(photos) as archive:
        names = rng.permutation(sorted(name for name in archive.namelist() if name.lower().endswith(".jpg")))
        pictures = (cv2.imdecode(np.frombuffer(archive.read(n), np.uint8), cv2.IMREAD_COLOR) for n in names)
        large = (photo for photo in pictures if photo is not None and min(photo.shape[:2]) >= 300)
        for photo in islice(large, num_photos):
            height, width = photo.shape[:2]
            whole = min(width / SIZE[0], height / SIZE[1])  # photo pixels per pixel of the frame, at least
            phase = rng.uniform(0, 2 * np.pi, 4)
            for t in np.arange(int(seconds * RATE)) / RATE:
                zoom = whole * (0.85 + 0.12 * np.sin(phase[0] + 1.3 * t))
                free_x, free_y = (width - zoom * SIZE[0]) / 2, (height - zoom * SIZE[1]) / 2
                left = free_x * (1 + np.sin(phase[1] + 1.1 * t)) + 1.5 * zoom * np.sin(phase[2] + 9 * t)
                top = free_y * (1 + 0.8 * np.sin(phase[3] + 0.9 * t)) + 1.5 * zoom * np.cos(phase[2] + 8 * t)
                matrix = np.array([[zoom, 0, left], [0, zoom, top]])
                flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR)
                yield cv2.warpAffine(photo, matrix, SIZE, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def compare(reference: list[list[Face]], other: list[list[Face]]) -> dict[str, float]:
    """How well `other` agrees with `reference`, frame by frame; a face not found again counts against it.

    label: share of the reference's faces with the same expression. iou: mean over the reference's faces. matched: share
    of them found again (IoU above .3). extra: faces of `other` without one in the reference, per reference face.
    """
    rows, extra = [], 0
    for wanted, found in zip(reference, other, strict=True):
        values = np.array([[iou(a.box, b.box) for b in found] for a in wanted]).reshape(len(wanted), len(found))
        pairs = {row: column for row, column in assign(1 - values) if values[row, column] > 0.3}
        extra += len(found) - len(pairs)
        for row, face in enumerate(wanted):
            again = found[pairs[row]] if row in pairs else None
            same_label = again is not None and again.expression == face.expression
            rows.append((same_label, values[row, pairs[row]] if again else 0.0, again is not None))
    means = pd.DataFrame(rows, columns=["label", "iou", "matched"]).mean()
    return {**means, "extra": extra / max(1, len(rows)), "faces": len(rows)}


def defaults(options: argparse.Namespace) -> None:
    """Label agreement and IoU of detection schedules with detection on every frame."""
    videos: dict[str, list[np.ndarray]] = {options.video.name: [image for image, _ in _frames(options.video)]}
    if options.photos:
        videos["tour of ExpW photos"] = list(pan_over_photos(options.photos))
    for name, images in videos.items():
        runs = {}
        for every_s in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
            recognizer = _recognizer(options, Settings(detect_every_s=every_s))
            runs[every_s] = [recognizer.recognize(image, place / RATE).faces for place, image in enumerate(images)]
        print(f"\n{name}, {len(images)} frames of 640 x 480, against detection on every frame")
        rows = [{"every s": f"{every_s:g}", **compare(runs[0.0], run)} for every_s, run in runs.items() if every_s]
        show(rows, decimals=3)
    print(f"default: every {Settings().detect_every_s:g} s")


SECTIONS = {"speed": speed, "faces": faces, "defaults": defaults}


def main() -> None:
    real = os.environ.get("FER_REAL_DATA")
    words = parser(__doc__)
    words.add_argument("--video", type=Path, default=Path(real) / "portrait.mp4" if real else None)
    words.add_argument("--photos", type=Path, default=Path(real) / "expw.zip" if real else None)
    words.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    words.add_argument("--detector", default="auto")
    words.add_argument("--detector-model", type=Path)
    words.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    options = words.parse_args()
    if options.video is None or not options.video.is_file():
        raise UserError(
            "Name a video with a face: --video clip.mp4, or set FER_REAL_DATA to a folder with portrait.mp4."
        )
    print(f"{machine()}, OpenCV {cv2.__version__}; model {options.model}")
    print(open_detector(options.detector, options.detector_model)[1])
    for name in options.only:
        SECTIONS[name](options)


if __name__ == "__main__":
    run_program(main)
