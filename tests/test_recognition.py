"""Recognition by itself: detection in pictures of every size, following, smoothing, and what it must not import."""

import contextlib
import csv
import hashlib
import re
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from src.datasets.archives import open_tree
from src.datasets.photos import PhotoFolder
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.preparation.cropping import crop_photo
from src.recognition import UNCERTAIN, ExpressionRecognizer, Settings
from src.recognition.classifier import Classifier
from src.recognition.crop_face import Box
from src.recognition.detection import (
    YUNET_FILE,
    Detection,
    HaarDetector,
    YuNetDetector,
    cache_folder,
    fetch_yunet,
    find_faces,
    open_detector,
)
from src.recognition.following import FaceTracker, assign, iou
from src.recognition.smoothing import ExpressionSmoother
from tests.conftest import ROOT
from tests.realtime_fixtures import (
    NO_REAL_DATA,
    REAL_DATA,
    KnownBoxes,
    find_real,
    find_yunet,
    serve,
    web_files,
    write_collage,
    write_model,
)
from tools.drawn_faces import draw_clip, draw_photo


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


def _probabilities(**shares: float) -> np.ndarray:
    rest = (1 - sum(shares.values())) / (7 - len(shares))
    return np.array([shares.get(name, rest) for name in EXPRESSIONS], np.float32)


# --- one core ---------------------------------------------------------------------------------------------------------


