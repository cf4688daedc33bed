"""Damaged archives, label lists, photos and FaceSets: a parser succeeds or raises what a user is meant to read.

Anything else is a find: another exception, a crash of a native library, more than `MAX_MEMORY`, longer than
`MAX_SECONDS`. Inputs are small valid data sets in which bytes are overwritten, cut out, put in or repeated; archives
are damaged from outside and inside, since a checksum stops most damage from outside. hypothesis makes a find smaller.
`HYPOTHESIS_PROFILE=explore python -m pytest tests/test_fuzzing.py` draws other inputs each time, and more.
"""

import contextlib
import gzip
import io
import resource
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
Files = dict[str, bytes]
fuzzed = settings(max_examples=40 if settings().derandomize else 1000, deadline=1000 * MAX_SECONDS)


@pytest.fixture(autouse=True, scope="module")
def limited_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- valid data ---


def texture(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


FACES = [
    (code, name, usage, texture(10 * code + number))
    for number, usage in enumerate(("Training", "PublicTest", "PrivateTest"))
    for code, name in enumerate(EXPRESSIONS)
]
ROWS = [f"{code},{' '.join(map(str, face.ravel()))},{usage}\n" for code, _, usage, face in FACES]
CSV = {"fer2013.csv": "".join(["emotion,pixels,Usage\n", *ROWS]).encode()}
PICTURES = {
    f"{'train' if usage == 'Training' else 'test'}/{name}/{usage}_{code}.jpg": encoded(face)
    for code, name, usage, face in FACES
}
BOXES = "".join(
    f"photo_{number}.jpg {face} 10 {20 + 50 * face} {70 + 50 * face} 60 40.5 {(number + face) % 7}\n"
    for number in range(7)
    for face in range(2)
).encode()
PHOTOS = {f"origin/photo_{number}.jpg": encoded(texture(number, 120, 160)) for number in range(7)}
LABELS = b"image_name,source,usage,expression,group,copy_of,synthetic\n" + b"".join(
    b"expw/%d,expw,,%s,g%d,,False\n" % (row, EXPRESSIONS[row].encode(), row) for row in range(3)
)
ARRAY = io.BytesIO()
np.save(ARRAY, np.stack([texture(seed) for seed in range(3)]))


# --- damage ---

NUMBERS = [  # as lengths and offsets
    value.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for order in ("little", "big")
    for value in (0, 1, 2 ** (8 * width - 1) - 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1)
]
WORDS = [b"-1", b"256", b"1e9", b"9" * 20, b"nan", b" ", b"\xd9\xa3", b"../", b"0x1"]  # \xd9\xa3 is a digit
KINDS = ("overwrite", "overwrite", "replace", "replace", "repeat", "cut short")


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        start, length = draw(st.integers(0, len(data))), draw(st.integers(0, 30))
        new = draw(st.binary(max_size=20) | st.sampled_from(NUMBERS + WORDS))
        kind = draw(st.sampled_from(KINDS))
        if kind == "overwrite":
            data[start : start + len(new)] = new
        elif kind == "replace":
            data[start : start + length] = new
        elif kind == "repeat":
            data[start:start] = data[start : start + length] * 100
        else:
            del data[start:]
    return bytes(data)


def zipped(files: Files, kind: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, kind)  # of 1980, not of now
    return buffer.getvalue()


def tarred(files: Files, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def with_checksums(tar: bytes) -> bytes:
    """The checksums of all header blocks mended, so that damage within headers gets past them."""
    data = bytearray(tar)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


@st.composite
def packed(draw: st.DrawFn, files: Files, name: str = "packed") -> Files:
    """The files, up to two of them damaged or renamed, as a folder or in an archive, which may be damaged as well."""
    files = dict(files)
    for victim in draw(st.lists(st.sampled_from(sorted(files)), max_size=2, unique=True)):
        content = files.pop(victim)
        if draw(st.booleans()):
            files[victim] = draw(damaged(content))
        else:
            other = draw(damaged(victim.encode())).decode("utf-8", "replace").replace("\0", "")
            files[other or victim] = content
    form = draw(st.sampled_from(("folder", "zip", "tar")))
    if form == "folder":
        return files
    outside = draw(st.booleans())
    if form == "zip":
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        archive = zipped(files, draw(st.sampled_from(kinds)))
        return {f"{name}.zip": draw(damaged(archive)) if outside else archive}
    tar = tarred(files, draw(st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))))
    archive = gzip.compress(with_checksums(draw(damaged(tar))) if outside else tar, 1, mtime=0)
    return {f"{name}.tar.gz": draw(st.just(archive) | damaged(archive))}


