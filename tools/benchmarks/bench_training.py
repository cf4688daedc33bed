"""Seconds of 40 training steps, start included, with and without `stages.keep_freed_memory`, in turns: about
three minutes on two cores.

python -m tools.benchmarks.bench_training
"""

import argparse
import subprocess
import sys
import time

from tabulate import tabulate

# Random faces through the training of params.yaml: two epochs of 20 steps.
_PROGRAM = """
import os, resource, sys, tempfile
from pathlib import Path
from stages import keep_freed_memory
if sys.argv[1] == "kept": keep_freed_memory()
os.environ["WANDB_MODE"] = "disabled"
from src.network.training import TrainingRun
from src.network.wandb_log import Tracker
from src.params import load_params
from tests.conftest import random_faces
params = load_params().train.model_copy(update={"epochs": 2, "average_epochs": 0, "monitor": "last"})
with tempfile.TemporaryDirectory() as folder:
    TrainingRun(params, 48, Path(folder), Tracker({}, run_id="benchmark")).fit(random_faces(366), random_faces(16))
used = resource.getrusage(resource.RUSAGE_SELF)
print(f"RESULT {used.ru_utime} {used.ru_stime} {used.ru_maxrss / 1000}")
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    best: dict[str, list[float]] = {}
    for way in ("given back", "kept"):
        start = time.perf_counter()
        result = subprocess.run([sys.executable, "-c", _PROGRAM, way], stdout=subprocess.PIPE, text=True, check=True)
        row = [time.perf_counter() - start, *map(float, result.stdout.split("RESULT")[1].split())]
        best[way] = min(best.get(way, row), row)
    rows = [(way, *values, best["given back"][0] / values[0]) for way, values in best.items()]
    print(tabulate(rows, ("freed memory is", "s", "user s", "system s", "peak MB", "ratio"), floatfmt=".2f"))


if __name__ == "__main__":
    main()
