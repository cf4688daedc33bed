"""Pictures as bytes that came from anywhere."""

import cv2
import numpy as np

_PNG = b"\x89PNG\r\n\x1a\n"


def decode_picture(content: bytes) -> np.ndarray | None:
    """An upright picture, uint8 `(H, W, 3)` BGR; None where it is none, or damaged.

    Raises cv2.error that names PIXELS when it has more than OpenCV's limit (OPENCV_IO_MAX_IMAGE_PIXELS).
    """
    if not content or (content.startswith(_PNG) and not is_whole_png(content)):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def is_whole_png(content: bytes) -> bool:
    """Whether every chunk, up to the last one, lies inside the file.

    OpenCV asks for as much memory as a chunk says it has, up to 4 GB.

    A chunk is its length in 4 bytes, its name in 4, so many bytes, and a checksum of 4 (ISO/IEC 15948, 5.3).
    """
    name, place = b"", len(_PNG)
    while place + 8 <= len(content):
        name, place = content[place + 4 : place + 8], place + 12 + int.from_bytes(content[place : place + 4])
        if name == b"IEND":
            break
    return name == b"IEND" and place <= len(content)
