"""The one error that a user is meant to read, and the door through which every program reports it."""

import errno
import os
import signal
import sys
from collections.abc import Callable


class UserError(Exception):
    """Says what happened, what was expected and what to do; shown without a traceback."""


def run_program(main: Callable[[], None], requirements: str = "") -> None:
    """Run `main`; turn the failures that a user can mend into one message and a non-zero exit code.

    requirements: the file that lists what the program imports, where people may install that alone.

    Exit codes: 1 for bad input or a full or read-only disk, 130 for Ctrl-C, 141 when the reader of a pipe went away
    (`| head`). Any other exception is a defect of ours and keeps its traceback.
    """
    if callable(signal.getsignal(signal.SIGINT)):  # a handler of ours for the time of loading
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
        if sys.stdout:  # none where it was closed before the start
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
        sys.exit(141)
    except UserError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if not requirements or (error.name or __name__).split(".")[0] == __name__.split(".")[0]:  # a module of ours
            raise
        sys.exit(
            f"error: {error.name} is not installed for {sys.executable}. Activate your environment, or "
            f"pip install -r {requirements}."
        )
    except OSError as error:
        permission = "Permission denied. Make it readable, or its folder writable, for this user and run again."
        remedies = {
            errno.ENOSPC: "The disk is full. Free some space and run again (`dvc gc -a -T --all-experiments` drops "
            "cache files that no branch, tag or experiment uses).",
            errno.EDQUOT: "The disk quota is used up. Free some space and run again.",
            errno.EACCES: permission,
            errno.EPERM: permission,
            errno.EROFS: "The file system is read-only. Use a writable folder and run again.",
        }
        remedy = remedies.get(error.errno or 0)
        if remedy is None:
            raise
        sys.exit(f"error: {error.filename or 'writing an output'}: {remedy} Nothing half-written was left.")
    except MemoryError:
        sys.exit("error: out of memory. Close other programs or use a machine with more memory, then run again.")
    except KeyboardInterrupt:
        print("interrupted; nothing half-written was left", file=sys.stderr)
        sys.exit(130)
