"""Where frames come from: video file, picture, folder of pictures (every frame, in order), camera or stream (newest).

`open_source(text)` picks by what the text is. A camera or stream is read by a thread of its own that keeps only the
newest frame, so a slow program skips frames and never falls behind. `as_camera=True` plays a video file the same way:
in real time, over and over, newest frame only.
"""

import contextlib
import itertools
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from src.errors import UserError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
_AHEAD = 4  # frames of a file decoded before they are needed
_USUAL_RATE = 30.0  # frames/s, where a source does not say
_OPENING_S = 30.0
_SILENCE_S = 5.0  # a live source that sends nothing for that long has stopped
_MISSING = 0.05  # share of a video's frames that may be missing at its end: containers count inexactly


@dataclass(frozen=True)
class Frame:
    """number counts from 0; time_s is the frame's time in the source; captured_s is `time.monotonic()` at arrival."""

    number: int
    time_s: float
    image: np.ndarray  # uint8 (H, W, 3), BGR
    captured_s: float
    name: str = ""  # file name, for pictures


class Source(Protocol):
    """live: frames come by themselves. continuous: neighbouring frames belong together. total: frames, if known."""

    live: bool
    continuous: bool
    frames_per_second: float
    total: int | None
    title: str
    path: Path | None  # of a file or folder

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


class VideoFile:
    """Every frame of a video file, in order. Raises UserError when nothing, or not all of it, can be decoded.

    A thread of its own decodes some frames ahead, so that a second core is of use.
    """

    live, continuous = False, True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.path: Path | None = path
        self.title = path.name
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty. Name a video or a picture.")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UserError(
                f"{path} cannot be read: it is damaged, not a video, or in a codec that OpenCV does not know. "
                f"Try a player; if it plays there, convert it: ffmpeg -i {path.name} converted.mp4"
            )
        self.frames_per_second = _sane_rate(self._capture.get(cv2.CAP_PROP_FPS))
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if 0 < count < 1e9 else None
        self._decoded: queue.Queue[tuple[np.ndarray, float] | None] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        self._decoder: threading.Thread | None = None

    def _decode(self) -> None:
        """Put every picture and its time stamp in seconds into the queue, then None."""
        while not self._closing.is_set():
            read, image = self._capture.read()
            item = (image, self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000) if read and image is not None else None
            while not self._closing.is_set():
                with contextlib.suppress(queue.Full):
                    self._decoded.put(item, timeout=0.1)
                    break
            if item is None:
                return

    def __iter__(self) -> Iterator[Frame]:
        self._decoder = threading.Thread(target=self._decode, name="decoder", daemon=True)
        self._decoder.start()
        time_s, number = -1.0, 0
        while (item := self._decoded.get()) is not None:
            image, stamp_s = item
            # Some containers have no time stamps, or repeat one.
            time_s = stamp_s if stamp_s > time_s else time_s + 1 / self.frames_per_second
            time_s = max(0.0, time_s)
            yield Frame(number, time_s, _as_bgr(image), time.monotonic())
            number += 1
        if number == 0:
            raise UserError(
                f"No frame of {self._path} can be decoded: it is damaged or in a codec that OpenCV does not know "
                f"({_codec(self._capture)}). Convert it: ffmpeg -i {self._path.name} converted.mp4"
            )
        if self.total and self.total - number > max(2, _MISSING * self.total):
            raise UserError(
                f"{self._path} is damaged: {number} of {self.total} frames could be decoded. "
                "What was written holds these frames."
            )

    def close(self) -> None:
        self._closing.set()
        if self._decoder is not None:
            self._decoder.join()
        self._capture.release()


class Pictures:
    """A picture, or those of a folder in the order of their names; each stands for itself."""

    live, continuous = False, False
    frames_per_second = 1.0

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.title = path.name or str(path)
        self.files = [path]
        if path.is_dir():
            self.files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and file.is_file())
            if not self.files:
                raise UserError(f"{path} holds no pictures ({', '.join(PICTURES)}).")
        self.total: int | None = len(self.files)
        self.unreadable: list[Path] = []

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self.files):
            # imdecode, since imread fails on some file names under Windows.
            content = np.frombuffer(file.read_bytes(), np.uint8)
            image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
            if image is None:
                self.unreadable.append(file)
            else:
                yield Frame(number, float(number), image, time.monotonic(), file.name)
        if len(self.unreadable) == len(self.files):
            raise UserError(f"{self.files[0]} cannot be read as a picture: it is damaged or of an unknown format.")

    def close(self) -> None:
        pass


