"""Read the figures of an entry from its DVC experiment or commit; one row each, and its learning curve."""

import io
import json
from typing import Any

import pandas as pd
import yaml

from src.report.experiments import file_at
from tools.leaderboard.entries import Entry

# Column -> split and section of metrics/evaluate.json.
GROUPS = {
    "validation": ("validation", "all"),
    "validation_fer2013": ("validation", "fer2013"),
    "test_fer2013": ("test", "fer2013"),
    "test_fer2013_without_copies": ("test", "fer2013_without_copies"),
    "test_expw": ("test", "expw"),
}
# Data and split, unless an entry says otherwise.
COMMON = {
    "dataset": "full",
    "crop.margin": 0.1,
    "split.protocol": "official",
    "split.remove_copies": True,
    "split.copy_similarity": 0.65,
    "undersample.policy": "none",
    "smote.enabled": False,
}
MEASURES = ("n", "accuracy", "accuracy_low", "accuracy_high", "macro_f1")
COLUMNS = (
    "name",
    "title",
    *(f"{group}_{measure}" for group in GROUPS for measure in MEASURES),
    "multiview_validation_accuracy",
    "multiview_test_fer2013_accuracy",
    "train_accuracy",
    "parameters",
    "epochs",
    "kept_epoch",
    "seed",
    "commit",
)


def find_commit(entry: Entry, known: dict[str, str]) -> str | None:
    """The commit that holds the figures of an entry, or None when it is not in this clone."""
    commit = known.get(entry.name) or entry.commit
    return commit if commit and file_at(commit, "metrics/evaluate.json") is not None else None


def _show(commit: str, path: str) -> str:
    content = file_at(commit, path)
    if content is None:
        raise LookupError(f"{commit} has no {path}")
    return content.decode()


def read_row(entry: Entry, commit: str) -> dict[str, Any]:
    """The row of an entry; columns that its figures do not have are None.

    Raises LookupError when the commit lacks a file, KeyError or ValueError when one is not as the stages write it.
    """
    figures = json.loads(_show(commit, "metrics/evaluate.json"))
    training = json.loads(_show(commit, "metrics/train.json"))
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"name": entry.name, "title": entry.title, "commit": commit[:10]}
    for group, (split, section) in GROUPS.items():
        for measure in MEASURES:
            row[f"{group}_{measure}"] = figures[split][section][measure]
    if "multiview" in figures:
        row["multiview_validation_accuracy"] = figures["multiview"]["validation"]["all"]["accuracy"]
        row["multiview_test_fer2013_accuracy"] = figures["multiview"]["test"]["fer2013"]["accuracy"]
    if "train" in training:  # older commits have the running accuracy under augmentation, which is another figure
        row["train_accuracy"] = training["train"]["accuracy"]
    row |= {key: training[key] for key in ("parameters", "epochs", "kept_epoch")}
    row["seed"] = _parameters(commit)["train.seed"]
    return row


def _parameters(commit: str) -> dict[str, Any]:
    """params.yaml of that commit, flat: dotted key -> value."""
    flat: dict[str, Any] = {}

    def flatten(content: dict[str, Any], prefix: str) -> None:
        for key, value in content.items():
            if isinstance(value, dict):
                flatten(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = value

    flatten(yaml.safe_load(_show(commit, "params.yaml")), "")
    return flat


def differences(entry: Entry, commit: str) -> list[str]:
    """What that commit has otherwise than the entry says, or than the data and the split of all entries.

    Keys that params.yaml did not have yet are passed over.
    """
    found = _parameters(commit)
    expected = {
        **COMMON,
        **{key: yaml.safe_load(value) for key, _, value in (s.partition("=") for s in entry.settings)},
    }
    return [
        f"{key}={found[key]} for {value}" for key, value in expected.items() if key in found and found[key] != value
    ]


def read_curve(commit: str) -> pd.DataFrame:
    """plots/history.csv of that commit."""
    return pd.read_csv(io.StringIO(_show(commit, "plots/history.csv")))
