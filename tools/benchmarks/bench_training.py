"""Seconds per training step with and without `stages.keep_freed_memory`, in turns: about three minutes on two cores.

python -m tools.benchmarks.bench_training
"""

import argparse
import json
import subprocess
import sys

from tabulate import tabulate

# Random faces through the released recipe's network; the first steps compile and fill the pool.
_PROGRAM = """
import json, resource, sys, time
from stages import keep_freed_memory
if sys.argv[1] == "kept": keep_freed_memory()
import keras, numpy as np
from src.network.backend import choose_precision
from src.network.model import build_network, resolve_spec
from src.params import load_params
params = load_params().train
keras.mixed_precision.set_global_policy(choose_precision(params.precision))
network = build_network(resolve_spec(params, 48))
network.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
rng = np.random.default_rng(0)
faces = rng.integers(0, 256, (128, 48, 48, 1)).astype(np.uint8)
targets = np.eye(7, dtype=np.float32)[np.arange(128) % 7]
for _ in range(5): network.train_on_batch(faces, targets)
start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
for _ in range(20): network.train_on_batch(faces, targets)
seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([seconds / 20, (after.ru_utime - before.ru_utime) / 20, (after.ru_stime - before.ru_stime) / 20,
                  after.ru_maxrss / 1000]))
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    best: dict[str, list[float]] = {}
    for way in ("given back", "kept") * 2:
        result = subprocess.run([sys.executable, "-c", _PROGRAM, way], stdout=subprocess.PIPE, text=True, check=True)
        best[way] = min(best.get(way, [float("inf")]), json.loads(result.stdout))
    rows = [(way, *values, best["given back"][0] / values[0]) for way, values in best.items()]
    print(tabulate(rows, ("freed memory is", "s/step", "user s", "system s", "peak MB", "ratio"), floatfmt=".2f"))


if __name__ == "__main__":
    main()
