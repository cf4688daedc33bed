"""Feed damaged archives, label lists and photos to the parsers until they misbehave.

    python -m tools.fuzz_parsers --minutes 10 --seed 1          one core; build/fuzz/ holds what was found

Whatever bytes come in, a parser may succeed or raise UserError (for single photos PhotoError, for single members
MemberError). Anything else is a find: another exception, a crash of a native library, more than MAX_MEMORY, longer
than MAX_SECONDS. Inputs are small valid data sets in which bytes are flipped, overwritten, cut out, repeated or moved;
archives are damaged from outside and inside, since a checksum stops most damage from outside. A seed and a number
always make the same input, so `--only NUMBER` repeats a find.
"""

import argparse
import contextlib
import faulthandler
import gzip
import io
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from src.datasets import expw as expw_source
from src.datasets import fer2013
from src.datasets.archives import MemberError, open_tree
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestExpwParams, IngestFer2013Params
from src.preparation.cropping import crop_faces, read_box_table
from tools.benchmarks.measuring import ROOT

MAX_SECONDS = 10  # per input
MAX_MEMORY = 3 * 2**30  # bytes of address space beyond what the libraries took at the start
MAX_OF_A_KIND = 3  # finds with the same last line that are kept
FINDS = ROOT / "build/fuzz"
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x2C, 0x0A, 0x0D, 0x22, 0x2F, 0x2E, 0x50, 0x4B)


# --- valid data ---


