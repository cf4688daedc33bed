"""What the tests of the real-time program share: a tiny model, drawn clips, and the program as a subprocess."""

import contextlib
import csv
import http.server
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import av
import cv2
import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest

from src.expressions import EXPRESSIONS
from src.recognition.classifier import METADATA_KEY, ExportMetadata
from src.recognition.crop_face import Box
from src.recognition.detection import MODEL_VARIABLE, YUNET_FILE, Detection
from tests.conftest import ROOT
from tools.drawn_faces import draw_clip

REAL_DATA = os.environ.get("FER_REAL_DATA")
NO_REAL_DATA = "FER_REAL_DATA names no folder with portrait.mp4"


class KnownBoxes:
    """A detector for frames whose faces are known: gives the boxes it is told that are not too small."""

    name = "known"
    smallest_side, largest_side, sure = 1.0, float("inf"), 0.0

    def __init__(self, boxes: list[Box]) -> None:
        self.boxes = boxes
        self.score = 0.95
        self.calls = 0
        self.width = 1  # pixels, of the widest frame so far, in which the boxes are

    def detect(self, frame: np.ndarray) -> list[Detection]:
        self.calls += 1
        self.last_width = frame.shape[1]
        self.width = max(self.width, self.last_width)
        scale = frame.shape[1] / self.width
        boxes = [(x * scale, y * scale, w * scale, h * scale) for x, y, w, h in self.boxes]
        return [Detection(box, self.score) for box in boxes if box[2] >= self.smallest_side]


