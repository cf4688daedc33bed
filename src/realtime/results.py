"""All that a run was asked to write, checked before it starts, opened together and finished together, whatever ends it.

Tables are written frame by frame straight to their name, so they end with a whole row whatever happens: a row that the
disk has no room for is cut off again. JSON lines begin with a head that says what the rows are.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.realtime.playlist import Entry, Playlist
from src.realtime.recorder import RECORDED, SAVED, VideoRecorder, save_picture
from src.realtime.sources import Frame, Source, VideoFile
from src.realtime.summary import draw_summary, people_table
from src.realtime.timeline import Timeline
from src.recognition.faces import Face
from src.storage import write_json

SCHEMA = {"schema": "facial-expressions", "version": 1}
COLUMNS = (
    *("time_s", "frame", "face_id", "x", "y", "width", "height", "expression", "confidence"),
    *EXPRESSIONS,
    "source",
)


def face_row(source: str, number: int, time_s: float, face: Face) -> dict[str, object]:
    """One face of one frame; pixels to a tenth, seconds to a millisecond, probabilities to four places."""
    x, y, width, height = (round(float(value), 1) for value in face.box)
    probabilities = (round(float(value), 4) for value in face.probabilities)
    values = (round(time_s, 3), number, face.id, x, y, width, height, face.expression)
    return dict(zip(COLUMNS, (*values, round(face.confidence, 4), *probabilities, source), strict=True))


def describe_run(model: Path, detector: str, uncertain_below: float, rate: float | None = None) -> dict[str, object]:
    """What JSON says of a run besides its source. rate: frames/s, where there is one."""
    return {
        "model": model.name,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "detector": detector,
        "uncertain_below": uncertain_below,
        "frames_per_second": round(rate, 3) if rate else None,
    }


class Table:
    """Rows appended to a file, each frame's rows by one write; as CSV, or with a `head` as JSON lines.

    Raises OSError when a frame's rows do not fit; the file then ends with the frame before.
    """

    def __init__(self, path: Path, head: dict[str, object] | None = None) -> None:
        self._file, self._as_json = io.FileIO(path, "w"), head is not None
        self._end = 0  # bytes
        self._append(_json_line(head) if head is not None else ",".join(COLUMNS) + "\n")

    def write(self, rows: list[dict[str, object]]) -> None:
        if self._as_json:
            self._append("".join(map(_json_line, rows)))
        elif rows:
            text = io.StringIO()
            csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
            self._append(text.getvalue())

    def _append(self, text: str) -> None:
        content = text.encode("utf-8", "surrogateescape")
        rest = memoryview(content)
        try:
            while len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(self._end)
            error.filename = str(self._file.name)
            raise
        self._end += len(content)

    def close(self) -> None:
        self._file.close()


def _json_line(content: dict[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


@dataclass
class Wanted:
    """Where to write; None is nowhere. output: a video, a picture, or a folder for several of them."""

    csv: Path | None = None
    json: Path | None = None
    output: Path | None = None
    summaries: list[Path] = field(default_factory=list)

    def check(self, playlist: Playlist, models: list[Path]) -> None:
        """Raises UserError where an output cannot be written, or would replace another, a source or a model."""
        for path in self.summaries:
            if path.suffix.lower() not in (*SAVED, ".json"):
                raise UserError(f"{path} is no name of a summary; expected one that ends in .png or .json.")
        named = [self.csv, self.json, *self.summaries, *(self.annotated(playlist, entry) for entry in playlist.entries)]
        files = [path for path in named if path is not None]
        for path, times in Counter(path.resolve() for path in files).items():
            if times > 1:
                raise UserError(f"Two outputs have the same name, {path}; give each its own.")
        taken = {_number(entry.path): "the source itself" for entry in playlist.entries if entry.path}
        taken |= {_number(path): "the model that is used" for path in models if path.exists()}
        for path in files:
            if path.exists() and _number(path) in taken:
                raise UserError(f"{path} is {taken[_number(path)]}; name another output.")
        for path in files[:100]:
            _try_writing(path)

    def annotated(self, playlist: Playlist, entry: Entry) -> Path | None:
        """Where the annotated picture or video of a source goes."""
        if self.output is None:
            return None
        suffixes = SAVED if entry.picture else RECORDED
        if playlist.single and self.output.suffix and not self.output.is_dir():
            if self.output.suffix.lower() not in suffixes:
                kind = "picture" if entry.picture else "video"
                raise UserError(f"{self.output} is no {kind} name; expected one that ends in {', '.join(suffixes)}.")
            return self.output
        if self.output.suffix.lower() in (*RECORDED, *SAVED):
            raise UserError(f"{self.output} is one file, and there are several sources: name a folder.")
        parts = PurePosixPath(entry.name.replace("://", "/").replace(":", "-")).parts
        path = self.output.joinpath(*(part for part in parts if part not in ("/", "..")))
        return path if path.suffix.lower() in suffixes else path.with_name(path.name + suffixes[0])


def _number(path: Path) -> tuple[int, int]:
    """The same for two names of one file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _try_writing(path: Path) -> None:
    new = not path.exists()
    if not new and not path.is_file() and not path.is_dir():
        return  # a device or pipe
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Name another output.") from error


