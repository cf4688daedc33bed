"""Annotated videos and pictures.

Videos are H.264 in MP4 or Matroska, with the time stamps of the source and its sound. They are written in fragments of
about a second straight to their name: a killed program, or a full disk, leaves a video that plays up to there; a
finished MP4 is an ordinary one, which browsers play and seek in.
"""

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from src.errors import UserError
from src.realtime.sources import VideoFile, say
from src.storage import replace_file

RECORDED = (".mp4", ".mkv", ".mov")
SAVED = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_CLOCK = 90_000  # units of time stamps per second
_KEY_S = 2.0  # a whole picture at least every so often, to seek to
_LONGEST_GAP_S = 2.0  # a pause of a live source is not shown longer
_COPIED_SOUND = {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}  # what MP4 takes; else it becomes AAC


class _Disk(io.FileIO):
    """A file that PyAV writes. After the first write that fails it swallows the rest: an index that does not fit must
    not spoil the fragments before it."""

    error: OSError | None = None

    def write(self, content: bytes) -> int:  # type: ignore[override]
        rest = memoryview(content)
        try:
            while len(rest) and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            error.filename = str(self.name)
            self.error = error
        return len(content)


class VideoRecorder:
    """A video that grows frame by frame.

    path: ends as one of `RECORDED`. A frame of another size is fitted into the first one's, on black. sound: the video
    whose sound to take over. live: times count from the first frame, and long pauses are cut. Raises OSError when the
    disk is full; what was written before plays.
    """

    def __init__(self, path: Path, *, sound: VideoFile | None = None, live: bool = False, threads: int = 1) -> None:
        self.path, self.frames = path, 0
        self._live, self._sound_of, self._threads = live, sound, threads
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk = _Disk(path, "w")
        self._container: Any = None
        self._start_s = self._last_s = self._step_s = 0.0
        self._last_pts, self._key_s = -1, 0.0
        self._sound: Iterator[tuple[float, Any]] = iter(())
        self._next_sound: tuple[float, Any] | None = None

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Append a frame, uint8 `(H, W, 3)` BGR, of the time `time_s`, seconds."""
        if self._container is None:
            self._open(*image.shape[:2])
            self._start_s, self._last_s = time_s if self._live else 0.0, time_s
            self._key_s = -_KEY_S
        gap_s = time_s - self._last_s
        if self._live and gap_s > _LONGEST_GAP_S:
            self._start_s += gap_s - _LONGEST_GAP_S
        self._last_s, self._step_s = time_s, min(gap_s, _LONGEST_GAP_S) or self._step_s
        # The first frame is shown from the beginning: a container's first time stamp is taken for zero.
        at_s = time_s - self._start_s if self.frames else 0.0
        frame = av.VideoFrame.from_ndarray(fit_into(image, self._size), format="bgr24")
        frame.pts = self._last_pts = max(self._last_pts + 1, round(at_s * _CLOCK))
        frame.time_base = Fraction(1, _CLOCK)
        if at_s - self._key_s >= _KEY_S:
            frame.pict_type, self._key_s = av.video.frame.PictureType.I, at_s
        self._mux_sound(at_s)
        self._container.mux(self._video.encode(frame))
        self.frames += 1
        if self._disk.error is not None:
            raise self._disk.error

    def _open(self, height: int, width: int) -> None:
        matroska = self.path.suffix.lower() == ".mkv"
        options = {"movflags": "hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"}
        options = {"cluster_time_limit": "1000"} if matroska else options
        self._container = av.open(self._disk, "w", format="matroska" if matroska else "mp4", container_options=options)
        self._size = (width + width % 2, height + height % 2)  # the codec wants even sides
        codec = next(name for name in ("libx264", "libopenh264", "mpeg4") if name in av.codecs_available)
        # Without B frames a fragment ends where it is cut, and time stamps start at zero.
        options = {"preset": "veryfast", "crf": "21", "bf": "0", "rc-lookahead": "10"} if codec == "libx264" else {}
        self._video = self._container.add_stream(codec, rate=30, options=options)
        self._video.width, self._video.height = self._size
        self._video.pix_fmt = "yuv420p"
        # BT.601, which FFmpeg makes of BGR; where HD does not say, players take BT.709.
        self._video.codec_context.colorspace = 6
        self._video.codec_context.time_base = Fraction(1, _CLOCK)
        self._video.codec_context.thread_count = self._threads
        if self._sound_of is not None and self._sound_of.sound is not None:
            try:
                self._open_sound(self._sound_of.sound, self._sound_of.start_s, copy_all=matroska)
            except (OSError, av.FFmpegError, ValueError) as error:
                say(f"warning: the sound of {self._sound_of.name} is left out ({getattr(error, 'strerror', error)})")

    def _open_sound(self, target: str, start_s: float, *, copy_all: bool) -> None:
        source = av.open(target, timeout=10.0)
        if not source.streams.audio:
            source.close()
            return
        heard = source.streams.audio[0]
        copied = copy_all or heard.codec_context.name in _COPIED_SOUND
        if copied:
            written = self._container.add_stream_from_template(heard)
        else:  # AVI does not say how its channels are laid out
            layout = {1: "mono", 2: "stereo"}.get(heard.layout.nb_channels, heard.layout.name)
            settings: dict[str, Any] = {"sample_rate": min(heard.sample_rate, 48_000), "layout": layout}
            trial = av.CodecContext.create("aac", "w")
            for name, value in {**settings, "format": "fltp"}.items():
                setattr(trial, name, value)
            trial.open()  # raises before the container has a stream that cannot be written
            written = self._container.add_stream("aac", rate=settings["sample_rate"], layout=layout)
        self._sound = _read_sound(source, heard, written, start_s, copied=copied)
        self._next_sound = next(self._sound, None)

    def _mux_sound(self, until_s: float) -> None:
        while self._next_sound is not None and self._next_sound[0] <= until_s:
            self._container.mux(self._next_sound[1])
            self._next_sound = next(self._sound, None)

    def close(self) -> bool:
        """Finish the video; whether there is one. Raises OSError when its end did not fit."""
        if self._container is not None:
            try:
                self._container.mux(self._video.encode(None))
                self._mux_sound(self._last_s + self._step_s)
            finally:
                self._container.close()
        self._disk.close()
        if not self.frames:
            self.path.unlink(missing_ok=True)
        elif self._disk.error is not None:
            raise self._disk.error
        return self.frames > 0


def _read_sound(source: Any, heard: Any, written: Any, start_s: float, *, copied: bool) -> Iterator[tuple[float, Any]]:
    """Packets for the stream `written`, as they are or encoded anew, with their times in seconds."""
    with source:
        for packet in source.demux(heard):
            at_s = -1.0 if packet.pts is None else float(packet.pts * packet.time_base) - start_s
            if at_s < 0:  # the encoder's run-in, which would move the picture
                continue
            if copied:
                packet.stream = written
                packet.pts -= round(start_s / packet.time_base)
                packet.dts = packet.pts
                yield at_s, packet
                continue
            with contextlib.suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    frame.pts, frame.time_base = round(at_s * heard.sample_rate), Fraction(1, heard.sample_rate)
                    yield from ((at_s, encoded) for encoded in written.encode(frame) if encoded.pts >= 0)
        if not copied:
            yield from ((at_s, encoded) for encoded in written.encode(None))


def fit_into(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled into `size` (width, height), proportions kept, centred on black."""
    height, width = image.shape[:2]
    below, right = size[1] - height, size[0] - width
    if 0 <= below <= 1 and 0 <= right <= 1:  # rounded up to even sides
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE) if below or right else image
    scale = min(size[0] / width, size[1] / height)
    left, top = (size[0] - scale * width) / 2, (size[1] - scale * height) / 2
    return cv2.warpAffine(image, np.array([[scale, 0, left], [0, scale, top]]), size)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, whole or not at all; `path` ends as one of `SAVED`. Raises OSError when it does not fit."""
    done, content = cv2.imencode(path.suffix, image)
    if not done:
        raise UserError(f"{path.name}: the picture is too large for this format. Name a .png.")
    try:
        with replace_file(path) as partial:
            partial.write_bytes(content.tobytes())
    except OSError as error:
        error.filename = str(path)
        raise
