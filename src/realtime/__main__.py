"""Live expressions from a camera, a video or pictures.

In: a camera, stream, video file, picture or folder of pictures, and an exported model (pretrained/model.onnx). Out: a
window, or with --headless an annotated video, a table per face and frame, a summary picture. Nothing is saved unless
asked for, and nothing leaves the machine.

    python -m src.realtime                                                    # camera 0, in a window
    python -m src.realtime --source clip.mp4 --headless --output out.mp4 --csv out.csv     # about 100 frames/s
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from src.errors import UserError, run_program

_EXAMPLES = """\
keys in the window (h lists them):
  q, Esc  quit          space  pause            s  snapshot      r  record, on and off
  b  bars               t  timeline             m  mirror        p  blur faces

examples:
  python -m src.realtime                                     camera 0 in a window
  python -m src.realtime --source 1 --csv me.csv             camera 1, with a table of what it sees
  python -m src.realtime --source clip.mp4                   a video in a window
  python -m src.realtime --source clip.mp4 --headless --output seen.mp4 --csv seen.csv --summary seen.png
  python -m src.realtime --source photos/ --headless --output annotated/ --csv photos.csv
  python -m src.realtime --source http://192.168.0.7:8080/video

A table has a row per face and frame: time_s, frame, face_id, x, y, width, height (pixels), expression, confidence and
the seven probabilities, smoothed over time. "uncertain" stands where no expression is probable enough.
Exit codes: 0 done, 1 something is wrong (one line says what), 2 wrong options, 130 Ctrl-C.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.realtime",
        description="Find faces, follow them and name their expressions: live in a window, or into files.\n"
        "Nothing is saved unless you ask for it, and no picture leaves this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to look at")
    what.add_argument(
        "--source",
        default="0",
        metavar="WHAT",
        help="camera index, video file, picture, folder of pictures, or stream URL (default: 0, the first camera)",
    )
    what.add_argument("--model", type=Path, metavar="FILE", help="an export of this project (default: pretrained/)")
    what.add_argument(
        "--as-camera", action="store_true", help="play a video file like a camera: in real time, again and again"
    )
    what.add_argument("--seconds", type=_positive, metavar="N", help="stop after N seconds of the source")
    write = parser.add_argument_group("what to write")
    write.add_argument("--headless", action="store_true", help="no window: all frames of a file, as fast as possible")
    write.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="annotated video: .mp4, or .mkv, of which a killed program leaves all but the end; "
        "for pictures a picture or folder",
    )
    write.add_argument("--csv", type=Path, metavar="FILE", help="a row per face and frame")
    write.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON lines")
    write.add_argument("--summary", type=Path, metavar="FILE", help="timeline per face and shares of time, as .png")
    write.add_argument(
        "--save-to", type=Path, default=Path(), metavar="DIR", help="where the keys s and r save (default: here)"
    )
    write.add_argument("--blur", action="store_true", help="blur faces in the window, videos and pictures")
    how = parser.add_argument_group("how to recognize")
    how.add_argument(
        "--detector",
        choices=("auto", "yunet", "haar"),
        default="auto",
        help="auto: YuNet, fetched once (230 kB), or else Haar, which is built in",
    )
    how.add_argument("--detector-model", type=Path, metavar="FILE", help="a YuNet file to use instead of fetching one")
    how.add_argument(
        "--detect-every",
        type=float,
        metavar="S",
        help="search for faces every S seconds, follow them between (default: 0.13; 0 is every frame)",
    )
    how.add_argument(
        "--smoothing", type=float, metavar="S", help="time constant of the smoothing, seconds (default: 0.6; 0 is off)"
    )
    how.add_argument("--uncertain-below", type=float, metavar="P", help="say uncertain below P (default: the model's)")
    how.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads of each step (default: 1)")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _end(number: int, frame: FrameType | None) -> None:
    """On SIGTERM: finish what is being written."""
    sys.exit(128 + number)


def _leave(number: int, frame: FrameType | None) -> None:
    """On Ctrl-C before anything is written: at once, since an exception inside a library being loaded is not safe."""
    os.write(2, b"interrupted; nothing was written\n")
    os._exit(130)


def _check(options: argparse.Namespace) -> None:
    wanted = (options.output, options.csv, options.json, options.summary)
    if options.headless and not any(wanted):
        raise UserError("--headless shows nothing: ask for --output, --csv, --json or --summary.")
    if options.threads < 1:
        raise UserError("--threads must be at least 1.")
    if options.uncertain_below is not None and not 0 <= options.uncertain_below <= 1:
        raise UserError("--uncertain-below is a probability, from 0 to 1.")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    _check(options)
    # Before OpenCV is loaded: its own lines on standard error say less than ours.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("QT_LOGGING_RULES", "*=false")
    signal.signal(signal.SIGINT, _leave)

    import cv2

    from src.realtime.files import run_headless
    from src.realtime.overlay import Overlay, View
    from src.realtime.results import Results
    from src.realtime.sources import open_source
    from src.realtime.window import LiveWindow, require_display
    from src.recognition.detection import open_detector
    from src.recognition.recognizer import DEFAULT_MODEL, ExpressionRecognizer, Settings

    if not options.headless:
        require_display()
    cv2.setNumThreads(options.threads)
    chosen = {
        "detect_every_s": options.detect_every,
        "smoothing_s": options.smoothing,
        "uncertain_below": options.uncertain_below,
    }
    settings = Settings(**{name: value for name, value in chosen.items() if value is not None})
    detector, reason = open_detector(options.detector, options.detector_model)
    recognizer = ExpressionRecognizer(options.model or DEFAULT_MODEL, detector, settings, options.threads)
    print(reason, file=sys.stderr)
    source = open_source(options.source, as_camera=options.as_camera)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _end)
    try:
        results = Results(source, options.csv, options.json, options.output, options.summary)
        view = View(mirror=source.live and not options.headless and not options.as_camera, blur=options.blur)
        overlay = Overlay(view)
        if options.headless:
            run_headless(source, recognizer, results, overlay, options.seconds)
        else:
            LiveWindow(source, recognizer, results, overlay, options.save_to).run(options.seconds)
    finally:
        source.close()


if __name__ == "__main__":
    run_program(main)