_WITHOUT = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {others} or name.startswith({ours}):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocked())
import cv2, src.recognition, src.realtime
for package in (src.recognition, src.realtime):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from src.recognition.detection import HaarDetector
recognizer = src.recognition.ExpressionRecognizer({model!r}, HaarDetector())
print([face.id for face in recognizer.recognize(cv2.imread({photo!r}))])
"""


def test_it_works_without_anything_of_the_training_side(model: Path, tmp_path: Path) -> None:
    """In a process where the pipeline and its libraries cannot be imported, every module loads and a face is found."""
    photo = draw_photo(np.random.default_rng(3), [("happy", (60, 60, 120, 120))], 260, 260)
    cv2.imwrite(str(tmp_path / "photo.png"), photo)
    others = (
        "tensorflow",
        "keras",
        "jax",
        "pandas",
        "scipy",
        "sklearn",
        "matplotlib",
        "dvc",
        "yaml",
        "stages",
        "tools",
    )
    ours = ("src.network", "src.datasets", "src.preparation", "src.evaluation", "src.faceset", "src.params")
    program = _WITHOUT.format(others=others, ours=ours, model=str(model), photo=str(tmp_path / "photo.png"))
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("[1]", 0), result.stderr


def test_five_lines_of_python(model: Path) -> None:
    photo = draw_photo(
        np.random.default_rng(3), [("happy", (60, 60, 120, 120)), ("sad", (260, 70, 110, 110))], 440, 260
    )
    recognizer = ExpressionRecognizer(model, HaarDetector())
    faces = recognizer.recognize(photo)
    assert [face.id for face in faces] == [1, 2]
    assert faces[0].box[0] < faces[1].box[0]
    for face in faces:
        assert face.probabilities.shape == (7,)
        assert face.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert face.expression in (*EXPRESSIONS, UNCERTAIN)
    assert [face.id for face in recognizer.recognize(photo)] == [1, 2], "each picture is numbered anew"


@pytest.mark.parametrize(
    "box",
    [(40.0, 30.0, 90.0, 90.0), (31.5, 20.25, 47.0, 47.0), (-20.0, 40.0, 100.0, 100.0), (150.0, 90.0, 120.0, 120.0)],
    ids=["inside", "fractions of pixels", "over the left edge", "over the lower right corner"],
)
def test_crops_are_those_of_the_training_stage(
    box: Box, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    grey = cv2.resize(rng.integers(0, 256, (60, 80), dtype=np.uint8), (240, 180), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "photo.png"), grey)
    expected = crop_photo(PhotoFolder(open_tree(tmp_path), ""), "photo.png", [box], 48, 0.1)
    seen: list[np.ndarray] = []
    predict = Classifier.predict

    def remember(self: Classifier, faces: np.ndarray) -> np.ndarray:
        seen.append(faces)
        return predict(self, faces)

    monkeypatch.setattr(Classifier, "predict", remember)
    frame = cv2.imread(str(tmp_path / "photo.png"))
    recognizer = ExpressionRecognizer(model, KnownBoxes([box]))
    assert frame is not None
    recognizer.recognize(frame)
    recognizer.recognize(frame, 0.0)
    np.testing.assert_array_equal(seen[0], expected)
    np.testing.assert_array_equal(seen[1], expected)


def test_frames_may_change_size(model: Path) -> None:
    recognizer = ExpressionRecognizer(model, HaarDetector())
    frames = [frame for frame, _ in draw_clip(np.random.default_rng(5), seconds=1.2, size=(320, 240), num_faces=1)]
    ids = []
    for number, frame in enumerate(frames):
        if number >= 15:
            frame = cv2.resize(frame, (480, 360))
        ids.append([face.id for face in recognizer.recognize(frame, number / 25)])
    assert ids[-1] == ids[10] == [1]


@pytest.mark.parametrize(
    "frame",
    [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 3), "f4"), np.zeros((0, 10, 3), np.uint8), None, "group.jpg"],
    ids=["grey", "float", "empty", "unread picture", "name"],
)
def test_what_is_no_frame_is_refused(frame: Any, model: Path) -> None:
    given = re.escape(str(frame.shape) if isinstance(frame, np.ndarray) else repr(frame))
    with pytest.raises(ValueError, match=f"uint8.* not .*{given}"):
        ExpressionRecognizer(model, KnownBoxes([])).recognize(frame)


def test_many_faces_take_turns(model: Path) -> None:
    boxes: list[Box] = [(20.0 + 60 * (n % 5), 20.0 + 60 * (n // 5), 50.0, 50.0) for n in range(20)]
    chosen = Settings(faces_per_call=8, detect_every_s=0)
    recognizer = ExpressionRecognizer(model, KnownBoxes(boxes), chosen)
    frame = np.random.default_rng(0).integers(0, 256, (280, 340, 3), dtype=np.uint8)
    assert [len(recognizer.recognize(frame, number / 30)) for number in range(4)] == [8, 16, 20, 20]
    assert len(recognizer.recognize(frame)) == 20, "a picture has no next frame to wait for"


def test_results_are_arrays_where_there_are_many(model: Path) -> None:
    boxes: list[Box] = [(20.0, 20.0, 50.0, 50.0), (90.0, 20.0, 60.0, 60.0)]
    frame = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    result = ExpressionRecognizer(model, KnownBoxes(boxes)).recognize(frame)
    np.testing.assert_array_equal(result.boxes, boxes)
    np.testing.assert_array_equal(result.probabilities, [face.probabilities for face in result])
    nothing = ExpressionRecognizer(model, KnownBoxes([])).recognize(frame)
    assert (nothing.boxes.shape, nothing.probabilities.shape, len(nothing)) == ((0, 4), (0, 7), 0)


def test_all_that_may_be_a_face_is_a_candidate(model: Path) -> None:
    """Faces that wait for the classifier, that were found once and weakly, and that were lost a moment ago."""
    frame = np.random.default_rng(0).integers(0, 256, (280, 340, 3), dtype=np.uint8)
    boxes: list[Box] = [(20.0 + 60 * (n % 5), 20.0 + 60 * (n // 5), 50.0, 50.0) for n in range(20)]
    detector = KnownBoxes(boxes)
    recognizer = ExpressionRecognizer(model, detector, Settings(detect_every_s=0))
    first = recognizer.recognize(frame, 0.0)
    assert (len(first), sorted(first.candidates)) == (4, sorted(boxes))
    detector.boxes = []
    gone = recognizer.recognize(frame, 1 / 30)
    assert len(gone.candidates) == 20
    weak = KnownBoxes(boxes[:1])
    weak.score = 0.7
    once = ExpressionRecognizer(model, weak).recognize(frame, 0.0)
    assert (len(once), once.candidates) == (0, boxes[:1])
    weak.score, weak.sure = 0.4, 0.6
    for time_s in (0.0, None):
        doubtful = ExpressionRecognizer(model, weak).recognize(frame, time_s)
        assert (len(doubtful), doubtful.candidates) == (0, boxes[:1])


def test_one_classifier_serves_recognizers_in_many_threads(model: Path) -> None:
    shared = Classifier(model)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(4)]
    boxes: list[Box] = [(20.0, 20.0, 60.0, 60.0), (100.0, 90.0, 70.0, 70.0)]

    def recognize(frame: np.ndarray) -> np.ndarray:
        recognizer = ExpressionRecognizer(shared, KnownBoxes(boxes))
        return np.stack([recognizer.recognize(frame, step / 30).probabilities for step in range(6)])

    alone = [recognize(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(recognize, frames)), alone)


def test_pictures_of_many_threads_are_not_mixed_up_in_one_recognizer(model: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(2)]
    searching = threading.Barrier(2)

    class Meeting(KnownBoxes):
        """Waits a moment for a second search to begin."""

        def detect(self, frame: np.ndarray) -> list[Detection]:
            with contextlib.suppress(threading.BrokenBarrierError):
                searching.wait(0.2)
            return super().detect(frame)

    recognizer = ExpressionRecognizer(model, Meeting([(20.0, 20.0, 60.0, 60.0)]))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(recognizer.recognize, pictures))
    assert searching.broken, "two calls were at work at once"


@pytest.mark.parametrize(
    "values",
    [{"detect_every_s": -1.0}, {"smoothing_s": -1.0}, {"faces_per_call": 0}],
    ids=lambda values: next(iter(values)),
)
def test_bad_settings_are_refused(values: dict) -> None:
    with pytest.raises(UserError):
        Settings(**values)


# --- smoothing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [5, 10, 30, 120])
def test_smoothing_takes_seconds_not_frames(rate: int) -> None:
    smoother = ExpressionSmoother(0.5, 0.1, 0.0)
    smoother.update(_probabilities(sad=1.0), 0.0)
    for step in range(1, rate + 1):
        smoother.update(_probabilities(happy=1.0), step / rate)
    # One second is two time constants.
    assert smoother.probabilities[EXPRESSIONS.index("happy")] == pytest.approx(1 - np.exp(-2), abs=1e-4)


def test_the_expression_changes_only_by_a_margin() -> None:
    smoother = ExpressionSmoother(0.0, 0.1, 0.0)
    smoother.update(_probabilities(happy=0.5, sad=0.3), 0.0)
    smoother.update(_probabilities(happy=0.4, sad=0.49), 0.1)
    assert smoother.expression == "happy"
    assert smoother.confidence == pytest.approx(0.4)
    smoother.update(_probabilities(happy=0.38, sad=0.5), 0.2)
    assert smoother.expression == "sad"


def test_below_the_threshold_it_is_uncertain() -> None:
    smoother = ExpressionSmoother(0.0, 0.1, 0.4)
    smoother.update(_probabilities(fear=0.39), 0.0)
    assert smoother.expression == UNCERTAIN
    smoother.update(_probabilities(fear=0.41), 0.1)
    assert smoother.expression == "fear"


# --- tracking ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_assignment_is_the_cheapest(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).integers(0, 9, (rows, columns)).astype(float)
    pairs = assign(costs)
    assert len(pairs) == min(rows, columns)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    best = costs[linear_sum_assignment(costs)].sum()
    assert sum(costs[pair] for pair in pairs) == pytest.approx(best)


def _walkers(seconds: float, meeting: str) -> Iterator[tuple[np.ndarray, dict[str, Box]]]:
    """Two drawn people at 30 frames/s on one line; they cross, or meet and turn back. The first is always in front."""
    rng = np.random.default_rng(8)
    side, width, height = 110, 640, 240
    people = []
    for expression in ("happy", "angry"):
        photo = draw_photo(rng, [(expression, (45.0, 45.0, float(side), float(side)))], 200, 200)
        people.append(photo)
    mask = np.zeros((200, 200), np.uint8)
    cv2.ellipse(mask, (100, 96), (62, 78), 0, 0, 360, 255, -1)
    background = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 3)
    count = round(seconds * 30)
    for number in range(count):
        part = number / (count - 1)
        first = 20 + 400 * part
        second = 420 - 400 * part
        if meeting == "turn back" and part > 0.5:
            first, second = 420 - 400 * part, 20 + 400 * part
        frame = background.copy()
        boxes = {}
        for name, person, left in (("second", people[1], second), ("first", people[0], first)):
            x, y = round(left), 20
            frame[y : y + 200, x : x + 200][mask > 0] = person[mask > 0]
            boxes[name] = (x + 45.0, y + 45.0, float(side), float(side))
        yield frame, boxes


@pytest.mark.parametrize("every", [1, 3], ids=["detection on every frame", "on every third"])
def test_ids_survive_crossing(every: int) -> None:
    tracker = FaceTracker()
    ids: dict[str, set[int]] = {"first": set(), "second": set()}
    frames = list(_walkers(4.0, "cross"))
    for number, (frame, boxes) in enumerate(frames):
        time_s = number / 30
        small = cv2.cvtColor(cv2.resize(frame, None, fx=0.5, fy=0.5), cv2.COLOR_BGR2GRAY)
        tracker.follow(small, 0.5, time_s)
        if number % every == 0:
            # The face behind is not found while it is half hidden.
            hidden = iou(boxes["first"], boxes["second"]) > 0.25
            visible = [boxes["first"]] if hidden else list(boxes.values())
            tracker.update([Detection(box, 0.95) for box in visible], frame, 20, time_s)
        if number < 20 or number > len(frames) - 20:
            for name, box in boxes.items():
                nearest = max(tracker.shown(time_s), key=lambda track: iou(track.box, box))
                assert iou(nearest.box, box) > 0.6
                ids[name].add(nearest.id)
    assert len(ids["first"]) == len(ids["second"]) == 1
    assert ids["first"] != ids["second"]


@pytest.mark.parametrize("missing_s", [0.2, 0.4, 1.0])
def test_ids_survive_short_misses(missing_s: float, model: Path) -> None:
    frames = list(draw_clip(np.random.default_rng(5), seconds=2.4, size=(320, 240), num_faces=1))
    detector = KnownBoxes([])
    recognizer = ExpressionRecognizer(model, detector, Settings(detect_every_s=0))
    shown = []
    for number, (frame, drawn) in enumerate(frames):
        time_s = number / 25
        detector.boxes = [] if 0.6 <= time_s < 0.6 + missing_s else [face.face_box for face in drawn]
        shown.append([face.id for face in recognizer.recognize(frame, time_s)])
    assert shown[-1] == [1]
    if missing_s <= 0.4:
        assert all(ids == [1] for ids in shown), "a short miss is bridged"


def test_a_face_that_is_gone_disappears(model: Path) -> None:
    frames = [frame for frame, _ in draw_clip(np.random.default_rng(5), seconds=0.6, size=(320, 240), num_faces=1)]
    recognizer = ExpressionRecognizer(model, HaarDetector())
    for number, frame in enumerate(frames):
        assert number < 3 or recognizer.recognize(frame, number / 25)
    empty = np.full_like(frames[0], 90)
    counts = [len(recognizer.recognize(empty, (len(frames) + number) / 25)) for number in range(40)]
    assert counts[-1] == 0
    assert sum(counts) <= 13, "shown for half a second at most"


def test_detection_is_spared_between(model: Path) -> None:
    frames = list(draw_clip(np.random.default_rng(5), seconds=1.2, size=(320, 240), num_faces=1))
    detector = KnownBoxes([frames[0][1][0].face_box])
    recognizer = ExpressionRecognizer(model, detector, Settings(detect_every_s=0.2))
    overlaps = []
    for number, (frame, drawn) in enumerate(frames):
        detector.boxes = [drawn[0].face_box]
        faces = recognizer.recognize(frame, number / 25)
        overlaps.append(iou(faces[0].box, drawn[0].face_box))
    assert detector.calls <= 8
    assert min(overlaps) > 0.8


@pytest.mark.parametrize("rate", [10, 30, 120])
def test_detection_takes_seconds_not_frames(rate: int, model: Path) -> None:
    detector = KnownBoxes([(20.0, 20.0, 60.0, 60.0)])
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8), (0, 0), 2)
    recognizer = ExpressionRecognizer(model, detector, Settings(detect_every_s=0.2))
    for number in range(2 * rate):
        recognizer.recognize(frame, number / rate)
    assert detector.calls == 10


def test_large_faces_are_searched_for_at_half_the_size_and_in_full_for_those_that_come(model: Path) -> None:
    detector = KnownBoxes([(40.0, 40.0, 100.0, 100.0)])
    detector.smallest_side = 16.0
    recognizer, widths, seen = ExpressionRecognizer(model, detector), [], []
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), (0, 0), 2)
    for number in range(60):
        if number == 20:
            detector.boxes.append((250.0, 20.0, 30.0, 30.0))
        before = detector.calls
        seen.append(len(recognizer.recognize(frame, number / 30)))
        if detector.calls > before:
            widths.append(detector.last_width)
    assert widths[:6].count(160) == 5, "the first search is in full, the next ones are not"
    assert seen[19] == 1 and seen[-1] == 2
    assert widths[-3:] == [320, 320, 320], "a small face is there: half the size would not do"


def test_a_hundred_faces_keep_their_ids(model: Path) -> None:
    """A crowd that moves as one; between two detections every face is carried along."""
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8), (0, 0), 2)
    scene = cv2.convertScaleAbs(scene, alpha=5, beta=-512)
    places: list[Box] = [(20.0 + 84 * (n % 14), 20.0 + 80 * (n // 14), 70.0, 70.0) for n in range(100)]
    detector = KnownBoxes([])
    detector.smallest_side = 24.0
    recognizer = ExpressionRecognizer(model, detector)
    ids: list[dict[int, Box]] = []
    for number in range(34):
        detector.boxes = [(x + 2 * number, y, width, height) for x, y, width, height in places]
        result = recognizer.recognize(np.roll(scene, 2 * number, axis=1), number / 30)
        assert min(max(iou(box, seen) for seen in result.candidates) for box in detector.boxes) > 0.85
        ids.append({face.id: face.box for face in result})
    assert sorted(ids[-1]) == list(range(1, 101))
    assert all(ids[-1][key][1] == pytest.approx(ids[13][key][1], abs=5) for key in ids[13]), "nobody has changed rows"


# --- detection --------------------------------------------------------------------------------------------------------


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[str]:
    """A web server for the files in tmp_path/web."""
    (tmp_path / "web").mkdir()
    with serve(web_files(tmp_path / "web")) as host:
        yield f"http://{host}"


def test_a_wrong_download_is_refused(file_server: str, tmp_path: Path) -> None:
    (tmp_path / "web" / YUNET_FILE).write_bytes(b"<html>please log in</html>")
    with pytest.raises(UserError, match="sha256"):
        fetch_yunet(tmp_path / "cache", f"{file_server}/{YUNET_FILE}")
    assert not (tmp_path / "cache").exists()


def test_yunet_is_downloaded_once(file_server: str, tmp_path: Path) -> None:
    yunet = find_yunet()
    served = tmp_path / "web" / YUNET_FILE
    served.write_bytes(yunet.read_bytes())
    path = fetch_yunet(tmp_path / "cache", f"{file_server}/{YUNET_FILE}")
    served.unlink()
    assert fetch_yunet(tmp_path / "cache", f"{file_server}/{YUNET_FILE}") == path
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(yunet.read_bytes()).digest()
    path.write_bytes(b"damaged")
    with pytest.raises(OSError):
        fetch_yunet(tmp_path / "cache", f"{file_server}/{YUNET_FILE}")


@pytest.mark.parametrize("content", [None, b"", b"not a model"], ids=["missing", "empty", "text"])
def test_a_bad_detector_file_is_one_message(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="YuNet"):
        open_detector("auto", path)


@pytest.mark.parametrize("home", ["no home", "read-only"])
def test_the_cache_needs_no_home(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user often has none, or `/`, where nothing can be written."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    if home == "no home":
        monkeypatch.setattr(Path, "home", fail)
    else:
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != Path.home())
    assert cache_folder() == tmp_path / "facial-expressions"


def test_another_model_is_no_detector(model: Path) -> None:
    with pytest.raises(UserError, match="YuNet"):
        YuNetDetector(model)


def _labelled_photos(count: int) -> Iterator[tuple[np.ndarray, Box]]:
    """Real ExpW photos and the first labelled box of each."""
    if REAL_DATA is None:
        pytest.skip(NO_REAL_DATA)
    with zipfile.ZipFile(Path(REAL_DATA) / "expw.zip") as archive:
        names = {name.rpartition("/")[2]: name for name in archive.namelist()}
        rows = list(csv.reader(archive.read(names["label.lst"]).decode().splitlines(), delimiter=" "))
        order = np.random.default_rng(4).permutation(len(rows))[:count]
        for row in (rows[number] for number in order):
            top, left, right, bottom = map(float, row[2:6])
            photo = cv2.imdecode(np.frombuffer(archive.read(names[row[0]]), np.uint8), cv2.IMREAD_COLOR)
            assert photo is not None
            yield photo, (left, top, right - left, bottom - top)


@pytest.mark.parametrize(
    ("name", "share", "overlap"), [("yunet", 0.95, 0.74), pytest.param("haar", 0.55, 0.72, marks=pytest.mark.slow)]
)
def test_boxes_are_framed_like_the_labelled_ones(name: str, share: float, overlap: float) -> None:
    detector = YuNetDetector(find_yunet()) if name == "yunet" else HaarDetector()
    overlaps = []
    for photo, box in _labelled_photos(60):
        scale = min(1.0, 480 / max(photo.shape[:2]))
        small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        scaled = (scale * box[0], scale * box[1], scale * box[2], scale * box[3])
        found = [iou(scaled, detection.box) for detection in detector.detect(small)]
        overlaps.append(max(found, default=0.0))
    matched = [value for value in overlaps if value > 0.2]
    assert len(matched) / len(overlaps) >= share
    assert np.mean(matched) >= overlap


def test_yunet_finds_what_opencv_finds_with_it() -> None:
    path = find_yunet()
    detector = YuNetDetector(path)
    opencv = cv2.FaceDetectorYN.create(str(path), "", (32, 32), detector.sure, 0.3, 400)
    seen = same = 0
    for photo, _ in _labelled_photos(15):
        opencv.setInputSize((photo.shape[1], photo.shape[0]))
        rows = opencv.detect(photo)[1]
        found = [face.box for face in detector.detect(photo) if face.score >= detector.sure]
        for x, y, width, height in () if rows is None else rows[:, :4].astype(float):
            side = (width * height) ** 0.5  # our box is the square framed like the training faces
            box = (x + width / 2 - 0.587 * side, y + height / 2 - 0.651 * side, 1.174 * side, 1.174 * side)
            seen += 1
            same += max((iou(box, other) for other in found), default=0.0) > 0.99
    assert seen >= 20
    assert same / seen >= 0.95, "non-maximum suppression may keep another of two near boxes"


def _scaled(photo: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    scale = longest / max(photo.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=interpolation), scale


@pytest.mark.slow
def test_a_photo_of_any_size_has_the_same_faces() -> None:
    detector = YuNetDetector(find_yunet())
    wanted = again = 0
    found_labelled = Counter[int]()
    for photo, labelled in _labelled_photos(30):
        found: dict[int, list[Box]] = {}
        for longest in (640, 1280, 4032):
            sized, scale = _scaled(photo, longest)
            faces, _ = find_faces(detector, sized)
            found[longest] = [tuple(value / scale for value in face.box) for face in faces]  # type: ignore[misc]
            found_labelled[longest] += max((iou(labelled, box) for box in found[longest]), default=0.0) > 0.3
        for longest in (1280, 4032):
            wanted += len(found[640])
            again += sum(max(iou(box, other) for other in found[longest]) > 0.4 for box in found[640])
    assert min(found_labelled.values()) >= 28
    assert wanted > 60
    assert again / wanted >= 0.97


@pytest.mark.parametrize("width", [800, 1600, 4032])
def test_forty_faces_are_found_at_every_size(width: int, tmp_path: Path) -> None:
    write_collage(tmp_path / "collage.png")
    collage, _ = _scaled(cv2.imread(str(tmp_path / "collage.png")), width)  # type: ignore[arg-type]
    faces, _ = find_faces(YuNetDetector(find_yunet()), collage)
    middles = [(face.box[0] + face.box[2] / 2, face.box[1] + face.box[2] / 2) for face in faces]
    places = {(int(8 * x / width), int(8 * y / width)) for x, y in middles}
    assert len(places) >= 39


def test_small_faces_of_a_large_photo_are_found() -> None:
    """Faces of 40 pixels in a photo of 12 megapixels; without tiles two of three are found."""
    side, cell = 40, 120
    photo = np.full((3024, 4032, 3), 110, np.uint8)
    wanted: list[Box] = []
    for small, (x, y, _, height) in _labelled_photos(120):
        scale = side / height
        if scale > 1:
            continue
        reduced = cv2.resize(small, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        edge = cell // 2
        reduced = cv2.copyMakeBorder(reduced, edge, edge, edge, edge, borderType=cv2.BORDER_REPLICATE)
        left, top = int(scale * x) + side // 2, int(scale * y) + side // 2
        row, column = divmod(len(wanted), 4032 // cell)
        photo[cell * row : cell * row + cell, cell * column : cell * column + cell] = reduced[
            top : top + cell, left : left + cell
        ]
        wanted.append((cell * column + 40.0, cell * row + 40.0, 40.0, 40.0))
    faces, _ = find_faces(YuNetDetector(find_yunet()), photo)
    found = [max(iou(box, face.box) for face in faces) > 0.35 for box in wanted]
    assert np.mean(found) >= 0.75


@pytest.mark.parametrize("side", [40, 120, 480])
def test_faces_of_all_sizes(side: int, model: Path) -> None:
    """From 40 pixels to the height of the frame, in a picture and in a video of two thirds of a second."""
    recognizer = ExpressionRecognizer(model, YuNetDetector(find_yunet()))
    found = []
    for photo, (x, y, width, height) in _labelled_photos(25):
        scale = side / height
        if scale > 4 or width < 60:
            continue
        matrix = np.array([[scale, 0, 320 - scale * (x + width / 2)], [0, scale, 240 - scale * (y + height / 2)]])
        soft = cv2.GaussianBlur(photo, (0, 0), 0.4 / scale) if scale < 0.7 else photo
        frame = cv2.warpAffine(soft, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE)
        wanted = (320 - side / 2, 240 - side / 2, float(side), float(side))
        recognizer.reset()
        faces = [recognizer.recognize(frame, step / 10) for step in range(7)][-1]
        found.append(max((iou(wanted, face.box) for face in faces), default=0.0) > 0.35)
    assert len(found) >= 12
    assert np.mean(found) >= 0.8


@pytest.mark.parametrize(("name", "share"), [("yunet", 0.98), pytest.param("haar", 0.9, marks=pytest.mark.slow)])
def test_the_real_clip(name: str, share: float, model: Path) -> None:
    detector = YuNetDetector(find_yunet()) if name == "yunet" else HaarDetector()
    recognizer = ExpressionRecognizer(model, detector)
    capture = cv2.VideoCapture(str(find_real("portrait.mp4")))
    frames = found = 0
    ids = set()
    while True:
        read, frame = capture.read()
        if not read:
            break
        faces = recognizer.recognize(frame, frames / 30)
        frames += 1
        found += bool(faces)
        ids |= {face.id for face in faces}
    assert frames == 464
    assert found / frames >= share
    if name == "yunet":
        assert ids == {1}
