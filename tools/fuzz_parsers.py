"""Feed damaged archives, label lists and photos to the parsers until they misbehave.

    python -m tools.fuzz_parsers --minutes 10 --seed 1          one core; build/fuzz/ holds what was found

Whatever bytes come in, a parser may succeed or raise UserError (for single photos PhotoError, for single members
MemberError). Anything else is a find: another exception, a crash of a native library, more than MAX_MEMORY, longer
than MAX_SECONDS. Inputs are small valid data sets in which bytes are flipped, overwritten, cut out, repeated or moved;
archives are damaged from outside and inside, since a checksum stops most damage from outside. A seed and a number
always make the same input, so `--only NUMBER` repeats a find. A crash of a native library ends the run and leaves its
input, named by seed and number; `--start` continues after it.
"""

import argparse
import contextlib
import faulthandler
import functools
import gzip
import io
import itertools
import random
import resource
import shutil
import signal
import sys
import tarfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from src.datasets import expw, fer2013
from src.datasets.archives import MemberError, open_tree
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.params import IngestExpwParams, IngestFer2013Params
from src.preparation.cropping import crop_faces

MAX_SECONDS = 10  # per input
MAX_MEMORY = 3 * 2**30  # bytes of address space beyond what the libraries took at the start
MAX_OF_A_KIND = 3  # finds that end alike and are kept
FINDS = Path(__file__).parents[1] / "build/fuzz"
NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1)  # as lengths and offsets
WORDS = (b"-1", b"256", b"1e9", b"99999999999999999999", b"nan", b"", b" ", b"\xd9\xa3", b"../", b"0x1")  # for a digit
Files = dict[str, bytes]


# --- valid data ---


