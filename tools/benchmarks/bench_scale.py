"""Memory of cropping and of the search for copies at 1, 10 and 100 times the field's 127,680 faces.

    python -m tools.benchmarks.bench_scale crop copies        # 1 and 10 times; 12 GB of memory, 5 GB of disk
    python -m tools.benchmarks.bench_scale copies --run 1 4   # other multiples; 100 times is calculated

In full and in a process of its own runs what takes memory: `crop` joins and writes as many faces, with decoding left
out; `copies` goes through its preparation and its first and widest block of comparisons, on noise, which has no copies.
Memory at 100 times is calculated by a straight line through the two largest multiples that were run. Seconds are those
of what was run: joining grows with the faces, the whole search with their square.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.photos import BOX_COLUMNS
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import CropParams
from src.preparation import copies, cropping
from tools.benchmarks.measuring import alone, machine, memory, parser, show

FER2013, EXPW = 35_887, 91_793
SAMPLE = Path(__file__).resolve().parents[2] / "data/raw/sample"
CROP = CropParams(image_size=48, margin=0.1, max_bad_fraction=0.02)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), np.uint8)


def write_interim(folder: Path, times: int) -> None:
    """What the ingest stages leave, with `times` as many rows as those of the field."""
    names = [f"fer2013/Training_{number:08d}" for number in range(FER2013 * times)]
    texts = {"source": "fer2013", "usage": "Training", "group": names, "copy_of": ""}
    labels = pd.DataFrame({"image_name": names, "expression": np.resize(EXPRESSIONS, len(names)), **texts})
    FaceSet(noise(len(names)), labels.assign(synthetic=False)).save(folder / "fer2013")
    photos = [f"angry_expression_{number:08d}.jpg" for number in range(EXPW * times)]
    table = pd.DataFrame({"photo": photos, "expression": np.resize(EXPRESSIONS, len(photos)), "confidence": 50.0})
    table["image_name"] = table["group"] = "expw/" + table["photo"]
    table = table.assign(x=10, y=10, width=60, height=60)[list(BOX_COLUMNS)]
    table.to_csv(folder / "expw.csv", index=False)


def crop(times: int) -> tuple[float, float]:
    """Seconds and peak MB of all but decoding."""
    face = np.full((1, CROP.image_size, CROP.image_size), 128, np.uint8)
    cropping.crop_photo = lambda photos, photo, boxes, *sizes: np.repeat(face, len(boxes), 0)
    with tempfile.TemporaryDirectory() as name:
        alone(write_interim, Path(name), times)
        start = time.perf_counter()
        joint, _ = cropping.combine(SAMPLE, name, CROP)
        joint.save(Path(name, "faces"))
        return time.perf_counter() - start, memory("VmHWM")


def search(times: int) -> tuple[float, float]:
    """Seconds and peak MB up to the first block of comparisons."""
    images = noise((FER2013 + EXPW) * times)
    copies.tqdm = lambda blocks, **_: list(blocks)[:1]
    start = time.perf_counter()
    copies.find_copies(images, 0.65)
    return time.perf_counter() - start, memory("VmHWM")


PARTS = {"crop": crop, "copies": search}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="+", choices=PARTS)
    options.add_argument("--run", type=int, nargs="+", default=[1, 10], metavar="TIMES", help="multiples to run")
    chosen = options.parse_args()
    print(machine(), flush=True)
    for name in chosen.names:
        measured = {times: alone(PARTS[name], times) for times in sorted(chosen.run)}
        rows = [(times, (FER2013 + EXPW) * times, *figures) for times, figures in measured.items()]
        if len(measured) > 1:
            times, peaks = zip(*((times, peak) for times, (_, peak) in list(measured.items())[-2:]), strict=True)
            line = np.polynomial.Polynomial.fit(times, peaks, 1)
            rows.append(("100, calculated", (FER2013 + EXPW) * 100, None, float(line(100))))
        show(rows, ("times", f"{name}: faces", "seconds", "peak MB"), 0)


if __name__ == "__main__":
    main()
