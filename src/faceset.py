"""FaceSet: the one thing that flows between the data stages.

On disk a directory with
- `images.npy`, uint8 `(N, S, S)`, grey [0, 255]; memory-mapped when read, byte-identical when rewritten;
- `labels.csv`, one row per image in the same order, with at least the columns of `COLUMNS`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.errors import UserError
from src.expressions import CODE, EXPRESSIONS
from src.storage import replace_directory, replace_file

# image_name: unique within the set      source: fer2013 | expw | smote (synthetic rows)
# usage: FER2013's own (Training | PublicTest | PrivateTest), empty for ExpW
# group: what a split must not part (ExpW: the photo)
# copy_of: image_name of the picture that this one is an exact or near copy of, or empty
# synthetic: True for rows made by SMOTE
COLUMNS = ("image_name", "source", "usage", "expression", "group", "copy_of", "synthetic")
_TEXT_COLUMNS = (
    "image_name",
    "source",
    "usage",
    "expression",
    "group",
    "copy_of",
    "label_source",
    "original_expression",
)
_FLAG_COLUMNS = ("synthetic", "copy_in_train")
# Where people's votes are known (FER+), more columns: numbers of votes, empty for other faces.
VOTES = tuple(f"votes_{name}" for name in EXPRESSIONS)
OTHER_VOTES = ("votes_contempt", "votes_unknown", "votes_no_face")
FERPLUS, ORIGINAL = "ferplus", "original"  # label_source: which label `expression` is


@dataclass(frozen=True)
class FaceSet:
    """Faces and their labels, checked when made: ValueError where they do not fit.

    images: uint8 `(N, S, S)`, grey [0, 255]; may be a read-only memory map.
    labels: N rows, at least `COLUMNS`, index 0..N-1.
    """

    images: np.ndarray
    labels: pd.DataFrame

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
            raise ValueError(f"images are {images.dtype} {images.shape}; expected uint8 (N, S, S)")
        missing = [column for column in COLUMNS if column not in labels.columns]
        if missing:
            raise ValueError(f"labels lack the columns {missing}")
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images but {len(labels)} rows of labels; expected as many")
        unknown = sorted(set(labels["expression"]) - set(CODE))
        if unknown:
            raise ValueError(f"labels hold unknown expressions {unknown}; expected {sorted(CODE)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """S, pixels."""
        return int(self.images.shape[1])

    @property
    def targets(self) -> np.ndarray:
        """Class indices, int64 `(N,)`, in the order of `EXPRESSIONS`."""
        return self.labels["expression"].map(CODE).to_numpy(np.int64)

    @property
    def distributions(self) -> np.ndarray:
        """What to learn from, float32 `(N, 7)`: people's votes where `expression` is theirs, else one-hot.

        A class with a single vote of ten counts as none, unless no class has more: so FER+'s authors do (Barsoum et
        al., 2016, and their code).
        """
        labels = self.labels
        one_hot = np.eye(len(EXPRESSIONS), dtype=np.float32)[self.targets]
        if "label_source" not in labels.columns or not set(VOTES) <= set(labels.columns):
            return one_hot
        votes = labels[list(VOTES)].to_numpy(np.float32, na_value=0)  # (N, 7)
        several = np.where(votes > 1, votes, 0)
        votes = np.where(several.any(axis=1, keepdims=True), several, votes)
        total = votes.sum(axis=1, keepdims=True)
        voted = (labels["label_source"] == FERPLUS).to_numpy()[:, None] & (total > 0)
        return np.where(voted, votes / np.maximum(total, 1), one_hot).astype(np.float32)

    def select(self, rows: np.ndarray) -> "FaceSet":
        """The rows given as a boolean mask or as positions, in that order."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return FaceSet(self.images[rows], self.labels.iloc[rows].reset_index(drop=True))

    def save(self, directory: str | Path) -> None:
        """Write the set whole or not at all. Raises OSError when the disk is full or not writable."""
        with replace_directory(directory) as partial:
            with (partial / "images.npy").open("wb") as file:
                # As np.save does, but its error on a full disk would not say that the disk is full.
                images = np.ascontiguousarray(self.images)
                np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(images))
                file.write(images.data)
            self.labels.to_csv(partial / "labels.csv", index=False, lineterminator="\n")

    @staticmethod
    def load(directory: str | Path) -> "FaceSet":
        """Read a set; images stay on disk (memory map). Raises UserError when it is missing or damaged."""
        directory = Path(directory)
        try:
            images = np.load(directory / "images.npy", mmap_mode="r", allow_pickle=False)
            return FaceSet(images, read_labels(directory / "labels.csv"))
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} is missing. Build it with `dvc repro`, or fetch it with `dvc pull`."
            ) from error
        except (OSError, MemoryError):
            raise
        except Exception as error:  # NumPy evaluates the header, so damage there raises anything
            raise UserError(
                f"{directory} is damaged ({error}). Run the stage that writes it again: `dvc repro -f -s STAGE`."
            ) from error

    @staticmethod
    def concatenate(sets: list["FaceSet"]) -> "FaceSet":
        """Join sets of one image size, in the order given."""
        return FaceSet(
            np.concatenate([faces.images for faces in sets]),
            pd.concat([faces.labels for faces in sets], ignore_index=True),
        )


def read_labels(path: str | Path) -> pd.DataFrame:
    """Read a label table as written by `FaceSet.save`: text stays text ("nan" is a name), empty stays empty.

    Raises ValueError where a column that is True or False, or a number of votes, holds anything else.
    """
    columns = pd.read_csv(path, nrows=0).columns
    votes = [column for column in (*VOTES, *OTHER_VOTES) if column in columns]
    labels = pd.read_csv(
        path,
        keep_default_na=False,
        dtype=dict.fromkeys(_TEXT_COLUMNS, str) | dict.fromkeys(_FLAG_COLUMNS, str) | dict.fromkeys(votes, "Int64"),
        na_values={column: [""] for column in votes},
    )
    for column in _FLAG_COLUMNS:
        if column in labels.columns:
            if not labels[column].isin(("True", "False")).all():
                raise ValueError(f"the column {column} holds something other than True and False")
            labels[column] = labels[column] == "True"
    return labels


def class_counts(labels: pd.DataFrame) -> dict[str, int]:
    """Rows per expression, in class order, classes without rows included."""
    counts = labels["expression"].value_counts()
    return {name: int(counts.get(name, 0)) for name in CODE}


def write_class_distribution(path: str | Path, stage: str, labels: pd.DataFrame) -> None:
    """Write the faces per class after a data stage as CSV (stage, expression, faces), for `dvc plots`."""
    counts = class_counts(labels)
    with replace_file(path) as partial:
        pd.DataFrame({"stage": stage, "expression": list(counts), "faces": list(counts.values())}).to_csv(
            partial, index=False, lineterminator="\n"
        )
