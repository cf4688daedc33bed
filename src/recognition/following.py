"""Follow faces from frame to frame, so that each keeps its id and detection is needed every few frames only.

Between detections a face moves with the median flow of a grid of points inside it (Z. Kalal, K. Mikolajczyk, J. Matas,
"Forward-Backward Error: Automatic Detection of Tracking Failures", ICPR 2010). Detections are assigned to faces by the
cheapest total of distance, size and colour (after A. Bewley et al., "Simple Online and Realtime Tracking", ICIP 2016;
H. W. Kuhn, "The Hungarian Method", 1955). A face that is hidden for a moment, by a hand or by another face that
crosses, is expected where its speed would have taken it.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from src.recognition.crop_face import Box
from src.recognition.detection import Detection, shared_areas

_GRID, _GRID_IN_CROWD, _FEW_FACES = 6, 4, 20  # points per side of a face; fewer with more than 20 faces
_FEWEST_POINTS = 8
_FLOW_WINDOW, _FLOW_WINDOW_IN_CROWD, _FLOW_LEVELS = (15, 15), (9, 9), 2
_FLOW_REACH = 64  # pixels of the reduced frame around the points; what lies beyond is not looked at
_FLOW_ERROR = 1.0  # pixels of the reduced frame, forward and backward, for the better half of the points
_SHOWN_S = 0.5  # a face that detection misses is still shown for that long
_FORGOTTEN_S = 2.0  # and its id comes back for that long
_SURE = 0.8  # a new face is shown at once from this score on; below, when detected twice
# A followed box is drawn to the detected ones with this time constant, sooner while there are few of them: detected
# boxes scatter by 2 to 3 % of the side, enough to change a classifier's answer.
_CORRECTION_S = 0.7
_ROUGH_WEIGHT = 0.35  # of that correction, for boxes detected at half the size, which scatter by 4 to 6 %
_DRIFTED = 0.6  # IoU of a followed and a detected box below which the followed one counts no more
_SPEED_S = 0.2  # time constant of the speed estimate
_OVERLAP = 0.05  # IoU from which two faces hide each other
_CUT_REDUCTION, _CUT_LEVELS = 12, 22  # a mean difference of that many grey levels between thumbnails is a cut
_NUM_COLOURS = 256  # 4 of Lab's lightness times 8 of a times 8 of b
_WORST_COST = 1.4  # of an assignment; in face sides of distance, roughly


def ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each of N boxes and each of M, float64 `(N, M)`; boxes `(., 4)`."""
    shared = shared_areas(first, second)
    return shared / (first[:, 2:].prod(axis=1)[:, None] + second[:, 2:].prod(axis=1) - shared)


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (first[2] * first[3] + second[2] * second[3] - shared)


def assign(costs: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (row, column) of least total cost, one per row or column, whichever are fewer: the Hungarian method.

    costs: float64 `(rows, columns)`. Shortest augmenting paths with potentials, O(rows^2 * columns).
    """
    if costs.size == 0:
        return []
    if costs.shape[0] > costs.shape[1]:
        return [(row, column) for column, row in assign(costs.T)]
    rows, columns = costs.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    owner = np.zeros(columns + 1, int)  # row (from 1) of each column, 0 = free; column 0 starts each path
    for row in range(1, rows + 1):
        owner[0], column = row, 0
        least, previous, done = np.full(columns + 1, np.inf), np.zeros(columns + 1, int), np.zeros(columns + 1, bool)
        while True:
            done[column] = True
            reduced = costs[owner[column] - 1] - row_price[owner[column]] - column_price[1:]
            better = ~done[1:] & (reduced < least[1:])
            least[1:][better], previous[1:][better] = reduced[better], column
            step, following = least[1:][~done[1:]].min(), 1 + int(np.where(done[1:], np.inf, least[1:]).argmin())
            row_price[owner[done]] += step
            column_price[done] -= step
            least[~done] -= step
            column = following
            if owner[column] == 0:
                break
        while column:
            owner[column], column = owner[previous[column]], previous[column]
    return [(int(owner[column]) - 1, column - 1) for column in range(1, columns + 1) if owner[column]]


@dataclass
class Track:
    """One person's face. centre in pixels of the frame, speed in pixels/s, times in seconds."""

    id: int
    centre: np.ndarray  # (2,) float64
    side: float
    confirmed: bool
    colours: np.ndarray  # normalized histogram, see `_colours`
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))
    hits: int = 1  # detections so far
    detected_s: float = 0.0  # the last one
    missing_since_s: float | None = None  # the first detection that should have found it and did not
    hidden_by_other: bool = False  # another face was in front when it went missing
    followed: bool = True  # whether the flow could be trusted in the last frame

    @property
    def box(self) -> Box:
        return float(self.centre[0] - self.side / 2), float(self.centre[1] - self.side / 2), self.side, self.side

    def shown(self, time_s: float) -> bool:
        if not self.confirmed:
            return False
        return self.missing_since_s is None or (
            self.followed and not self.hidden_by_other and time_s - self.missing_since_s <= _SHOWN_S
        )


