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

from src.datasets.archives import FileTree, MemberError, open_source, read_named
from src.datasets.manifest import list_files
from src.datasets.photos import BOX_COLUMNS, PHOTO_SUFFIXES, PhotoError, PhotoFolder, PhotoHeader
from src.datasets.skipped import BadRow, SkippedRows, check_classes
from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.params import IngestExpwParams

TITLE = "ExpW"
LAYOUTS = "label.lst and a folder of photos origin/, plain or in one or two .zip files"
KAGGLE = "shahzadabbas/expression-in-the-wild-expw-dataset"
PAGE = (
    "http://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html (official), or "
    f"https://www.kaggle.com/datasets/{KAGGLE}"
)

_SEVEN_ZIP = re.compile(r"(.*\.7z)(\.\d+)*", re.IGNORECASE)  # mirrors have origin.7z.001.001 too
_INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
_NUM_COLUMNS = 8


@dataclass(frozen=True)
class ExpwFiles:
    """Where ExpW was found; names in messages and reports are relative to the folder searched."""

    photos: PhotoFolder
    photo_sizes: dict[str, int]  # name relative to `photos` -> bytes
    photos_from: str
    label_list: bytes
    labels_from: str


def find(folder: str | Path) -> ExpwFiles:
    """Find the photos and the labels below `folder`. Raises UserError when they are missing or ambiguous."""
    folder = Path(folder)
    trees = open_source(folder, "expw", TITLE, f"{LAYOUTS}; from {PAGE}")
    return ExpwFiles(*_find_photos(folder, trees), *_find_labels(folder, trees))


def _find_photos(folder: Path, trees: list[FileTree]) -> tuple[PhotoFolder, dict[str, int], str]:
    """The folder of photos (of several: named `origin`, plain before packed), its photos' sizes, its name."""
    found: dict[str, tuple[PhotoFolder, dict[str, int]]] = {}
    for tree in trees:
        for name, size in tree.sizes.items():
            if name.lower().endswith(PHOTO_SUFFIXES):
                parent, _, file = name.rpartition("/")
                found.setdefault(tree.full_name(parent, folder), (PhotoFolder(tree, parent), {}))[1][file] = size
    names = sorted([name for name in found if name.rsplit("/", 1)[-1].lower() == "origin"] or found)
    names = [name for name in names if not found[name][0].tree.packed] or names
    if len(names) == 1:
        return *found[names[0]], names[0]
    if names:
        raise UserError(
            f"{folder} holds photos in several folders: {', '.join(names[:5])}. Expected one, named origin. Remove the "
            "others."
        )
    packed = next(filter(None, map(_SEVEN_ZIP.fullmatch, sorted(trees[0].sizes))), None)
    how = "Put them there, fetch them with `python -m src.datasets.download expw`, or set ingest_expw.enabled=false."
    if packed:
        whole = folder / packed[1]
        join = f"cat {whole.name}.* > {whole.name} && " if packed[2] else ""
        how = (
            f"Unpack ExpW's 7z archive with `cd {whole.parent} && {join}7z x {whole.name} && rm {whole.name}*` "
            f"(package p7zip-full; {24 if join else 16} GB of disk)."
        )
    raise UserError(f"{folder} holds no photos; expected {LAYOUTS}. {how}")


def _find_labels(folder: Path, trees: list[FileTree]) -> tuple[bytes, str]:
    """The one label.lst and its name; several are fine as long as they are equal."""
    contents = read_named(trees, "label.lst", folder)
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
    return contents[names[0]], names[0]


