"""Write what was recognized: table (CSV), JSON lines, video, pictures.

Tables are written frame by frame straight to their name, so they end with a whole row whatever happens: a row that the
disk has no room for is cut off again. A video is written under a `.partial-` name and renamed when it is complete;
recording ends in time for the video to be finished when the disk fills up. `kill -9` leaves the tables whole to the
last frame but no .mp4, since an mp4's index comes at its end; an .mkv (still named `.partial-`) plays up to its last
few seconds.
"""

import contextlib
import csv
import errno
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.recognition.faces import Face

COLUMNS = (
    *("time_s", "frame", "face_id", "x", "y", "width", "height", "expression", "confidence"),
    *EXPRESSIONS,
)
VIDEOS = (".mp4", ".mkv", ".avi")
# A file of that size is held while recording and given back to finish the video, even if others fill the disk.
_RESERVE_BYTES = 8_000_000
_RESERVE_SHARE = 0.25  # of the free space, on a small disk
_BUFFER_BYTES = 300_000  # FFmpeg writes 256 KiB at a time
_LONGEST_GAP_S = 2.0  # a pause of a live source is not filled beyond that


def _row(time_s: float, number: int, face: Face) -> dict[str, object]:
    """One face of one frame; pixels to a tenth, seconds to a millisecond, probabilities to four places."""
    x, y, width, height = (round(float(value), 1) for value in face.box)
    return {
        "time_s": round(time_s, 3),
        "frame": number,
        "face_id": face.id,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "expression": face.expression,
        "confidence": round(face.confidence, 4),
        **{name: round(float(p), 4) for name, p in zip(EXPRESSIONS, face.probabilities, strict=True)},
    }


class Table:
    """Rows appended to a file, each frame's rows by one write; `.jsonl` and `.json` as JSON lines, else CSV.

    Raises OSError when a frame's rows do not fit; the file then ends with the frame before.
    """

    def __init__(self, path: Path, *, as_json: bool) -> None:
        self._path, self._as_json = path, as_json
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._end = 0  # bytes
        if not as_json:
            self._append(",".join(COLUMNS) + "\n")

    def write(self, time_s: float, number: int, faces: list[Face], name: str = "") -> None:
        rows = [_row(time_s, number, face) for face in faces]
        if not rows:
            return
        if self._as_json:
            picture = {"picture": name} if name else {}
            self._append("".join(json.dumps({**row, **picture}) + "\n" for row in rows))
        else:
            text = io.StringIO()
            csv.DictWriter(text, COLUMNS, lineterminator="\n").writerows(rows)
            self._append(text.getvalue())

    def _append(self, text: str) -> None:
        content = text.encode()
        try:
            written = 0
            while written < len(content):
                written += os.write(self._file, content[written:])
        except OSError as error:
            os.ftruncate(self._file, self._end)
            error.filename = str(self._path)
            raise
        self._end += len(content)

    def close(self) -> None:
        os.close(self._file)


class VideoRecorder:
    """A video of constant size and rate.

    A frame of another size is fitted into the first one's, on black. paced=True repeats or drops frames so that the
    video runs as long as the times say, for sources that deliver when they can. Raises UserError when the video cannot
    be started, OSError (ENOSPC) when the disk is nearly full: then `close` makes the video of what was written.
    """

    def __init__(self, path: Path, frames_per_second: float, *, paced: bool = False) -> None:
        if path.suffix.lower() not in VIDEOS:
            raise UserError(f"{path} is not a video name; expected one that ends in {', '.join(VIDEOS)}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._rate, self._paced = frames_per_second, paced
        self._partial = path.with_name(f".partial-{path.name}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_s = self._last_s = 0.0
        self.frames = 0
        self._reserve = path.with_name(f".partial-reserve-{path.name}")
        self._least_free = 0  # bytes on the disk below which no frame is written

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Append a frame, uint8 `(H, W, 3)` BGR, of the time `time_s`."""
        if self._writer is None:
            self._open(image)
            self._start_s = self._last_s = time_s
        if self._paced and time_s - self._last_s > _LONGEST_GAP_S:
            self._start_s += time_s - self._last_s - _LONGEST_GAP_S
        self._last_s = time_s
        due = 1
        if self._paced:
            due = int((time_s - self._start_s) * self._rate + 0.5) + 1 - self.frames
        for _ in range(due):
            if shutil.disk_usage(self._partial.parent).free < self._least_free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            assert self._writer is not None
            self._writer.write(fit_into(image, self._size))
            self.frames += 1

    def _open(self, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        reserve = min(_RESERVE_BYTES, int(shutil.disk_usage(self._partial.parent).free * _RESERVE_SHARE))
        # Never let the encoder meet the end of the disk: after one failed write FFmpeg writes nothing more at all.
        self._least_free = _BUFFER_BYTES + width * height // 2
        self._reserve.write_bytes(bytes(reserve))
        self._size = (width + width % 2, height + height % 2)  # the codec wants even sides
        code = cv2.VideoWriter.fourcc(*("XVID" if self.path.suffix.lower() == ".avi" else "mp4v"))
        self._writer = cv2.VideoWriter(str(self._partial), code, self._rate, self._size)
        if not self._writer.isOpened():
            # OpenCV does not say why; trying does.
            self._reserve.unlink(missing_ok=True)
            with self._partial.open("wb"):
                pass
            self._partial.unlink()
            raise UserError(f"{self.path} cannot be recorded: this OpenCV has no MPEG-4 encoder for it.")

    def close(self) -> bool:
        """Finish the video and give it its name; whether there is one."""
        if self._writer is None:
            return False
        self._reserve.unlink(missing_ok=True)
        self._writer.release()
        self._writer = None
        check = cv2.VideoCapture(str(self._partial))
        playable = check.read()[0]
        check.release()
        if playable:
            self._partial.replace(self.path)
        else:
            self._partial.unlink(missing_ok=True)
        return playable


def fit_into(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled into `size` (width, height), proportions kept, centred on black."""
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    if 0 <= height - image.shape[0] <= 1 and 0 <= width - image.shape[1] <= 1:  # rounded up to even sides
        below, right = height - image.shape[0], width - image.shape[1]
        return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_AREA)
    return canvas


class PictureWriter:
    """Annotated pictures: one file, or a folder of files under the names of the originals.

    Raises UserError where that folder holds an original, whose place a picture could take.
    """

    def __init__(self, path: Path, originals: Sequence[Path], *, folder: bool) -> None:
        self.path, self._folder = path, folder
        if folder and any(path.resolve() == file.parent.resolve() for file in originals):
            raise UserError(f"{path} holds the source itself; name another output.")
        stems = Counter(file.stem for file in originals)
        self._names = {file.name: file.stem if stems[file.stem] == 1 else file.name for file in originals}
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)

    def write(self, image: np.ndarray, name: str) -> None:
        save_picture(self.path / f"{self._names[name]}.png" if self._folder else self.path, image)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a picture, whole or not at all. Raises UserError on an unknown suffix, OSError when it does not fit."""
    try:
        encoded, content = cv2.imencode(path.suffix, image)
    except cv2.error:
        encoded = False
    if not encoded:
        raise UserError(f"{path} is not a picture name; expected one that ends in .png or .jpg.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_bytes(content.tobytes())
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
