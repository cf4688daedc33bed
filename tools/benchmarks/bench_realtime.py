"""How fast and how faithful `python -m src.realtime` is, beside `fer` from PyPI, in one run.

    make bench-realtime            # about 20 minutes on two cores: every section, printed as tables
    python -m tools.benchmarks.bench_realtime --video clip.mp4 --photos expw.zip --only speed faces

Sections: `speed` (end-to-end frames/s beside fer 25.10.3, each process held to one core, then two), `faces` (growth
from 1 to 20 faces), `defaults` (agreement of detection schedules with detection on every frame), `lag` (a source
of 30 frames/s and slow consumers), `memory` (ten minutes at full speed).

In: a video with a face (`--video`), ExpW photos (`--photos`, a zip with `origin/*.jpg`), a model (`--model`).
fer has an environment of its own, made once: `python3.11 -m venv build/bench-fer && build/bench-fer/bin/pip install
fer==25.10.3 'opencv-contrib-python<5' 'setuptools<81'` (8 GB, since it requires TensorFlow and PyTorch).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError, run_program
from src.realtime.overlay import Overlay, View
from src.realtime.sources import LiveSource, VideoFile
from src.recognition import DEFAULT_MODEL, ExpressionRecognizer, Face, Settings
from src.recognition.detection import open_detector
from src.recognition.following import assign, iou

FER_PYTHON = Path("build/bench-fer/bin/python")
SIZE = (640, 480)  # pixels
SECTIONS = ("speed", "faces", "defaults", "lag", "memory")
_FULL = Settings(detect_every_s=0)

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
print("RESULT" + json.dumps({"milliseconds": milliseconds, "found": found, "cpu": cpu}))
"""


