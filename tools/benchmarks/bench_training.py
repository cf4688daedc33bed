"""Seconds of 40 training steps with and without what `stages` sets: about three minutes on two cores.

    python -m tools.benchmarks.bench_training

Random faces through the training of params.yaml, in a process of its own each; loading the libraries is included.
"""

import os
import resource
import tempfile
import time
from pathlib import Path

from stages import keep_freed_memory
from tools.benchmarks.measuring import alone, machine, memory, parser, show


def train(keep: bool, onednn: bool) -> tuple[float, float, float, float]:
    """Seconds, seconds of processor time in the program and in the kernel, and peak MB."""
    start = time.perf_counter()
    if keep:
        keep_freed_memory()
    os.environ |= {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn)), "WANDB_MODE": "disabled"}
    from src.network.training import TrainingRun
    from src.network.wandb_log import Tracker
    from src.params import load_params
    from tests.conftest import random_faces

    params = load_params().train.model_copy(update={"epochs": 2, "average_epochs": 0, "monitor": "last"})
    with tempfile.TemporaryDirectory() as folder:
        run = TrainingRun(params, 48, Path(folder), Tracker({}, run_id="benchmark"))
        run.fit(random_faces(366), random_faces(16))  # of each class
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - start, used.ru_utime, used.ru_stime, memory("VmHWM")


def main() -> None:
    parser(__doc__).parse_args()
    print(machine())
    ways = {"plain": (False, False), "freed memory kept": (True, False), "and oneDNN": (True, True)}
    times = {way: alone(train, *settings) for way, settings in ways.items()}
    rows = [(way, *measured, times["plain"][0] / measured[0]) for way, measured in times.items()]
    show(rows, ("TensorFlow", "s", "user s", "system s", "peak MB", "ratio"), 2)


if __name__ == "__main__":
    main()