def texture(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def fer2013_csv() -> bytes:
    lines = ["emotion,pixels,Usage"]
    for number, usage in enumerate(("Training", "PublicTest", "PrivateTest")):
        for code in range(7):
            lines.append(f"{code},{' '.join(map(str, texture(10 * code + number).ravel()))},{usage}")
    return "\n".join(lines).encode() + b"\n"


def fer2013_pictures() -> dict[str, bytes]:
    return {
        f"{'train' if usage == 'Training' else 'test'}/{name}/{usage}_{100 * number + code}.jpg": encoded(
            texture(10 * code + number)
        )
        for number, usage in enumerate(("Training", "PublicTest", "PrivateTest"))
        for code, name in enumerate(EXPRESSIONS)
    }


def expw() -> dict[str, bytes]:
    lines = [
        f"photo_{number}.jpg {face} 10 {20 + 50 * face} {70 + 50 * face} 60 40.5 {(number + face) % 7}"
        for number in range(7)
        for face in range(2)
    ]
    photos = {f"origin/photo_{number}.jpg": encoded(texture(number, 120, 160)) for number in range(7)}
    return {"label.lst": "\n".join(lines).encode() + b"\n", **photos}


# --- damage ---


def damage(content: bytes, draw: random.Random) -> bytes:
    """A few random changes; the more, the rarer."""
    data = bytearray(content)
    for _ in range(min(int(draw.expovariate(0.5)) + 1, 12)):
        size = len(data)
        place = draw.randrange(size + 1)
        length = min(int(draw.expovariate(0.05)) + 1, size - place)
        kind = draw.randrange(9)
        if kind == 0 and place < size:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1 and place < size:
            data[place] = draw.choice(INTERESTING)
        elif kind == 2:
            data[place : place + length] = draw.randbytes(length)
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = draw.randbytes(draw.randrange(1, 20))
        elif kind == 5:  # repeat a piece elsewhere
            other = draw.randrange(size + 1)
            data[other:other] = data[place : place + length * draw.choice((1, 10, 100))]
        elif kind == 6 and draw.random() < 0.3:  # cut short
            del data[place:]
        elif kind == 7:  # a number that means a length or an offset
            width = draw.choice((1, 2, 4, 8))
            value = draw.choice((0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, size))
            data[place : place + width] = (value % 2 ** (8 * width)).to_bytes(width, draw.choice(("little", "big")))
        elif kind == 8:  # a number in text
            digits = [i for i in range(size) if 48 <= data[i] <= 57] if size < 5000 else []
            if digits:
                start = draw.choice(digits)
                data[start : start + 1] = draw.choice(
                    (b"-1", b"256", b"1e9", b"99999999999999999999", b"nan", b"", b" ", b"\xd9\xa3", b"../", b"0x1")
                )
    return bytes(data)


def zipped(files: dict[str, bytes], draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    kind = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    form = draw.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def checksum_tar(content: bytes) -> bytes:
    """Mend the checksums of all header blocks, so that damage within headers gets past them."""
    data = bytearray(content)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def pack(files: dict[str, bytes], name: str, draw: random.Random) -> dict[str, bytes]:
    """The files, one or two of them damaged, as a folder or in an archive, which may be damaged as well."""
    files = dict(files)
    how = draw.choice(("inside", "outside", "names", "both"))
    if how in ("inside", "both"):
        for victim in draw.sample(sorted(files), min(len(files), draw.randrange(1, 3))):
            files[victim] = damage(files[victim], draw)
    if how == "names":
        victim = draw.choice(sorted(files))
        changed = damage(victim.encode(), draw).decode("utf-8", "replace").replace("\0", "")
        if changed:
            files[changed] = files.pop(victim)
    form = draw.choice(("folder", "zip", "tar", "tar"))
    if form == "zip":
        content = zipped(files, draw)
        return {f"{name}.zip": damage(content, draw) if how in ("outside", "both") else content}
    if form == "tar":
        with contextlib.suppress(ValueError, UnicodeError):
            content = tarred(files, draw)
            if how in ("outside", "both"):
                content = checksum_tar(damage(content, draw))
            content = gzip.compress(content, 1)
            return {f"{name}.tar.gz": damage(content, draw) if draw.random() < 0.2 else content}
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if folder in path.resolve().parents:  # a damaged name may lead elsewhere, or nowhere
            with contextlib.suppress(OSError, ValueError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


# --- targets: write an input, then parse it ---

CSV, PICTURES, EXPW = fer2013_csv(), fer2013_pictures(), expw()
TABLE = (
    b"image_name,photo,x,y,width,height,confidence,expression,group\n"
    b"expw/a.jpg#0,a.jpg,1,2,30,40,50.5,happy,expw/a.jpg\nexpw/b.jpg#0,b.jpg,3,4,30,40,20.0,sad,expw/b.jpg\n"
)


def fuzz_fer2013(folder: Path, draw: random.Random) -> Callable[[], object]:
    files = {"fer2013.csv": CSV} if draw.random() < 0.5 else PICTURES
    write(folder, pack(files, "fer2013", draw))
    settings = IngestFer2013Params(labels="original", max_bad_fraction=draw.choice((0.0, 0.5, 1.0)))
    return lambda: fer2013.load(folder, settings)


def fuzz_expw(folder: Path, draw: random.Random) -> Callable[[], object]:
    write(folder, pack(EXPW, "expw", draw))

    def parse() -> None:
        settings = IngestExpwParams(confidence_min=0.0, max_bad_fraction=draw.choice((0.0, 0.5, 1.0)))
        table, _ = expw_source.load(folder, settings)
        photos = expw_source.find(folder).photos
        boxes = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
        crops, failures = crop_faces(photos, list(table["photo"]), boxes, 48, 0.1)
        assert len(crops) == len(table) >= len(failures)

    return parse


def fuzz_labels(folder: Path, draw: random.Random) -> Callable[[], object]:
    write(folder, {**EXPW, "label.lst": damage(EXPW["label.lst"], draw)})
    return lambda: expw_source.load(folder, IngestExpwParams(confidence_min=0.0, max_bad_fraction=1.0))


def fuzz_photo(folder: Path, draw: random.Random) -> Callable[[], object]:
    suffix = draw.choice((".jpg", ".jpg", ".jpg", ".png", ".bmp", ".webp"))
    photo = damage(encoded(texture(draw.randrange(9), 120, 160), suffix), draw)
    write(folder, {"photo.jpg": photo})

    def parse() -> None:
        header = read_header(photo)
        for factor in (1, 2, 4, 8) if header.format == "JPEG" else (1,):
            with contextlib.suppress(PhotoError):
                decode(photo, header, factor=factor)
        crop_faces(PhotoFolder(open_tree(folder), ""), ["photo.jpg"], [(10, 10, 60, 60)], 48, 0.1)

    return parse


def fuzz_archive(folder: Path, draw: random.Random) -> Callable[[], object]:
    files = {f"{number}/file.bin": draw.randbytes(draw.randrange(300)) for number in range(4)}
    packed = pack(files, "any", draw)
    write(folder, packed)

    def parse() -> None:
        tree = open_tree(folder / next(iter(packed)) if len(packed) == 1 else folder)
        for name in tree.sizes:
            assert tree.sizes[name] >= 0
        for _, content in tree.read_many(tree.sizes):
            assert isinstance(content, bytes | MemberError)

    return parse


def fuzz_face_set(folder: Path, draw: random.Random) -> Callable[[], object]:
    pixels = np.stack([texture(seed) for seed in range(3)])
    buffer = io.BytesIO()
    np.save(buffer, pixels)
    labels = b"image_name,source,usage,expression,group,copy_of,synthetic\n" + b"".join(
        b"expw/%d,expw,,%s,g%d,,False\n" % (row, EXPRESSIONS[row].encode(), row) for row in range(3)
    )
    images = buffer.getvalue()
    if draw.random() < 0.5:  # the header is where the damage matters
        images = damage(images[:128], draw) + images[128:]
    else:
        labels = damage(labels, draw)
    write(folder, {"images.npy": images, "labels.csv": labels})
    return lambda: FaceSet.load(folder).targets.sum() + FaceSet.load(folder).images[:].sum()


def fuzz_table(folder: Path, draw: random.Random) -> Callable[[], object]:
    write(folder, {"expw.csv": damage(TABLE, draw)})
    return lambda: read_box_table(folder / "expw.csv")


TARGETS: dict[str, Callable[[Path, random.Random], Callable[[], object]]] = {
    "fer2013": fuzz_fer2013,
    "expw": fuzz_expw,
    "labels": fuzz_labels,
    "photo": fuzz_photo,
    "archive": fuzz_archive,
    "face_set": fuzz_face_set,
    "table": fuzz_table,
}


# --- running ---


class TooSlow(BaseException):
    """Not an Exception: a parser that catches those must not swallow it."""


def _alarm(_signal: int, _frame: object) -> None:
    raise TooSlow


def try_input(seed: int, number: int, folder: Path) -> str | None:
    """Make the input and parse it; what went wrong, or None."""
    draw = random.Random(f"{seed} {number}")
    target = draw.choice(sorted(TARGETS))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parse = TARGETS[target](folder, draw)
    (folder.parent / "target").write_text(f"{target}, seed {seed}, number {number}\n")
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        parse()
    except (UserError, PhotoError, MemberError):
        pass
    except TooSlow:
        return f"longer than {MAX_SECONDS} s\n{traceback.format_exc()}"
    except BaseException:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def work(seed: int, start: int, deadline: float, folder: Path) -> None:
    """Try inputs until the deadline; finds go to FINDS. The number reached is in `folder/reached`."""
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _alarm)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096 if Path("/proc/self/statm").exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY,) * 2)
    number = start
    kinds: Counter[str] = Counter()
    while time.time() < deadline:
        (folder / "reached").write_text(str(number))
        problem = try_input(seed, number, folder / "input")
        if problem:
            kind = problem.strip().splitlines()[-1][:40]
            kinds[kind] += 1
            if kinds[kind] <= MAX_OF_A_KIND:
                keep(folder, f"{seed}_{number}", problem)
        number += 1
    (folder / "reached").write_text(str(number))


