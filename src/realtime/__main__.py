"""Live expressions from a camera, a video or pictures.

In: a camera, a stream, or any number of videos, pictures and folders, and an exported model (pretrained/model.onnx).
Out: a window, or with --headless annotated videos and pictures, a table per face and frame, a summary. Nothing is saved
unless asked for, and nothing leaves the machine. How-to: docs/live.md.

    python -m src.realtime                                                    # camera 0, in a window
    python -m src.realtime --source clip.mp4 --headless --output out.mp4 --csv out.csv     # about 100 frames/s
"""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from src.errors import run_program

_EXAMPLES = """\
keys in the window (h lists them):
  q, Esc  quit          space  pause            s  snapshot      r  record, on and off
  b  bars               t  timeline             m  mirror        p  blur faces

examples:
  python -m src.realtime                                     camera 0 in a window
  python -m src.realtime --source 1 --csv me.csv             camera 1, with a table of what it sees
  python -m src.realtime --source clip.mp4                   a video in a window
  python -m src.realtime --source clip.mp4 --headless --output seen.mp4 --csv seen.csv --summary seen.png
  python -m src.realtime --source photos/ more/*.jpg --headless --output annotated/ --csv photos.csv
  python -m src.realtime --source rtsp://user:password@192.168.0.7/stream --blur
  python -m src.realtime --source /dev/video2 --size 1280x720 --rate 30 --pixel-format MJPG

A table has a row per face and frame: time_s, frame, face_id, x, y, width, height (pixels), expression, confidence, the
seven probabilities, smoothed over time, and source. "uncertain" stands where no expression is probable enough.
Exit codes: 0 done (what could not be read among several sources is named), 1 something is wrong (one line says what),
2 wrong options, 129 closed terminal, 130 Ctrl-C, 143 told to end; what was written by then is complete.
"""

_SOURCE = """camera index or device, or any number of videos, pictures, folders, URLs, pipes; - is standard input
(default: 0, the first camera)"""
_RECONNECT = "try for S seconds to connect again to what stopped (default: %(default)g; 0 is not at all)"
_OUTPUT = "annotated video (.mp4, .mkv, .mov), with the sound of a file; or picture; for several sources a folder"
_SUMMARY = "per person: timeline and shares of time as .png, or a table as .json; may be given twice"
_DETECTOR = "auto: YuNet, fetched once (230 kB), or else Haar, which is built in"
_DETECT_EVERY = "search for faces every S seconds, follow them between (default: %(default)s; 0 is every frame)"
_SMOOTHING = "time constant of the smoothing (default: %(default)s; 0 is off)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.realtime",
        usage="%(prog)s [--source WHAT ...] [OPTION ...]; --help names them",
        description="Find faces, follow them and name their expressions: live in a window, or into files.\n"
        "Nothing is saved unless you ask for it, and no picture leaves this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what to look at").add_argument
    add("--source", nargs="+", default=["0"], metavar="WHAT", help=_SOURCE)
    add("--model", type=_path, metavar="FILE", help="an export of this project (default: pretrained/model.onnx)")
    add("--as-camera", action="store_true", help="play a video file like a camera: in real time, again and again")
    add("--seconds", type=_positive, metavar="N", help="stop after N seconds of each source")
    add("--size", type=_size, metavar="WxH", help="ask the camera for pictures of W x H pixels")
    add("--rate", type=_positive, metavar="N", help="ask the camera for N frames/s")
    add("--pixel-format", type=_four_letters, metavar="CODE", help="such as MJPG or YUYV")
    add("--reconnect", type=float, default=30.0, metavar="S", help=_RECONNECT)
    add = parser.add_argument_group("what to write").add_argument
    add("--headless", action="store_true", help="no window: all frames of a file, as fast as possible")
    add("--output", type=_path, metavar="FILE", help=_OUTPUT)
    add("--csv", type=_path, metavar="FILE", help="a row per face and frame")
    add("--json", type=_path, metavar="FILE", help="the same as JSON lines, the first one about the run")
    add("--summary", type=_path, action="append", default=[], metavar="FILE", help=_SUMMARY)
    add("--save-to", type=_path, default=Path(), metavar="DIR", help="where the keys s and r save (default: here)")
    add("--blur", action="store_true", help="make every face found unrecognizable in all that is shown and saved")
    add = parser.add_argument_group("how to recognize").add_argument
    add("--detector", choices=("auto", "yunet", "haar"), default="auto", help=_DETECTOR)
    add("--detector-model", type=_path, metavar="FILE", help="a YuNet file to use instead of fetching one")
    add("--detect-every", type=float, default=0.1, metavar="S", help=_DETECT_EVERY)
    add("--smoothing", type=float, default=0.6, metavar="S", help=_SMOOTHING)
    add("--uncertain-below", type=float, metavar="P", help="say uncertain below P (default: the model's)")
    add("--threads", type=int, default=1, metavar="N", help="CPU threads of each step (default: 1)")
    return parser


