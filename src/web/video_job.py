"""One video, recognized in a process of its own: `python -m src.web.video_job ORDER`, started by `src.web.videos`.

ORDER is JSON: the folder that holds `video`, and how to recognize. Replaces `video` by the results, and says how far it
is on standard output, in lines of JSON: fields of `Video` in `src.web.schema`. Standard input is open as long as the
server lives: when it ends, so does this process, and the folder with it. Memory and files are limited, since FFmpeg
reads here what strangers send.
"""

import contextlib
import json
import math
import os
import resource
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.web.limits import VIDEO_SECONDS

_MEMORY = 4 * 2**30  # bytes of address space
_LARGEST_RESULT = 2**30  # bytes
_LARGEST_FRAME = 4096 * 2304  # pixels
_REPORT_EVERY = 10  # frames


def _report(**content: object) -> None:
    print(json.dumps(content), flush=True)


def _end_with_the_server(folder: Path) -> None:
    while os.read(0, 1024):  # not sys.stdin, whose lock a thread must not hold when the process ends
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _recognize(folder: Path, order: dict[str, Any]) -> None:
    from src.realtime.overlay import View
    from src.realtime.playlist import Playlist
    from src.realtime.results import Results, Wanted, describe_run
    from src.realtime.session import Session
    from src.recognition.detection import open_detector
    from src.recognition.recognizer import ExpressionRecognizer

    model = Path(order["model"])
    playlist = Playlist([str(folder / "video")])
    source = playlist.open_first()
    assert source is not None
    if not source.continuous:
        raise UserError("This is a picture, not a video.")
    detector = open_detector(order["detector"], order["detector_model"])[0]
    recognizer = ExpressionRecognizer(model, detector)
    summaries = [folder / "people.json", folder / "summary.png"]
    wanted = Wanted(folder / "faces.csv", folder / "faces.json", folder / "annotated.mp4", summaries)
    results = Results(playlist, wanted, describe_run(model, detector.name, recognizer.uncertain_below, source.rate))
    session = Session(recognizer, View(blur=order["blur"], status=False))
    results.begin(source)
    total = min(source.total, (source.rate or math.inf) * VIDEO_SECONDS) if source.total else math.inf  # frames
    frames, cut = 0, False
    try:
        for _, frame in playlist:
            if frame.image.shape[0] * frame.image.shape[1] > _LARGEST_FRAME:
                raise UserError("The frames of the video are too large: 4096 x 2304 pixels at most.")
            if frame.time_s >= VIDEO_SECONDS:
                cut = True
                break
            result = session.step(frame.image, frame.time_s)
            results.write(source, frame, result.faces, session.scene())
            frames += 1
            if frames % _REPORT_EVERY == 1:
                _report(frames=frames, progress=min(0.99, frames / total))
    finally:
        with contextlib.suppress(OSError):
            results.close()
        playlist.close()
    note = f"Only the first {VIDEO_SECONDS / 60:.0f} minutes were looked at." if cut else None
    (folder / "video").unlink()
    found = sorted(path.name for path in folder.iterdir())
    _report(state="done", frames=frames, progress=1.0, note=note, results=found)


def main(argument: str) -> None:
    order = json.loads(argument)
    folder = Path(order["folder"])
    threading.Thread(target=_end_with_the_server, args=(folder,), daemon=True).start()
    os.nice(10)  # live visitors first
    for limit, value in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_FSIZE, _LARGEST_RESULT)):
        hard = resource.getrlimit(limit)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(*((ValueError,) if sys.platform == "darwin" else ())):  # macOS maps far more already
            resource.setrlimit(limit, (most, most))
    os.environ["OPENCV_FFMPEG_LOGLEVEL"], os.environ["OPENCV_LOG_LEVEL"] = "-8", "SILENT"
    try:
        import cv2

        cv2.setNumThreads(1)
        _recognize(folder, order)
    except UserError as error:
        _report(state="failed", error=str(error))
    except MemoryError:
        _report(state="failed", error="The video needs more memory than this server gives. Make it smaller.")
    except OSError as error:
        sentence = f"The results do not fit on this server ({error.strerror}). Cut the video shorter."
        _report(state="failed", error=sentence)


if __name__ == "__main__":
    main(sys.argv[1])
