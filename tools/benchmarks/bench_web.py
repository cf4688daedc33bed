"""How many visitors the page serves: rate and lag by number of live visitors.

    make bench-web                                            # 1, 2, 4, 8, 12 visitors, 10 s each: 2 minutes
    make bench-web ARGS="--blur"                              # every frame searched
    make bench-web ARGS="--videos 1"                          # each number without and with one who sends videos
    make bench-web ARGS="--visitors 4 4 4 --seconds 600"      # half an hour of 4 visitors: memory every 10 minutes

Starts the server on this machine and talks to it over the loopback interface only; visitors are coroutines of this
process, each with one frame of 640 x 480 pixels in flight and at most 20 frames/s, as the page has it. So the figures
contain what the visitors themselves cost: a JPEG that is already there, sent, and an answer, read.
"""

import argparse
import asyncio
import itertools
import json
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from src.errors import UserError, run_program
from src.realtime.recorder import VideoRecorder
from tools.benchmarks.measuring import machine, memory, parser, show
from tools.drawn_faces import draw_clip

Row = dict[str, Any]
_RATE = 20.0  # frames/s that a visitor sends at most


def frames() -> list[bytes]:
    """JPEGs of a drawn clip of 4 s with one face."""
    clip = draw_clip(np.random.default_rng(5), seconds=4, num_faces=1)
    return [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes() for image, _ in clip]


async def visit(url: str, pictures: list[bytes], until_s: float, blur: bool) -> list[float]:
    """Seconds from sending a frame to its answer, for each; empty where there was no place."""
    lags: list[float] = []
    async with connect(url, compression=None) as socket:
        await socket.send(f'{{"blur": {str(blur).lower()}}}')
        begin_s = time.perf_counter()
        try:
            while (now_s := time.perf_counter()) < until_s:
                frame = pictures[int((now_s - begin_s) * 25) % len(pictures)]
                await socket.send(struct.pack("<d", now_s - begin_s) + frame)
                if str(await socket.recv()).startswith('{"error"'):
                    return []
                lags.append(time.perf_counter() - now_s)
                await asyncio.sleep(max(0.0, now_s + 1 / _RATE - time.perf_counter()))
        except ConnectionClosed:
            pass
    return lags


def film() -> bytes:
    """The same clip as MP4."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = VideoRecorder(Path(folder, "clip.mp4"))
        for number, (image, _) in enumerate(draw_clip(np.random.default_rng(5), seconds=4, num_faces=1)):
            recorder.write(image, number / 25)
        recorder.close()
        return Path(folder, "clip.mp4").read_bytes()


def send_videos(url: str, content: bytes, until_s: float) -> int:
    """Frames that were looked at, of videos sent one after the other; the last is stopped at the end."""

    def ask(address: str, body: bytes | None = None, method: str | None = None) -> bytes:
        return urllib.request.urlopen(urllib.request.Request(address, body, method=method), timeout=60).read()

    looked_at = 0
    while time.perf_counter() < until_s:
        state = json.loads(ask(f"{url}/api/videos", content))
        address = f"{url}/api/videos/{state['id']}"
        while state["state"] in ("waiting", "running") and time.perf_counter() < until_s:
            time.sleep(0.2)
            state = json.loads(ask(address))
        looked_at += state["frames"]
        ask(address, method="DELETE")
    return looked_at


async def measure(
    server: subprocess.Popen, url: str, clip: tuple[list[bytes], bytes], visitors: int, videos: int, options: Any
) -> Row:
    """The row of so many visitors at a time; those for whom there was no place are not served."""
    pictures, content = clip
    until_s = time.perf_counter() + options.seconds
    socket = url.replace("http", "ws") + "/api/live"
    lives = [visit(socket, pictures, until_s, options.blur) for _ in range(visitors)]
    uploads = [asyncio.to_thread(send_videos, url, content, until_s) for _ in range(videos)]
    all_lags, looked_at = await asyncio.gather(asyncio.gather(*lives), asyncio.gather(*uploads))
    served = [lags for lags in all_lags if lags]
    rates = [len(lags) / options.seconds for lags in served]
    p50, p95 = 1000 * np.percentile(np.concatenate(served), (50, 95))
    return {
        "visitors": visitors, "videos": videos, "served": len(served), "frames/s each": np.mean(rates),
        "least": min(rates), "most": max(rates), "p50 ms": p50, "p95 ms": p95, "memory MB": memory("VmRSS", server.pid),
        "video frames/s": sum(looked_at) / options.seconds,
    }  # fmt: skip


def start(options: argparse.Namespace) -> tuple[subprocess.Popen, str, float]:
    """The server, its address, and the seconds until it had answered a picture."""
    command = [sys.executable, "-m", "src.web", "--port", "0", "--detector", options.detector]
    begin_s = time.perf_counter()
    server = subprocess.Popen([*command, "--visitors", str(options.places)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    match = re.search(r"http://\S+:\d+", server.stdout.readline())
    if match is None:
        raise UserError("The server did not start; its message stands above.")
    example = Path(__file__).resolve().parents[2] / "src/web/static/examples/one.jpg"
    for _ in range(200):
        try:
            request = urllib.request.Request(f"{match[0]}/api/pictures", example.read_bytes())
            urllib.request.urlopen(request, timeout=10).read()
            break
        except OSError:
            time.sleep(0.02)
    return server, match[0], time.perf_counter() - begin_s


def main() -> None:
    words = parser(__doc__)
    words.add_argument("--visitors", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    words.add_argument("--places", type=int, default=12, help="of the server; more visitors are refused")
    words.add_argument("--seconds", type=float, default=10.0, help="for each number of visitors")
    words.add_argument("--videos", type=int, default=0, help="people who send videos; measured without them first")
    words.add_argument("--blur", action="store_true")
    words.add_argument("--detector", default="auto")
    options = words.parse_args()
    before = machine()
    server, url, first_s = start(options)
    print(f"{before}; first prediction {first_s:.1f} s after start", flush=True)
    try:
        clip = frames(), film()
        crowds = itertools.product(options.visitors, sorted({0, options.videos}))
        show([asyncio.run(measure(server, url, clip, *crowd, options)) for crowd in crowds])
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    run_program(main)
