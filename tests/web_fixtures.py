"""What the tests of the page share: the server as a process of its own, pictures, and a live visitor."""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import requests
from websockets.sync.client import ClientConnection, connect

from tests.conftest import ROOT
from tests.realtime_fixtures import write_video
from tools.drawn_faces import draw_clip, draw_photo

EXAMPLES = ROOT / "src/web/static/examples"


def read_example(name: str) -> np.ndarray:
    image = cv2.imread(str(EXAMPLES / name))
    assert image is not None
    return image


@dataclass
class Server:
    """A running `python -m src.web`. temporary: its folder for temporary files."""

    url: str
    process: subprocess.Popen[str]
    said: str
    temporary: Path
    log: Path

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=30, **options)

    def post(self, path: str, content: Any, **options: Any) -> requests.Response:
        return requests.post(self.url + path, data=content, timeout=120, **options)

    def delete(self, number: str) -> int:
        """Status of deleting a video."""
        return requests.delete(f"{self.url}/api/videos/{number}", timeout=30).status_code

    def connect(self) -> socket.socket:
        """A bare connection."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def count(self, what: str) -> int:
        """How many "visitors" or "videos" there are."""
        return self.get("/health").json()[what]

    def left(self) -> list[Path]:
        """Files of visitors that lie in temporary folders."""
        return [path for path in self.temporary.rglob("*") if path.is_file() and path.name != "lock"]

    @property
    def memory(self) -> float:
        """Resident, MB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20


@contextlib.contextmanager
def run_server(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """Started on a free port, and ended."""
    temporary, log = folder / "tmp", folder / "log"
    temporary.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "src.web", "--port", "0", "--detector", "haar", *options]
    variables = {**os.environ, "TMPDIR": str(temporary), **environment}
    with log.open("a", encoding="utf-8") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        match = re.search(r"http://[^/ ]+", said)
        assert match, log.read_text(encoding="utf-8")
        url = match[0].replace("0.0.0.0", "127.0.0.1")
        server = Server(url, process, said, temporary, log)
        wait_for(lambda: server.get("/health"))  # it listens already
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            process.stdout.close()  # type: ignore[union-attr]


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """The first true value of `condition()`."""
    end_s = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)
    return value


def finish(server: Server, number: str) -> dict[str, Any]:
    """Wait until a video is done or has failed."""

    def ended() -> dict[str, Any] | None:
        state = server.get(f"/api/videos/{number}").json()
        return state if state["state"] in ("done", "failed") else None

    return wait_for(ended, 120)


def long_clip(path: Path) -> bytes:
    """Some seconds of work: 40 s of video, of few drawings."""
    frames = [frame for frame, _ in draw_clip(np.random.default_rng(5), seconds=0.4, size=(640, 480))]
    write_video(path, frames * 100)
    return path.read_bytes()


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def one_face(left: bool) -> np.ndarray:
    """A drawn picture of 320 x 240 pixels with one face, in its left or right half."""
    box = (20.0 if left else 180.0, 60.0, 120.0, 120.0)
    return draw_photo(np.random.default_rng(3 if left else 4), [("happy", box)], 320, 240)


@contextlib.contextmanager
def live(server: Server, *, blur: bool = False, token: str | None = None) -> Iterator[ClientConnection]:
    """A live visitor whose settings are sent."""
    with connect(server.url.replace("http", "ws") + "/api/live", compression=None, max_size=None) as socket:
        socket.send(json.dumps({"blur": blur, "token": token}))
        yield socket


def send_frame(socket: ClientConnection, time_s: float, image: bytes) -> dict[str, Any]:
    socket.send(struct.pack("<d", time_s) + image)
    return json.loads(socket.recv(30))
