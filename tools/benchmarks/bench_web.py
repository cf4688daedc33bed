"""How many visitors the page serves: rate and lag by number of live visitors, with uploads beside them; a soak.

    make bench-web                               # 1, 2, 4, 8, 12 visitors, 10 s each: 2 minutes
    make bench-web ARGS="--photos 2 --blur"      # beside them two who send photos; every frame searched
    make bench-web ARGS="--soak 1800"            # half an hour of 4 visitors and a photo: memory by minute

Starts the server on this machine and talks to it over the loopback interface only; visitors are coroutines of this
process, each with one frame of 640 x 480 pixels in flight and at most 20 frames/s, as the page has it. So the figures
contain what the visitors themselves cost: a JPEG that is already there, sent, and an answer, read.
"""

import argparse
import asyncio
import os
import platform
import re
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from src.errors import UserError, run_program
from tools.drawn_faces import draw_clip

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


async def send_photos(url: str, photo: bytes, until_s: float) -> list[float]:
    """Seconds of each upload, one after the other."""

    def post() -> None:
        urllib.request.urlopen(urllib.request.Request(f"{url}/api/pictures", photo), timeout=60).read()

    seconds: list[float] = []
    while (begin_s := time.perf_counter()) < until_s:
        await asyncio.to_thread(post)
        seconds.append(time.perf_counter() - begin_s)
    return seconds


def memory(process: int) -> float:
    """Resident MB of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


async def measure(
    server: subprocess.Popen, url: str, pictures: list[bytes], visitors: int, photos: int, seconds: float, blur: bool
) -> dict[str, object]:
    until_s = time.perf_counter() + seconds
    socket = url.replace("http", "ws") + "/api/live"
    lives = asyncio.gather(*(visit(socket, pictures, until_s, blur) for _ in range(visitors)))
    uploads = asyncio.gather(*(send_photos(url, pictures[0], until_s) for _ in range(photos)))
    lags, uploaded = await lives, await uploads
    served = [one for one in lags if one]
    rates = [len(one) / seconds for one in served]
    together = np.concatenate([np.array(one) for one in served])
    row: dict[str, object] = {
        "visitors": visitors,
        "served": len(served),
        "frames/s each": f"{np.mean(rates):.1f}",
        "least, most": f"{min(rates):.1f}, {max(rates):.1f}",
        "p50 ms": f"{1000 * np.percentile(together, 50):.0f}",
        "p95 ms": f"{1000 * np.percentile(together, 95):.0f}",
        "memory MB": f"{memory(server.pid):.0f}",
    }
    if photos:
        taken = [value for one in uploaded for value in one]
        row["photos/s"], row["photo p95 ms"] = len(taken) / seconds, f"{1000 * np.percentile(taken, 95):.0f}"
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
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of visitors")
    parser.add_argument("--soak", type=float, help="seconds of 4 visitors and one who sends photos instead")
    parser.add_argument("--blur", action="store_true")
    parser.add_argument("--detector", default="auto")
    options = parser.parse_args()
    pictures = frames()
    server, url, first_s = start(options)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before"
    print(f"{machine}; first prediction {first_s:.1f} s after start")
    try:
        rows = []
        if options.soak:
            for _ in range(max(1, round(options.soak / 60))):
                seconds = min(60.0, options.soak)
                rows.append(asyncio.run(measure(server, url, pictures, 4, 1, seconds, options.blur)))
                print(rows[-1], flush=True)
        else:
            for number in options.visitors:
                rows.append(
                    asyncio.run(measure(server, url, pictures, number, options.photos, options.seconds, options.blur))
                )
        print(tabulate(rows, headers="keys", tablefmt="github", floatfmt=".1f"))
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    run_program(main)
