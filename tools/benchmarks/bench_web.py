"""How many visitors the page serves: rate and lag by number of live visitors, with uploads beside them; a soak.

    make bench-web                               # 1, 2, 4, 8, 12 visitors, 10 s each: 2 minutes
    make bench-web ARGS="--photos 2 --blur"      # beside them two who send photos; every frame searched
    make bench-web ARGS="--videos 2"             # each number of visitors without and with two who send videos
    make bench-web ARGS="--soak 1800"            # half an hour of 4 visitors and a photo: memory by minute

Starts the server on this machine and talks to it over the loopback interface only; visitors are coroutines of this
process, each with one frame of 640 x 480 pixels in flight and at most 20 frames/s, as the page has it. So the figures
contain what the visitors themselves cost: a JPEG that is already there, sent, and an answer, read.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil
from tabulate import tabulate
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from src.errors import UserError, run_program
from src.realtime.recorder import VideoRecorder
from tools.drawn_faces import draw_clip

_RATE = 20.0  # frames/s that a visitor sends at most


def frames() -> tuple[list[bytes], bytes]:
    """A drawn clip of 4 s with one face: as JPEGs, and as MP4."""
    clip = [image for image, _ in draw_clip(np.random.default_rng(5), seconds=4, num_faces=1)]
    with tempfile.TemporaryDirectory() as folder:
        recorder = VideoRecorder(Path(folder, "clip.mp4"))
        for number, image in enumerate(clip):
            recorder.write(image, number / 25)
        recorder.close()
        film = Path(folder, "clip.mp4").read_bytes()
    return [cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes() for image in clip], film


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


def ask(url: str, content: bytes | None = None, method: str | None = None) -> bytes:
    return urllib.request.urlopen(urllib.request.Request(url, content, method=method), timeout=60).read()


def send_photos(url: str, photo: bytes, until_s: float) -> list[float]:
    """Seconds of each upload, one after the other."""
    seconds: list[float] = []
    while (begin_s := time.perf_counter()) < until_s:
        ask(f"{url}/api/pictures", photo)
        seconds.append(time.perf_counter() - begin_s)
    return seconds


def send_videos(url: str, film: bytes, until_s: float) -> int:
    """Frames that were looked at, of videos sent one after the other; the last is stopped at the end."""
    looked_at = 0
    while time.perf_counter() < until_s:
        address = f"{url}/api/videos/" + json.loads(ask(f"{url}/api/videos", film))["id"]
        state: dict = {"state": "waiting"}
        while state["state"] in ("waiting", "running") and time.perf_counter() < until_s:
            time.sleep(0.2)
            state = json.loads(ask(address))
        looked_at += state.get("frames", 0)
        ask(address, method="DELETE")
    return looked_at


@dataclass
class Crowd:
    """Who comes at once. photos, videos: how many people send them."""

    visitors: int
    photos: int
    videos: int = 0
    blur: bool = False


async def measure(
    server: subprocess.Popen, url: str, clip: tuple[list[bytes], bytes], crowd: Crowd, seconds: float
) -> dict[str, object]:
    (pictures, film), until_s = clip, time.perf_counter() + seconds
    socket = url.replace("http", "ws") + "/api/live"
    lives = asyncio.gather(*(visit(socket, pictures, until_s, crowd.blur) for _ in range(crowd.visitors)))
    photos = [asyncio.to_thread(send_photos, url, pictures[0], until_s) for _ in range(crowd.photos)]
    videos = [asyncio.to_thread(send_videos, url, film, until_s) for _ in range(crowd.videos)]
    uploads = asyncio.gather(asyncio.gather(*photos), asyncio.gather(*videos))
    lags, (taken, looked_at) = await lives, await uploads
    served = [one for one in lags if one]
    rates = [len(one) / seconds for one in served]
    together = np.concatenate([np.array(one) for one in served])
    row: dict[str, object] = {
        "visitors": crowd.visitors,
        "videos": crowd.videos,
        "served": len(served),
        "frames/s each": f"{np.mean(rates):.1f}",
        "least, most": f"{min(rates):.1f}, {max(rates):.1f}",
        "p50 ms": f"{1000 * np.percentile(together, 50):.0f}",
        "p95 ms": f"{1000 * np.percentile(together, 95):.0f}",
        "memory MB": f"{psutil.Process(server.pid).memory_info().rss / 2**20:.0f}",
        "video frames/s": f"{sum(looked_at) / seconds:.1f}",
    }
    if crowd.photos:
        waits = [value for one in taken for value in one]
        row["photos/s"], row["photo p95 ms"] = len(waits) / seconds, f"{1000 * np.percentile(waits, 95):.0f}"
    return row


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
    parser = argparse.ArgumentParser(description="Rate and lag of the page by number of visitors.")
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 2, 4, 8, 12])
    parser.add_argument("--places", type=int, default=12, help="of the server; more visitors are refused")
    parser.add_argument("--photos", type=int, default=0, help="people who send photos at the same time")
    parser.add_argument("--videos", type=int, default=0, help="people who send videos; measured without them first")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of visitors")
    parser.add_argument("--soak", type=float, help="seconds of 4 visitors and one who sends photos instead")
    parser.add_argument("--blur", action="store_true")
    parser.add_argument("--detector", default="auto")
    options = parser.parse_args()
    clip = frames()
    server, url, first_s = start(options)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"
    print(f"{machine}; first prediction {first_s:.1f} s after start")
    try:
        rows = []
        if options.soak:
            seconds = min(60.0, options.soak)
            for _ in range(max(1, round(options.soak / 60))):
                rows.append(asyncio.run(measure(server, url, clip, Crowd(4, 1, options.videos, options.blur), seconds)))
                print(rows[-1], flush=True)
        else:
            for visitors, videos in itertools.product(options.visitors, sorted({0, options.videos})):
                crowd = Crowd(visitors, options.photos, videos, options.blur)
                rows.append(asyncio.run(measure(server, url, clip, crowd, options.seconds)))
        print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".1f"))
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    run_program(main)