def _path(text: str) -> Path:
    """With ~ as the shell understands it, which leaves --csv=~/seen.csv and "~/My videos" alone."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 leaves ~clip.mp4 as it is


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a number above 0")


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text} is not of the form 1280x720")
    return int(width), int(height)


def _four_letters(text: str) -> str:
    if len(text) != 4 or not text.isascii():
        raise argparse.ArgumentTypeError(f"{text} is not a code of four letters, such as MJPG")
    return text


def _end(number: int, frame: FrameType | None) -> None:
    """On SIGTERM and SIGHUP: finish what is being written. A terminal that is gone takes no more lines."""
    if number == getattr(signal, "SIGHUP", None):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
    sys.exit(128 + number)


def _leave(number: int, frame: FrameType | None) -> None:
    """On Ctrl-C before anything is written: at once, since an exception inside a library being loaded is not safe."""
    os.write(2, b"interrupted; nothing was written\n")
    os._exit(130)


def _check(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if options.headless and not any((options.output, options.csv, options.json, options.summary)):
        parser.error("--headless shows nothing: ask for --output, --csv, --json or --summary.")
    if options.threads < 1:
        parser.error("--threads must be at least 1.")
    if not (options.detect_every >= 0 and options.smoothing >= 0):
        parser.error("--detect-every and --smoothing must not be negative.")
    if not 0 <= options.reconnect < 1e9:
        parser.error("--reconnect is a number of seconds, 0 or more.")
    if options.uncertain_below is not None and not 0 <= options.uncertain_below <= 1:
        parser.error("--uncertain-below is a probability, from 0 to 1.")


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(options, parser)
    # Before OpenCV is loaded: its own lines on standard error say less than ours; and a picture of a billion pixels
    # would take 3 GB.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**28))
    os.environ.setdefault("QT_LOGGING_RULES", "*=false")
    signal.signal(signal.SIGINT, _leave)

    import cv2

    from src.realtime.files import run_headless
    from src.realtime.overlay import View
    from src.realtime.playlist import Playlist
    from src.realtime.results import Results, Wanted, describe_run, disk_full
    from src.realtime.session import Session
    from src.realtime.sources import CameraFormat, is_camera
    from src.realtime.window import LiveWindow, require_display
    from src.recognition.detection import open_detector
    from src.recognition.recognizer import DEFAULT_MODEL, ExpressionRecognizer, Settings

    if not options.headless:
        require_display()
    playlist = Playlist(
        options.source,
        as_camera=options.as_camera,
        wanted=CameraFormat(options.size, options.rate, options.pixel_format),
        reconnect_s=options.reconnect,
        seconds=options.seconds,
        apart=options.output,
    )
    model = options.model or DEFAULT_MODEL
    wanted = Wanted(options.csv, options.json, options.output, options.summary)
    wanted.check(playlist, [path for path in (model, options.detector_model) if path is not None])
    cv2.setNumThreads(options.threads)
    settings = Settings(options.detect_every, options.smoothing, uncertain_below=options.uncertain_below)
    detector, reason = open_detector(options.detector, options.detector_model, options.threads)
    recognizer = ExpressionRecognizer(model, detector, settings, options.threads)
    print(reason, file=sys.stderr)
    source = playlist.open_first()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _end)
    head = describe_run(model, detector.name, recognizer.uncertain_below, source.rate if source else None)
    try:
        results = Results(playlist, wanted, head, options.threads)
        mirror = is_camera(options.source[0]) and not options.headless  # as people know themselves
        session = Session(recognizer, View(mirror=mirror, blur=options.blur))
        if options.headless:
            run_headless(playlist, session, results)
        else:
            LiveWindow(playlist, session, results, options.save_to).run()
    except OSError as error:
        raise disk_full(error) from error
    finally:
        playlist.close()


def program() -> None:
    """The console command of the wheel."""
    run_program(main, "requirements-runtime.txt")


if __name__ == "__main__":
    program()
