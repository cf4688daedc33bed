"""Photos as untrusted bytes: size from the header, refusal of what must not be decoded, decoding.

Unless asked otherwise, every function works on the pixels as stored: an EXIF orientation is ignored, so that boxes,
header size and decoded size agree. (None of 3,430 ExpW photos examined carries one.)
"""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from src.datasets.archives import FileTree
from src.recognition.pictures import is_whole_png

MAX_PHOTO_PIXELS = 50_000_000  # a decoded colour photo of this size takes 150 MB; stricter than Pillow's own limit
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Columns of a table of faces in photos, in this order at least: see src/datasets/registry.py.
BOX_COLUMNS = ("image_name", "photo", "x", "y", "width", "height", "confidence", "expression", "group")
_HEAD_BYTES = 16 * 2**10  # where the header of nearly every photo ends

_REDUCED = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class PhotoError(Exception):
    """A photo cannot be used; the text is the reason under which it is counted."""


@dataclass(frozen=True)
class PhotoHeader:
    width: int  # pixels
    height: int  # pixels
    format: str  # Pillow's name


@dataclass(frozen=True)
class PhotoFolder:
    """A folder of photos on disk or in an archive, which threads may share."""

    tree: FileTree
    prefix: str  # folder within the tree, or empty

    def read(self, photo: str, limit: int | None = None) -> bytes:
        """A photo's bytes, or the first `limit`. Raises MemberError when it is missing, damaged or too large."""
        return self.tree.read(f"{self.prefix}/{photo}" if self.prefix else photo, limit)

    def header(self, photo: str) -> PhotoHeader:
        """`read_header` of one photo, of which as a rule only the beginning is read. Raises PhotoError, MemberError."""
        try:
            return read_header(self.read(photo, _HEAD_BYTES))
        except PhotoError:
            return read_header(self.read(photo))


def read_header(photo: bytes, formats: tuple[str, ...] = FORMATS) -> PhotoHeader:
    """Size and format without decoding. Raises PhotoError: not a photo, or too large to decode."""
    try:
        with Image.open(io.BytesIO(photo), formats=formats) as picture:
            kind = "JPEG" if picture.format == "MPO" else str(picture.format)  # MPO: JPEGs, one behind the other
            header = PhotoHeader(*picture.size, kind)
    except MemoryError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError("photo too large") from None
    except Exception:  # a parser of untrusted bytes: struct.error, SyntaxError, EOFError, zlib.error, ...
        raise PhotoError("photo unreadable") from None
    if header.width * header.height > MAX_PHOTO_PIXELS:
        raise PhotoError("photo too large")
    return header


def _is_cut_short(content: bytes, photo_format: str) -> bool:
    """Whether the end of the file is missing: OpenCV would return such a photo with grey in its lower part."""
    if photo_format == "JPEG":  # ITU T.81 annex B: segments, among them thumbnails, then scans, then the end, FFD9
        place = 2
        while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] not in (b"\xda", b""):
            filled = content[place + 1] == 0xFF
            place += 1 if filled else 2 + int.from_bytes(content[place + 2 : place + 4])
        return content.find(b"\xff\xd9", place) < 0  # a phone may have put a video behind it
    if photo_format == "PNG":
        return not is_whole_png(content)
    return False


def decode(
    content: bytes, header: PhotoHeader, *, grey: bool = True, factor: int = 1, upright: bool = False
) -> np.ndarray:
    """Decode a photo whose header was read.

    grey: uint8 `(H, W)`, else BGR `(H, W, 3)`. factor: 1, 2, 4 or 8; JPEG only, the photo comes out
    `factor` times smaller, which libjpeg does while decoding, at a fraction of the time. upright: turn it as its EXIF
    orientation says, which may swap H and W.
    Raises PhotoError when the photo is cut short or damaged.
    """
    if _is_cut_short(content, header.format):
        raise PhotoError("photo cut short")
    mode = (_REDUCED[factor] if grey else cv2.IMREAD_COLOR) | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        photo = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
    except cv2.error:
        photo = None
    expected = (-(-header.height // factor), -(-header.width // factor))
    if photo is None or photo.shape[:2] not in (expected, expected[::-1] if upright else expected):
        raise PhotoError("photo unreadable")
    return photo
