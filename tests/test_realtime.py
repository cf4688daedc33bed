"""What the live program draws and hides, in window, videos and pictures alike."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.expressions import EXPRESSIONS
from src.realtime.drawing import draw_text, text_width
from src.realtime.overlay import Overlay, View, draw_keys, draw_line, draw_recording, mirror
from src.realtime.recorder import fit_into
from src.realtime.session import Session
from src.realtime.summary import draw_summary, people_table
from src.realtime.timeline import Timeline
from src.recognition import UNCERTAIN, ExpressionRecognizer, Face, Settings
from src.recognition.crop_face import Box
from tests.realtime_fixtures import KnownBoxes, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


def _probabilities(**shares: float) -> np.ndarray:
    rest = (1 - sum(shares.values())) / (7 - len(shares))
    return np.array([shares.get(name, rest) for name in EXPRESSIONS], np.float32)


def _face(number: int, box: Box, expression: str = "happy") -> Face:
    return Face(number, box, expression, 0.8, _probabilities(happy=0.8))


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 48), (160, 120), (320, 640), (640, 480), (1920, 1080), (3840, 2160)], ids=str)
def test_frames_of_every_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    width, height = size
    scene = np.full((height, width, 3), 120, np.uint8)
    side = 0.4 * min(size)
    faces = [
        _face(1, (0.3 * width, 0.3 * height, side, side)),
        _face(2, (-side / 2, -side / 2, side, side), UNCERTAIN),
        _face(3, (width - side / 2, height - side / 2, side, side), "neutral"),
        _face(12, (-0.1 * width, -0.2 * height, 1.4 * height, 1.4 * height), "surprise"),
    ]
    overlay = Overlay(View())
    for step in range(3):
        overlay.recent.add(float(step), faces)
        overlay.status.measure({"detect": 3.0, "track": 1.0, "classify": 2.0}, float(step))
    overlay.draw(scene, faces)
    assert scene.shape == (height, width, 3) and (scene != 120).any()
    draw_keys(scene)
    draw_line(scene, "saved a-picture-with-quite-a-long-name.png", 1, corner="middle")
    draw_recording(scene, 75.0)


@pytest.mark.parametrize("corner", [(-500, -500), (5000, 5000), (0, 5000), (5000, 0)], ids=str)
def test_text_is_moved_into_the_frame(corner: tuple[int, int]) -> None:
    scene = np.zeros((60, 200, 3), np.uint8)
    inside = np.zeros((260, 600, 3), np.uint8)
    draw_text(scene, "surprise 82 %", *corner, 12)
    draw_text(inside, "surprise 82 %", 200, 100, 12)
    assert scene.sum() == pytest.approx(inside.sum(), rel=0.01), "no letter is cut off"


def test_letters_with_accents_lose_them() -> None:
    scenes = np.zeros((2, 60, 200, 3), np.uint8)
    for scene, text in zip(scenes, ("Müller, Zoé", "Muller, Zoe"), strict=True):
        draw_text(scene, text, 10, 20, 12)
    np.testing.assert_array_equal(*scenes)


def test_text_too_wide_is_shrunk() -> None:
    text = "a line that is far too long for it"
    scene, fitting = np.zeros((60, 120, 3), np.uint8), np.zeros((60, 300, 3), np.uint8)
    assert text_width(text, 14) > 120
    draw_text(scene, text, 0, 10, 14)
    draw_text(fitting, text, 0, 10, max(height for height in range(4, 14) if text_width(text, height) <= 120))
    assert scene.any()
    np.testing.assert_array_equal(scene, fitting[:, :120])


def test_mirror_moves_boxes_with_the_picture() -> None:
    scene = np.zeros((40, 100, 3), np.uint8)
    scene[10:20, 5:15] = 255
    (face,) = mirror([_face(1, (5.0, 10.0, 10.0, 10.0))], 100)
    x, y, width, height = (int(value) for value in face.box)
    assert cv2.flip(scene, 1)[y : y + height, x : x + width].min() == 255


def test_a_frame_of_another_size_is_fitted_into_the_video() -> None:
    frame = np.full((50, 100, 3), 200, np.uint8)
    fitted = fit_into(frame, (60, 60))
    assert fitted.shape == (60, 60, 3)
    assert fitted[17:43].min() == 200 and fitted[:14].max() == fitted[-14:].max() == 0
    assert fit_into(frame[:49, :99], (100, 50)).min() == 200, "odd sides are filled up"


# --- the session, and what is blurred ---------------------------------------------------------------------------------


def _is_hidden(picture: np.ndarray, before: np.ndarray, box: Box) -> bool:
    """Whether the inside of a box has become a few blocks of one colour."""
    x, y, width, height = (int(value) for value in box)

    inside = picture[y : y + height, x : x + width]
    changed = (inside != before[y : y + height, x : x + width]).mean()
    return bool(changed > 0.9 and len(np.unique(inside.reshape(-1, 3), axis=0)) <= 9 * 36)


def test_faces_that_wait_for_the_classifier_are_blurred_from_the_first_frame(model: Path) -> None:
    boxes: list[Box] = [(20.0 + 60 * (n % 8), 20.0 + 60 * (n // 8), 50.0, 50.0) for n in range(40)]
    frame = np.random.default_rng(0).integers(0, 256, (340, 520, 3), dtype=np.uint8)
    session = Session(ExpressionRecognizer(model, KnownBoxes(boxes)), View(blur=True, mirror=True))
    result = session.step(frame, 0.0)
    assert len(result.faces) < 40, "some wait"
    picture = cv2.flip(session.picture(), 1)
    assert all(_is_hidden(picture, frame, box) for box in boxes)
    assert (frame == np.random.default_rng(0).integers(0, 256, frame.shape, dtype=np.uint8)).all(), "a copy is blurred"


def test_blur_switched_on_in_a_pause_finds_who_came_after_the_last_search(model: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    detector = KnownBoxes([(20.0, 20.0, 60.0, 60.0)])
    session = Session(ExpressionRecognizer(model, detector, Settings(detect_every_s=10)), View(bars=False))
    for step in range(3):
        session.step(frame, step / 30)
    detector.boxes.append((150.0, 40.0, 80.0, 80.0))
    session.step(frame, 0.1)
    assert not _is_hidden(session.scene(), frame, detector.boxes[1])
    session.view.blur = True
    assert all(_is_hidden(session.scene(), frame, box) for box in detector.boxes)


def test_blur_switched_on_in_a_pause_finds_who_was_too_small_for_a_search_at_half_the_size(model: Path) -> None:
    detector = KnownBoxes([(40.0, 40.0, 100.0, 100.0)])
    detector.smallest_side = 16.0
    session = Session(ExpressionRecognizer(model, detector), View(bars=False))
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8), (0, 0), 2)
    session.step(frame, 0.0)
    detector.boxes.append((250.0, 20.0, 30.0, 30.0))
    session.step(frame, 0.1)
    assert detector.last_width == 160 and len(session.hidden) == 1
    session.view.blur = True
    assert all(_is_hidden(session.scene(), frame, box) for box in detector.boxes)


def test_a_face_that_is_found_no_more_stays_blurred_for_a_while(model: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    box = (150.0, 40.0, 80.0, 80.0)
    detector = KnownBoxes([box])
    detector.score = 0.65  # not sure of it
    session = Session(ExpressionRecognizer(model, detector), View(blur=True))
    hidden = []
    for step in range(120):
        detector.boxes = [box] if step == 0 else []
        session.step(frame, step / 30)
        hidden.append(_is_hidden(session.picture(), frame, box))
    assert all(hidden[:28]) and not hidden[-1]
    session.restart()
    session.step(frame, 0.0)
    assert not _is_hidden(session.picture(), frame, box), "another video"


def test_timeline_keeps_changes_not_frames() -> None:
    recent, whole = Timeline(keep_s=30), Timeline()
    for step in range(30 * 120):
        face = _face(1 + step // 1800, (0.0, 0.0, 9.0, 9.0), "happy" if step // 300 % 2 else "sad")
        recent.add(step / 30, [face])
        whole.add(step / 30, [face])
    assert sum(len(segments) for segments in whole.faces.values()) == 12
    assert sum(len(segments) for segments in recent.faces.values()) <= 4
    assert list(recent.faces) == [2]
    assert whole.shares(1) == pytest.approx({"sad": 0.5, "happy": 0.5}, abs=0.02)
    page = draw_summary({"a.mp4": whole}, "a test")
    assert page.shape[1] == 1400 and page.dtype == np.uint8
    first, second = people_table({"a.mp4": whole})
    assert (first["face_id"], second["face_id"]) == (1, 2)
    assert first["seconds"] == pytest.approx(60, abs=0.05) and second["first_s"] == pytest.approx(60)


def test_one_frame_a_second_is_no_gap() -> None:
    timeline = Timeline()
    for step in range(18):
        timeline.add(float(step), [_face(1, (0.0, 0.0, 9.0, 9.0), "happy" if step < 9 else "sad")])
    assert timeline.seconds(1) == pytest.approx(17)
    assert timeline.shares(1) == pytest.approx({"happy": 9 / 17, "sad": 8 / 17})
    timeline.add(18.0, [])
    timeline.add(19.0, [_face(1, (0.0, 0.0, 9.0, 9.0))])
    assert timeline.seconds(1) == pytest.approx(17), "not seen in between"


def test_a_summary_without_faces_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("src.realtime.summary.draw_text", lambda page, text, *_, **__: said.append(text))
    draw_summary({}, "nothing")
    assert "no face was found" in said