class LiveSource:
    """A camera (index) or stream (URL), or a video file that plays as if it were a camera: the newest frame only.

    Iterating gives the newest frame each time and waits when there is none newer. Raises UserError when the source
    cannot be opened, or stops sending.
    """

    live, continuous = True, True
    total: int | None = None

    def __init__(self, target: int | str | Path) -> None:
        self._target = target
        self.path = target if isinstance(target, Path) else None
        self.title = f"camera {target}" if isinstance(target, int) else str(target)
        self.frames_per_second = _USUAL_RATE
        self.skipped = 0  # frames that arrived while an older one was in work
        self._news = threading.Condition()
        self._newest: Frame | None = None
        self._opened = self._ended = self._closing = False
        self._error: str | None = None
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()
        # Opening a camera or stream may take long; here it can be interrupted.
        deadline = time.monotonic() + _OPENING_S
        with self._news:
            while not (self._opened or self._error):
                if time.monotonic() > deadline:
                    raise UserError(f"{self.title} did not answer within {_OPENING_S:.0f} s. {self._remedy()}")
                self._news.wait(0.2)
        if not self._opened:
            raise UserError(self._error or "")

    def _remedy(self) -> str:
        if isinstance(self._target, int):
            return "Close other programs that use it, name another index, or pass --source video.mp4."
        return "Check the address, and that the stream plays elsewhere."

    def _run(self) -> None:
        try:
            self._capture_frames()
        except Exception as error:
            self._fail(f"{self.title} failed: {error}. {self._remedy()}")

    def _fail(self, message: str) -> None:
        with self._news:
            self._error = message
            self._news.notify_all()

    def _capture_frames(self) -> None:
        file = isinstance(self._target, Path)
        capture = cv2.VideoCapture(self._target if isinstance(self._target, int) else str(self._target))
        if not capture.isOpened():
            found = "No camera at index" if isinstance(self._target, int) else "Nothing can be read from"
            self._fail(f"{found} {self._target}. {self._remedy()}")
            return
        if isinstance(self._target, int):
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.frames_per_second = _sane_rate(capture.get(cv2.CAP_PROP_FPS))
        expected = capture.get(cv2.CAP_PROP_FRAME_COUNT) if not isinstance(self._target, int) else 0
        with self._news:
            self._opened = True
            self._news.notify_all()
        start_s = time.monotonic()
        for number in itertools.count():
            if self._closing:
                break
            read, image = capture.read()
            if not read and file and number:
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                read, image = capture.read()
            if not read or image is None:
                if number and 0 < expected <= number + 1:
                    with self._news:
                        self._ended = True
                        self._news.notify_all()
                else:
                    self._fail(f"{self.title} stopped sending after {number} frames. {self._remedy()}")
                break
            if file:
                time.sleep(max(0.0, start_s + number / self.frames_per_second - time.monotonic()))
            now_s = time.monotonic()
            with self._news:
                if self._newest is not None:
                    self.skipped += 1
                self._newest = Frame(number, now_s - start_s, _as_bgr(image), now_s)
                self._news.notify_all()
        capture.release()

    def __iter__(self) -> Iterator[Frame]:
        heard_s = time.monotonic()
        while True:
            with self._news:
                if self._newest is None and not self._error and not self._ended:
                    self._news.wait(0.1)
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame
                heard_s = time.monotonic()
            elif self._error:
                raise UserError(self._error)
            elif self._ended:
                return
            elif time.monotonic() - heard_s > _SILENCE_S:
                raise UserError(f"{self.title} has sent nothing for {_SILENCE_S:.0f} s. {self._remedy()}")

    def close(self) -> None:
        self._closing = True
        # A thread that waits for a dead camera cannot be stopped; it ends with the program.
        self._thread.join(0.5)


def open_source(text: str, *, as_camera: bool = False) -> Source:
    """The source that `text` names: a camera index, a URL, or the path of a video, picture or folder of pictures."""
    if text.isdecimal() and not Path(text).exists():
        return LiveSource(int(text))
    if "://" in text:
        return LiveSource(text)
    path = Path(text)
    if not path.exists():
        raise UserError(f"{text} does not exist. Name a camera index, a video, a picture, a folder or a URL.")
    if path.is_dir() or path.suffix.lower() in PICTURES:
        if as_camera:
            raise UserError(f"{text} is not a video: only a video can be played as a camera.")
        return Pictures(path)
    if as_camera:
        with contextlib.closing(VideoFile(path)) as video:  # its messages are the clearer ones
            next(iter(video))
        return LiveSource(path)
    return VideoFile(path)


def _sane_rate(rate: float) -> float:
    return rate if 1 <= rate <= 1000 else _USUAL_RATE


def _as_bgr(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 or image.shape[2] == 1 else image


def _codec(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    name = "".join(chr(code >> shift & 255) for shift in (0, 8, 16, 24))
    return f"codec {name}" if name.strip("\0 ").isprintable() and code else "codec unknown"
