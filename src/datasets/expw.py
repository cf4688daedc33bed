"""ExpW in every layout that people have -> one checked table of faces.

Layouts, anywhere below the given folder: `label.lst` and a folder of photos (`origin/`, or
`origin/origin/` as the official parts unpack), plain or inside zips, together or apart.

`label.lst` has one face per line and no header (http://mmlab.ie.cuhk.edu.hk/projects/socialrelation):
    image_name face_id top left right bottom confidence expression
in pixels, confidence in percent (137.6 is the largest seen), expression 0..6 in the order of `EXPRESSIONS`.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from src.datasets.archives import (
    FileTree,
    FolderTree,
    MemberError,
    TarTree,
    open_tree_and_archives,
    safe_name,
)
from src.datasets.photos import PHOTO_SUFFIXES, PhotoError, PhotoFolder, PhotoHeader, read_header
from src.datasets.skipped import SkippedRows
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.faceset import class_counts

LAYOUTS = "label.lst and a folder of photos origin/, plain or in one or two .zip files"
COLUMNS = ("image_name", "photo", "x", "y", "width", "height", "confidence", "expression", "group")
_SEVEN_ZIP = re.compile(r".*\.7z(\.\d+)?", re.IGNORECASE)
_INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
_NUM_COLUMNS = 8


@dataclass(frozen=True)
class ExpwFiles:
    """Where ExpW was found."""

    photos: PhotoFolder
    photo_names: frozenset[str]  # relative to `photos`
    label_lines: list[str]
    read_from: list[str]  # for reports: relative to the folder searched


def find_expw(folder: str | Path) -> ExpwFiles:
    """Find the photos and the labels below `folder`. Raises UserError when they are missing or ambiguous."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing; expected ExpW there: {LAYOUTS}. Put it there, fetch it with "
            "`python -m src.datasets.download expw`, or try the drawn faces: `make demo`."
        )
    trees = open_tree_and_archives(folder)
    photos, photo_names, photos_from = _find_photos(folder, trees)
    label_lines, labels_from = _find_labels(folder, trees)
    return ExpwFiles(photos, photo_names, label_lines, sorted({photos_from, labels_from}))


def _name_in(folder: Path, tree: FileTree, name: str) -> str:
    """For messages: relative to the folder searched, `archive.zip/name` inside an archive."""
    if isinstance(tree, FolderTree):
        return name or "."
    return f"{tree.path.relative_to(folder).as_posix()}/{name}".rstrip("/")


def _find_photos(folder: Path, trees: list[FileTree]) -> tuple[PhotoFolder, frozenset[str], str]:
    """The one folder of photos: named `origin` where there are several."""
    found: dict[tuple[str, str], set[str]] = {}  # (path of the tree, folder in it) -> photo names
    names: dict[tuple[str, str], str] = {}
    packed_tars, seven_zips = [], []
    for tree in trees:
        for name in tree.sizes:
            if name.lower().endswith(PHOTO_SUFFIXES):
                parent, _, file = name.rpartition("/")
                found.setdefault((str(tree.path), parent), set()).add(file)
                names[str(tree.path), parent] = _name_in(folder, tree, parent)
                if isinstance(tree, TarTree):
                    packed_tars.append(_name_in(folder, tree, ""))
            elif _SEVEN_ZIP.fullmatch(name):
                seven_zips.append(name)
    candidates = sorted(found)
    origins = [key for key in candidates if key[1].rsplit("/", 1)[-1].lower() == "origin"]
    if len(candidates) > 1 and origins:
        candidates = origins
    if not candidates:
        if seven_zips:
            first = min(seven_zips)
            raise UserError(
                f"{folder} holds ExpW's 7z parts ({first}, ...), not yet unpacked; expected {LAYOUTS}. Unpack them "
                f"with `cd {(folder / first).parent} && 7z x {Path(first).name}` (package p7zip-full); "
                "all parts must lie side by side. Then the parts can be deleted."
            )
        raise UserError(
            f"{folder} holds no photos; expected {LAYOUTS}. Put them there, or fetch them with "
            "`python -m src.datasets.download expw`."
        )
    if len(candidates) > 1:
        listed = ", ".join(names[key] for key in candidates[:5])
        raise UserError(
            f"{folder} holds photos in several folders: {listed}. Expected one, named origin. Remove the others."
        )
    if packed_tars:
        raise UserError(
            f"{packed_tars[0]} holds the photos in a tar, which cannot be read out of order; expected {LAYOUTS}. "
            f"Unpack it with `tar -xf {packed_tars[0]} -C {folder}` and remove the tar."
        )
    tree_path, prefix = candidates[0]
    return PhotoFolder(tree_path, prefix), frozenset(found[candidates[0]]), names[candidates[0]]


def _find_labels(folder: Path, trees: list[FileTree]) -> tuple[list[str], str]:
    """The lines of the one label.lst; several are fine as long as they are equal."""
    contents: dict[str, bytes] = {}
    for tree in trees:
        for name in tree.sizes:
            if name.rsplit("/", 1)[-1].lower() == "label.lst":
                try:
                    contents[_name_in(folder, tree, name)] = tree.read(name)
                except MemberError as error:
                    raise UserError(
                        f"{folder / _name_in(folder, tree, name)} cannot be read: {error}; expected ExpW's label list. "
                        "Download it again."
                    ) from error
    if not contents:
        raise UserError(
            f"{folder} holds photos but no label.lst; expected {LAYOUTS}. The list is a separate download on the "
            "page of ExpW; put it beside the photos."
        )
    names = sorted(contents, key=lambda name: (name.count("/"), name))
    if len(set(contents.values())) > 1:
        raise UserError(
            f"{folder} holds different label lists: {', '.join(names[:5])}. Expected one label.lst. Remove the others."
        )
    text = contents[names[0]].decode("utf-8-sig", errors="replace")
    return text.splitlines(), names[0]


