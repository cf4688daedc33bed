"""Faces out of photos in parallel: every photo is read and decoded once for all its faces.

Photos are decoded grey, and as much smaller as their faces allow: libjpeg shrinks by 2, 4 or 8 while
decoding (DCT scaling), at a fraction of the time. The result depends neither on the number of workers
nor on the order of files on disk.

The work is done by OpenCV, which lets go of Python's lock, so joblib's threads are preferred: they
start at once. `joblib.parallel_config(backend=...)` overrides that ("loky", "dask", ...): `crop_photos`
takes picklable arguments and returns arrays.
"""

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from src.datasets.archives import MemberError
from src.datasets.photos import PhotoError, PhotoFolder, decode, read_header
from src.recognition.crop_face import Box, crop_face, square_around

# A shrunk photo must still show each face at this multiple of the size of its crop. Measured on 3,430 ExpW
# photos at 48 px, mean absolute difference to crops from the full photo, in grey levels:
# 1.0 -> 2.8, 1.25 -> 1.6, 1.5 -> 1.1, 2.0 -> 0.6; processor time of the first three differs by about 5 %.
RESERVE = 1.5
_PHOTOS_PER_TASK = 32

PhotoBoxes = tuple[str, list[Box]]  # photo, its boxes


def shrink_factor(boxes: Sequence[Box], image_size: int, margin: float) -> int:
    """The largest of 8, 4, 2, 1 by which a photo may be shrunk for its smallest face."""
    smallest = min(square_around(box, margin)[2] for box in boxes)
    return next((factor for factor in (8, 4, 2) if smallest >= factor * RESERVE * image_size), 1)


def crop_photo(photos: PhotoFolder, photo: str, boxes: Sequence[Box], image_size: int, margin: float) -> np.ndarray:
    """The crops of all boxes of one photo, uint8 `(len(boxes), S, S)`. Raises PhotoError or MemberError."""
    content = photos.read(photo)
    header = read_header(content)
    factor = shrink_factor(boxes, image_size, margin) if header.format == "JPEG" else 1
    picture = decode(content, header, factor=factor)
    crops = np.empty((len(boxes), image_size, image_size), np.uint8)
    for index, box in enumerate(boxes):
        try:
            if factor == 1:
                crops[index] = crop_face(picture, box, image_size, margin)
            else:
                left, top, side = square_around(box, margin)
                shrunk = (left / factor, top / factor, side / factor, side / factor)
                crops[index] = crop_face(picture, shrunk, image_size, margin=0)
        except ValueError:
            raise PhotoError("box outside the photo") from None
    return crops


def crop_photos(photos: PhotoFolder, tasks: list[PhotoBoxes], image_size: int, margin: float) -> list[np.ndarray | str]:
    """`crop_photo` for several photos; the reason instead of the crops where a photo cannot be used."""
    results: list[np.ndarray | str] = []
    for photo, boxes in tasks:
        try:
            results.append(crop_photo(photos, photo, boxes, image_size, margin))
        except (PhotoError, MemberError) as reason:
            results.append(str(reason))
    return results


def _parallel() -> Parallel:
    """Results one by one for the progress bar, where the active backend can ("multiprocessing" cannot)."""
    try:
        return Parallel(n_jobs=-1, prefer="threads", return_as="generator")
    except ValueError:
        return Parallel(n_jobs=-1, prefer="threads")


def crop_faces(
    photos: PhotoFolder, photo_of_face: Sequence[str], boxes: Sequence[Box], image_size: int, margin: float
) -> tuple[np.ndarray, dict[int, str]]:
    """Crop every face; row i of both sequences describes face i.

    Returns uint8 `(N, S, S)` in the order of the faces, and for faces that could not be cropped (zeros
    in the array) position -> reason.
    """
    faces_of_photo: dict[str, list[int]] = {}
    for face, photo in enumerate(photo_of_face):
        faces_of_photo.setdefault(photo, []).append(face)
    tasks = [(photo, [boxes[face] for face in faces]) for photo, faces in faces_of_photo.items()]
    chunks = [tasks[start : start + _PHOTOS_PER_TASK] for start in range(0, len(tasks), _PHOTOS_PER_TASK)]

    crops = np.zeros((len(boxes), image_size, image_size), np.uint8)
    failures: dict[int, str] = {}
    results = _parallel()(delayed(crop_photos)(photos, chunk, image_size, margin) for chunk in chunks)
    with tqdm(total=len(tasks), unit=" photos", desc="crop", mininterval=1) as progress:
        for chunk, chunk_results in zip(chunks, results, strict=True):
            for (photo, _), result in zip(chunk, chunk_results, strict=True):
                for position, face in enumerate(faces_of_photo[photo]):
                    if isinstance(result, str):
                        failures[face] = result
                    else:
                        crops[face] = result[position]
            progress.update(len(chunk))
    return crops, failures
