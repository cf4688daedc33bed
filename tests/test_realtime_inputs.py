"""Ordinary pictures, videos and streams through the real program: right boxes, right times, right number of rows."""

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from tqdm import tqdm

from src.errors import UserError
from src.realtime.playlist import Playlist
from src.realtime.recorder import save_picture
from src.realtime.sources import CameraFormat, Feed, Frame, LiveSource, VideoFile, hide_password
from src.recognition.following import iou
from tests.realtime_fixtures import (
    Ended,
    find_yunet,
    read_lines,
    read_table,
    rtsp_server,
    run_here,
    serve,
    times_of,
    web_camera,
    web_files,
    write_collage,
    write_film,
    write_model,
)
from tools.drawn_faces import draw_clip, draw_photo

Box = tuple[float, float, float, float]
FACES: list[Box] = [(60.0, 60.0, 120.0, 120.0), (260.0, 70.0, 110.0, 110.0)]
Look = Callable[..., Ended]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def look(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """look(source, ..., option, ...): the program without a window, a table in a.csv."""
    monkeypatch.chdir(tmp_path)
    return lambda *more: run_here(
        "--model", model, "--detector", "haar", "--headless", "--csv", "a.csv", "--source", *more
    )


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Two drawn people, 440 x 260, at `FACES`."""
    return draw_photo(np.random.default_rng(3), [("happy", FACES[0]), ("sad", FACES[1])], 440, 260)


@pytest.fixture(scope="module")
def clip() -> list[tuple[np.ndarray, Box]]:
    """24 frames of a drawn face and its boxes."""
    frames = draw_clip(np.random.default_rng(5), seconds=0.96, size=(320, 240), num_faces=1)
    return [(frame, faces[0].face_box) for frame, faces in frames]


def _box(row: dict[str, str], scale: float = 1.0) -> Box:
    x, y, width, height = (float(row[name]) / scale for name in ("x", "y", "width", "height"))
    return x, y, width, height


def _assert_both_found(path: Path, *, scale: float = 1.0, source: str | None = None) -> None:
    rows = [row for row in read_table(path) if source in (None, row["source"])]
    assert len(rows) == 2, rows
    for row, wanted in zip(sorted(rows, key=lambda row: float(row["x"])), FACES, strict=True):
        assert iou(_box(row, scale), wanted) > 0.6


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_a_phone_photo_turned_in_all_eight_ways(look: Look, photo: np.ndarray, tmp_path: Path) -> None:
    undo = {5: 5, 6: 8, 7: 7, 8: 6}
    (tmp_path / "photos").mkdir()
    for turn in range(1, 9):
        size = (4000, 3000) if turn == 6 else (1000, 750)  # 12 megapixels in the way most phones are held
        stored = Image.fromarray(cv2.resize(photo, size)[..., ::-1])
        stored.getexif()[274] = undo.get(turn, turn)
        exif = Image.Exif()
        exif[274] = turn
        ImageOps.exif_transpose(stored).save(tmp_path / f"photos/{turn}.jpg", exif=exif, quality=85)
    assert Image.open(tmp_path / "photos/6.jpg").size == (3000, 4000)
    result = look("photos")
    assert result.code == 0, result.stderr
    rows = read_table(tmp_path / "a.csv")
    assert len(rows) == 16
    for row in rows:
        columns, lines = (4000, 3000) if row["source"] == "6.jpg" else (1000, 750)
        x, y, width, height = _box(row)
        drawn = (x * 440 / columns, y * 260 / lines, width * 440 / columns, height * 260 / lines)
        assert max(iou(drawn, wanted) for wanted in FACES) > 0.5, row


def test_a_photo_of_38_megapixels(look: Look, photo: np.ndarray, tmp_path: Path) -> None:
    scale = 8000 / 440
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(photo, None, fx=scale, fy=scale * 1.0))
    result = look("large.jpg", "--output", "seen.jpg")
    assert result.code == 0, result.stderr
    _assert_both_found(tmp_path / "a.csv", scale=scale)
    seen = cv2.imread("seen.jpg")
    assert seen is not None and seen.shape[1] == 8000


def _save(kind: str, photo: np.ndarray, path: Path) -> Path:
    image = Image.fromarray(photo[..., ::-1])
    if kind == "PNG with alpha":
        image.putalpha(200)
        image.save(path := path / "a.png")
    elif kind == "16 bits":
        cv2.imwrite(str(path := path / "a.png"), photo.astype(np.uint16) * 257)
    elif kind == "16 bits grey TIFF":
        cv2.imwrite(str(path := path / "a.tif"), cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY).astype(np.uint16) * 257)
    elif kind == "CMYK":
        image.convert("CMYK").save(path := path / "a.jpg", quality=95)
    elif kind == "palette":
        image.convert("P").save(path := path / "a.png")
    elif kind == "no suffix":
        image.save(path := path / "scan", "JPEG")
    elif kind == "name of another alphabet":
        image.save(path := path / "Fotoğraf – 写真 №1.jpg")
    return path


@pytest.mark.parametrize(
    "kind",
    ["PNG with alpha", "16 bits", "16 bits grey TIFF", "CMYK", "palette", "no suffix", "name of another alphabet"],
)
def test_pictures_of_every_kind(kind: str, look: Look, photo: np.ndarray, tmp_path: Path) -> None:
    path = _save(kind, photo, tmp_path)
    result = look(path, "--json", "a.jsonl")
    assert result.code == 0, result.stderr
    _assert_both_found(tmp_path / "a.csv", source=path.name)
    assert {line["source"] for line in read_lines(tmp_path / "a.jsonl")} == {path.name}


def test_what_is_no_picture_is_said_clearly(look: Look, photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "b.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))  # as phones rename them
    (tmp_path / "c.jpg").write_bytes(b"not a picture")
    for name, words in (("a.heic", "is HEIC"), ("b.jpg", "is HEIC"), ("c.jpg", "damaged")):
        result = look(name)
        assert result.code == 1 and words in result.stderr and name in result.stderr


@pytest.mark.slow
def test_a_scan_with_forty_faces(look: Look, tmp_path: Path) -> None:
    write_collage(tmp_path / "class.jpg")
    result = look("class.jpg", "--detector", "yunet", "--detector-model", find_yunet())
    assert result.code == 0, result.stderr
    assert len(read_table(tmp_path / "a.csv")) >= 32


# --- videos -----------------------------------------------------------------------------------------------------------

_STEADY = [number / 25 for number in range(24)]
_VARIABLE = list(np.cumsum([0, *np.random.default_rng(2).choice([0.033, 0.05, 0.1, 0.4], 23)]))


def _assert_times(path: Path, times_s: list[float], boxes: list[Box] | None, tolerance_s: float = 0.0015) -> None:
    """A row per frame, at the frame's time, where the face is."""
    rows = read_table(path)
    assert [int(row["frame"]) for row in rows] == list(range(len(times_s)))
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], times_s, atol=tolerance_s)
    if boxes is not None:
        overlaps = [iou(_box(row), box) for row, box in zip(rows, boxes, strict=True)]
        assert np.mean(overlaps) > 0.6 and min(overlaps) > 0.5


