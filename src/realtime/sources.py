"""Where frames come from: pictures, video files and streams (PyAV), cameras (OpenCV).

Files give every frame, in order, with the time stamps they carry. Cameras and streams are read by a thread of their own
that keeps the newest frame only, so a slow program skips frames and never falls behind; when they stop, it connects
again. Names never hold the password of a URL. `src.realtime.playlist` chooses the source for what the user named.
"""

import contextlib
import math
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from av.stream import Disposition

from src.errors import UserError
from src.recognition.pictures import decode_picture

PICTURES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".jp2", ".avif"),
)
HEIC = (".heic", ".heif")
VIDEOS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".3gp", ".ogv", ".mjpeg", ".gif"),
)
_LARGEST_FILE = 2**29  # bytes of a picture
_AHEAD = 4  # frames of a file decoded before they are needed
_USUAL_RATE = 30.0  # frames/s, where a source does not say
_OPENING_S = 20.0
_SILENCE_S = 5.0  # a live source that sends nothing for that long has stopped
_GLANCE_S = 0.03  # between two looks at the keyboard while no frame comes
_PAUSE_S = 0.5  # between two attempts to connect again
_NO_ANSWER = "no answer in time"
_CHECK_ADDRESS = "Check the address, and that it plays elsewhere."
_FREE_CAMERA = "Close other programs that use it, name another camera, or pass --source video.mp4."


@dataclass(frozen=True)
class Frame:
    """number counts from 0 in its source, pictures through the whole run; time_s is the frame's time in the source, 0
    for a picture; captured_s is `time.monotonic()` at arrival."""

    number: int
    time_s: float
    image: np.ndarray  # uint8 (H, W, 3), BGR
    captured_s: float


@dataclass(frozen=True)
class CameraFormat:
    """What a camera is asked for; None leaves it to the camera. pixel_format: four letters, such as MJPG or YUYV."""

    size: tuple[int, int] | None = None  # width, height
    rate: float | None = None  # frames/s
    pixel_format: str | None = None


class Source:
    """name: as shown and written. live: frames come by themselves. continuous: neighbouring frames belong together.
    rate: frames/s on average, if known. total: frames, if known; for progress bars only."""

    name: str
    live, continuous = False, True
    rate: float | None = None
    total: int | None = None

    def __iter__(self) -> Iterator[Frame]:
        raise NotImplementedError

    def while_waiting(self, idle: Callable[[], bool]) -> None:
        """Call it some thirty times a second as long as no frame comes; where it is true, iterating ends."""

    def close(self) -> None:
        """Stop reading."""


def say(text: str, stream: TextIO | None = None) -> None:
    """A line on standard error or `stream`; a closed terminal is no reason to end."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream or sys.stderr, flush=True)


class Feed:
    """A thread that runs ahead of whoever iterates: by a few frames, or with `newest` keeping the newest one only.

    Errors of the thread are raised where it is iterated, and queue.Empty when nothing comes for `silence_s`.
    """

    def __init__(self, frames: Iterator[Frame], *, newest: bool = False, silence_s: float | None = None) -> None:
        self._frames, self._newest, self._silence_s = frames, newest, silence_s
        self._ready: queue.Queue[Frame | None] = queue.Queue(1 if newest else _AHEAD)  # None is the end
        self._closing = threading.Event()
        self.begun = threading.Event()  # the first frame or the end has come
        self.error: Exception | None = None
        self.idle: Callable[[], bool] | None = None  # as of `Source.while_waiting`
        self._thread = threading.Thread(target=self._run, name="frames", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for frame in self._frames:
                if self._newest:
                    self._drop()
                self._ready.put(frame)
                self.begun.set()
                if self._closing.is_set():
                    return
        except Exception as error:
            self.error = error
        self.begun.set()
        self._ready.put(None)

    def _drop(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._ready.get_nowait()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self._next()) is not None:
            yield frame
        if self.error is not None:
            raise self.error

    def _next(self) -> Frame | None:
        if self.idle is None:
            return self._ready.get(timeout=self._silence_s)
        end_s = time.monotonic() + (self._silence_s or math.inf)
        while True:
            with contextlib.suppress(queue.Empty):
                return self._ready.get(timeout=_GLANCE_S)
            if self.idle():
                return None
            if time.monotonic() > end_s:
                raise queue.Empty

    def close(self) -> bool:
        """Whether the thread has ended. One that waits for a dead camera cannot be stopped before the program."""
        self._closing.set()
        self._drop()  # room for the frame that the thread may be holding
        self._thread.join(1.0)
        return not self._thread.is_alive()


def is_camera(text: str) -> bool:
    """Whether `text` is the index of a camera or, on Linux, its device (/dev/video0, /dev/v4l/by-id/...)."""
    return (text.isdecimal() and not Path(text).exists()) or text.startswith(("/dev/video", "/dev/v4l/"))


def hide_password(text: str) -> str:
    """A URL without user, password and query; anything else as it is."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return text.partition("://")[0] + "://..."
    if "@" in text and "@" not in parts.netloc:  # an unescaped #, ? or / in a password
        return f"{parts.scheme}://..."
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _reason(error: Exception) -> str:
    """What FFmpeg says, without the address it says it of."""
    if isinstance(error, TimeoutError | av.error.ExitError):
        return _NO_ANSWER
    return getattr(error, "strerror", None) or type(error).__name__