class FaceTracker:
    """Faces with lasting ids. Per frame: `follow`, then `update` where the frame was searched for faces."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self._next_id = 1
        self._grey: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None
        self._time_s = 0.0
        self.cut = False  # whether the last frame followed shows another scene than the one before

    def resize(self, factor_x: float, factor_y: float) -> None:
        """The frames have changed size: carry the faces over and forget the last frame."""
        self._grey = None
        for track in self.tracks:
            track.centre = track.centre * (factor_x, factor_y)
            track.side *= math.sqrt(factor_x * factor_y)
            track.speed = track.speed * (factor_x, factor_y)

    @property
    def lost_sight(self) -> bool:
        """A reason to search the frame now: another scene, a face that should be there but could not be followed, or
        one that waits to be found a second time."""
        return self.cut or any(
            not track.confirmed or (track.missing_since_s is None and not track.followed) for track in self.tracks
        )

    def shown(self, time_s: float) -> list[Track]:
        return [track for track in self.tracks if track.shown(time_s)]

    def follow(self, grey: np.ndarray, scale: float, time_s: float) -> None:
        """Move every face to where it is in the next frame.

        grey: uint8 `(h, w)`, the frame reduced by `scale` (below or at 1), the same in every call.
        """
        elapsed_s = max(1e-3, time_s - self._time_s)
        last, self._thumbnail = self._thumbnail, _thumbnail(grey)
        same_size = last is not None and last.shape == self._thumbnail.shape
        self.cut = same_size and float(np.abs(self._thumbnail - last).mean()) > _CUT_LEVELS
        if self._grey is not None and self._grey.shape == grey.shape and not self.cut:
            followed = [track for track in self.tracks if not track.hidden_by_other]
            moves = self._flow(followed, grey, scale)
        else:
            followed, moves = [], []
        for track in self.tracks:
            track.followed = False
        for track, move in zip(followed, moves, strict=True):
            if move is None:
                continue
            shift, growth = move
            track.followed = True
            track.centre = track.centre + shift
            track.side = float(np.clip(track.side * growth, 8, 1e5))
            share = 1 - math.exp(-elapsed_s / _SPEED_S)
            track.speed = track.speed + share * (shift / elapsed_s - track.speed)
        for track in self.tracks:
            if not track.followed:
                track.centre = track.centre + track.speed * elapsed_s
        height, width = grey.shape[0] / scale, grey.shape[1] / scale
        self.tracks = [
            track
            for track in self.tracks
            if (track.missing_since_s is None or time_s - track.missing_since_s <= _FORGOTTEN_S)
            and 0 <= track.centre[0] < width
            and 0 <= track.centre[1] < height
        ]
        self._grey, self._time_s = grey, time_s

    def _flow(self, tracks: list[Track], grey: np.ndarray, scale: float) -> list[tuple[np.ndarray, float] | None]:
        """Shift in pixels of the frame and growth of each face, None where the flow cannot be trusted."""
        if not tracks:
            return []
        points, visible = _grids(tracks)  # (N, P, 2) pixels of the frame, (N, P)
        if not visible.any():
            return [None] * len(tracks)
        assert self._grey is not None
        start = points[visible] * scale
        corner = np.maximum(start.min(axis=0).astype(int) - _FLOW_REACH, 0)
        right, below = start.max(axis=0).astype(int) + _FLOW_REACH
        part = np.s_[corner[1] : max(below, corner[1] + 1), corner[0] : max(right, corner[0] + 1)]
        last, now = self._grey[part], grey[part]
        start = (start - corner).astype(np.float32).reshape(-1, 1, 2)
        empty = np.empty_like(start)
        window = _FLOW_WINDOW if len(tracks) <= _FEW_FACES else _FLOW_WINDOW_IN_CROWD
        how: Any = {"winSize": window, "maxLevel": _FLOW_LEVELS}
        end, found, _ = cv2.calcOpticalFlowPyrLK(last, now, start, empty, **how)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(now, last, end, empty.copy(), **how)
        error = np.full(visible.shape, np.inf)
        lost = (np.ravel(found) == 0) | (np.ravel(found_back) == 0)
        error[visible] = np.where(lost, np.inf, np.linalg.norm(back - start, axis=2).ravel())
        good = error <= np.minimum(_FLOW_ERROR, _medians(error))[:, None]
        before, after = points * scale, np.zeros_like(points)
        after[visible] = end[:, 0] + corner
        shift = _medians(np.where(good[:, None], (after - before).swapaxes(1, 2), np.inf)) / scale  # (N, 2)
        # How far apart pairs of points are, after as a part of before.
        i, j = np.triu_indices(points.shape[1], 1)
        apart = np.linalg.norm(before[:, i] - before[:, j], axis=2)
        ratio = np.linalg.norm(after[:, i] - after[:, j], axis=2) / np.maximum(apart, 1e-6)
        growth = np.clip(_medians(np.where(good[:, i] & good[:, j], ratio, np.inf)), 0.9, 1.1)
        trusted = good.sum(axis=1) >= _FEWEST_POINTS
        return [(shift[n], float(growth[n])) if trusted[n] else None for n in range(len(tracks))]

    def update(
        self,
        detections: list[Detection],
        frame: np.ndarray,
        smallest_side: float,
        time_s: float,
        *,
        exact: bool = True,
    ) -> None:
        """Correct the faces by what was detected in the frame, add new ones, note the missing ones.

        frame: uint8 `(H, W, 3)` BGR. smallest_side: pixels; a smaller face may stay undetected without being missed.
        exact: whether the frame was searched in full size.
        """
        found = _array([detection.box for detection in detections])
        colours = _colours(frame, found)
        costs = self._costs(found, colours, time_s)
        matched: dict[int, int] = {row: column for row, column in assign(costs) if costs[row, column] < _WORST_COST}
        taken = set(matched.values())
        alone = (ious(found, found) > _OVERLAP).sum(axis=1) <= 1
        near = (ious(boxes := _array([track.box for track in self.tracks]), boxes) > _OVERLAP).sum(axis=1) > 1
        kept = []
        for row, track in enumerate(self.tracks):
            if row in matched:
                column = matched[row]
                self._correct(track, detections[column], colours[column] if alone[column] else None, time_s, exact)
            elif not track.confirmed:
                continue
            elif track.missing_since_s is None and track.side >= smallest_side:
                track.missing_since_s = time_s
                track.hidden_by_other = bool(near[row])
            kept.append(track)
        self.tracks = kept
        known = ious(found, _array([track.box for track in kept if track.shown(time_s)])).max(axis=1, initial=0) > 0.6
        for column, detection in enumerate(detections):
            if column in taken or known[column]:
                continue
            x, y, side, _ = detection.box
            centre = np.array((x + side / 2, y + side / 2))
            new = Track(self._next_id, centre, side, detection.score >= _SURE, colours[column], detected_s=time_s)
            self.tracks.append(new)
            self._next_id += 1

    def _costs(self, found: np.ndarray, colours: np.ndarray, time_s: float) -> np.ndarray:
        """What it costs to say that a detection is this face, float64 `(N, M)`; infinite costs would upset `assign`.

        found: boxes of the M detections, `(M, 4)`. colours: theirs, `(M, 256)`.
        """
        if not self.tracks:
            return np.zeros((0, len(found)))
        centres = np.array([track.centre for track in self.tracks])
        sides = np.array([[track.side] for track in self.tracks])
        missing_s = [0.0 if track.missing_since_s is None else time_s - track.missing_since_s for track in self.tracks]
        reach = 0.7 + 1.5 * np.array(missing_s)[:, None]  # the longer unseen, the farther it may have gone
        distance = np.linalg.norm(centres[:, None] - (found[:, :2] + found[:, 2:] / 2), axis=2)
        costs = distance / ((sides + found[:, 2]) / 2 * reach) * 0.7 + np.abs(np.log(sides / found[:, 2]))
        # Bhattacharyya distance of the colours, 0 equal .. 1 disjoint; decides between faces that cross.
        alike = np.array([track.colours for track in self.tracks]) @ colours.T
        return np.minimum(10.0, costs + 0.6 * np.sqrt(np.maximum(0.0, 1 - alike)))

    @staticmethod
    def _correct(track: Track, detection: Detection, colours: np.ndarray | None, time_s: float, exact: bool) -> None:
        x, y, side, _ = detection.box
        weight = max(1 / (track.hits + 1), 1 - math.exp(-max(0.0, time_s - track.detected_s) / _CORRECTION_S))
        weight *= 1 if exact else _ROUGH_WEIGHT
        if track.missing_since_s is not None or not track.followed or iou(track.box, detection.box) < _DRIFTED:
            weight, track.hits = 1.0, 0
        track.hits += 1
        track.detected_s = time_s
        track.centre = track.centre + weight * (np.array((x + side / 2, y + side / 2)) - track.centre)
        track.side += weight * (side - track.side)
        track.confirmed, track.missing_since_s, track.hidden_by_other, track.followed = True, None, False, True
        if colours is not None:
            mixed = 0.85 * track.colours**2 + 0.15 * colours**2
            track.colours = np.sqrt(mixed / mixed.sum())


def _array(boxes: list[Box]) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _grids(tracks: list[Track]) -> tuple[np.ndarray, np.ndarray]:
    """Points inside each face, float64 `(N, P, 2)` in pixels of the frame, and whether no other face covers them."""
    steps = np.linspace(-0.32, 0.32, _GRID if len(tracks) <= _FEW_FACES else _GRID_IN_CROWD)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)  # (P, 2)
    centres = np.array([track.centre for track in tracks])
    sides = np.array([track.side for track in tracks])
    points = centres[:, None] + grid * sides[:, None, None]
    visible = np.ones(points.shape[:2], bool)
    boxes = np.concatenate([centres - sides[:, None] / 2, sides[:, None], sides[:, None]], axis=1)
    for row, other in zip(*np.nonzero(ious(boxes, boxes) > _OVERLAP), strict=True):
        if row != other:
            visible[row] &= (np.abs(points[row] - centres[other]) > sides[other] / 2).any(axis=1)
    return points, visible


def _thumbnail(grey: np.ndarray) -> np.ndarray:
    """A whole number of pixels becomes one, which OpenCV averages several times as quickly; int16."""
    width, height = max(1, grey.shape[1] // _CUT_REDUCTION), max(1, grey.shape[0] // _CUT_REDUCTION)
    whole = grey[: height * _CUT_REDUCTION, : width * _CUT_REDUCTION]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).astype(np.int16)


def _medians(values: np.ndarray) -> np.ndarray:
    """Along the last axis, of the finite values; 0 where there are none."""
    ordered, count = np.sort(values, axis=-1), np.isfinite(values).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[-1] - 1), axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (low + high) / 2, 0.0)[..., 0]


def _colours(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Square roots of the shares of 4 x 8 x 8 Lab colours inside each of N boxes: float64 `(N, 256)`, rows of length 1.

    boxes: `(N, 4)`. Every second pixel of a face of 48 pixels, every third one of 72. Lab's a and b count from 96 to
    159, where faces are; a box without such a pixel gets equal shares.
    """
    height, width = frame.shape[:2]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:] + 1], axis=1).astype(int)
    corners = np.clip(corners, 0, (width, height, width, height))
    steps = np.maximum(1, boxes[:, 2].astype(int) // 24)
    patches = [frame[y1:y2:n, x1:x2:n].reshape(-1, 3) for (x1, y1, x2, y2), n in zip(corners, steps, strict=True)]
    counts = np.zeros((len(boxes), _NUM_COLOURS), int)
    pixels = np.concatenate([np.empty((0, 3), np.uint8), *patches])
    if len(pixels):
        light, a, b = cv2.split(cv2.cvtColor(pixels[:, None], cv2.COLOR_BGR2LAB))
        a, b = (a - 96) // 8, (b - 96) // 8  # uint8: what is below 96 becomes 20 and more
        face = np.repeat(np.arange(len(boxes)), [len(patch) for patch in patches])[:, None]
        index = (face * _NUM_COLOURS + (light // 64 * 64 + a * 8 + b))[(a < 8) & (b < 8)]
        counts += np.bincount(index, minlength=counts.size).reshape(counts.shape)
    totals = counts.sum(axis=1, keepdims=True)
    return np.sqrt(np.where(totals > 0, counts / np.maximum(totals, 1), 1 / _NUM_COLOURS))
