"""What the benchmarks share: the machine in words, tables, memory, and functions in processes of their own."""

import argparse
import multiprocessing
import os
import platform
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate


def parser(description: str | None) -> argparse.ArgumentParser:
    """`--help` shows the docstring of the module as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    """Processor, cores, load, versions: what a published figure carries."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    model, load = found[1] if found else platform.machine(), os.getloadavg()[0]
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}"
    return f"{os.cpu_count()} cores of {model}, load {load:.1f}, {versions}"


def show(rows: Any, heads: str | Sequence[str] = "keys", decimals: int = 1) -> None:
    """Print a table: of dictionaries, or of tuples below `heads`."""
    print(f"\n{tabulate(rows, heads, floatfmt=f'.{decimals}f', intfmt=',')}", flush=True)


def memory(which: str, process: int | str = "self") -> float:
    """Resident MB of a process: VmRSS now, VmHWM at most. (ru_maxrss would count its parent at the fork.)"""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition(f"{which}:")[2].split()[0]) * 1024 / 1e6


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a new process, which starts small and shows no progress bars."""
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
