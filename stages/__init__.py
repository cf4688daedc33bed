"""One module per stage, run as `python -m stages.NAME`.

Ctrl-C while a stage still loads its libraries, which takes seconds, ends it at once: an exception inside a library
being loaded is not safe, and nothing has been written yet. `src.errors.run_program` takes over from there.
"""

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted; nothing was written\n")
    os._exit(130)


# Not where a stage is imported, and not where a shell has made the process ignore SIGINT.
if "-m" in sys.orig_argv and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    _module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if _module.startswith("stages."):
        signal.signal(signal.SIGINT, _leave)
