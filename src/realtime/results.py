"""All that a run was asked to write, opened together and finished together, whatever ends the run."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np

from src.errors import UserError
from src.realtime.recorder import VIDEOS, PictureWriter, Table, VideoRecorder, save_picture
from src.realtime.sources import Frame, Pictures, Source
from src.realtime.summary import draw_summary
from src.realtime.timeline import Timeline
from src.recognition.faces import Face


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is through."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class Results:
    """Tables, annotated video or pictures, and the summary of one run; any of them may be None.

    Raises UserError when two share a name or one cannot be opened.
    """

    def __init__(
        self, source: Source, csv: Path | None, json: Path | None, output: Path | None, summary: Path | None
    ) -> None:
        self._check_names([path for path in (csv, json, output, summary) if path is not None], source)
        self._source = source
        self._summary = summary
        self.timeline = Timeline() if summary else None
        self._tables: list[Table] = []
        self.video: VideoRecorder | None = None
        self._pictures: PictureWriter | None = None
        self._written: list[Path] = []
        if output is not None and isinstance(source, Pictures) and output.suffix.lower() not in VIDEOS:
            self._pictures = PictureWriter(output, source.files, folder=source.total != 1 or not output.suffix)
            self._written.append(output)
        elif output is not None:
            self.video = VideoRecorder(output, source.frames_per_second, paced=source.live)
        for path, as_json in ((csv, False), (json, True)):
            if path is not None:
                self._tables.append(Table(path, as_json=as_json))
                self._written.append(path)

    @staticmethod
    def _check_names(paths: list[Path], source: Source) -> None:
        if len({path.resolve() for path in paths}) < len(paths):
            raise UserError("Two outputs have the same name; give each its own.")
        originals = source.files if isinstance(source, Pictures) else [source.path] if source.path else []
        taken = {path.resolve() for path in originals}
        for path in paths:
            if path.resolve() in taken:
                raise UserError(f"{path} is the source itself; name another output.")

    @property
    def wants_pictures(self) -> bool:
        """Whether annotated frames are written."""
        return self.video is not None or self._pictures is not None

    def write(self, frame: Frame, faces: list[Face], annotated: np.ndarray | None) -> None:
        """Take in a frame. Raises OSError when the disk is full; what was written before stays good."""
        for table in self._tables:
            table.write(frame.time_s, frame.number, faces, frame.name)
        if self.timeline is not None:
            self.timeline.add(frame.time_s, faces)
        if annotated is None:
            return
        if self.video is not None:
            self.video.write(annotated, frame.time_s)
        if self._pictures is not None:
            self._pictures.write(annotated, frame.name)

    def stop(self) -> None:
        """Write nothing more; `close` finishes what there is."""
        for table in self._tables:
            table.close()
        self._tables, self._pictures = [], None
        if self.video is not None:
            self._close_video()

    def close(self) -> list[Path]:
        """Finish all outputs, even if one fails; their names. Raises the first OSError at the end."""
        with _uninterrupted():
            errors: list[OSError] = []
            steps: list[Callable[[], object]] = [table.close for table in self._tables]
            self._tables = []
            if self.video is not None:
                steps.append(self._close_video)
            if self.timeline is not None:
                steps.append(self._close_summary)
            for step in steps:
                try:
                    step()
                except OSError as error:
                    errors.append(error)
            if errors:
                raise errors[0]
        return self._written

    def _close_video(self) -> None:
        video, self.video = self.video, None
        assert video is not None
        if video.close():
            self._written.append(video.path)
        elif video.frames:
            print(f"warning: {video.path} could not be finished and was removed", file=sys.stderr)

    def _close_summary(self) -> None:
        timeline, self.timeline = self.timeline, None
        assert timeline is not None and self._summary is not None
        save_picture(self._summary, draw_summary(timeline, self._source.title))
        self._written.append(self._summary)
