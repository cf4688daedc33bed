"""Find pictures that are copies of one another: to the byte, nearly (recompressed, recropped, relit), or mirrored.

Method, in two steps so that 127,680 faces take minutes, not days:
1. candidates: every pair whose 12 x 12 thumbnails, mean removed and scaled to unit length, correlate by at
   least `_THUMBNAIL_CORRELATION`, compared as blocked matrix products, plain and mirrored;
2. proof: the fine detail of both pictures (high-passed by a Gaussian of 2 px) must correlate by at least
   `copy_similarity` at the best shift of up to 4 px either way. Photos of different people share hardly any fine
   detail; drawings by one program do.

On 32,298 FER2013 pictures the similarity of candidates is two-peaked: different people below .5, copies from
.65 to 1; between .6 and .65 nearly all are copies on sight, between .5 and .55 about half. The default of .65 takes
no two people for one, and leaves some copies in.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.fft
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from src.sheets import draw_sheet

_SIZE = 48  # pixels, side at which pictures are compared
_THUMBNAIL_CORRELATION = 0.88
_SHIFT = 4  # pixels
_BLOCK = 1024  # pictures compared with all others at a time
_PAIR_BLOCK = 4096
_PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("similarity", np.float32), ("mirrored", bool)])


@dataclass(frozen=True)
class CopyPairs:
    """Pairs of rows that show the same picture.

    first, second: int64 `(P,)`, rows, first < second. similarity: float32 `(P,)`, 1 for exact copies.
    mirrored: bool `(P,)`, whether the second is the mirror image of the first.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray

    def clusters(self, num_rows: int) -> np.ndarray:
        """Cluster id per row, int64 `(num_rows,)`: equal for rows joined by a chain of pairs."""
        graph = coo_array((np.ones(len(self.first), bool), (self.first, self.second)), shape=(num_rows, num_rows))
        return connected_components(graph, directed=False)[1].astype(np.int64)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """float32 `(N, 144)`, zero mean and unit length; zero for a blank picture."""
    factor = _SIZE // 12
    small = images.reshape(-1, 12, factor, 12, factor).mean((2, 4), dtype=np.float32).reshape(len(images), -1)
    small -= small.mean(1, keepdims=True)
    length = np.linalg.norm(small, axis=1, keepdims=True)
    return np.where(length > 12.0, small / np.maximum(length, 1e-6), 0).astype(np.float32)


def _fine_detail(images: np.ndarray) -> np.ndarray:
    """float32 `(N, 48, 48)`: the picture minus its blur, faded at the border, unit length."""
    detail = images.astype(np.float32)
    detail -= np.stack([cv2.GaussianBlur(image, (0, 0), 2.0) for image in detail])
    fade = np.hanning(_SIZE + 2)[1:-1].astype(np.float32) ** 0.25
    detail *= fade[:, None] * fade
    return detail / np.maximum(np.sqrt((detail**2).sum((1, 2), keepdims=True)), 1e-6)


def _similarity(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Highest correlation of fine detail over shifts of up to 4 px; float32 `(P,)`."""
    padded = (_SIZE + _SHIFT, _SIZE + _SHIFT)
    product = scipy.fft.rfft2(_fine_detail(first), s=padded) * np.conj(scipy.fft.rfft2(_fine_detail(second), s=padded))
    correlation = scipy.fft.irfft2(product, s=padded)
    shifts = np.r_[0 : _SHIFT + 1, padded[0] - _SHIFT : padded[0]]
    return correlation[:, shifts][:, :, shifts].max((1, 2)).astype(np.float32)


def _exact_pairs(images: np.ndarray) -> list[tuple[int, int, bool]]:
    """(first, second, mirrored) for pictures equal to the byte; each joined to the first of its kind."""
    seen: dict[bytes, int] = {}
    pairs = []
    for row, image in enumerate(images):
        plain, mirror = image.tobytes(), image[:, ::-1].tobytes()
        if plain in seen:
            pairs.append((seen[plain], row, False))
        elif mirror in seen:
            pairs.append((seen[mirror], row, True))
        else:
            seen[plain] = row
    return pairs


def find_copies(images: np.ndarray, copy_similarity: float) -> CopyPairs:
    """All pairs of copies among grey faces.

    images: uint8 `(N, S, S)`. copy_similarity: least correlation of fine detail, 0..1.
    Time grows with N squared: 36,000 faces take about 10 s, 127,680 about a minute on two cores.
    """
    if images.shape[1] != _SIZE:
        images = np.stack([cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for image in images])
    exact = _exact_pairs(images)
    # Near copies are looked for among one picture of each exact kind.
    unique = np.setdiff1d(np.arange(len(images)), [second for _, second, _ in exact])
    plain = _thumbnails(images[unique])
    mirror = _thumbnails(images[unique][:, :, ::-1])
    rows = [(first, second, 1.0, mirrored) for first, second, mirrored in exact]
    for start in tqdm(range(0, len(unique), _BLOCK), desc="comparing faces", unit="block", disable=None):
        for mirrored, others in ((False, plain), (True, mirror)):
            row, column = np.nonzero(plain[start : start + _BLOCK] @ others[start:].T > _THUMBNAIL_CORRELATION)
            after = column > row
            first, second = unique[row[after] + start], unique[column[after] + start]
            for part in range(0, len(first), _PAIR_BLOCK):
                a, b = first[part : part + _PAIR_BLOCK], second[part : part + _PAIR_BLOCK]
                similarity = _similarity(images[a], images[b][:, :, ::-1] if mirrored else images[b])
                copies = similarity >= copy_similarity
                # Rounding may lift a near copy to 1, which stands for exact.
                near = np.minimum(similarity[copies], 0.99999)
                rows += [
                    (int(i), int(j), float(s), mirrored) for i, j, s in zip(a[copies], b[copies], near, strict=True)
                ]
    rows.sort()
    table = np.array(rows, _PAIR)
    return CopyPairs(*(np.ascontiguousarray(table[column]) for column in _PAIR.names or ()))


def copies_sheet(images: np.ndarray, pairs: CopyPairs, count: int = 60) -> np.ndarray:
    """The least similar pairs side by side, so that a person can judge the threshold; uint8 `(H, W, 3)` BGR."""
    chosen = np.lexsort((pairs.second, pairs.first, pairs.similarity))[:count]
    tiles = [np.hstack([images[pairs.first[i]], images[pairs.second[i]]]) for i in chosen]
    captions = [f"{pairs.similarity[i]:.2f}{' mirrored' if pairs.mirrored[i] else ''}" for i in chosen]
    return draw_sheet(tiles, captions, columns=10, tile_size=112, title="Taken for copies: the least similar pairs")
