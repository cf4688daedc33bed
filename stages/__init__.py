"""One module per stage, run as `python -m stages.NAME`.

Ctrl-C while a stage still loads its libraries, which takes seconds, ends it at once: an exception inside a library
being loaded is not safe, and nothing has been written yet. `src.errors.run_program` takes over from there.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

# TensorFlow takes oneDNN's convolutions by itself only where it finds AVX-512 or AMX (release notes of 2.9). With AVX2
# they are 1.7 times as fast as its own; results differ in rounding only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX of glibc's malloc.h
_MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, 2**28), (-8, 1))


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted; nothing was written\n")
    os._exit(130)


def keep_freed_memory() -> None:
    """Let glibc's malloc keep what is freed: training frees and asks for the same hundreds of MB in each step, and on a
    virtual machine a third of the processor's time went into handing them out (docs/benchmarks.md)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for key, value in _MALLOPT:
            mallopt(key, value)


# Not where a stage is imported, and not where a shell has made the process ignore SIGINT.
if "-m" in sys.orig_argv:
    _module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if _module == "stages.train":
        keep_freed_memory()
    if _module == "stages.export":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU computes with fewer digits than the comparison asks for
    if _module.startswith("stages.") and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
