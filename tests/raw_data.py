"""Tiny raw data sets in the download formats, and ways to damage them, for the tests of the data stages."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from src.expressions import EXPRESSIONS

USAGES = ("Training", "PublicTest", "PrivateTest")
FER2013_HEADER = "emotion,pixels,Usage"
PHOTO_WIDTH, PHOTO_HEIGHT = 160, 120  # pixels


def texture(height: int, width: int, seed: int, grain: int = 8) -> np.ndarray:
    """Soft noise with a grain of so many pixels, uint8 `(H, W)`: survives JPEG as a photo does."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // grain + 2, width // grain + 2)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(picture: np.ndarray, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, picture)[1].tobytes()


def huge_jpeg(side: int = 30_000) -> bytes:
    """A small file whose header says `side` x `side` pixels."""
    content = bytearray(encode(texture(48, 48, 0)))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = side.to_bytes(2, "big") * 2
    return bytes(content)


def fer2013_rows() -> list[tuple[int, str, str]]:
    """Three rows of each class, one per usage: (emotion, pixels, Usage)."""
    return [
        (code, " ".join(map(str, texture(48, 48, 10 * code + number).ravel())), usage)
        for number, usage in enumerate(USAGES)
        for code in range(len(EXPRESSIONS))
    ]


def fer2013_csv(rows: list[tuple[int, str, str]] | None = None) -> str:
    rows = fer2013_rows() if rows is None else rows
    return "".join(f"{line}\n" for line in [FER2013_HEADER, *(",".join(map(str, row)) for row in rows)])


def fer2013_pictures() -> dict[str, bytes]:
    """The Kaggle folder layout: name -> JPEG."""
    return {
        f"{'train' if usage == 'Training' else 'test'}/{name}/{usage}_{100 * number + code}.jpg": encode(
            texture(48, 48, 10 * code + number)
        )
        for number, usage in enumerate(USAGES)
        for code, name in enumerate(EXPRESSIONS)
    }


def expw_photos() -> dict[str, bytes]:
    """Fourteen photos: name -> JPEG."""
    return {f"photo_{number}.jpg": encode(texture(PHOTO_HEIGHT, PHOTO_WIDTH, number)) for number in range(14)}


def expw_lines() -> list[str]:
    """Two faces in each photo: image_name face_id top left right bottom confidence expression."""
    return [
        f"photo_{number}.jpg {face} {10 + face} {20 + 50 * face} {70 + 50 * face} {61 + face} {5.5 * number:.2f} {code}"
        for number in range(14)
        for face, code in enumerate((number % 7, (number + 3) % 7))
    ]


def expw_files() -> dict[str, bytes]:
    """label.lst and origin/, as in the usual zip."""
    lines = "\n".join(expw_lines()) + "\n"
    return {"label.lst": lines.encode(), **{f"origin/{name}": photo for name, photo in expw_photos().items()}}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def bomb_bytes(members: int = 13) -> bytes:
    """A small zip whose directory promises 4 GiB for each member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(members):
            archive.writestr(f"train/happy/Training_{number}.jpg", b"")
        for entry in archive.filelist:
            entry.file_size = 2**32 - 2
    return buffer.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, to see whether anything changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
