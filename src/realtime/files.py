"""Recognize without a window: every frame of a file at full speed, or the newest frames of a camera, into files."""

import errno
import sys
import time

from tqdm import tqdm

from src.errors import UserError
from src.realtime.overlay import Overlay
from src.realtime.results import Results
from src.realtime.sources import Source
from src.recognition.recognizer import ExpressionRecognizer

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def run_headless(
    source: Source, recognizer: ExpressionRecognizer, results: Results, overlay: Overlay, seconds: float | None
) -> None:
    """Run to the end of the source or for `seconds` of its time; prints what was found and where it went.

    Raises UserError when the source fails or the disk is full; the results of the frames before are complete.
    """
    start_s = time.perf_counter()
    frames = with_face = 0
    total = source.total if seconds is None else None
    # Results are closed before the message of an error appears, and whatever the error is.
    try:
        for frame in tqdm(source, total=total, unit="frame", desc=source.title, dynamic_ncols=True, disable=None):
            if seconds is not None and frame.time_s >= seconds:
                break
            faces = recognizer.recognize(frame.image, frame.time_s if source.continuous else None)
            annotated = None
            overlay.recent.add(frame.time_s, faces)
            if results.wants_pictures:
                begin_s = time.perf_counter()
                annotated = overlay.annotate(frame.image, faces, continuous=source.continuous)
                end_s = time.perf_counter()
                overlay.status.measure({**recognizer.timings, "draw": 1000 * (end_s - begin_s)}, end_s)
            results.write(frame, faces, annotated)
            frames += 1
            with_face += bool(faces)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise UserError(
            f"The disk is full: {error.filename or 'an output'} could not be continued after {frames} frames. "
            "What was written before is complete. Free some space and run again."
        ) from error
    finally:
        written = results.close()
        elapsed_s = time.perf_counter() - start_s
        rate = frames / elapsed_s if elapsed_s > 0 else 0
        print(f"{frames} frames in {elapsed_s:.1f} s ({rate:.0f} frames/s), {with_face} with a face")
        if written and frames:
            print("wrote " + ", ".join(map(str, written)))
        unreadable = getattr(source, "unreadable", [])
        if unreadable and frames:
            print(f"warning: {len(unreadable)} of {source.total} pictures could not be read", file=sys.stderr)
