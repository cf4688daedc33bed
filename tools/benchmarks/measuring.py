"""Time and peak memory of several ways to do one thing, side by side in one run.

Each way is a function of a benchmark module and runs in a process of its own, so that no way inherits the memory or
the caches of another; the processes take turns, so that a slow minute of the machine hits all of them. A benchmark
never fails on a time: it prints a table.

    WAYS = {"ours": ours, "baseline": baseline}
    if __name__ == "__main__":
        if not measuring.run_child(WAYS):
            ...
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
WAY = "--way"

# Work on a folder; returns the function to be timed, imports and preparation done.
Way = Callable[[Path], Callable[[], object]]


@dataclass(frozen=True)
class Measurement:
    """seconds: median over the repeats, without start-up and imports. peak_bytes: largest of the repeats, all in."""

    name: str
    seconds: float
    peak_bytes: int


def peak_memory() -> int:
    """Largest resident set of this process so far, bytes.

    Linux counts the parent at the moment of the fork into ru_maxrss, so its own record is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_child(ways: dict[str, Way]) -> bool:
    """In a measured process (`--way NAME FOLDER`): run that way, print its figures, return True."""
    if WAY not in sys.argv:
        return False
    name, folder = sys.argv[sys.argv.index(WAY) + 1 :][:2]
    work = ways[name](Path(folder))
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_memory()}))
    return True


def measure(module: str, ways: dict[str, Way], folder: Path, repeats: int) -> list[Measurement]:
    """Run every way `repeats` times, each time in a new process, taking turns."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name in ways:
            command = [sys.executable, "-m", module, WAY, name, str(folder)]
            child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if child.returncode:
                sys.exit(f"{' '.join(command)} failed; run it to see why")
            results[name].append(json.loads(child.stdout.splitlines()[-1]))
    return [
        Measurement(
            name,
            statistics.median(row["seconds"] for row in rows),
            int(max(row["peak_bytes"] for row in rows)),
        )
        for name, rows in results.items()
    ]


def machine() -> str:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = names[0].split(": ", 1)[1] if names else model
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, NumPy {np.__version__}"


def print_table(title: str, measurements: list[Measurement], repeats: int) -> None:
    """Times relative to the first way, which is ours."""
    print(f"\n{title}\n{machine()}; median of {repeats} run{'s' if repeats > 1 else ''}, largest peak\n")
    ours = measurements[0].seconds
    width = max(len(row.name) for row in measurements)
    print(f"{'':{width}}{'seconds':>10}{'times ours':>12}{'peak MB':>10}")
    for row in measurements:
        print(f"{row.name:{width}}{row.seconds:>10.2f}{row.seconds / ours:>12.2f}{row.peak_bytes / 1e6:>10.0f}")
    sys.stdout.flush()