def _frames(video: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Frames of a video as uint8 `(480, 640, 3)` BGR, and their times in seconds."""
    source = VideoFile(video, video.name)
    try:
        for frame in source:
            yield cv2.resize(frame.image, SIZE), frame.time_s
    finally:
        source.close()


def _recognizer(options: argparse.Namespace, settings: Settings, threads: int = 1) -> ExpressionRecognizer:
    cv2.setNumThreads(threads)
    detector, _ = open_detector(options.detector, options.detector_model)
    return ExpressionRecognizer(options.model, detector, settings, threads)


def _measure_ours(options: argparse.Namespace, settings: Settings, threads: int, *, drawn: bool) -> dict:
    """Decode, scale, recognize and, if asked, draw; in this process."""
    recognizer = _recognizer(options, settings, threads)
    overlay = Overlay(View())
    first, _ = next(_frames(options.video))
    for step in range(3):
        recognizer.recognize(first, step / 30)
    recognizer.reset()
    milliseconds, found = [], 0
    stages: dict[str, list[float]] = {}
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
        for stage, value in timings.items():
            stages.setdefault(stage, []).append(value)
    means = {stage: float(np.mean(values)) for stage, values in stages.items()}
    means["decode and scale"] = float(np.mean(milliseconds)) - sum(means.values())
    cpu = 1000 * (time.process_time() - cpu) / len(milliseconds)
    return {"milliseconds": milliseconds, "found": found, "stages": means, "cpu": cpu}


def _in_process(command: list[str], cores: int, threads: int) -> dict:
    """Run a program that prints RESULT and JSON, held to `cores` cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    held = ["taskset", "-c", ",".join(map(str, range(cores))), *command] if sys.platform == "linux" else command
    result = subprocess.run(held, capture_output=True, text=True, env=environment)
    lines = [line for line in result.stdout.splitlines() if line.startswith("RESULT")]
    if result.returncode or not lines:
        raise UserError(f"`{command[0]}` failed: {result.stderr.strip().splitlines()[-1:] or result.returncode}")
    return json.loads(lines[0].removeprefix("RESULT"))


def _own_command(options: argparse.Namespace, job: dict) -> list[str]:
    command = [sys.executable, "-m", "tools.benchmarks.bench_realtime", "--job", json.dumps(job)]
    command += ["--video", str(options.video), "--model", str(options.model), "--detector", options.detector]
    return [*command, "--detector-model", str(options.detector_model)] if options.detector_model else command


def _job(options: argparse.Namespace) -> None:
    job = json.loads(options.job)
    result = _measure_ours(options, Settings(**job["settings"]), job["threads"], drawn=job["drawn"])
    print("RESULT" + json.dumps(result))


def _row(name: str, result: dict, reference: float | None) -> float:
    milliseconds = np.array(result["milliseconds"])
    rate = 1000 / milliseconds.mean()
    ratio = f"{rate / reference:6.1f} x" if reference else " " * 8
    print(
        f"{name:46}{rate:8.1f}{ratio:>10}{np.median(milliseconds):9.1f}{np.percentile(milliseconds, 95):8.1f}"
        f"{milliseconds.max():8.1f}{result['cpu']:8.1f}{result['found']:7d}"
    )
    return float(rate)


def speed(options: argparse.Namespace) -> None:
    """End-to-end frames/s beside fer, and milliseconds per stage. CPU ms: processor time per frame, all threads, which
    a busy machine changes less than frames/s."""
    for threads in (1, 2):
        print(
            f"\n{threads} core{'s' * (threads > 1)}, {threads} thread{'s' * (threads > 1)}, video scaled to 640 x 480"
        )
        print(f"{'':46}{'frames/s':>8}{'':>10}{'median':>9}{'p95':>8}{'max ms':>8}{'CPU ms':>8}{'found':>7}")
        reference = None
        if FER_PYTHON.exists():
            command = [str(FER_PYTHON), "-c", _FER_PROGRAM, str(options.video), str(threads)]
            reference = _row("fer 25.10.3 (Haar, TFLite)", _in_process(command, threads, threads), None)
        else:
            print(f"fer is not installed in {FER_PYTHON.parent.parent}; see the head of this file")
        cases: tuple[tuple[str, dict, bool], ...] = (
            ("ours, defaults", {}, False),
            ("ours, defaults, with overlay drawn", {}, True),
            ("ours, detection on every frame", {"detect_every_s": 0.0}, False),
        )
        stages = {}
        for name, settings, drawn in cases:
            job = {"settings": settings, "threads": threads, "drawn": drawn}
            result = _in_process(_own_command(options, job), threads, threads)
            _row(name, result, reference)
            stages[name] = result["stages"]
        for name, means in stages.items():
            print(f"  ms per stage, {name}: " + ", ".join(f"{stage} {value:.2f}" for stage, value in means.items()))


def _crowd(options: argparse.Namespace, num_faces: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The video's face repeated `num_faces` times in a grid on one frame."""
    columns = int(np.ceil(np.sqrt(num_faces * 1.3)))
    rows = -(-num_faces // columns)
    cell = (size[0] // columns, size[1] // rows)
    for image, _ in _frames(options.video):
        side = min(image.shape[0], int(image.shape[0] * cell[0] / cell[1]))
        side = max(side, 200)
        middle = image[:, max(0, image.shape[1] // 2 - side // 2) : image.shape[1] // 2 + side // 2]
        tile = cv2.resize(middle, cell, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        for index in range(num_faces):
            y, x = index // columns * cell[1], index % columns * cell[0]
            canvas[y : y + cell[1], x : x + cell[0]] = tile
        yield canvas


def faces(options: argparse.Namespace) -> None:
    """Growth from 1 to 20 faces in a 1280 x 720 frame."""
    print("\nFaces in a frame of 1280 x 720, defaults, 1 thread, without drawing")
    print(f"{'faces':>6}{'found':>7}{'mean ms':>9}{'p95':>7}   stages")
    for num_faces in (1, 2, 4, 8, 12, 16, 20):
        recognizer = _recognizer(options, Settings())
        milliseconds: list[float] = []
        found: list[int] = []
        stages: dict[str, list[float]] = {}
        for number, image in enumerate(_crowd(options, num_faces, (1280, 720))):
            if number == 150:
                break
            start = time.perf_counter()
            seen = recognizer.recognize(image, number / 30)
            milliseconds.append(1000 * (time.perf_counter() - start))
            found.append(len(seen))
            for stage, value in recognizer.timings.items():
                stages.setdefault(stage, []).append(value)
        means = ", ".join(f"{stage} {np.mean(values):.1f}" for stage, values in stages.items())
        mean, p95 = np.mean(milliseconds), np.percentile(milliseconds, 95)
        print(f"{num_faces:>6}{np.median(found):>7.0f}{mean:>9.1f}{p95:>7.1f}   {means}")


def pan_over_photos(photos: Path, *, num_photos: int = 12, seconds: float = 3.0) -> Iterator[np.ndarray]:
    """A hand-held-like tour of ExpW photos at 30 frames/s, uint8 `(480, 640, 3)`: pans, zooms, and hard cuts."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(photos) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".jpg"))
        chosen = rng.permutation(len(names))
        done = 0
        for index in chosen:
            photo = cv2.imdecode(np.frombuffer(archive.read(names[index]), np.uint8), cv2.IMREAD_COLOR)
            if photo is None or min(photo.shape[:2]) < 300:
                continue
            height, width = photo.shape[:2]
            whole = min(width / SIZE[0], height / SIZE[1])  # photo pixels per pixel of the frame, at least
            phase, count = rng.uniform(0, 2 * np.pi, 4), int(seconds * 30)
            for number in range(count):
                t = number / 30
                zoom = whole * (0.85 + 0.12 * np.sin(phase[0] + 1.3 * t))
                free_x, free_y = (width - zoom * SIZE[0]) / 2, (height - zoom * SIZE[1]) / 2
                left = free_x * (1 + np.sin(phase[1] + 1.1 * t)) + 1.5 * zoom * np.sin(phase[2] + 9 * t)
                top = free_y * (1 + 0.8 * np.sin(phase[3] + 0.9 * t)) + 1.5 * zoom * np.cos(phase[2] + 8 * t)
                matrix = np.array([[zoom, 0, left], [0, zoom, top]])
                flags = cv2.INTER_AREA | cv2.WARP_INVERSE_MAP if zoom > 1 else cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                yield cv2.warpAffine(photo, matrix, SIZE, flags=flags, borderMode=cv2.BORDER_REPLICATE)
            done += 1
            if done == num_photos:
                return


def compare(reference: list[list[Face]], other: list[list[Face]]) -> dict[str, float]:
    """How well `other` agrees with `reference`, frame by frame; a face not found again counts against it.

    label: share of the reference's faces with the same expression. iou: mean over the reference's faces. matched: share
    of them found again (IoU above .3). extra: faces of `other` without one in the reference, per reference face.
    """
    labels, overlaps, extra = [], [], 0
    for wanted, found in zip(reference, other, strict=True):
        values = np.array([[iou(a.box, b.box) for b in found] for a in wanted]).reshape(len(wanted), len(found))
        pairs = {row: column for row, column in assign(1 - values) if values[row, column] > 0.3}
        extra += len(found) - len(pairs)
        for row, face in enumerate(wanted):
            overlaps.append(values[row, pairs[row]] if row in pairs else 0.0)
            labels.append(row in pairs and found[pairs[row]].expression == face.expression)
    count = max(1, len(labels))
    return {
        "faces": len(labels),
        "label": float(np.mean(labels)) if labels else 0.0,
        "iou": float(np.mean(overlaps)) if overlaps else 0.0,
        "matched": float(np.mean(np.array(overlaps) > 0)) if overlaps else 0.0,
        "extra": extra / count,
    }


def defaults(options: argparse.Namespace) -> None:
    """Label agreement and IoU of detection schedules with detection on every frame."""
    videos: dict[str, list[np.ndarray]] = {options.video.name: [image for image, _ in _frames(options.video)]}
    if options.photos:
        videos["tour of ExpW photos"] = list(pan_over_photos(options.photos))
    schedules = [Settings(detect_every_s=seconds) for seconds in (0.05, 0.1, 0.15, 0.2, 0.3)]
    for name, images in videos.items():
        print(f"\n{name}, {len(images)} frames of 640 x 480, against detection on every frame")
        print(f"{'every s':>9}{'label':>8}{'IoU':>7}{'matched':>9}{'extra':>7}{'faces':>7}")

        def run(settings: Settings, images: list[np.ndarray] = images) -> list[list[Face]]:
            recognizer = _recognizer(options, settings)
            return [recognizer.recognize(image, number / 30).faces for number, image in enumerate(images)]

        reference = run(_FULL)
        for settings in schedules:
            values = compare(reference, run(settings))
            mark = "  default" if settings == Settings() else ""
            print(
                f"{settings.detect_every_s:>9}{values['label']:>8.3f}{values['iou']:>7.3f}"
                f"{values['matched']:>9.3f}{values['extra']:>7.3f}{values['faces']:>7.0f}{mark}"
            )


def lag(options: argparse.Namespace) -> None:
    """Age of the frame that is shown, with a source of 30 frames/s and consumers of several speeds."""
    print("\nAge of each frame when its result is ready; the source sends 30 frames/s (a video played as a camera)")
    print(f"{'work per frame':>16}{'mean age ms':>13}{'worst':>8}{'allowed':>9}{'skipped':>9}")
    for work_ms in (0, 20, 50, 120):
        recognizer = _recognizer(options, Settings())
        source = LiveSource(options.video, options.video.name)
        ages, work = [], []
        for frame in source:
            start = time.monotonic()
            recognizer.recognize(frame.image, frame.time_s)
            time.sleep(work_ms / 1000)
            now = time.monotonic()
            ages.append(1000 * (now - frame.captured_s))
            work.append(1000 * (now - start))
            if frame.time_s > 8:
                break
        source.close()
        mean, worst, allowed = np.mean(ages), max(ages), 1000 / 30 + max(work)
        print(f"{np.mean(work):>13.1f} ms{mean:>13.1f}{worst:>8.1f}{allowed:>9.1f}{source.skipped:>9}")


def memory(options: argparse.Namespace) -> None:
    """Resident memory over `--minutes` at full speed, the video repeated, overlay drawn."""
    print(f"\nMemory over {options.minutes:g} minutes at full speed, with overlay")
    recognizer = _recognizer(options, Settings())
    overlay = Overlay(View())
    images = [image for image, _ in _frames(options.video)]
    start = time.monotonic()
    number, shown = 0, 0.0
    first = 0.0
    while time.monotonic() - start < 60 * options.minutes:
        image = images[number % len(images)]
        found = recognizer.recognize(image, number / 30).faces
        overlay.recent.add(number / 30, found)
        overlay.status.measure(recognizer.timings, time.perf_counter())
        overlay.draw(image.copy(), found)
        number += 1
        elapsed = time.monotonic() - start
        if elapsed >= shown:
            resident = _resident_mb()
            first = first or resident
            print(f"  {elapsed / 60:5.1f} min {number:>8} frames {resident:8.1f} MB")
            shown += 60 * options.minutes / 10
    print(f"  end {number:>15} frames {_resident_mb():8.1f} MB, {_resident_mb() - first:+.1f} MB since the first frame")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    real = os.environ.get("FER_REAL_DATA")
    parser = argparse.ArgumentParser(description="Measure the real-time program, beside fer from PyPI.")
    parser.add_argument("--video", type=Path, default=Path(real) / "portrait.mp4" if real else None)
    parser.add_argument("--photos", type=Path, default=Path(real) / "expw.zip" if real else None)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--detector-model", type=Path)
    parser.add_argument("--minutes", type=float, default=10, help="length of the memory section")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.video is None or not options.video.is_file():
        raise UserError(
            "Name a video with a face: --video clip.mp4, or set FER_REAL_DATA to a folder with portrait.mp4."
        )
    if options.job:
        _job(options)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; ", end=""
    )
    print(f"Python {platform.python_version()}, OpenCV {cv2.__version__}; model {options.model}")
    print(open_detector(options.detector, options.detector_model)[1])
    sections = {"speed": speed, "faces": faces, "defaults": defaults, "lag": lag, "memory": memory}
    for name in options.only:
        sections[name](options)


if __name__ == "__main__":
    run_program(main)
