"""The window: live frames with the overlay, and the keys.

Nothing is saved unless a key or an option asks for it. A camera is shown mirrored, as people know themselves; tables
and ids always refer to the frame as the camera sent it. What is shown and saved comes from `Session.scene` alone.
"""

import math
import os
import socket
import sys
import time
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from src.errors import UserError
from src.realtime.overlay import draw_keys, draw_line, draw_recording
from src.realtime.playlist import Playlist
from src.realtime.recorder import VideoRecorder, save_picture
from src.realtime.results import Results, disk_full
from src.realtime.session import Session
from src.realtime.sources import Frame, Source, say

_TITLE = "Facial expressions"
_KEYS_SHOWN_S = 3.0
_NOTICE_S = 3.0
_ESCAPE = 27
_SWITCHES = {"b": "bars", "t": "timeline", "m": "mirror", "p": "blur"}  # keys and what they switch in the view
_LATE_S = 0.25  # a file that is later than that plays on from here


def require_display() -> None:
    """Raises UserError where no window can be opened; Qt would end the whole program instead."""
    if not sys.platform.startswith("linux"):
        return
    display = os.environ.get("DISPLAY", "")
    host, _, rest = display.partition(":")
    number = rest.partition(".")[0]
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                # Servers listen on the abstract name, the path, or both.
                if connection.connect_ex(f"\0/tmp/.X11-unix/X{number}") != 0:
                    connection.connect(f"/tmp/.X11-unix/X{number}")
        else:
            socket.create_connection((host, 6000 + int(number)), timeout=5).close()
    except (OSError, ValueError) as error:
        advice = "Run it on a desktop, or without a window: --headless --output out.mp4 --csv out.csv"
        raise UserError(f"There is no display for a window (DISPLAY={display}). {advice}") from error


