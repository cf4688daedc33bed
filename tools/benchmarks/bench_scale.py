"""Cropping and the search for copies at 1, 10 and 100 times the field's 127,680 faces: seconds and peak memory.

    python -m tools.benchmarks.bench_scale crop               at 1 and 10 times; 100 is calculated
    python -m tools.benchmarks.bench_scale copies
    python -m tools.benchmarks.bench_scale copies --times 1   one size alone

What does not fit is simulated, by what each part costs:
- crop: `combine` and writing run in full on as many rows, with decoding left out; decoding is measured on the photos at
  hand and multiplied.
- copies: everything before the comparison, and the first and widest block of it, run in full on noise, in which there
  are no copies; the other blocks are multiplied. How many pairs of real faces then have to be proved, and what one
  proof takes, is measured on FER2013 at hand and multiplied by the square of the size.

Memory of a larger size is calculated by a straight line through the two largest measured. Each size runs in a process
of its own. With FER_REAL_DATA the pictures are real; on the drawn sample the share of pairs says nothing.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from src.datasets.archives import open_tree
from src.datasets.photos import PhotoFolder
from src.faceset import FaceSet
from src.params import CropParams
from src.preparation import copies, cropping
from tools.benchmarks import bench_data

FER2013, EXPW = 35_887, 91_793
SIMILARITY = 0.65
CROP = CropParams(image_size=48, margin=0.1, max_bad_fraction=0.02)


def write_interim(folder: Path, times: int) -> None:
    """What the ingest stages leave, `times` as many rows."""
    faces = bench_data._fer2013_faces(folder)
    rows = np.resize(np.arange(len(faces)), FER2013 * times)
    names = [f"fer2013/Training_{number:08d}" for number in range(len(rows))]
    labels = faces.labels.iloc[rows].reset_index(drop=True).assign(image_name=names, group=names)
    FaceSet(np.asarray(faces.images)[rows], labels).save(folder / "fer2013")
    bench_data.write_photos(folder)
    table = pd.read_csv(folder / "table.csv", dtype={"photo": str, "group": str})
    rows = np.resize(np.arange(len(table)), EXPW * times)
    repeats = pd.Series(np.arange(len(rows)) // len(table)).map("{:05d}_".format)
    table = table.iloc[rows].reset_index(drop=True)
    for name in ("image_name", "photo", "group"):
        table[name] = repeats + table[name].astype(str)
    table.to_csv(folder / "expw.csv", index=False)


def decoding(folder: Path) -> tuple[float, float]:
    """Seconds for a face of ExpW, on all cores; peak memory."""
    bench_data.write_photos(folder)
    names, boxes = bench_data._faces_to_crop(folder)
    start = time.perf_counter()
    cropping.crop_faces(PhotoFolder(open_tree(folder / "photos"), ""), names, boxes, CROP.image_size, CROP.margin)
    return (time.perf_counter() - start) / len(boxes), bench_data.peak_memory()


def crop_at(folder: Path) -> tuple[float, float]:
    """Seconds of all but decoding, and peak memory, on what `write_interim` left."""
    face = np.full((1, CROP.image_size, CROP.image_size), 128, np.uint8)
    cropping.crop_photo = lambda photos, photo, boxes, *sizes: np.repeat(face, len(boxes), 0)
    start = time.perf_counter()
    joint, _ = cropping.combine(bench_data.ROOT / "data/raw/sample", folder, CROP)
    joint.save(folder / "faces")
    return time.perf_counter() - start, bench_data.peak_memory()


def copies_at(count: int) -> tuple[float, float, float]:
    """Seconds before the comparison, seconds for the pairs of the first block, each one; peak memory."""
    images = np.random.default_rng(0).integers(0, 256, (count, 48, 48), np.uint8)
    began: list[float] = []

    def first_block(blocks: range, **_: object) -> list[int]:
        began.append(time.perf_counter())
        return list(blocks)[:1]

    copies.tqdm = first_block
    start = time.perf_counter()
    copies.find_copies(images, SIMILARITY)
    pairs = 2 * copies._BLOCK * count  # plain and mirrored
    return began[0] - start, (time.perf_counter() - began[0]) / pairs, bench_data.peak_memory()


def proofs(folder: Path) -> tuple[float, float, int]:
    """Share of all pairs of different faces that need a proof; seconds for one; faces looked at."""
    images = np.asarray(bench_data._fer2013_faces(folder).images)[:8000]
    plain, mirror = copies._thumbnails(images), copies._thumbnails(images[:, :, ::-1])
    near = sum(int(np.triu(plain @ other.T > copies._THUMBNAIL_CORRELATION, 1).sum()) for other in (plain, mirror))
    block = images[: copies._PAIR_BLOCK]
    start = time.perf_counter()
    copies._similarity(block, block[::-1])
    seconds = (time.perf_counter() - start) / len(block)
    return near / len(images) ** 2, seconds, len(images)


def table(name: str, sizes: list[int], measured: dict[int, tuple[float, float]]) -> None:
    """measured: times -> seconds as far as they grow by a formula given in `seconds_at`, bytes."""
    known = sorted(measured)
    rows = []
    for times in sizes:
        seconds, peak = measured[times] if times in measured else (float("nan"), float("nan"))
        if times not in measured and len(known) > 1:
            (low, high) = known[-2:]
            slope = (measured[high][1] - measured[low][1]) / (high - low)
            peak = measured[high][1] + slope * (times - high)
        rows.append((name, (FER2013 + EXPW) * times, seconds, peak / 1e9, "run" if times in measured else "calculated"))
    print(tabulate(rows, ("", "faces", "seconds", "peak GB", "memory"), floatfmt=("", "", ".0f", ".1f"), intfmt=","))


def crop(sizes: list[int], largest: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        each, _ = bench_data._alone(decoding, Path(name))
    print(f"decoding and cropping: {1e3 * each:.2f} ms for a face of ExpW")
    measured: dict[int, tuple[float, float]] = {}
    for times in (times for times in sizes if times <= largest):
        with tempfile.TemporaryDirectory() as name:
            bench_data._alone(write_interim, Path(name), times)
            seconds, peak = bench_data._alone(crop_at, Path(name))
            measured[times] = seconds + each * EXPW * times, peak
    rate = measured[max(measured)][0] / max(measured)
    print(f"seconds for the sizes that were not run: {', '.join(f'{rate * t:.0f}' for t in sizes if t > largest)}")
    table("crop", sizes, measured)


def search(sizes: list[int], largest: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        share, proof, looked_at = bench_data._alone(proofs, Path(name))
    print(f"{1e6 * share:.1f} of a million pairs need a proof of {1e6 * proof:.0f} us (n {looked_at} faces)")
    measured: dict[int, tuple[float, float]] = {}
    for times in (times for times in sizes if times <= largest):
        count = (FER2013 + EXPW) * times
        before, pair, peak = bench_data._alone(copies_at, count)
        # Each block is compared with what comes after it: half of all pairs, plain and mirrored.
        measured[times] = before + pair * count**2 + share * count**2 * proof, peak
        found = share * count**2
        print(f"{count:,} faces: before {before:.0f} s, {pair * count**2:.0f} s of pairs, {found:,.0f} proofs")
    last = max(measured)
    squares = [f"{measured[last][0] * (times / last) ** 2 / 3600:.1f}" for times in sizes if times > largest]
    print(f"hours for the sizes that were not run, by the square: {', '.join(squares)}")
    table("copies", sizes, measured)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["crop", "copies"])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--largest", type=int, default=10, help="what is larger is calculated; default: 10")
    options = parser.parse_args()
    print(bench_data.machine(), flush=True)
    {"crop": crop, "copies": search}[options.name](sorted(options.times), options.largest)


if __name__ == "__main__":
    main()
