"""The videos of all visitors: taken in, recognized one after the other by processes of their own, kept ten minutes.

Each has a folder with a name of ours in one temporary folder of this server. That folder is locked as long as the
server lives; what a killed server left is removed by the next one.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from src.web.engine import Refused
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
class _Entry:
    folder: Path
    state: Video
    task: asyncio.Task[None] | None = None
    ended_s: float | None = None  # time.monotonic()
    total: int = 0


@dataclass
class Videos:
    """order: what each process is told besides its folder; see `src.web.video_job`."""

    order: dict[str, Any]
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def open(self) -> None:
        """In the event loop, before anything else."""
        _remove_leftovers()
        self._root = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self._root / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._running = asyncio.Semaphore(_AT_ONCE)
        self._cleaner = asyncio.create_task(self._forget_old_ones())

    async def close(self) -> None:
        self._cleaner.cancel()
        for number in list(self._entries):
            self.remove(number)
        await asyncio.sleep(0)
        shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)

    def __len__(self) -> int:
        return len(self._entries)

    async def add(self, content: AsyncIterator[bytes], *, blur: bool) -> Video:
        """Take a video in and put it in line. Raises Refused when there is no room, or it is none."""
        if len(self._entries) >= _MOST:
            raise Refused(503, "Too many videos are waiting here. Try again in some minutes.")
        number = secrets.token_urlsafe(16)
        folder = self._root / number
        state = Video(id=number, state="waiting", progress=0.0, frames=0, error=None, note=None, results=[])
        entry = self._entries[number] = _Entry(folder, state)
        try:
            folder.mkdir(mode=0o700)
            with (folder / "video").open("wb") as file:
                async for chunk in content:
                    file.write(chunk)
            with (folder / "video").open("rb") as file:
                begin = file.read(16)
            if not any(begin[place:].startswith(mark) for place, mark in _CONTAINERS):
                raise Refused(415, "This is not a video that can be read here: send MP4, MOV, MKV, WebM or AVI.")
        except BaseException as error:
            self.remove(number)
            if isinstance(error, OSError):
                raise Refused(507, "The server's disk is full. Try again later.") from error
            raise
        entry.task = asyncio.create_task(self._work(entry, blur=blur))
        return state

    def get(self, number: str) -> Video:
        """Raises Refused for one that is not there, or not any more."""
        return self._entry(number).state

    def result(self, number: str, name: ResultName) -> Path:
        entry = self._entry(number)
        if name not in entry.state.results:
            raise Refused(404, "There is no such result.")
        return entry.folder / name

    def remove(self, number: str) -> None:
        """Stop and forget a video, all its files included."""
        entry = self._entry(number)
        del self._entries[number]
        if entry.task is not None:
            entry.task.cancel()  # ends its process
        shutil.rmtree(entry.folder, ignore_errors=True)

    def _entry(self, number: str) -> _Entry:
        if number not in self._entries:
            raise Refused(404, "There is no such video here. Results are kept for ten minutes.")
        return self._entries[number]

    async def _work(self, entry: _Entry, *, blur: bool) -> None:
        state = entry.state
        async with self._running:
            state.state = "running"
            try:
                async with asyncio.timeout(_LONGEST_S):
                    await self._run(entry, blur=blur)
            except TimeoutError:
                state.error = f"The video took longer than {_LONGEST_S / 60:.0f} minutes. Cut it shorter."
            except Exception:  # a defect of ours, or no process to be had
                logging.getLogger(__name__).exception("a video could not be looked at")
                state.error = "The server could not look at the video. Try again later."
        (entry.folder / "video").unlink(missing_ok=True)
        state.state = "failed" if state.error else "done"
        if not state.error:
            state.progress = 1.0
            state.results = [name for name in get_args(ResultName) if (entry.folder / name).is_file()]
        entry.ended_s = time.monotonic()

    async def _run(self, entry: _Entry, *, blur: bool) -> None:
        order = json.dumps({**self.order, "folder": str(entry.folder), "blur": blur})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "src.web.video_job", order),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        ended = False
        try:
            async for line in process.stdout:
                news = json.loads(line)
                entry.state.frames = news.get("frames", entry.state.frames)
                if news.get("total"):
                    entry.state.progress = min(0.99, news["frames"] / news["total"])
                entry.state.error, entry.state.note = news.get("error"), news.get("note")
                ended = ended or "error" in news or "done" in news
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                shutil.rmtree(entry.folder, ignore_errors=True)  # it may have been writing
        if not ended:
            entry.state.error = "The video could not be read to its end: it is damaged, or too large for this server."

    async def _forget_old_ones(self) -> None:
        while True:
            await asyncio.sleep(10)
            now_s = time.monotonic()
            for number, entry in list(self._entries.items()):
                if entry.ended_s is not None and now_s - entry.ended_s > _KEPT_S:
                    self.remove(number)


def _remove_leftovers() -> None:
    """Folders of servers that are gone: nobody locks them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