class LiveWindow:
    """One run in a window; `run` returns when the user quits or the last source ends.

    folder: where snapshots and recordings go.
    """

    def __init__(self, playlist: Playlist, session: Session, results: Results, folder: Path) -> None:
        self._playlist, self._session, self._results, self._folder = playlist, session, results, folder
        self._source: Source | None = None
        self._paused = self._shown = self._quit = False
        self._keys_until_s = math.inf
        self._notice, self._notice_until_s = "", 0.0
        self._recording: VideoRecorder | None = None
        self._recording_since_s = 0.0
        self._begin_s: float | None = None  # when a file began to play
        self._scene = np.zeros((1, 1, 3), np.uint8)  # the last frame without keys, notices and badge
        self._failure: str | None = None

    def run(self) -> None:
        """Raises UserError when the source fails or an output could not be written to its end."""
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        try:
            for source, frame in self._playlist:
                if source is not self._source:
                    self._begin(source)
                if source.live and self._paused:
                    self._wait_while_paused()  # this frame is an old one by then
                else:
                    if not source.live and source.continuous:
                        self._wait_until_due(frame.time_s)
                    self._show(source, frame)
                if self._quit:
                    break
        finally:
            try:
                self._stop_recording()
            finally:
                written = self._results.close()
                cv2.destroyAllWindows()
            if written:
                say("wrote " + ", ".join(map(str, written)), sys.stdout)
        if self._failure:
            raise UserError(self._failure)

    def _begin(self, source: Source) -> None:
        self._stop_recording()
        self._source, self._begin_s, self._recording_since_s = source, None, time.monotonic()
        self._session.restart()
        self._results.begin(source)
        source.while_waiting(self._while_waiting)

    def _while_waiting(self) -> bool:
        """No frame comes: a camera is lost, or a stream slow. Keys work all the same; whether to end."""
        if self._shown:
            self._refresh()
            self._poll(1)
        return self._quit

    def _wait_until_due(self, time_s: float) -> None:
        """Keep a file at its own speed. Handles keys while paused."""
        if self._begin_s is None or self._paused or time.monotonic() - (self._begin_s + time_s) > _LATE_S:
            self._wait_while_paused()
            self._begin_s = time.monotonic() - time_s
        while not (self._quit or self._paused) and (left_s := self._begin_s + time_s - time.monotonic()) > 0.002:
            self._poll(max(1, min(20, int(1000 * left_s))))

    def _wait_while_paused(self) -> None:
        while self._paused and not self._quit:
            self._refresh()
            self._poll(30)

    def _show(self, source: Source, frame: Frame) -> None:
        if self._quit:
            return
        session = self._session
        result = session.step(frame.image, frame.time_s if source.continuous else None)
        self._scene = session.scene()
        timings = dict(session.timings)
        if source.live:
            timings["lag"] = 1000 * (time.monotonic() - frame.captured_s)
        session.overlay.status.measure(timings, time.perf_counter())
        try:
            if self._recording is not None:
                self._recording.write(self._scene, frame.time_s)
        except OSError as error:
            self._give_up(error)
            self._stop_recording()
        try:
            self._results.write(source, frame, result.faces, self._scene if self._results.wants_scenes else None)
        except OSError as error:
            self._give_up(error)
            self._results.stop()
        if not self._shown:
            self._keys_until_s = time.monotonic() + _KEYS_SHOWN_S
        self._refresh()
        self._poll(1)
        if not self._shown and not self._quit:  # resized before it is on the screen, a window may stay black
            cv2.resizeWindow(_TITLE, *_window_size(self._scene))
            self._shown = True
        if not source.continuous:
            self._paused = True  # a picture stays until space shows the next
            self._wait_while_paused()

    def _give_up(self, error: OSError) -> None:
        """Writing has failed, the show goes on; the exit code tells."""
        self._failure = str(disk_full(error))
        say(f"warning: {self._failure}")
        self._say("disk full: recording stopped")

    def _refresh(self) -> None:
        """Show the last frame with what belongs to the window only; a closed window is not opened again."""
        self._quit = self._quit or (self._shown and not _is_open())
        if self._quit:
            return
        now_s, scene = time.monotonic(), self._scene.copy()
        if self._recording is not None or self._results.video is not None:
            draw_recording(scene, now_s - self._recording_since_s)
        if now_s < self._notice_until_s or self._paused:
            draw_line(scene, "paused, space goes on" if self._paused else self._notice, 1, corner="middle")
        if now_s < self._keys_until_s:
            draw_keys(scene)
        cv2.imshow(_TITLE, scene)

    def _say(self, text: str) -> None:
        self._notice, self._notice_until_s = text, time.monotonic() + _NOTICE_S

    def _poll(self, wait_ms: int) -> None:
        """Handle one key, if any, and notice a closed window."""
        key = cv2.waitKey(wait_ms)
        if key >= 0:
            self._press(key & 0xFF)
        self._quit = self._quit or not _is_open()

    def _press(self, key: int) -> None:
        view = self._session.view
        if key in (ord("q"), _ESCAPE):
            self._quit = True
        elif key == ord(" "):
            self._paused = not self._paused
        elif key == ord("s"):
            self._save_snapshot()
        elif key == ord("r"):
            if self._recording is None:
                self._start_recording()
            else:
                self._say(f"saved {self._recording.path.name}")
                self._stop_recording()
        elif (name := _SWITCHES.get(chr(key))) is not None:
            setattr(view, name, not getattr(view, name))
            self._scene = self._session.scene()  # also while paused
        elif key == ord("h"):
            self._keys_until_s = 0.0 if time.monotonic() < self._keys_until_s else math.inf

    def _save_snapshot(self) -> None:
        path = self._new_name("snapshot", ".png")
        try:
            save_picture(path, self._scene)
        except OSError as error:
            self._give_up(error)
        else:
            say(f"saved {path}", sys.stdout)
            self._say(f"saved {path.name}")

    def _new_name(self, kind: str, suffix: str) -> Path:
        return self._folder / f"{kind}-{datetime.now():%Y%m%d-%H%M%S-%f}{suffix}"

    def _start_recording(self) -> None:
        self._recording = VideoRecorder(self._new_name("recording", ".mp4"), live=True)
        self._recording_since_s = time.monotonic()

    def _stop_recording(self) -> None:
        recording, self._recording = self._recording, None
        try:
            if recording is not None and recording.close():
                say(f"saved {recording.path}", sys.stdout)
        except OSError as error:
            self._give_up(error)


def _is_open() -> bool:
    """Whether the user has not closed the window. Any call into OpenCV's window code may take the closing in."""
    try:
        return cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
    except cv2.error:
        return False


def _window_size(scene: np.ndarray) -> tuple[int, int]:
    """Width and height in pixels: the frame's, but between 640 x 480 and 1280 x 960."""
    height, width = scene.shape[:2]
    scale = min(max(1.0, min(640 / width, 480 / height)), 1280 / width, 960 / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
