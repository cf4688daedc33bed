"""What one run looks at: files, folders, URLs, pipes or a camera, as the user named them, one after the other."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import cv2

from src.errors import UserError
from src.realtime.sources import (
    HEIC,
    PICTURES,
    VIDEOS,
    CameraFormat,
    Frame,
    LiveSource,
    Picture,
    Pipe,
    Source,
    VideoFile,
    hide_password,
    is_camera,
    open_url,
    say,
)


@dataclass(frozen=True)
class Entry:
    """One source that is opened when its turn comes. name: relative to the folder it was found in."""

    name: str
    open: Callable[[], Source]
    path: Path | None = None
    picture: bool = False


class Playlist:
    """All that one run looks at; iterating gives (source, frame) pairs.

    What cannot be read is left out and kept in `skipped`, a sentence each; UserError when nothing can be read, and at
    once for a name that does not exist.
    """

    def __init__(
        self,
        texts: list[str],
        *,
        as_camera: bool = False,
        wanted: CameraFormat | None = None,
        reconnect_s: float = 30.0,
        seconds: float | None = None,
        apart: Path | None = None,
    ) -> None:
        """seconds: of each source. apart: a folder of outputs, whose files are not taken for sources."""
        self.entries: list[Entry] = []
        self._names: set[str] = set()
        self.skipped: list[str] = []
        self._live, self._as_camera, self._reconnect_s, self._seconds = False, as_camera, reconnect_s, seconds
        self._wanted, self._apart = wanted or CameraFormat(), apart.resolve() if apart else None
        for text in texts:
            self._add(text)
        names = [hide_password(text) for text in texts]
        self.title = ", ".join(Path(name).name or name for name in names[:3]) + (", ..." if len(names) > 3 else "")
        if self._live:
            if len(self.entries) > 1:
                raise UserError("A camera or stream has no end: name it as the only source.")
            self.title = self.entries[0].name
        if self._wanted != CameraFormat() and not is_camera(texts[0]):
            raise UserError("--size, --rate and --pixel-format are for cameras.")
        self._first: Source | None = None

    def _add(self, text: str) -> None:
        if text.startswith("file:"):
            text = url2pathname(urlsplit(text).path)
        if not text:
            raise UserError("The name of a source is empty.")
        name = hide_password(text)
        path = Path(os.path.expanduser(text))  # noqa: PTH111 leaves ~clip.mp4 as it is
        if is_camera(text):
            self._live = True
            name = f"camera {text}" if text.isdecimal() else text
            target = int(text) if text.isdecimal() else text
            self.entries.append(Entry(name, partial(LiveSource, target, name, self._wanted, self._reconnect_s)))
        elif "://" in text:
            self.entries.append(Entry(name, partial(open_url, text, name, self._reconnect_s)))
        elif text == "-":
            self.entries.append(Entry("standard input", lambda: VideoFile(Pipe(None), "standard input")))
        elif path.is_fifo():
            self.entries.append(Entry(path.name, lambda: VideoFile(Pipe(path), path.name)))
        elif path.is_dir():
            self._add_folder(path)
        elif path.exists():
            self._add_file(path, path.name)
        else:
            raise UserError(f"{name} does not exist. Name a camera index, a video, a picture, a folder or a URL.")

    def _add_file(self, path: Path, name: str) -> None:
        suffix, number = path.suffix.lower(), len(self.entries)
        picture = suffix in (*PICTURES, *HEIC) or (suffix not in VIDEOS and cv2.haveImageReader(str(path)))
        if self._as_camera and picture:
            raise UserError(f"{name} is not a video: only a video can be played as a camera.")
        if name in self._names:  # of another folder, or named twice
            name = path.as_posix() if name != path.as_posix() else f"{name} ({number + 1})"

        def open_file() -> Source:
            if picture:
                return Picture(path, name, number)
            # FFmpeg takes what stands before a colon in a name for a protocol, but not behind a slash.
            video = VideoFile(path.absolute(), name)  # its messages are the clearer ones
            return LiveSource(path.absolute(), name) if self._as_camera else video

        self._names.add(name)
        self._live = self._live or self._as_camera
        self.entries.append(Entry(name, open_file, path, picture))

    def _add_folder(self, folder: Path) -> None:
        known = (*PICTURES, *HEIC, *VIDEOS)
        files = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in known
            and file.is_file()
            and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        )
        if self._apart is not None and self._apart != folder.resolve():
            files = [file for file in files if self._apart not in file.resolve().parents]
        if not files:
            raise UserError(f"{folder} holds no pictures ({', '.join(PICTURES)}) and no videos ({', '.join(VIDEOS)}).")
        for file in files:
            self._add_file(file, file.relative_to(folder).as_posix())

    @property
    def single(self) -> bool:
        return len(self.entries) == 1

    def open_first(self) -> Source | None:
        """Open a source that is alone, so that its errors come before any output; None where there are several."""
        if self.single:
            self._first = self.entries[0].open()
        return self._first

    def __iter__(self) -> Iterator[tuple[Source, Frame]]:
        good = 0
        for entry in self.entries:
            source, self._first = self._first, None
            try:
                source = source or entry.open()
                try:
                    for frame in source:
                        good += 1
                        if self._seconds is not None and frame.time_s >= self._seconds:
                            break
                        yield source, frame
                finally:
                    source.close()
            except (UserError, MemoryError) as error:
                if self.single:
                    raise
                self.skipped.append(str(error) or f"{entry.name} is too large for this machine's memory.")
                say(f"warning: left out: {self.skipped[-1]}")
        if not good:
            raise UserError(f"None of the {len(self.entries)} sources can be read; the first: {self.skipped[0]}")

    def close(self) -> None:
        if self._first is not None:
            self._first.close()