def disk_full(error: OSError) -> UserError:
    """What to tell of a disk that is full; raises any other error again."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    name = error.filename or "an output"
    return UserError(f"The disk is full: {name} ends early. What was written before is complete.")


class Results:
    """Tables, annotated videos or pictures, and summaries of one run.

    head: what is said of the run in JSON. threads: of the video encoder.
    """

    def __init__(self, playlist: Playlist, wanted: Wanted, head: dict[str, object], threads: int = 1) -> None:
        self._playlist, self._wanted, self._threads = playlist, wanted, threads
        self._head = {**SCHEMA, "source": playlist.title, **head}
        self._timelines: dict[str, Timeline] = {}
        places = ((entry.name, wanted.annotated(playlist, entry)) for entry in playlist.entries)
        self._annotated = {name: path for name, path in places if path is not None}
        self._place: Path | None = None  # of the source at hand
        self.video: VideoRecorder | None = None
        self._tables = [Table(wanted.csv)] if wanted.csv else []
        if wanted.json:
            self._tables.append(Table(wanted.json, {**self._head, "expressions": EXPRESSIONS}))
        self._written = [path for path in (wanted.csv, wanted.json) if path is not None]

    @property
    def wants_scenes(self) -> bool:
        """Whether annotated frames are written."""
        return bool(self._annotated)

    def begin(self, source: Source) -> None:
        """Another source begins."""
        self._finish_video()
        self._place = self._annotated.get(source.name)
        if self._place is not None and source.continuous:
            sound = source if isinstance(source, VideoFile) else None
            self.video = VideoRecorder(self._place, sound=sound, live=source.live, threads=self._threads)
        if self._wanted.summaries:
            self._timelines[source.name] = Timeline()

    def write(self, source: Source, frame: Frame, faces: list[Face], scene: np.ndarray | None) -> None:
        """Take in a frame. Raises OSError when the disk is full; what was written before stays good."""
        for table in self._tables:
            table.write([face_row(source.name, frame.number, frame.time_s, face) for face in faces])
        if self._wanted.summaries:
            self._timelines[source.name].add(frame.time_s, faces)
        if scene is not None and self.video is not None:
            self.video.write(scene, frame.time_s)
        elif scene is not None and self._place is not None:
            save_picture(self._place, scene)
            self._wrote(self._place)

    def _wrote(self, path: Path) -> None:
        """Name it to the user; of several the folder."""
        shown = path if self._playlist.single else self._wanted.output or path
        if shown not in self._written:
            self._written.append(shown)

    def _finish_video(self) -> None:
        video, self.video = self.video, None
        if video is not None:
            if video.frames:
                self._wrote(video.path)
            video.close()

    def stop(self) -> None:
        """Write no more rows and frames; `close` finishes what there is."""
        for table in self._tables:
            table.close()
        self._tables, self._annotated, self._place = [], {}, None
        with contextlib.suppress(OSError):
            self._finish_video()

    def close(self) -> list[Path]:
        """Finish all outputs, even if one fails; their names. Raises OSError at the end. Ctrl-C waits."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        with contextlib.ExitStack() as steps:  # the last one comes first
            steps.callback(signal.signal, signal.SIGINT, before)
            steps.callback(self._write_summaries)
            steps.callback(self._finish_video)
            for table in self._tables:
                steps.callback(table.close)
        return self._written

    def _write_summaries(self) -> None:
        for path in self._wanted.summaries:
            if path.suffix.lower() == ".json":
                write_json(path, {**self._head, "people": people_table(self._timelines)})
            else:
                save_picture(path, draw_summary(self._timelines, self._playlist.title))
            self._written.append(path)