def write_model(path: Path, *, margin: float = 0.1, uncertain_below: float = 0.2, size: int = 48) -> Path:
    """An ONNX file like the project's exports: brightness of 16 parts of the face, weighed at random, softmax."""
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.05, (16, 7)).astype(np.float32)
    part = f"[{size // 4}, {size // 4}]"
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]>
        tiny (uint8[n, {size}, {size}, 1] faces) => (float[n, 7] probabilities) {{
            levels = Cast <to = 1> (faces)
            planes = Transpose <perm = [0, 3, 1, 2]> (levels)
            parts = AveragePool <kernel_shape = {part}, strides = {part}> (planes)
            features = Flatten (parts)
            logits = MatMul (features, weights)
            probabilities = Softmax (logits)
        }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    metadata = ExportMetadata(EXPRESSIONS, size, margin, uncertain_below, "tiny")
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def write_clip(path: Path, *, seconds: float = 2.0, num_faces: int = 1, size: tuple[int, int] = (320, 240)) -> Path:
    """A drawn clip at 25 frames/s."""
    frames = draw_clip(np.random.default_rng(5), seconds=seconds, size=size, num_faces=num_faces)
    write_video(path, [frame for frame, _ in frames])
    return path


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """A video of 25 frames/s."""
    write_film(path, frames, [number / 25 for number in range(len(frames))])


def write_film(
    path: Path,
    frames: list[np.ndarray],
    times_s: list[float],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    sound: str | None = None,
    pixel_shape: Fraction | None = None,
) -> Path:
    """A video with exactly these time stamps. rotation: degrees that a player turns it by. sound: codec of a tone.
    pixel_shape: width to height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = {".mkv": Fraction(1, 1000), ".webm": Fraction(1, 1000), ".avi": Fraction(1, 25)}.get(
        path.suffix, Fraction(1, 90_000)
    )
    options = {
        "libx264": {"preset": "ultrafast"},
        "libvpx": {"deadline": "realtime"},
        "libx265": {"x265-params": "log-level=none"},
    }
    with av.open(str(path), "w") as container:
        film: Any = container.add_stream(codec, rate=30, options=options.get(codec, {}))
        film.height, film.width = frames[0].shape[:2]
        film.pix_fmt, film.codec_context.time_base = pixels, clock
        if pixel_shape:
            film.codec_context.sample_aspect_ratio = pixel_shape
        if rotation:
            film.set_display_rotation(rotation)
        if sound:
            tone: Any = container.add_stream(sound, rate=48_000, layout="mono")
            length = int(48_000 * (times_s[-1] + 0.1))
            wave = np.sin(np.arange(length) * 2 * np.pi * 440 / 48_000).astype(np.float32)[None]
            heard = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 48_000, 0
            container.mux(tone.encode(heard))
            container.mux(tone.encode(None))
        for image, time_s in zip(frames, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = round(time_s / clock), clock
            container.mux(film.encode(frame))
        container.mux(film.encode(None))
    return path


def times_of(path: Path) -> list[float]:
    """The time stamps of all frames of a video, seconds, as FFmpeg reads them."""
    with av.open(str(path)) as container:
        return [frame.time or 0.0 for frame in container.decode(video=0)]


def count_frames(path: Path) -> int:
    """Frames that play; the last one of a file that was cut off may not."""
    from src.realtime.sources import VideoFile

    with contextlib.closing(VideoFile(path, path.name)) as video:
        return sum(1 for _ in video.frames())


@dataclass
class Ended:
    """How a run of the program in this process ended."""

    code: int
    stdout: str
    stderr: str


def run_here(*arguments: object) -> Ended:
    """The program in this process, in the current folder; quicker than a process of its own."""
    from src.errors import run_program
    from src.realtime.__main__ import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    code, stdout, stderr = 0, io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            run_program(lambda: main([*map(str, arguments)]))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        stderr.write(f"{end.code}\n" if isinstance(end.code, str) else "")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Ended(code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def serve(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server on this machine; gives host:port."""
    handler.log_message = lambda *_: None  # type: ignore[method-assign]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def web_files(folder: Path) -> type[http.server.BaseHTTPRequestHandler]:
    """Files over HTTP, in parts where asked for, as real servers do and Python's own does not."""

    class Files(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = (folder / unquote(urlsplit(self.path).path)[1:]).read_bytes()
            begin = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content[begin:])

    return Files


def web_camera(clip: Path, *connections: str) -> type[http.server.BaseHTTPRequestHandler]:
    """A camera with a web address. connections: what each does, the last all that follow; "plays" JPEGs at 30 frames/s,
    "hangs up" or "falls silent" after 30 of them, "refuses", "does not answer", "sends nothing" after the head."""
    left, never = list(connections), threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what = left.pop(0) if len(left) > 1 else left[0]
            if what == "refuses":
                self.send_error(503)
                return
            if what != "does not answer":
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
            if what in ("plays", "hangs up", "falls silent"):
                with av.open(str(clip)) as container:
                    images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
                jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in images]
                for number in range(1000 if what == "plays" else 30):
                    content = jpegs[number % len(jpegs)]
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                    with contextlib.suppress(OSError):
                        self.wfile.write(head.encode() + content + b"\r\n")
                    never.wait(1 / 30)
            if what != "hangs up":
                never.wait(60)

    return Camera