def load(folder: str | Path, settings: IngestExpwParams) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read and check ExpW's labels; of the photos only the headers are read.

    Returns the table (`BOX_COLUMNS`, in the order of label.lst, boxes in whole pixels inside their photo) without the
    faces of less than `settings.confidence_min` percent, and a report of what was read and skipped; an empty table
    where ExpW is not enabled. Raises UserError when data is missing, when more than `settings.max_bad_fraction` of the
    rows is unusable, or when a class is left without a face. Of rows that name the same face of a photo the first one
    counts.
    """
    skipped = SkippedRows()
    if not settings.enabled:
        return pd.DataFrame(columns=list(BOX_COLUMNS)), {"faces": 0, "photos": 0, "skipped": skipped.report()}
    files = find(folder)
    headers: dict[str, PhotoHeader | str] = {}
    rows: dict[str, tuple[str, str, int, int, int, int, float, str, str]] = {}  # by image_name
    rows_read = repeated = below_confidence = boxes_clipped = 0
    lines = files.label_list.decode("utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(tqdm(lines, unit=" faces", desc="expw", mininterval=1), start=1):
        fields = line.split()
        if not fields:
            continue
        rows_read += 1
        try:
            photo, face_id, (left, top, right, bottom), confidence, expression = _parse_line(fields)
            if confidence < settings.confidence_min:
                below_confidence += 1
                continue
            name = f"expw/{photo}#{face_id}"
            if name in rows:  # 3.5 % of the complete list; the first one counts
                repeated += 1
                continue
            box = _clip_to_photo((left, top, right, bottom), _look_up(photo, files, headers))
        except BadRow as reason:
            skipped.add(str(reason), f"line {number}: {fields[0]}")
            continue
        boxes_clipped += box != (left, top, right - left, bottom - top)
        rows[name] = (name, photo, *box, confidence, expression, f"expw/{photo}")
    if rows_read == 0:
        raise UserError(f"{folder}: label.lst is empty; expected one face per line. Download it again.")
    skipped.check(rows_read, settings.max_bad_fraction, "ingest_expw.max_bad_fraction", f"{folder} (label.lst)")
    table = pd.DataFrame(rows.values(), columns=list(BOX_COLUMNS))
    counts = check_classes(table, str(folder), f"lower ingest_expw.confidence_min (now {settings.confidence_min})")
    photos = f"{files.photos_from} ({len(files.photo_sizes)} photos)"
    report = {
        "read_from": sorted({files.photos_from, files.labels_from}),
        "rows_read": rows_read,
        "faces": len(table),
        "photos": int(table["photo"].nunique()),
        "boxes_clipped_to_photo": boxes_clipped,
        "below_confidence_min": below_confidence,
        "rows_repeated": repeated,
        "skipped": skipped.report(),
        "faces_per_class": counts,
        "manifest": {
            "files": list_files(
                (files.labels_from, len(files.label_list)),
                (photos, sum(files.photo_sizes.values())),
            )
        },
    }
    return table, report


def assign_usage(labels: pd.DataFrame) -> pd.Series:
    """ExpW has no splits of its own: photos are drawn."""
    return pd.Series("", index=labels.index)


def _parse_line(fields: list[str]) -> tuple[str, str, tuple[int, int, int, int], float, str]:
    """One line -> photo, face id, box (left, top, right, bottom), confidence, expression.

    Raises BadRow with the reason for which the row is unusable.
    """
    if len(fields) != _NUM_COLUMNS:
        raise BadRow(f"not {_NUM_COLUMNS} columns")
    photo, face_id, *numbers, confidence_text, code = fields
    if not _INTEGER.fullmatch(face_id) or not all(_INTEGER.fullmatch(number) for number in numbers):
        raise BadRow("not a whole number")
    if code not in map(str, range(len(EXPRESSIONS))):
        raise BadRow("label is not 0..6")
    try:
        confidence = float(confidence_text)
    except ValueError:
        confidence = math.nan
    if not math.isfinite(confidence):
        raise BadRow("confidence is not a number")
    top, left, right, bottom = map(int, numbers)
    if right <= left or bottom <= top:
        raise BadRow("box empty")
    return photo, face_id, (left, top, right, bottom), confidence, EXPRESSIONS[int(code)]


def _look_up(photo: str, files: ExpwFiles, headers: dict[str, PhotoHeader | str]) -> PhotoHeader:
    """The header of a photo, read once. Raises BadRow with the reason for which it is unusable."""
    if photo not in headers:
        try:
            headers[photo] = files.photos.header(photo) if photo in files.photo_sizes else "photo missing"
        except (PhotoError, MemberError) as error:
            headers[photo] = str(error)
    header = headers[photo]
    if isinstance(header, str):
        raise BadRow(header)
    return header


def _clip_to_photo(box: tuple[int, int, int, int], header: PhotoHeader) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) -> (x, y, width, height) inside the photo. Raises BadRow when outside."""
    left, right = (min(max(value, 0), header.width) for value in (box[0], box[2]))
    top, bottom = (min(max(value, 0), header.height) for value in (box[1], box[3]))
    if right <= left or bottom <= top:
        raise BadRow("box outside the photo")
    return left, top, right - left, bottom - top
