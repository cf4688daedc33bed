"""The data stages at the field's full size, 127,680 faces, as DVC runs them: time and peak memory of each.

    python -m tools.benchmarks.bench_full_size          about ten minutes, 2 GB of memory and 3 GB of disk on two cores

35,887 rows of FER2013 as CSV and 91,793 faces of ExpW; pictures at hand are repeated (see data.py)
until there are that many. Undersampling as in the reference, SMOTE on. Nothing outside a temporary folder is touched.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tools.benchmarks import measuring

NUM_EXPW_FACES = 91_793
STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote")


def _write_raw_data(folder: Path) -> None:
    """In a process of its own: a stage started from a large one would inherit its record of memory."""
    from tools.benchmarks import data

    raw = folder / "data/raw/full"
    data.write_fer2013_csv(raw / "fer2013/fer2013.csv", data.load_faces(folder))
    photos, table = data.unpack_photos(folder)
    data.write_expw(raw / "expw", photos, table, NUM_EXPW_FACES)


def _write_params(folder: Path) -> None:
    params = yaml.safe_load((measuring.ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["dataset"] = "full"
    params["undersample"]["policy"] = "reference"
    params["smote"]["enabled"] = True
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def _run_stage(folder: Path, stage: str) -> measuring.Measurement:
    """A stage as DVC starts it; time with start-up and imports."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(measuring.ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"stages.{stage} failed; its folder is gone, so run the stage on your own data to see why")
    unit = 1 if sys.platform == "darwin" else 1024
    return measuring.Measurement(stage, seconds, usage.ru_maxrss * unit)


def _faces_written(folder: Path, stage: str) -> int:
    """Faces of all classes after a stage (split: in train)."""
    lines = (folder / f"plots/class_distribution/{stage}.csv").read_text(encoding="utf-8").splitlines()
    return sum(int(line.rsplit(",", 1)[1]) for line in lines[1:])


def main() -> None:
    argparse.ArgumentParser(description="Run the data stages at full size.").parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = multiprocessing.get_context("spawn").Process(target=_write_raw_data, args=(folder,))
        writer.start()
        writer.join()
        if writer.exitcode:
            sys.exit("the raw data could not be written")
        _write_params(folder)
        print(f"\nData stages, 127,680 faces, {measuring.machine()}; one run\n")
        print(f"{'':16}{'seconds':>10}{'peak MB':>10}{'faces':>10}")
        total = 0.0
        for stage in STAGES:
            row = _run_stage(folder, stage)
            total += row.seconds
            faces = _faces_written(folder, stage)
            print(f"{stage:16}{row.seconds:>10.1f}{row.peak_bytes / 1e6:>10.0f}{faces:>10,}", flush=True)
        print(f"{'all':16}{total:>10.1f}")
        copies = json.loads((folder / "metrics/split.json").read_text(encoding="utf-8"))["copies"]
        print(f"split found {copies['exact_pairs']:,} exact and {copies['near_pairs']:,} near pairs of copies")


if __name__ == "__main__":
    main()
