"""The videos of all visitors: taken in, recognized one after the other by processes of their own, kept ten minutes.

Each has a folder with a name of ours in one temporary folder of this server. That folder is locked as long as the
server lives; what a killed server left is removed by the next one.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from src.web.schema import ResultName, Video

_PREFIX = "facial-expressions-web-"
_KEPT_S = 600.0  # after its end
_LONGEST_S = 900.0  # of work on one video
_AT_ONCE, _MOST = 1, 6  # videos running; all videos that have a folder
# How containers that FFmpeg may read here begin. Playlists (HLS, concat) are none: they name other files.
_CONTAINERS = (
    *((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (4, b"free"), (4, b"skip")),
    *((0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"OggS"), (0, b"FLV\x01"), (0, b"\x00\x00\x01\xba")),
    *((0, b"G@"), (0, b"0&\xb2u\x8ef\xcf\x11")),
)


@dataclass
class Videos:
    """order: what each process is told besides its folder; see `src.web.video_job`."""

    order: dict[str, Any]
    _videos: dict[str, Video] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def open(self) -> None:
        """In the event loop, before anything else."""
        _remove_leftovers()
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = (self._root / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._running = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for number in list(self._videos):
            self.remove(number)
        await asyncio.gather(*tasks, return_exceptions=True)
        shutil.rmtree(self._root, ignore_errors=True)
        self._lock.close()

    def __len__(self) -> int:
        return len(self._videos)

    async def add(self, content: AsyncIterator[bytes], *, blur: bool) -> Video:
        """Take a video in and put it in line. Raises HTTPException when there is no room, or it is none."""
        if len(self._videos) >= _MOST:
            raise HTTPException(503, "Too many videos are waiting here. Try again in some minutes.")
        number = secrets.token_urlsafe(16)
        video = self._videos[number] = Video(id=number)
        try:
            (self._root / number).mkdir(mode=0o700)
            with (self._root / number / "video").open("w+b") as file:
                async for chunk in content:
                    file.write(chunk)
                file.seek(0)
                begin = file.read(16)
            if not any(begin[place:].startswith(mark) for place, mark in _CONTAINERS):
                raise HTTPException(415, "This is not a video that can be read here: send MP4, MOV, MKV, WebM or AVI.")
        except BaseException as error:
            self.remove(number)
            if isinstance(error, OSError):
                raise HTTPException(507, "The server's disk is full. Try again later.") from error
            raise
        self._tasks[number] = asyncio.create_task(self._work(video, blur=blur))
        return video

    def get(self, number: str) -> Video:
        """Raises HTTPException for one that is not there, or not any more."""
        if number not in self._videos:
            raise HTTPException(404, "There is no such video here. Results are kept for ten minutes.")
        return self._videos[number]

    def result(self, number: str, name: ResultName) -> Path:
        if name not in self.get(number).results:
            raise HTTPException(404, "There is no such result.")
        return self._root / number / name

    def remove(self, number: str) -> None:
        """Stop and forget a video, all its files included."""
        del self._videos[self.get(number).id]
        if number in self._tasks:
            self._tasks.pop(number).cancel()  # ends its process
        shutil.rmtree(self._root / number, ignore_errors=True)

    def _forget(self, number: str) -> None:
        if number in self._videos:
            self.remove(number)

    async def _work(self, video: Video, *, blur: bool) -> None:
        failure = "The video could not be read to its end: it is damaged, or too large for this server."
        async with self._running:
            video.state = "running"
            try:
                async with asyncio.timeout(_LONGEST_S):
                    await self._run(video, blur=blur)
            except TimeoutError:
                failure = f"The video took longer than {_LONGEST_S / 60:.0f} minutes. Cut it shorter."
            except Exception:  # a defect of ours, or no process to be had
                logging.getLogger(__name__).exception("a video could not be looked at")
                failure = "The server could not look at the video. Try again later."
        if video.state != "done":
            video.state, video.error = "failed", video.error or failure
            shutil.rmtree(self._root / video.id, ignore_errors=True)
        asyncio.get_running_loop().call_later(_KEPT_S, self._forget, video.id)

    async def _run(self, video: Video, *, blur: bool) -> None:
        order = json.dumps({**self.order, "folder": self._root / video.id, "blur": blur}, default=str)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "src.web.video_job", order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                for name, value in json.loads(line).items():
                    setattr(video, name, value)
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                shutil.rmtree(self._root / video.id, ignore_errors=True)  # it may have been writing


def _remove_leftovers() -> None:
    """Folders of servers that are gone: nobody locks them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
