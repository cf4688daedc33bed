"""A trained network on disk: `network.npz` (weights) beside `network.json` (how to build it).

Equal contents give equal bytes, so DVC sees no change where there is none.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from src.errors import UserError
from src.network.model import NetworkSpec, build_network
from src.network.weights import read_weights, write_weights
from src.storage import replace_directory, replace_file

WEIGHTS_FILE = "network.npz"
SPEC_FILE = "network.json"


@dataclass(frozen=True)
class TrainedNetwork:
    """A float32 network and how to build it again."""

    network: keras.Model
    spec: NetworkSpec


def save_trained(directory: str | Path, trained: Any) -> None:
    """Write network and spec of a `TrainedNetwork` (or anything with its two attributes)."""
    with replace_directory(directory) as partial:
        write_weights(trained.network, partial / WEIGHTS_FILE)
        content = json.loads(trained.spec.to_json())
        (partial / SPEC_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_trained(directory: str | Path) -> TrainedNetwork:
    """Read what `save_trained` wrote. Raises UserError when it is missing or damaged."""
    directory = Path(directory)
    try:
        content = json.loads((directory / SPEC_FILE).read_text(encoding="utf-8"))
        spec = NetworkSpec(**content)
        network = build_network(spec)
        if not (directory / WEIGHTS_FILE).is_file():
            raise FileNotFoundError(2, "missing", str(directory / WEIGHTS_FILE))
        read_weights(network, directory / WEIGHTS_FILE)
        return TrainedNetwork(network, spec)
    except FileNotFoundError as error:
        raise UserError(
            f"{directory} has no trained network ({error.filename}). Train one with `dvc repro train`."
        ) from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise UserError(f"{directory} is damaged ({reason}). Train again with `dvc repro -f -s train`.") from error


def write_history(path: str | Path, history: list[dict[str, Any]]) -> None:
    """One row per epoch as CSV, whole or not at all."""
    with replace_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
