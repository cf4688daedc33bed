"""FER+: ten people's votes for each row of FER2013 (`fer2013new.csv`), joined to its faces.

E. Barsoum, C. Zhang, C. Canton Ferrer, Z. Zhang, "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", ICMI 2016 (arXiv 1608.01041); the file is Microsoft's, MIT licence. Its rows stand in
the order of `fer2013.csv`, so votes can be joined only where a face's row is known: in a CSV, and in picture folders
whose file names carry the row, which is checked against the usage of every row.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from src.datasets.archives import open_tree_and_archives, read_named
from src.errors import UserError
from src.expressions import CODE, EXPRESSIONS
from src.faceset import FERPLUS, ORIGINAL, OTHER_VOTES, VOTES

VOTES_FILE = "fer2013new.csv"
VOTES_URL = "https://raw.githubusercontent.com/microsoft/FERPlus/master/fer2013new.csv"
VOTES_SHA256 = "9206e20d62f56475939f516847d61753e4860caeac9718b560129541b776fc2c"
# Our columns -> FER+'s.
_COLUMNS = dict(
    zip(
        (*VOTES, *OTHER_VOTES),
        ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt", "unknown", "NF"),
        strict=True,
    )
)
_ROW_IN_NAME = r"^fer2013/[A-Za-z]+_([0-9]{1,9})(?:_[a-z]+)?$"


def find_votes(folder: Path) -> tuple[str, bytes] | None:
    """Name and content of the votes file anywhere below `folder`, plain or in an archive; None where there is none.

    Raises UserError when there are several that differ.
    """
    contents = read_named(open_tree_and_archives(folder), VOTES_FILE, folder)
    if len(set(contents.values())) > 1:
        raise UserError(
            f"{folder} holds different tables of votes: {', '.join(list(contents)[:5])}. Expected one {VOTES_FILE}. "
            "Remove the others."
        )
    return next(iter(contents.items()), None)


def parse_votes(content: bytes, where: str) -> pd.DataFrame:
    """The votes file as a table: usage, then the ten columns of votes, Int64, one row per row of fer2013.csv."""
    try:
        table = pd.read_csv(io.BytesIO(content), dtype={"Usage": str}).rename(columns=str.strip)
        votes = table[list(_COLUMNS.values())].astype("Int64")  # raises where a number is not whole
        if not votes.isin(range(11)).all(axis=None):
            raise ValueError("numbers of votes outside 0..10")
        return votes.set_axis(list(_COLUMNS), axis=1).assign(usage=table["Usage"])
    except (KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{where} is not FER+'s table of votes ({reason}); expected the columns Usage, "
            f"{', '.join(_COLUMNS.values())}. Download it again from {VOTES_URL}."
        ) from None


def rows_of(labels: pd.DataFrame, usages: np.ndarray, pictures: bool) -> np.ndarray | None:
    """The row in fer2013.csv of every face, from its name, int64 `(N,)`; None where the names do not carry it.

    labels: image_name, usage. usages: the usage of every row. Names of CSV rows count from 1; those of pictures from 0
    or 1, whichever agrees with the usages. (Kaggle's `msambare/fer2013` numbers its pictures otherwise.)
    """
    texts = labels["image_name"].str.extract(_ROW_IN_NAME, expand=False)
    if labels.empty or texts.isna().any() or not (numbers := texts.astype(np.int64)).is_unique:
        return None
    for first in (0, 1) if pictures else (1,):
        rows = numbers.to_numpy() - first
        if rows.min() >= 0 and rows.max() < len(usages) and (usages[rows] == labels["usage"]).all():
            return rows
    return None


def join_votes(labels: pd.DataFrame, votes: pd.DataFrame, rows: np.ndarray, source: str) -> pd.DataFrame:
    """Labels with the ten columns of votes of each face, and `expression` by `source`.

    source: "ferplus" makes the largest of the seven votes the expression (ties, and faces without any such vote:
    FER2013's own label if it is among the tied, else the first in class order), "original" keeps FER2013's.
    """
    joined = labels.assign(label_source=source)
    for column in (*VOTES, *OTHER_VOTES):
        joined[column] = votes[column].array[rows]
    if source == FERPLUS:
        counts = joined[list(VOTES)].to_numpy(np.int64)
        own = labels["expression"].map(CODE).to_numpy()
        own_is_largest = counts[np.arange(len(counts)), own] == counts.max(axis=1)
        joined["expression"] = np.array(EXPRESSIONS, object)[np.where(own_is_largest, own, counts.argmax(axis=1))]
    return joined


def label_faces(
    labels: pd.DataFrame, folder: Path, source: str, rows_read: int, pictures: bool
) -> tuple[pd.DataFrame, tuple[str, int] | None]:
    """Labels of FER2013's faces with the votes that lie beside them, and `original_expression`, FER2013's label.

    rows_read: rows of fer2013.csv, unusable ones included. pictures: whether the faces come from picture folders.
    Gives name and size of the votes file too, if it was used. Raises UserError when votes are wanted and cannot be had,
    or when the votes are of another table.
    """
    labels = labels.assign(original_expression=labels["expression"], label_source=ORIGINAL)
    reason = (
        f"{folder} has no {VOTES_FILE}, the votes of FER+. Fetch it with `python -m src.datasets.download fer2013`, or "
        f"put it there yourself (from {VOTES_URL})"
    )
    if found := find_votes(folder):
        name, content = found
        votes = parse_votes(content, f"{folder}/{name}")
        rows = rows_of(labels, votes["usage"].to_numpy(object), pictures)
        if rows is not None and (pictures or len(votes) == rows_read):
            return join_votes(labels, votes, rows, source), (name, len(content))
        reason = f"{folder}/{name} cannot be joined: "
        if pictures:
            reason += (
                "the file names of these pictures do not carry the row of fer2013.csv. Use fer2013.csv or "
                "icml_face_data.csv"
            )
        else:
            reason += (
                f"it has {len(votes)} rows, the table of faces {rows_read}, or their usages differ; expected one row "
                "of votes for each row of fer2013.csv, in its order. Use both files as published"
            )
    if source == ORIGINAL:
        return labels, None
    raise UserError(f"{reason}, or set ingest_fer2013.labels=original to use FER2013's own labels.")