def _unreadable(name: str, reason: str) -> UserError:
    return UserError(f"Nothing can be read from {name} ({reason}). {_CHECK_ADDRESS}")


def _film(container: Any) -> Any:
    """The video stream, or None. Cover pictures of music are video streams too."""
    films = (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic)
    return next(films, None)


def _open_container(target: Any, name: str) -> Any:
    """An open container with a video stream. Raises UserError, or OSError and FFmpegError as FFmpeg reports them."""
    options = {"rtsp_transport": "tcp"} if str(target).startswith("rtsp") else {}
    begin_s = time.monotonic()
    try:
        container = av.open(target, timeout=(_OPENING_S, _SILENCE_S), options=options)
    except av.FFmpegError:
        if time.monotonic() - begin_s >= _OPENING_S:  # RTSP calls it invalid data
            raise TimeoutError from None
        raise
    if _film(container) is None:
        container.close()
        raise UserError(f"{name} has no pictures in it (sound only). Name a video or a picture.")
    return container


class VideoFile(Source):
    """Every frame of a video file, finite URL or pipe, in order, timed from the beginning of the recording.

    target: path, URL or an object with `read`. container: where it is open already. Raises UserError when nothing can
    be decoded; frames that cannot are counted and left out.
    """

    def __init__(self, target: Any, name: str, container: Any = None) -> None:
        self.name = name
        self.sound = str(target) if isinstance(target, str | Path) else None  # where it can be read again
        self._damaged = 0
        try:
            self._container = container or _open_container(target, name)
        except (OSError, av.FFmpegError) as error:
            raise UserError(self._complaint(_reason(error))) from error
        self._film = _film(self._container)
        rate = self._film.average_rate or self._film.guessed_rate
        self.rate = float(rate) if rate else None
        self.total = self._film.frames or None
        self.start_s = (self._container.start_time or 0) / av.time_base
        self._feed: Feed | None = None

    def _complaint(self, reason: str) -> str:
        return (
            f"{self.name} cannot be read ({reason}): it is damaged, cut off before its index, or no video. "
            "Try a player; if it plays there, convert it: ffmpeg -i OLD NEW.mp4"
        )

    def images(self) -> Iterator[tuple[np.ndarray, float | None]]:
        """Upright pictures, uint8 `(H, W, 3)` BGR, with time stamps in seconds where the container has them."""
        self._film.thread_type = "AUTO"
        stretch = float(self._film.sample_aspect_ratio or 1)  # of pixels that are no squares, as of camcorders
        for packet in self._container.demux(self._film):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._damaged += 1
                continue
            for frame in frames:
                image = frame.to_ndarray(format="bgr24")
                if stretch != 1:
                    image = cv2.resize(image, (max(1, round(stretch * image.shape[1])), image.shape[0]))
                image = np.rot90(image, frame.rotation // 90)
                yield np.ascontiguousarray(image), frame.time

    def frames(self) -> Iterator[Frame]:
        """As iterating, in the thread of the caller."""
        last_s, number = -1.0, 0
        for number, (image, stamp_s) in enumerate(self.images(), start=1):
            # Some containers have no time stamps, or repeat one.
            time_s = last_s + 1 / (self.rate or _USUAL_RATE) if stamp_s is None else stamp_s - self.start_s
            last_s = max(0.0, last_s + 1e-3, time_s)
            yield Frame(number - 1, last_s, image, time.monotonic())
        if number == 0:
            codec = self._film.codec_context
            raise UserError(self._complaint(f"no frame can be decoded, codec {codec.name if codec else 'unknown'}"))
        if self._damaged:
            say(f"warning: {self.name}: {self._damaged} damaged frames were left out")

    def __iter__(self) -> Iterator[Frame]:
        self._feed = Feed(self.frames())
        try:
            yield from self._feed
        except (OSError, av.FFmpegError) as error:
            text = f"{self.name} broke off: {_reason(error)}. What was written holds the frames before."
            raise UserError(text) from error

    def close(self) -> None:
        if self._feed is None or self._feed.close():
            self._container.close()


class Pipe:
    """A named pipe or standard input that PyAV reads; waits for the writer, but not for ever."""

    def __init__(self, path: Path | None) -> None:
        self._file = 0 if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._begun = path is None

    def read(self, size: int) -> bytes:
        deadline = time.monotonic() + _OPENING_S
        while time.monotonic() < deadline:
            if select.select([self._file], [], [], 0.1)[0]:
                # A pipe that nobody has opened for writing yet reads as ended.
                with contextlib.suppress(BlockingIOError):
                    content = os.read(self._file, size)
                    if content or self._begun:
                        self._begun = True
                        return content
            time.sleep(0 if self._begun else 0.02)
        raise TimeoutError("nothing was written into the pipe")


def read_picture(path: Path) -> np.ndarray:
    """An upright picture, uint8 `(H, W, 3)` BGR. Raises UserError that says why it cannot be read."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path.name} is too large ({path.stat().st_size / 1e6:.0f} MB). Make it smaller.")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}.") from error
    try:
        image = decode_picture(content)  # imread fails on some file names under Windows
    except cv2.error as error:
        if "PIXELS" in str(error):
            raise UserError(f"{path.name} has too many pixels. Make it smaller.") from error
        image = None
    if image is None and content[4:8] == b"ftyp":
        raise UserError(
            f"{path.name} is HEIC, which is not read. Convert it to JPEG: open and export it on a computer, or let the "
            "phone save JPEG (iPhone: Settings, Camera, Formats, Most Compatible)."
        )
    if image is None:
        raise UserError(f"{path.name} cannot be read as a picture: it is damaged or of an unknown format.")
    return image


class Picture(Source):
    """One picture file, a source of one frame."""

    continuous, total = False, 1

    def __init__(self, path: Path, name: str, number: int) -> None:
        self._path, self.name, self._number = path, name, number

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(self._number, 0.0, read_picture(self._path), time.monotonic())


class LiveSource(Source):
    """A camera (index or device), a stream (URL), or a video file that plays as if it were a camera: the newest frame.

    Times count from the first frame, by arrival. When it stops it is opened again, for `reconnect_s` seconds; then
    UserError. Raises UserError when it cannot be opened at all. container: where a stream is open already.
    """

    live = True

    def __init__(
        self,
        target: int | str | Path,
        name: str,
        wanted: CameraFormat | None = None,
        reconnect_s: float = 30.0,
        container: Any = None,
    ) -> None:
        self._target, self.name, self._wanted, self._reconnect_s = target, name, wanted or CameraFormat(), reconnect_s
        self._is_camera = is_camera(str(target))
        self._remedy = _FREE_CAMERA if self._is_camera else _CHECK_ADDRESS
        self._container = container
        self._arrived, self._reason = 0, _NO_ANSWER
        self._closing = threading.Event()
        self._feed = Feed(self._frames(), newest=True, silence_s=_SILENCE_S + reconnect_s)
        # Opening a camera or stream may take long; here it can be interrupted.
        if not self._feed.begun.wait(_OPENING_S):
            self._closing.set()
            raise UserError(f"{name} did not answer within {_OPENING_S:.0f} s. {self._remedy}")
        if self._feed.error is not None and not self._arrived:
            raise self._feed.error

    def _gone(self) -> UserError:
        return UserError(f"{self.name} is gone after {self._arrived} frames ({self._reason}). {self._remedy}")

    def _frames(self) -> Iterator[Frame]:
        start_s, lost_s = 0.0, None
        while True:
            heard_s = time.monotonic()
            try:
                for image in self._images():
                    if self._closing.is_set():
                        return
                    heard_s = time.monotonic()
                    if lost_s is not None:
                        say(f"{self.name} is back after {heard_s - lost_s:.0f} s")
                        lost_s = None
                    start_s = start_s or heard_s
                    self._arrived += 1
                    yield Frame(self._arrived - 1, heard_s - start_s, image, heard_s)
                self._reason = "it stopped sending"
            except (OSError, av.FFmpegError) as error:
                # FFmpeg has several names for silence.
                self._reason = _NO_ANSWER if time.monotonic() - heard_s >= _SILENCE_S else _reason(error)
            except cv2.error:
                self._reason = "OpenCV failed"
            if not self._arrived:
                if not self._is_camera:
                    raise _unreadable(self.name, self._reason)
                index = "index " if isinstance(self._target, int) else ""
                raise UserError(f"No camera at {index}{self._target}. {self._remedy}")
            if lost_s is None:
                lost_s = time.monotonic()
                if self._reconnect_s and not self._closing.is_set():
                    waiting = f"trying to connect for {self._reconnect_s:g} s"
                    say(f"{self.name}: {self._reason} after {self._arrived} frames; {waiting}")
            if time.monotonic() - lost_s >= self._reconnect_s:
                raise self._gone()
            if self._closing.wait(_PAUSE_S):
                return

    def _images(self) -> Iterator[np.ndarray]:
        if self._is_camera:
            yield from self._camera_images()
        elif isinstance(self._target, Path):
            while True:  # played again and again
                with contextlib.closing(VideoFile(self._target, self.name)) as video:
                    self.rate, begin_s = video.rate, time.monotonic()
                    for frame in video.frames():
                        self._closing.wait(max(0.0, begin_s + frame.time_s - time.monotonic()))
                        yield frame.image
                self._closing.wait(1 / (video.rate or _USUAL_RATE))
        else:
            container, self._container = self._container or _open_container(self._target, self.name), None
            with contextlib.closing(VideoFile(self._target, self.name, container)) as stream:
                self.rate = stream.rate
                yield from (image for image, _ in stream.images())

    def _camera_images(self) -> Iterator[np.ndarray]:
        target, wanted = self._target, self._wanted
        if isinstance(target, str) and not Path(target).is_char_device():
            return
        capture = cv2.VideoCapture(target)
        try:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            if wanted.pixel_format:  # first: it decides which sizes and rates there are
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.pixel_format))
            if wanted.size:
                capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
                capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
            if wanted.rate:
                capture.set(cv2.CAP_PROP_FPS, wanted.rate)
            rate = capture.get(cv2.CAP_PROP_FPS)
            self.rate = rate if 1 <= rate <= 1000 else None
            told = wanted == CameraFormat()
            while (read := capture.read())[0]:
                if not told:
                    say(f"{self.name} sends {read[1].shape[1]} x {read[1].shape[0]} at {rate:g} frames/s")
                    told = True
                yield read[1] if read[1].ndim == 3 else cv2.cvtColor(read[1], cv2.COLOR_GRAY2BGR)
        finally:
            capture.release()

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._feed
        except queue.Empty as error:
            raise self._gone() from error  # the thread still waits for an answer

    def while_waiting(self, idle: Callable[[], bool]) -> None:
        self._feed.idle = idle

    def close(self) -> None:
        self._closing.set()
        self._feed.close()


def open_url(url: str, name: str, reconnect_s: float) -> Source:
    """A file behind a URL with all its frames, or a stream."""
    try:
        container = _open_container(url, name)
    except (OSError, av.FFmpegError) as error:
        raise _unreadable(name, _reason(error)) from error
    streamed = any(word in container.format.name for word in ("rtsp", "sdp", "mpjpeg", "flv"))
    if not streamed and (container.duration or ("hls" not in container.format.name and container.size > 0)):
        return VideoFile(url, name, container)
    return LiveSource(url, name, reconnect_s=reconnect_s, container=container)