def keep(folder: Path, name: str, problem: str) -> None:
    target = FINDS / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / "input", target)
    what = f"{(folder / 'target').read_text()}{problem}"
    (target / "problem.txt").write_text(what, encoding="utf-8")
    print(f"\nFIND {name}: {what}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the parsers of archives, labels and photos.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="try this one input and show what happens")
    parser.add_argument("--worker", nargs=3, metavar=("START", "DEADLINE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        start, deadline, folder = arguments.worker
        work(arguments.seed, int(start), float(deadline), Path(folder))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.only is not None:
            signal.signal(signal.SIGALRM, _alarm)
            print(try_input(arguments.seed, arguments.only, folder / "input") or "no find")
            return
        deadline, reached, crashes = time.time() + 60 * arguments.minutes, 0, 0
        while time.time() < deadline - 1:
            command = [sys.executable, "-m", "tools.fuzz_parsers", "--seed", str(arguments.seed), "--worker"]
            command += [str(reached), str(deadline), name]
            quiet = {**os.environ, "TQDM_DISABLE": "1"}
            result = subprocess.run(command, cwd=ROOT, env=quiet, stderr=subprocess.PIPE, text=True, errors="replace")
            reached = int((folder / "reached").read_text())
            if result.returncode:  # the process died, and with it the input that it was trying
                crashes += 1
                keep(
                    folder,
                    f"{arguments.seed}_{reached}_crash",
                    f"exit code {result.returncode}\n{result.stderr[-3000:]}",
                )
                reached += 1
    found = len(list(FINDS.glob(f"{arguments.seed}_*"))) if FINDS.is_dir() else 0
    print(
        f"{reached:,} inputs in {arguments.minutes:g} minutes, seed {arguments.seed}: {found} finds, {crashes} crashes"
    )
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