@contextlib.contextmanager
def rtsp_server(clip: Path) -> Iterator[str]:
    """A camera that speaks RTSP (RFC 2326) over one TCP connection, H.264 in RTP; plays the clip again and again."""
    over = threading.Event()

    def serve_one(connection: socket.socket) -> None:
        def answer(request: str, extra: str = "", body: str = "") -> None:
            number = next(line for line in request.splitlines() if line.lower().startswith("cseq"))
            size = f"Content-Length: {len(body)}\r\n" if body else ""
            connection.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\n{extra}{size}\r\n{body}".encode())

        text = ""
        while not text.startswith("PLAY"):
            text = connection.recv(4096).decode()
            if text.startswith("OPTIONS"):
                answer(text, "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n")
            elif text.startswith("DESCRIBE"):
                sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                sdp += "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
                answer(text, "Content-Type: application/sdp\r\n", sdp)
            elif text.startswith("SETUP"):
                answer(text, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n")
        answer(text, "Session: 1\r\n")
        inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        inbox.bind(("127.0.0.1", 0))
        inbox.settimeout(0.01)
        with (
            av.open(str(clip)) as source,
            av.open(f"rtp://127.0.0.1:{inbox.getsockname()[1]}", "w", format="rtp") as rtp,
        ):
            images = [frame.to_ndarray(format="bgr24") for frame in source.decode(video=0)]
            film: Any = rtp.add_stream(
                "libx264", rate=25, options={"tune": "zerolatency", "g": "10", "preset": "ultrafast"}
            )
            film.height, film.width = images[0].shape[:2]
            film.pix_fmt = "yuv420p"
            number = 0
            while not over.wait(1 / 25):
                frame = av.VideoFrame.from_ndarray(images[number % len(images)], format="bgr24")
                frame.pts, frame.time_base, number = number, Fraction(1, 25), number + 1
                rtp.mux(film.encode(frame))
                with contextlib.suppress(TimeoutError):
                    while True:
                        packet = inbox.recv(65536)
                        channel = 1 if 72 <= packet[1] & 127 <= 76 else 0  # RTCP beside RTP
                        connection.sendall(b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet)

    def serve_quietly(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            serve_one(connection)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve_quietly, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}/stream"
        over.set()


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; fails if the last one is not whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    rows = list(csv.DictReader(text.splitlines()))
    assert all(None not in row.values() and None not in row for row in rows)
    return rows


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def environment(**changes: str) -> dict[str, str]:
    """The caller's environment without a display and without a way to the network."""
    kept = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", MODEL_VARIABLE)
    }
    return {**kept, "PYTHONPATH": str(ROOT), "HTTPS_PROXY": "http://127.0.0.1:9", **changes}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "src.realtime", *map(str, arguments)]


def run_realtime(*arguments: object, folder: Path, **changes: str) -> Ended:
    """The program as a user runs it, in `folder`, to its end."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(**changes), capture_output=True, text=True, timeout=120
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def find_yunet() -> Path:
    """The YuNet file beside the real data; skips the test where there is none."""
    if REAL_DATA is None:
        pytest.skip(NO_REAL_DATA)
    for folder in (Path(REAL_DATA).parent / "models", Path(REAL_DATA) / "models"):
        if (folder / YUNET_FILE).is_file():
            return folder / YUNET_FILE
    pytest.skip(f"no {YUNET_FILE} beside the real data")


def find_real(name: str) -> Path:
    """A file of the real data; skips the test where there is none."""
    if REAL_DATA is None or not (Path(REAL_DATA) / name).is_file():
        pytest.skip(NO_REAL_DATA)
    return Path(REAL_DATA) / name


def write_collage(path: Path, side: int = 200) -> None:
    """40 labelled faces of ExpW, 8 by 5, at least 100 px large in their photos."""
    with zipfile.ZipFile(find_real("expw.zip")) as archive:
        names = {name.rpartition("/")[2]: name for name in archive.namelist()}
        rows = [line.split() for line in archive.read(names["label.lst"]).decode().splitlines()]
        tiles: list[np.ndarray] = []
        for index in np.random.default_rng(7).permutation(len(rows)):
            name, _, top, left, right, bottom, *_ = rows[index]
            y, x, size = int(top), int(left), max(int(right) - int(left), int(bottom) - int(top))
            photo = cv2.imdecode(np.frombuffer(archive.read(names[name]), np.uint8), cv2.IMREAD_COLOR)
            around = size // 3
            if size < 100 or photo is None or min(y, x) < around:
                continue
            tile = photo[y - around : y + size + around, x - around : x + size + around]
            if tile.shape[0] == tile.shape[1] == size + 2 * around:
                tiles.append(cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA))
            if len(tiles) == 40:
                break
    cv2.imwrite(str(path), np.vstack([np.hstack(tiles[row : row + 8]) for row in range(0, 40, 8)]))