_FILMS: dict[str, tuple[str, list[float], dict]] = {
    "steady mp4": ("a.mp4", _STEADY, {}),
    "variable rate mp4": ("a.mp4", _VARIABLE, {}),
    "variable rate mkv": ("a.mkv", _VARIABLE, {}),
    "variable rate webm": ("a.webm", _VARIABLE, {"codec": "libvpx"}),
    "120 frames a second": ("a.mp4", [number / 120 for number in range(24)], {}),
    "one frame a second": ("a.mp4", [float(number) for number in range(24)], {}),
    "few frames in many seconds": ("a.webm", [*_STEADY[:22], 5.0, 9.0], {"codec": "libvpx"}),
    "10 bits": ("a.mp4", _STEADY, {"codec": "libx265", "pixels": "yuv420p10le"}),
    "old avi": ("a.avi", _STEADY, {"codec": "mpeg4"}),
    "broadcast": ("a.ts", _STEADY, {}),
    "name of another alphabet": ("Видео – 動画.mp4", _STEADY, {}),
}


@pytest.mark.parametrize("kind", list(_FILMS))
def test_videos_of_every_kind(kind: str, look: Look, clip: list[tuple[np.ndarray, Box]], tmp_path: Path) -> None:
    """Table, annotated video and summary agree with the video's own time stamps."""
    name, times_s, how = _FILMS[kind]
    write_film(tmp_path / name, [frame for frame, _ in clip], times_s, **how)
    result = look(name, "--output", "seen.mp4", "--summary", "a.json", "--json", "a.jsonl", "--detect-every", 0)
    assert result.code == 0 and "damaged" not in result.stderr, result.stderr
    _assert_times(tmp_path / "a.csv", times_s, [box for _, box in clip])
    np.testing.assert_allclose(times_of(tmp_path / "seen.mp4"), times_s, atol=0.0015)
    (summary,) = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["people"]
    assert summary["seconds"] == pytest.approx(times_s[-1], abs=0.002)
    assert read_lines(tmp_path / "a.jsonl")[0]["source"] == name


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_phone(turn: int, look: Look, clip: list[tuple[np.ndarray, Box]], tmp_path: Path) -> None:
    stored = [np.ascontiguousarray(np.rot90(frame, -turn // 90)) for frame, _ in clip]
    write_film(tmp_path / "a.mp4", stored, _STEADY, rotation=turn)
    shown = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1]
    assert shown.shape == clip[0][0].shape and np.abs(shown.astype(int) - clip[0][0]).mean() < 20, "as others turn it"
    result = look("a.mp4", "--output", "seen.mkv", "--detect-every", 0)
    assert result.code == 0, result.stderr
    _assert_times(tmp_path / "a.csv", _STEADY, [box for _, box in clip])


@pytest.mark.parametrize(
    ("name", "sound", "written"),
    [
        ("a.mov", "aac", "seen.mp4"),
        ("a.mov", "aac", "seen.mkv"),
        ("a.mov", "pcm_s16le", "seen.mp4"),
        ("a.mov", "pcm_s16le", "seen.mkv"),
        ("12:30.avi", "pcm_s16le", "seen.mp4"),  # AVI does not say how channels are laid out; FFmpeg minds the colon
    ],
)
def test_sound_is_kept(name: str, sound: str, written: str, look: Look, clip: list, tmp_path: Path) -> None:
    old: dict[str, Any] = {"codec": "mjpeg", "pixels": "yuvj420p"} if name.endswith(".avi") else {}
    write_film(tmp_path / name, [frame for frame, _ in clip], _STEADY, sound=sound, **old)
    result = look(name, "--output", written)
    assert result.code == 0, result.stderr
    assert "warning" not in result.stderr
    with av.open(written) as container:
        assert container.streams.video[0].codec_context.colorspace == 6, "the matrix that FFmpeg makes of BGR"
        samples = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    heard_s = len(samples) / 48_000
    assert heard_s == pytest.approx(_STEADY[-1] + 0.1, abs=0.12)
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    assert 48_000 * spectrum.argmax() / len(samples) == pytest.approx(440, abs=3)
    np.testing.assert_allclose(times_of(tmp_path / written), _STEADY, atol=0.0015)


def test_pixels_that_are_no_squares(clip: list, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", [frame for frame, _ in clip[:2]], _STEADY[:2], pixel_shape=Fraction(4, 3))
    with contextlib.closing(VideoFile(tmp_path / "a.mp4", "a.mp4")) as film:
        assert {frame.image.shape for frame in film.frames()} == {(240, 427, 3)}


def test_the_bar_counts_videos_and_pictures(look: Look, clip: list, tmp_path: Path, monkeypatch: Any) -> None:
    for number in (1, 2):
        write_film(tmp_path / f"v/{number}.mp4", [frame for frame, _ in clip[:3]], _STEADY[:3])
    cv2.imwrite(str(tmp_path / "v/p.jfif.png"), clip[0][0])
    (tmp_path / "v/p.jfif.png").rename(tmp_path / "v/p.jfif")
    bar = tqdm(total=3, file=io.StringIO())
    monkeypatch.setattr("src.realtime.files.tqdm", lambda **_: bar)
    assert look("v").code == 0
    assert bar.n == 3


def test_a_picture_too_wide_for_its_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too large for this format"):
        save_picture(tmp_path / "a.webp", np.zeros((2, 16_400, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_keys_are_looked_at_while_no_frame_comes() -> None:
    released, looks = threading.Event(), iter([False, False, True])

    def nothing() -> Iterator[Frame]:
        released.wait()
        yield from ()

    feed = Feed(nothing(), newest=True, silence_s=60)
    feed.idle = lambda: next(looks)
    assert list(feed) == []
    released.set()


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_a_video_cut_off_in_the_middle(name: str, look: Look, clip: list, tmp_path: Path) -> None:
    write_film(tmp_path / name, [frame for frame, _ in clip], _STEADY)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    result = look(name)
    assert result.code == 0, result.stderr
    rows = read_table(tmp_path / "a.csv")
    assert 6 <= len(rows) <= 18
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], _STEADY[: len(rows)], atol=0.0015)


# --- URLs, pipes, several ---------------------------------------------------------------------------------------------


def test_a_file_url_and_a_web_address_give_every_frame(look: Look, clip: list, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    write_film(tmp_path / "web/my clip.mp4", [frame for frame, _ in clip], _VARIABLE, sound="aac")

    with serve(web_files(tmp_path / "web")) as host:
        for address in ((tmp_path / "web/my clip.mp4").as_uri(), f"http://user:secret@{host}/my%20clip.mp4?key=secret"):
            result = look(address, "--json", "a.jsonl", "--output", "seen.mp4", "--summary", "a.json")
            assert result.code == 0, result.stderr
            _assert_times(tmp_path / "a.csv", _VARIABLE, None)
            for written in ("a.csv", "a.jsonl", "a.json", "seen.mp4"):
                assert b"secret" not in (tmp_path / written).read_bytes()
            assert "secret" not in result.stderr + result.stdout


def test_passwords_are_in_no_message(look: Look, tmp_path: Path) -> None:
    for address in ("http://me:secret@127.0.0.1:9/v?token=secret", "rtsp://me:secret@127.0.0.1:9/v", "x://me:secret@h"):
        result = look(address)
        assert result.code == 1 and "secret" not in result.stderr + result.stdout
        assert "Traceback" not in result.stderr
    assert hide_password("rtsp://me:p@ss@host:8/a") == "rtsp://host:8/a"
    assert hide_password("http://[bad") == "http://..."
    for password in ("secret#1", "sec/ret", "what?"):
        assert hide_password(f"rtsp://me:{password}@host/a") == "rtsp://..."


def test_a_stream_of_jpegs(look: Look, clip: list, tmp_path: Path) -> None:
    write_film(tmp_path / "clip.mp4", [frame for frame, _ in clip], _STEADY)
    with serve(web_camera(tmp_path / "clip.mp4", "plays")) as host:
        result = look(f"http://me:secret@{host}/video", "--seconds", 2, "--output", "seen.mp4")
    assert result.code == 0, result.stderr
    rows = read_table(tmp_path / "a.csv")
    last_s = float(rows[-1]["time_s"])
    assert 0.7 < last_s <= 2  # rounded to milliseconds
    assert {row["source"] for row in rows} == {f"http://{host}/video"}
    assert times_of(tmp_path / "seen.mp4")[-1] == pytest.approx(last_s, abs=0.5)


def test_a_camera_that_speaks_rtsp(look: Look, clip: list, tmp_path: Path) -> None:
    write_film(tmp_path / "clip.mp4", [frame for frame, _ in clip], _STEADY)
    with rtsp_server(tmp_path / "clip.mp4") as address:
        result = look(f"rtsp://{address}", "--seconds", 2)
    assert result.code == 0, result.stderr
    assert len(read_table(tmp_path / "a.csv")) > 5


def test_a_stream_that_stops_is_connected_to_again(clip: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("src.realtime.sources.say", said.append)
    monkeypatch.setattr("src.realtime.sources._SILENCE_S", 1.0)
    write_film(tmp_path / "clip.mp4", [frame for frame, _ in clip], _STEADY)
    camera = web_camera(tmp_path / "clip.mp4", "hangs up", "refuses", "falls silent", "plays")
    with serve(camera) as host, contextlib.closing(LiveSource(f"http://{host}/video", "door")) as source:
        frames = list(itertools.takewhile(lambda _: len(said) < 4, source))
    lost = r"door: {} after \d+ frames; trying to connect for 30 s"
    wanted = [lost.format("\\S.*"), "door is back after .*", lost.format("no answer in time"), "door is back after .*"]
    assert len(said) == 4 and all(map(re.fullmatch, wanted, said)), said
    assert all(first.number < then.number and first.time_s < then.time_s for first, then in itertools.pairwise(frames))


@pytest.mark.parametrize("then", ["refuses", "plays"])
def test_a_closed_stream_is_not_connected_to_again(
    then: str, clip: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("src.realtime.sources.say", said.append)
    write_film(tmp_path / "clip.mp4", [frame for frame, _ in clip], _STEADY)
    before = threading.enumerate()
    with serve(web_camera(tmp_path / "clip.mp4", "hangs up", then)) as host:
        source = LiveSource(f"http://{host}/video", "door", reconnect_s=30)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "frames" and thread not in before)
        while not said:
            time.sleep(0.01)
        source.close()
        thread.join(1.0)
        assert not thread.is_alive()
    assert len(said) == 1, "lost, and not heard of again"


@pytest.mark.parametrize("then", ["refuses", "does not answer", "sends nothing"])
def test_a_stream_that_is_gone(
    then: str, look: Look, clip: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.realtime.sources._SILENCE_S", 1.0)
    write_film(tmp_path / "clip.mp4", [frame for frame, _ in clip], _STEADY)
    with serve(web_camera(tmp_path / "clip.mp4", "falls silent", then)) as host:
        result = look(f"http://me:secret@{host}/video", "--reconnect", 1)
    assert result.code == 1
    assert re.search(r"error: \S+ is gone after \d+ frames \([^)]+\)\. Check the address", result.stderr)
    assert "secret" not in result.stderr and read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_named_pipe(suffix: str, look: Look, clip: list, tmp_path: Path) -> None:
    film = write_film(tmp_path / f"film{suffix}", [frame for frame, _ in clip], _STEADY)
    os.mkfifo(tmp_path / "pipe")
    threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(film.read_bytes()), daemon=True).start()
    result = look("pipe")
    assert result.code == 0, result.stderr
    _assert_times(tmp_path / "a.csv", _STEADY, None)


def test_nothing_hangs_on_what_never_answers(look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.realtime.sources._OPENING_S", 0.7)
    os.mkfifo(tmp_path / "pipe")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        for source in ("pipe", f"http://{host}/", f"rtsp://{host}/"):
            result = look(source)
            assert result.code == 1 and "no answer in time" in result.stderr, result.stderr


def test_mixed_and_nested_files(look: Look, photo: np.ndarray, clip: list, tmp_path: Path) -> None:
    """Pictures and videos of a folder, some unreadable: each row names its file, ids begin anew, the rest is named."""
    folder = tmp_path / "all"
    for name in ("a.jpg", "b/a.jpg", "b/c/z.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), photo)
    write_film(folder / "b/clip.mkv", [frame for frame, _ in clip], _STEADY)
    (folder / "b/broken.jpg").write_bytes(b"")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("neither", encoding="utf-8")
    (folder / ".hidden.jpg").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "a.jpg"), photo)
    options = "--output all/seen --json a.jsonl --summary a.json --summary a.png"
    for _ in range(2):  # the second time there are outputs inside the folder
        result = look("all", "a.jpg", *options.split())
        assert result.code == 0, result.stderr
        assert "broken.jpg" in result.stderr and "broken.mp4" in result.stderr
        assert "2 of 7 sources could not be read" in result.stderr
    rows = read_table(tmp_path / "a.csv")
    assert [row["source"] for row in rows if not row["source"].endswith("mkv")] == [
        name for name in ("a.jpg", "b/a.jpg", "b/c/z.png", f"a.jpg ({7})") for _ in range(2)
    ]
    assert sum(row["source"] == "b/clip.mkv" for row in rows) == 24
    assert {row["face_id"] for row in rows if row["source"] == "b/c/z.png"} == {"1", "2"}
    assert {row["face_id"] for row in rows if row["source"] == "b/clip.mkv"} == {"1"}
    people = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["people"]
    assert len(people) == 4 * 2 + 1, "nobody is merged"
    written = {file.relative_to(folder / "seen").as_posix() for file in (folder / "seen").rglob("*") if file.is_file()}
    assert {"a.jpg", "b/a.jpg", "b/c/z.png", "b/clip.mkv"} <= written and len(written) == 5
    assert len(times_of(folder / "seen/b/clip.mkv")) == 24


def test_several_videos_in_one_call(look: Look, clip: list, tmp_path: Path) -> None:
    frames = [frame for frame, _ in clip]
    write_film(tmp_path / "a.mp4", frames, _STEADY)
    write_film(tmp_path / "b.webm", frames[:10], _VARIABLE[:10], codec="libvpx")
    result = look("a.mp4", "b.webm", "--output", "seen", "--json", "a.jsonl")
    assert result.code == 0, result.stderr
    rows = read_table(tmp_path / "a.csv")
    second = [float(row["time_s"]) for row in rows if row["source"] == "b.webm"]
    np.testing.assert_allclose(second, _VARIABLE[:10], atol=0.0015)
    assert len(rows) == 34
    np.testing.assert_allclose(times_of(tmp_path / "seen/b.webm.mp4"), _VARIABLE[:10], atol=0.0015)
    assert read_lines(tmp_path / "a.jsonl")[0]["version"] == 1


def test_sources_that_do_not_go_together(look: Look, clip: list, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mp4", [frame for frame, _ in clip], _STEADY)
    for arguments, words in (
        (("a.mp4", "nowhere.mp4"), "nowhere.mp4 does not exist"),
        (("a.mp4", "0"), "only source"),
        (("a.mp4", "--size", "640x480"), "are for cameras"),
        (("a.mp4", "a.mp4", "--output", "one.mp4"), "name a folder"),
        (("/dev/video77",), "No camera at /dev/video77"),
        (("77",), "No camera at index 77"),
    ):
        result = look(*arguments)
        assert result.code == 1 and words in result.stderr, result.stderr


# --- cameras ----------------------------------------------------------------------------------------------------------


def test_a_camera_gets_size_rate_and_format_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """No camera can be had here: a stand-in for OpenCV's class, which fails after 5 frames and is opened again."""
    asked: list[tuple[object, dict[int, float]]] = []

    class Capture:
        def __init__(self, target: object) -> None:
            self.left = 5
            asked.append((target, {}))

        def set(self, key: int, value: float) -> None:
            asked[-1][1][key] = value

        def get(self, key: int) -> float:
            return 15.0

        def read(self) -> tuple[bool, np.ndarray]:
            self.left -= 1
            return self.left >= 0, np.full((48, 64, 3), 9, np.uint8)

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    monkeypatch.setattr("src.realtime.sources._PAUSE_S", 0.05)
    source = LiveSource(3, "camera 3", CameraFormat((640, 480), 15, "MJPG"), reconnect_s=5)
    frames = source.__iter__()
    while next(frames).number < 7:
        pass
    source.close()
    target, settings = asked[0]
    assert target == 3 and len(asked) >= 2 and asked[1][1] == settings
    assert settings[cv2.CAP_PROP_FRAME_WIDTH] == 640 and settings[cv2.CAP_PROP_FPS] == 15
    assert settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert list(settings).index(cv2.CAP_PROP_FOURCC) < list(settings).index(cv2.CAP_PROP_FRAME_WIDTH)
    stderr = capfd.readouterr().err
    assert "camera 3 sends 64 x 48 at 15 frames/s" in stderr and "camera 3 is back" in stderr


def test_names_of_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, name in (("0", "camera 0"), ("/dev/v4l/by-id/usb-cam-index0", "/dev/v4l/by-id/usb-cam-index0")):
        assert [entry.name for entry in Playlist([text]).entries] == [name]
    cv2.imwrite("5.png", np.zeros((8, 8, 3), np.uint8))
    shutil.move("5.png", "5")
    assert Playlist(["5"]).entries[0].picture, "a file of that name comes first"