@contextlib.contextmanager
def written(files: Files) -> Iterator[Path]:
    """A folder of them. What is raised in it may be what a user is meant to read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for file, content in files.items():
            path = folder / file
            with contextlib.suppress(OSError):  # a damaged name may lead elsewhere, or nowhere
                if folder in path.resolve().parents:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
        with contextlib.suppress(UserError, PhotoError, MemberError):
            yield folder


# --- parsers ---

FRACTIONS = st.sampled_from((0.0, 0.5, 1.0))


@fuzzed
@given(files=packed(CSV, "fer2013") | packed(PICTURES, "fer2013"), bad=FRACTIONS)
def test_fer2013(files: Files, bad: float) -> None:
    with written(files) as folder:
        fer2013.load(folder, IngestFer2013Params(labels="original", max_bad_fraction=bad))


@fuzzed
@given(
    files=packed({"label.lst": BOXES, **PHOTOS}, "expw")
    | damaged(BOXES).map(lambda boxes: {"label.lst": boxes, **PHOTOS}),
    bad=FRACTIONS,
)
def test_expw_and_crops(files: Files, bad: float) -> None:
    with written(files) as folder:
        table = expw.load(folder, IngestExpwParams(enabled=True, confidence_min=0, max_bad_fraction=bad))[0]
        boxes = list(table[["x", "y", "width", "height"]].itertuples(index=False, name=None))
        crops, failures = crop_faces(expw.find(folder).photos, list(table["photo"]), boxes, 48, 0.1)
        assert len(crops) == len(table) >= len(failures)


@fuzzed
@given(photo=st.one_of(*(damaged(encoded(texture(1, 120, 160), kind)) for kind in (".jpg", ".png", ".bmp", ".webp"))))
def test_photo(photo: bytes) -> None:
    with written({"photo.jpg": photo}) as folder:
        crop_faces(PhotoFolder(open_tree(folder), ""), ["photo.jpg"], [(10, 10, 60, 60)], 48, 0.1)
        header = read_header(photo)
        for factor in (1, 2, 4, 8) if header.format == "JPEG" else (1,):
            with contextlib.suppress(PhotoError):
                decode(photo, header, factor=factor)


@fuzzed
@given(files=packed({f"{number}/file.bin": bytes(100 * number) for number in range(4)}))
def test_archive(files: Files) -> None:
    with written(files) as folder:
        tree = open_tree(folder / next(iter(files)) if len(files) == 1 else folder)
        for name in tree.sizes:
            with contextlib.suppress(MemberError):
                assert isinstance(tree.read(name), bytes)


@fuzzed
@given(
    files=damaged(ARRAY.getvalue()[:128]).map(  # the header is where the damage matters
        lambda head: {"images.npy": head + ARRAY.getvalue()[128:], "labels.csv": LABELS}
    )
    | damaged(LABELS).map(lambda labels: {"images.npy": ARRAY.getvalue(), "labels.csv": labels})
)
def test_face_set(files: Files) -> None:
    with written(files) as folder:
        faces = FaceSet.load(folder)
        assert faces.targets.sum() + faces.images[:].sum() >= 0
