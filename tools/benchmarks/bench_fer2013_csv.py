"""FER2013's official CSV, 35,887 rows and 300 MB, into one array: our parser against pandas.

    python -m tools.benchmarks.bench_fer2013_csv [--repeats 3]          about a minute on two cores

Ours (`src.datasets.fer2013`) checks every row as well: number of pixels, their range, label, usage. The CSV is made of
the rows in $FER_REAL_DATA/fer2013.zip, or of the drawn sample.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from src.datasets import fer2013
from src.params import IngestFer2013Params
from tools.benchmarks import baselines, data, measuring

MODULE = "tools.benchmarks.bench_fer2013_csv"


def _ours(folder: Path) -> Callable[[], object]:
    return lambda: fer2013.load(folder / "fer2013", IngestFer2013Params(labels="original", max_bad_fraction=0.0))


def _itertuples(folder: Path) -> Callable[[], object]:
    return lambda: baselines.parse_with_itertuples(folder / "fer2013/fer2013.csv")


def _fromstring(folder: Path) -> Callable[[], object]:
    return lambda: baselines.parse_with_fromstring(folder / "fer2013/fer2013.csv")


WAYS: dict[str, measuring.Way] = {
    "ours, checked": _ours,
    "df.itertuples(), np.array(pixels.split())": _itertuples,
    "np.fromstring(pixels)": _fromstring,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the parsing of FER2013's CSV.")
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "fer2013/fer2013.csv"
        data.write_fer2013_csv(path, data.load_faces(folder))
        rows = measuring.measure(MODULE, WAYS, folder, repeats)
        title = f"FER2013 CSV, 35,887 rows, {path.stat().st_size / 1e6:.0f} MB, {data.source()}"
        measuring.print_table(title, rows, repeats)
        faces, _ = fer2013.load(folder / "fer2013", IngestFer2013Params(labels="original", max_bad_fraction=0.0))
        same = np.array_equal(faces.images, baselines.parse_with_fromstring(path))
        print(f"pixels of all ways equal: {'yes' if same else 'NO'}")


if __name__ == "__main__":
    if not measuring.run_child(WAYS):
        main()