def texture(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def fer2013_files() -> tuple[Files, Files]:
    """As a CSV, and as a folder of pictures."""
    lines, pictures = ["emotion,pixels,Usage"], {}
    for number, usage in enumerate(("Training", "PublicTest", "PrivateTest")):
        for code, name in enumerate(EXPRESSIONS):
            face = texture(10 * code + number)
            lines.append(f"{code},{' '.join(map(str, face.ravel()))},{usage}")
            pictures[f"{'test' if number else 'train'}/{name}/{usage}_{100 * number + code}.jpg"] = encoded(face)
    return {"fer2013.csv": "\n".join(lines).encode() + b"\n"}, pictures


def expw_files() -> Files:
    lines = [
        f"photo_{number}.jpg {face} 10 {20 + 50 * face} {70 + 50 * face} 60 40.5 {(number + face) % 7}\n"
        for number in range(7)
        for face in range(2)
    ]
    photos = {f"origin/photo_{number}.jpg": encoded(texture(number, 120, 160)) for number in range(7)}
    return {"label.lst": "".join(lines).encode(), **photos}


# --- damage ---


def damage(content: bytes, draw: random.Random) -> bytes:
    """A few random changes; the more, the rarer."""
    data = bytearray(content)
    for _ in range(min(int(draw.expovariate(0.5)) + 1, 12)):
        size = len(data)
        place = draw.randrange(size + 1)
        length = min(int(draw.expovariate(0.05)) + 1, size - place)
        kind = draw.choice(("bit", "random", "cut out", "insert", "repeat", "cut short", "number", "number", "word"))
        if kind == "bit" and place < size:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == "random":
            data[place : place + length] = draw.randbytes(length)
        elif kind == "cut out":
            del data[place : place + length]
        elif kind == "insert":
            data[place:place] = draw.randbytes(draw.randrange(1, 20))
        elif kind == "repeat":
            other = draw.randrange(size + 1)
            data[other:other] = data[place : place + length * draw.choice((1, 10, 100))]
        elif kind == "cut short" and draw.random() < 0.3:
            del data[place:]
        elif kind == "number":
            width = draw.choice((1, 2, 4, 8))
            value = draw.choice((*NUMBERS, size)) % 2 ** (8 * width)
            data[place : place + width] = value.to_bytes(width, draw.choice(("little", "big")))
        elif kind == "word" and size < 5000 and (digits := [i for i in range(size) if 48 <= data[i] <= 57]):
            start = draw.choice(digits)
            data[start : start + 1] = draw.choice(WORDS)
    return bytes(data)


def zipped(files: Files, draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    kind = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)  # of 1980, not of now
    return buffer.getvalue()


def tarred(files: Files, draw: random.Random) -> bytes:
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


def pack(files: Files, name: str, draw: random.Random) -> Files:
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
            content = gzip.compress(content, 1, mtime=0)
            return {f"{name}.tar.gz": damage(content, draw) if draw.random() < 0.2 else content}
    return files


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        if folder in path.resolve().parents:  # a damaged name may lead elsewhere, or nowhere
            with contextlib.suppress(OSError, ValueError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)


# --- targets: write an input, give back the parsing of it ---

CSV, PICTURES = fer2013_files()
EXPW = expw_files()
LABELS = b"image_name,source,usage,expression,group,copy_of,synthetic\n" + b"".join(
    b"expw/%d,expw,,%s,g%d,,False\n" % (row, EXPRESSIONS[row].encode(), row) for row in range(3)
)
Parse = Callable[[], object]


def fuzz_fer2013(folder: Path, draw: random.Random) -> Parse:
    write(folder, pack(draw.choice((CSV, PICTURES)), "fer2013", draw))
    settings = IngestFer2013Params(labels="original", max_bad_fraction=draw.choice((0.0, 0.5, 1.0)))
    return lambda: fer2013.load(folder, settings)


def fuzz_expw(folder: Path, draw: random.Random) -> Parse:
    labels_alone = {**EXPW, "label.lst": damage(EXPW["label.lst"], draw)}
    write(folder, labels_alone if draw.random() < 0.3 else pack(EXPW, "expw", draw))

    def parse() -> None:
        settings = IngestExpwParams(confidence_min=0, max_bad_fraction=draw.choice((0.0, 0.5, 1.0)))
        table, photos = expw.load(folder, settings)[0], expw.find(folder).photos
        boxes = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
        crops, failures = crop_faces(photos, list(table["photo"]), boxes, 48, 0.1)
        assert len(crops) == len(table) >= len(failures)

    return parse


def fuzz_photo(folder: Path, draw: random.Random) -> Parse:
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


def fuzz_archive(folder: Path, draw: random.Random) -> Parse:
    files = {f"{number}/file.csv": draw.randbytes(draw.randrange(300)) for number in range(4)}
    packed = pack(files, "any", draw)
    write(folder, packed)

    def parse() -> None:
        tree = open_tree(folder / next(iter(packed)) if len(packed) == 1 else folder)
        for name in tree.sizes:
            with contextlib.suppress(MemberError):
                tree.read(name)

    return parse


def fuzz_face_set(folder: Path, draw: random.Random) -> Parse:
    buffer = io.BytesIO()
    np.save(buffer, np.stack([texture(seed) for seed in range(3)]))
    images, labels = buffer.getvalue(), LABELS
    if draw.random() < 0.5:  # the header is where the damage matters
        images = damage(images[:128], draw) + images[128:]
    else:
        labels = damage(labels, draw)
    write(folder, {"images.npy": images, "labels.csv": labels})
    return lambda: FaceSet.load(folder).targets.sum() + FaceSet.load(folder).images[:].sum()


TARGETS = (fuzz_archive, fuzz_expw, fuzz_face_set, fuzz_fer2013, fuzz_photo)


# --- running ---


class TooSlow(BaseException):
    """Not an Exception: a parser that catches those must not swallow it."""


def _alarm(_signal: int, _frame: object) -> None:
    raise TooSlow(f"longer than {MAX_SECONDS} s")


def try_input(seed: int, number: int, folder: Path) -> str | None:
    """Make the input in `folder` and parse it; what went wrong, or None."""
    draw = random.Random(f"{seed} {number}")
    target = draw.choice(TARGETS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parse = target(folder, draw)
    signal.setitimer(signal.ITIMER_REAL, MAX_SECONDS)
    try:
        with contextlib.suppress(UserError, PhotoError, MemberError):
            parse()
    except BaseException:
        return f"{target.__name__}\n{traceback.format_exc()}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz the parsers of archives, labels and photos.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="try this one input and show what happens")
    options = parser.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _alarm)
    tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY,) * 2)
    kinds: Counter[str] = Counter()
    deadline, tried = time.time() + 60 * options.minutes, 0
    for number in itertools.count(options.start) if options.only is None else [options.only]:
        # Should a native library crash here, the input that it died of stays, and `--start` continues after it.
        folder = FINDS / f"{options.seed}_{number}"
        problem = try_input(options.seed, number, folder)
        kind = (problem or "").strip()[-40:]
        kinds[kind] += bool(problem)
        if problem and kinds[kind] <= MAX_OF_A_KIND:
            (folder / "problem.txt").write_text(problem, encoding="utf-8")
            print(f"\nFIND {folder.name}: {problem}", flush=True)
        else:
            shutil.rmtree(folder)
        tried += 1
        if time.time() >= deadline:
            break
    print(f"{tried:,} inputs, seed {options.seed}: {kinds.total()} finds")
    sys.exit(1 if kinds.total() else 0)


if __name__ == "__main__":
    main()
