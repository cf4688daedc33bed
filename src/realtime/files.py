"""Recognize without a window: every frame of all files at full speed, or the newest frames of a camera, into files."""

import contextlib
import sys
import time

from tqdm import tqdm

from src.realtime.playlist import Playlist
from src.realtime.results import Results
from src.realtime.session import Session
from src.realtime.sources import Source, say


def run_headless(playlist: Playlist, session: Session, results: Results) -> None:
    """Run to the end of all sources; prints what was found and where it went.

    Raises UserError when nothing can be read, OSError when the disk is full; the results of the frames before are
    complete.
    """
    start_s = time.perf_counter()
    frames = with_face = 0
    source: Source | None = None
    bar = tqdm(total=len(playlist.entries), unit="source", desc=playlist.title, dynamic_ncols=True, disable=None)
    # Results are closed before the message of an error appears, and whatever the error is.
    try:
        for of, frame in playlist:
            if of is not source:
                source = of
                session.restart()
                results.begin(source)
                if playlist.single:
                    bar.unit = "frame"
                    bar.reset(source.total)
                else:
                    bar.update(1)
            result = session.step(frame.image, frame.time_s if source.continuous else None)
            results.write(source, frame, result.faces, session.scene() if results.wants_scenes else None)
            session.overlay.status.measure(session.timings, time.perf_counter())
            frames += 1
            with_face += bool(result.faces)
            bar.update(playlist.single)
    finally:
        with contextlib.suppress(OSError):
            bar.close()
        written = results.close()
        elapsed_s = time.perf_counter() - start_s
        rate = frames / elapsed_s if elapsed_s > 0 else 0
        say(f"{frames} frames in {elapsed_s:.1f} s ({rate:.0f} frames/s), {with_face} with a face", sys.stdout)
        if written and frames:
            say("wrote " + ", ".join(map(str, written)), sys.stdout)
        if playlist.skipped and frames:
            say(f"warning: {len(playlist.skipped)} of {len(playlist.entries)} sources could not be read")