def load_expw(
    folder: str | Path, confidence_min: float, max_bad_fraction: float
) -> tuple[pd.DataFrame, dict[str, Any], PhotoFolder]:
    """Read and check ExpW's labels; of the photos only the headers are read.

    confidence_min: percent; faces whose box is less certain are left out.
    Returns the table (columns `COLUMNS`, in the order of label.lst, boxes in whole pixels inside their
    photo), a report of what was read and skipped, and where the photos are. Raises UserError when data
    is missing, when more than `max_bad_fraction` of the rows is unusable, or when a class is left
    without a face.
    """
    files = find_expw(folder)
    skipped = SkippedRows()
    headers: dict[str, PhotoHeader | str] = {}
    seen: set[tuple[str, str]] = set()
    rows: list[tuple[str, str, int, int, int, int, float, str, str]] = []
    rows_read = below_confidence = boxes_clipped = 0
    for number, line in enumerate(tqdm(files.label_lines, unit=" faces", desc="expw", mininterval=1), start=1):
        fields = line.split()
        if not fields:
            continue
        rows_read += 1
        try:
            photo, face_id, box, confidence, expression = _parse_line(fields)
            if confidence < confidence_min:
                below_confidence += 1
                continue
            if (photo, face_id) in seen:
                raise ValueError("photo and face number used twice")
            x, y, width, height = _clip_to_photo(box, _look_up(photo, files, headers))
        except ValueError as reason:
            skipped.add(str(reason), f"line {number}: {fields[0]}")
            continue
        seen.add((photo, face_id))
        boxes_clipped += (x, y, width, height) != (box[0], box[1], box[2] - box[0], box[3] - box[1])
        name = f"expw/{photo}#{face_id}"
        rows.append((name, photo, x, y, width, height, confidence, expression, f"expw/{photo}"))
    if rows_read == 0:
        raise UserError(f"{folder}: label.lst is empty; expected one face per line. Download it again.")
    skipped.check(rows_read, max_bad_fraction, "ingest_expw.max_bad_fraction", f"{folder} (label.lst)")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    counts = class_counts(table)
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        raise UserError(
            f"{folder} has no usable face of {', '.join(empty)} (confidence_min is {confidence_min}); expected faces "
            f"of all seven classes ({', '.join(EXPRESSIONS)}). Download it again, or lower ingest_expw.confidence_min."
        )
    report = {
        "read_from": files.read_from,
        "rows_read": rows_read,
        "faces": len(table),
        "photos": int(table["photo"].nunique()),
        "boxes_clipped_to_photo": boxes_clipped,
        "below_confidence_min": below_confidence,
        "skipped": skipped.report(),
        "faces_per_class": counts,
    }
    return table, report, files.photos


def _parse_line(fields: list[str]) -> tuple[str, str, tuple[int, int, int, int], float, str]:
    """One line -> photo, face id, box (left, top, right, bottom), confidence, expression.

    Raises ValueError with the reason for which the row is unusable.
    """
    if len(fields) != _NUM_COLUMNS:
        raise ValueError(f"not {_NUM_COLUMNS} columns")
    photo, face_id, *numbers, confidence_text, code = fields
    if safe_name(photo) != photo:
        raise ValueError("photo name points outside the photo folder")
    if not _INTEGER.fullmatch(face_id) or not all(_INTEGER.fullmatch(number) for number in numbers):
        raise ValueError("not a whole number")
    if code not in map(str, range(len(EXPRESSIONS))):
        raise ValueError("label is not 0..6")
    try:
        confidence = float(confidence_text)
    except ValueError:
        confidence = math.nan
    if not math.isfinite(confidence):
        raise ValueError("confidence is not a number")
    top, left, right, bottom = map(int, numbers)
    if right < left or bottom < top:
        raise ValueError("box inverted")
    if right == left or bottom == top:
        raise ValueError("box empty")
    return photo, face_id, (left, top, right, bottom), confidence, EXPRESSIONS[int(code)]


def _look_up(photo: str, files: ExpwFiles, headers: dict[str, PhotoHeader | str]) -> PhotoHeader:
    """The header of a photo, read once. Raises ValueError with the reason for which it is unusable."""
    if photo not in files.photo_names:
        raise ValueError("photo missing")
    if photo not in headers:
        try:
            with files.photos.open(photo) as stream:
                headers[photo] = read_header(stream)
        except (PhotoError, MemberError) as error:
            headers[photo] = str(error)
    header = headers[photo]
    if isinstance(header, str):
        raise ValueError(header)
    return header


def _clip_to_photo(box: tuple[int, int, int, int], header: PhotoHeader) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) -> (x, y, width, height) inside the photo. Raises ValueError when outside."""
    left, right = (min(max(value, 0), header.width) for value in (box[0], box[2]))
    top, bottom = (min(max(value, 0), header.height) for value in (box[1], box[3]))
    if right <= left or bottom <= top:
        raise ValueError("box outside the photo")
    return left, top, right - left, bottom - top
