"""FER2013 in every layout that people have -> FaceSet of 48 x 48 faces with FER2013's own usage.

Layouts, each anywhere below the given folder:
- `fer2013.csv` or `icml_face_data.csv` with the columns emotion, pixels, Usage in any order, plain or inside a .zip or
  .tar.gz;
- pictures `train/<class>/Training_*.jpg` and `test/<class>/{PublicTest,PrivateTest}_*.jpg` (Kaggle
  `msambare/fer2013`), plain or inside a .zip, where the prefix of the file name is the original usage.

The 300 MB of all 35,887 rows of a CSV are read line by line; they take seconds and need little more memory than the
images themselves.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from src.datasets.archives import FileTree, MemberError, damaged_archive, find_named, open_source
from src.datasets.ferplus import label_faces
from src.datasets.manifest import list_files, pixels_sha256
from src.datasets.photos import PhotoError, decode, read_header
from src.datasets.skipped import BadRow, SkippedRows, check_classes
from src.errors import UserError
from src.expressions import EXPRESSIONS, FOLDER_NAMES
from src.faceset import COLUMNS, FaceSet, class_counts
from src.params import IngestFer2013Params

TITLE = "FER2013"
LAYOUTS = (
    "fer2013.csv or icml_face_data.csv (columns emotion, pixels, Usage), plain, in a .zip or in a .tar.gz; or pictures "
    "train/<class>/Training_*.jpg and test/<class>/PublicTest_*.jpg and PrivateTest_*.jpg, plain or in a .zip"
)
KAGGLE = "deadskull7/fer2013"  # fer2013.csv itself: votes are joined by its rows, which pictures do not tell
PAGE = f"https://www.kaggle.com/datasets/{KAGGLE}"

IMAGE_SIZE = 48  # pixels
NUM_PIXELS = IMAGE_SIZE * IMAGE_SIZE
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
USAGES = ("Training", "PublicTest", "PrivateTest")

_MAX_LINE_BYTES = 2**20  # a row has about 9 kB
_CSV_COLUMNS = (b"emotion", b"pixels", b"usage")
_PICTURE = re.compile(r"(?:.*/)?(?:train|test)/(?P<folder>[^/]+)/(?P<stem>[^/]+)\.(?:jpg|jpeg|png)", re.IGNORECASE)
_STEM = re.compile(rf"(?P<usage>{'|'.join(USAGES)})_\d+", re.ASCII)

LabelRow = tuple[str, str, str]  # image_name, usage, expression
Size = tuple[str, int]  # name of a file, bytes


@dataclass(frozen=True)
class Source:
    """A copy of FER2013."""

    tree: FileTree
    name: str  # for messages: relative to the folder searched
    kind: str  # one of CSV_NAMES, or "pictures"
    csv_name: str = ""  # in the tree


def find(folder: str | Path) -> list[Source]:
    """The copies of FER2013 below `folder`, the one to read first: exact pixels before JPEGs, plain before packed.

    Raises UserError when there is none, or when two are equally good.
    """
    folder = Path(folder)
    trees = open_source(folder, "fer2013", TITLE, f"{LAYOUTS}; from {PAGE}")
    sources = [
        Source(tree, tree.full_name(name, folder), kind, name)
        for kind in CSV_NAMES
        for tree, name in find_named(trees, kind)
    ]
    for tree in trees:
        if any(_PICTURE.fullmatch(name) for name in tree.sizes):
            where = tree.full_name("", folder) if tree.packed else "pictures in the folder"
            sources.append(Source(tree, where, "pictures"))
    if not sources:
        raise UserError(
            f"{folder} holds no FER2013. Expected {LAYOUTS}. Put one of these there, or fetch it with "
            "`python -m src.datasets.download fer2013`."
        )
    first = sources[0]
    equal = [source.name for source in sources if (source.kind, source.tree.packed) == (first.kind, first.tree.packed)]
    if len(equal) > 1:
        raise UserError(
            f"{folder} holds FER2013 more than once: {', '.join(equal[:5])}. Expected one copy. Remove the others."
        )
    return sources


def load(folder: str | Path, settings: IngestFer2013Params) -> tuple[FaceSet, dict[str, Any]]:
    """Read FER2013 from a folder with any of the known layouts.

    Returns the usable faces, CSV in row order and pictures by name, and a report of what was read and skipped. Raises
    UserError when nothing is found, when more than `settings.max_bad_fraction` of the rows is unusable, when a class is
    left without a face, or when votes are wanted (`settings.labels`) and cannot be joined.
    """
    source, *others = find(folder)
    pictures = source.kind == "pictures"
    skipped = SkippedRows()
    images, rows, rows_read, file = (_read_pictures if pictures else _read_csv)(source, skipped)
    origin = f"{folder} ({source.name})"
    if rows_read == 0:
        raise UserError(f"{origin} holds no rows; expected about 35,887. Download it again.")
    skipped.check(rows_read, settings.max_bad_fraction, "ingest_fer2013.max_bad_fraction", origin)
    labels = pd.DataFrame(rows, columns=["image_name", "usage", "expression"])
    labels["image_name"] = "fer2013/" + labels["image_name"]
    labels = labels.assign(source="fer2013", group=labels["image_name"], copy_of="", synthetic=False)[list(COLUMNS)]
    labels, votes_file = label_faces(labels, Path(folder), settings.labels, rows_read, pictures)
    counts = check_classes(labels, origin, "complete the missing folders")
    per_usage = {usage: labels[labels["usage"] == usage] for usage in USAGES}
    report = {
        "read_from": source.name,
        "votes_from": votes_file[0] if votes_file else "",
        "labels": settings.labels,
        "labels_that_differ": int((labels["expression"] != labels["original_expression"]).sum()),
        "not_read": [other.name for other in others],
        "rows_read": rows_read,
        "faces": len(labels),
        "skipped": skipped.report(),
        "faces_per_class": counts,
        "faces_per_usage": {usage: {"faces": len(rows), **class_counts(rows)} for usage, rows in per_usage.items()},
        "manifest": {
            "files": list_files(file, *filter(None, [votes_file])),
            "pixels_sha256": pixels_sha256(images),
        },
    }
    return FaceSet(images, labels), report


def assign_usage(labels: pd.DataFrame) -> pd.Series:
    """FER2013's own: it stands in its table, and in the names of Kaggle's pictures."""
    return labels["usage"]


def parse_pixels(field: bytes) -> np.ndarray:
    """2,304 whole numbers between blanks as uint8 `(2304,)`. Raises BadRow where they are something else."""
    try:
        values = np.fromstring(field, np.int64, sep=" ")
    except ValueError:
        values = np.empty(0, np.int64)
    if len(values) != NUM_PIXELS or values.min() < 0 or values.max() > 255:
        raise BadRow(f"pixels are not {NUM_PIXELS} whole numbers 0..255")
    return values.astype(np.uint8)


def _fields(line: bytes) -> list[bytes]:
    return [field.strip() for field in line.replace(b'"', b"").split(b",")]


def _read_csv(source: Source, skipped: SkippedRows) -> tuple[np.ndarray, list[LabelRow], int, Size]:
    """Images `(N, 48, 48)`, their labels, the number of rows read, and the file read with its size in bytes."""
    codes = {str(code).encode(): expression for code, expression in enumerate(EXPRESSIONS)}
    usages = {usage.encode(): usage for usage in USAGES}
    images: list[np.ndarray] = []
    rows: list[LabelRow] = []
    number = 0
    lines = source.tree.lines(source.csv_name, _MAX_LINE_BYTES + 1)
    try:
        columns = _fields(next(lines, b"").removeprefix(codecs.BOM_UTF8).lower())
        if not set(_CSV_COLUMNS) <= set(columns):
            found = b", ".join(columns)[:80].decode(errors="replace")
            raise UserError(f"{source.name} has the columns {found!r}. Expected {LAYOUTS}. Download it again.")
        for line in tqdm(lines, unit=" rows", desc=source.name, mininterval=1):
            if len(line) > _MAX_LINE_BYTES:
                raise UserError(f"{source.name} has a line of more than {_MAX_LINE_BYTES} bytes. Expected {LAYOUTS}.")
            if not line.strip():
                continue
            number += 1
            fields = _fields(line)
            try:
                if len(fields) != len(columns):
                    raise BadRow("wrong number of columns")
                code, pixels, usage = (fields[columns.index(column)] for column in _CSV_COLUMNS)
                if code not in codes or usage not in usages:
                    raise BadRow("unknown usage" if code in codes else "label is not 0..6")
                images.append(parse_pixels(pixels))
                rows.append((f"{usages[usage]}_{number:06d}", usages[usage], codes[code]))
            except BadRow as reason:
                skipped.add(str(reason), f"row {number}")
    except MemberError as error:
        raise damaged_archive(source.tree.path, error) from error
    faces = np.array(images, np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    return faces, rows, number, (source.name, source.tree.sizes[source.csv_name])


def _read_pictures(source: Source, skipped: SkippedRows) -> tuple[np.ndarray, list[LabelRow], int, Size]:
    """Read the Kaggle folder layout, sorted by picture name. Returns what `_read_csv` does."""
    tree = source.tree
    matches = [(name, match) for name in tree.sizes if (match := _PICTURE.fullmatch(name))]
    unknown = sorted({match["folder"].lower() for _, match in matches} - set(FOLDER_NAMES))
    if unknown:
        raise UserError(
            f"{tree.path} has pictures in folders of unknown class: {', '.join(unknown[:5])}; expected "
            f"{', '.join(EXPRESSIONS)}. Rename or remove these folders."
        )
    if not any(_STEM.fullmatch(match["stem"]) for _, match in matches):
        raise UserError(
            f"{tree.path} has pictures whose names ({matches[0][0]}) do not tell to which official part of FER2013 "
            f"they belong: a copy packed anew. Expected {LAYOUTS}. `python -m src.datasets.download fer2013` gets one."
        )
    images: dict[LabelRow, np.ndarray] = {}
    seen: dict[str, str] = {}
    for name, match in tqdm(matches, unit=" pictures", desc="fer2013", mininterval=1):
        stem, expression = _STEM.fullmatch(match["stem"]), FOLDER_NAMES[match["folder"].lower()]
        # Numbers are unique within a class only: Kaggle's archive has different pictures of one name in two classes.
        image_name = f"{match['stem']}_{expression}"
        if stem is None:
            skipped.add(f"file name is not {' or '.join(f'{usage}_NUMBER' for usage in USAGES)}", name)
        elif image_name in seen:
            skipped.add("file name used twice", f"{name} and {seen[image_name]}")
        else:
            seen[image_name] = name
            try:
                images[image_name, stem["usage"], expression] = _decode_picture(tree.read(name))
            except (PhotoError, MemberError) as reason:
                skipped.add(str(reason), name)
    rows = sorted(images)
    faces = np.array([images[row] for row in rows], np.uint8).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
    file = (f"{source.name} ({len(matches)} pictures)", sum(tree.sizes[name] for name, _ in matches))
    return faces, rows, len(matches), file


def _decode_picture(content: bytes) -> np.ndarray:
    """A picture of the folder layout, uint8 `(48, 48)`. Raises PhotoError."""
    header = read_header(content)
    if (header.width, header.height) != (IMAGE_SIZE, IMAGE_SIZE):
        raise PhotoError(f"not {IMAGE_SIZE} x {IMAGE_SIZE} pixels")
    return decode(content, header)
