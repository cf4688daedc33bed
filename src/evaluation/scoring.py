"""An exported model and FaceSets -> scored faces, their figures, the tables and plots made of them, and the summary.

`stages/evaluate.py` calls these in turn. The model is the exported ONNX file, which is what people embed; that it
agrees with the Keras model is checked where it is exported.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from src.errors import UserError
from src.evaluation import plots
from src.evaluation.calibration import reliability_table, risk_coverage, smallest_threshold
from src.evaluation.labellings import SOURCES, main_sections, section, split_sections, title
from src.evaluation.metrics import DECIMALS, ScoringRules, compare, confusion_matrix, evaluate_split, rounded
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.recognition.classifier import VARIANTS, Classifier
from src.sheets import draw_sheet, save_picture
from src.storage import replace_file

# How often the answers that are not "uncertain" should be right; people's majority is the surer label.
CERTAIN_ACCURACY = defaultdict(lambda: 0.60, fer2013=0.90)  # by source
_FEWEST_FACES = 50  # in a bin of the reliability curve
_NAMES = (*EXPRESSIONS, "contempt")
_HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy", "kept")
_SHEET_TILE = 128  # pixels, side of a face on the sheet of mistakes
_SHEET_COLUMNS = 8


@dataclass(frozen=True)
class ScoredFaces:
    """Faces, the model's probabilities for them, float32 `(N, 7)`, and what counts as right, int64 `(N,)`."""

    faces: FaceSet
    probabilities: np.ndarray
    targets: np.ndarray

    def section(self, name: str) -> "ScoredFaces":
        """The faces that a labelling decides, with its targets."""
        targets, rows = section(self.faces.labels, name)
        return ScoredFaces(self.faces.select(rows), self.probabilities[rows], targets)

    def main(self) -> dict[str, "ScoredFaces"]:
        """Section nearest to what training learned -> its faces, for each source that has some."""
        return {name: self.section(name) for name in main_sections(self.faces.labels).values()}

    @property
    def predicted(self) -> np.ndarray:
        """Class indices, int64 `(N,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float32 `(N,)`."""
        return self.probabilities.max(axis=1)

    @property
    def correct(self) -> np.ndarray:
        return self.predicted == self.targets

    @property
    def curve(self) -> pd.DataFrame:
        return risk_coverage(self.confidence, self.correct)


def score_split(classifier: Classifier, directory: str | Path) -> ScoredFaces:
    """Load a part of the split and classify its faces. Raises UserError when the set is missing, empty or of another
    image size than the model's."""
    faces = FaceSet.load(directory)
    if not len(faces):
        raise UserError(f"{directory} holds no faces to score. Check the data and `split.protocol` in params.yaml.")
    if faces.image_size != classifier.metadata.image_size:
        raise UserError(
            f"{directory} holds faces of {faces.image_size} pixels, but the model was trained on "
            f"{classifier.metadata.image_size}. Bring both up to date with `dvc repro`."
        )
    return ScoredFaces(faces, classifier.predict(np.asarray(faces.images)), faces.targets)


def evaluation_figures(test: ScoredFaces, validation: ScoredFaces, rules: ScoringRules) -> dict[str, Any]:
    """Every section of the test split, those of validation without the per-class part (to compare experiments without
    looking at test), and thresholds. In validation no picture has a copy in test, so its n are a little below the
    official ones; test keeps all its pictures.

    threshold: per source, from which `uncertain_below` on certain answers are right so often as `CERTAIN_ACCURACY`
    wants on validation, and the share of its faces that then get one; only the wish where none fulfils it.
    """
    thresholds = {
        source: {
            "wanted_accuracy": CERTAIN_ACCURACY[source],
            **smallest_threshold(validation.section(name).curve, CERTAIN_ACCURACY[source]),
        }
        for source, name in main_sections(validation.faces.labels).items()
    }
    labels = validation.faces.labels.drop(columns="copy_in_train")
    return {
        "test": evaluate_split(test.probabilities, test.faces.labels, rules),
        "validation": evaluate_split(validation.probabilities, labels, rules, per_class=False),
        "threshold": rounded(thresholds),
    }


def variant_figures(
    classifier: Classifier, splits: Mapping[str, ScoredFaces], rules: ScoringRules
) -> dict[str, dict[str, Any]]:
    """The figures of another model on the same faces, per split and section, with `same_answer`, the share of faces
    that it names as the first one did, and `compare` (the first model is the first)."""
    figures: dict[str, dict[str, Any]] = {}
    for split, scored in splits.items():
        probabilities = classifier.predict(np.asarray(scored.faces.images))
        labels = scored.faces.labels.drop(columns="copy_in_train", errors="ignore")
        answers = probabilities.argmax(axis=1)
        figures[split] = evaluate_split(probabilities, labels, rules, per_class=False)
        for name, (targets, rows) in split_sections(labels).items():
            same = answers[rows] == scored.predicted[rows]
            figures[split][name] |= {
                "same_answer": round(float(same.mean()), DECIMALS),
                **compare(scored.predicted[rows] == targets, answers[rows] == targets),
            }
    return figures


def write_plot_tables(directory: Path, test: ScoredFaces, validation: ScoredFaces, rules: ScoringRules) -> None:
    """The CSV files that DVC draws itself, for each source; with a header alone where it has no faces.

    confusion_<source>.csv: actual, predicted; one row per face of test. reliability_<source>.csv: confidence, accuracy,
    faces; one row per bin, test. risk_coverage_<source>.csv: threshold, coverage, accuracy; validation.
    """
    names = np.array(_NAMES)
    for source in SOURCES:
        part, aside = (
            scored.section(main_sections(scored.faces.labels).get(source, source)) for scored in (test, validation)
        )
        tables = {
            "confusion": pd.DataFrame({"actual": names[part.targets], "predicted": names[part.predicted]}),
            "reliability": _reliability(part, rules),
            "risk_coverage": aside.curve,
        }
        for name, table in tables.items():
            with replace_file(directory / f"{name}_{source}.csv") as partial:
                table.round(DECIMALS).to_csv(partial, index=False, lineterminator="\n")


def draw_plots(
    directory: Path, parts: Mapping[str, ScoredFaces], figures: Mapping[str, Any], rules: ScoringRules, split: str
) -> None:
    """confusion.png, per_class.png and reliability.png of some sections of a split. figures: those of the sections."""
    titled = {
        f"{title(name)}\n{split}, n = {len(part.targets):,}": (part, figures[name]) for name, part in parts.items()
    }
    confusion = {name: confusion_matrix(part.targets, part.predicted) for name, (part, _) in titled.items()}
    plots.draw_confusion(directory / "confusion.png", confusion)
    plots.draw_per_class(directory / "per_class.png", {name: row["per_class"] for name, (_, row) in titled.items()})
    curves = {name: (_reliability(part, rules), row["ece"]) for name, (part, row) in titled.items()}
    plots.draw_reliability(directory / "reliability.png", curves)


def draw_validation_plots(
    directory: Path, validation: ScoredFaces, failures: Mapping[str, Any], rules: ScoringRules
) -> None:
    """risk_coverage.png, conditions.png and corruptions.png. failures: `failures.failure_figures`."""
    parts = {
        f"{title(name)}, n = {len(part.targets):,}": (part.curve, CERTAIN_ACCURACY[source])
        for source, name in main_sections(validation.faces.labels).items()
        for part in [validation.section(name)]
    }
    plots.draw_risk_coverage(directory / "risk_coverage.png", parts, rules.uncertain_below)
    for name, draw in (("conditions", plots.draw_conditions), ("corruptions", plots.draw_corruptions)):
        draw(directory / f"{name}.png", {title(part): row for part, row in failures[name].items()})


def _reliability(part: ScoredFaces, rules: ScoringRules) -> pd.DataFrame:
    """The reliability curve in bins of equally many faces, at least 50 where there are so many."""
    bins = int(np.clip(len(part.targets) // _FEWEST_FACES, 1, rules.reliability_bins))
    return reliability_table(part.confidence, part.correct, bins, equal_counts=True)


def draw_mistakes(path: Path, parts: Mapping[str, ScoredFaces], count: int) -> None:
    """A sheet of up to `count` faces in all with the highest probability on another class than the label's, section by
    section, worst first: mistakes of the model, or of the label.

    The faces are photos of people: the sheet belongs into the DVC cache, not into Git.
    """
    tiles, captions, heads = [], [], []
    for name, part in parts.items():
        wrong = np.flatnonzero(~part.correct)
        worst = wrong[np.argsort(-part.confidence[wrong], kind="stable")][: count // len(parts)]
        tiles += [part.faces.images[i] for i in worst]
        captions += [f"{_NAMES[part.targets[i]]}>{_NAMES[part.predicted[i]]} {part.confidence[i]:.0%}" for i in worst]
        heads.append(f"{len(worst)} of {len(wrong):,} ({title(name)}, n = {len(part.targets):,})")
    heading = f"Surest answers against the label, label>answer: {'; '.join(heads)}"
    save_picture(path, draw_sheet(tiles, captions, _SHEET_COLUMNS, _SHEET_TILE, heading))


def read_history(path: str | Path) -> pd.DataFrame:
    """The epochs of the training, as stage train writes them. Raises UserError when missing or incomplete."""
    return _read_table(path, _HISTORY_COLUMNS, "train")


def read_class_distribution(directory: str | Path) -> pd.DataFrame:
    """Faces per class after each data stage, in stage order. Raises UserError when there is no table."""
    paths = sorted(Path(directory).glob("*.csv"))
    if not paths:
        raise UserError(f"{directory} holds no tables. Build the data with `dvc repro`.")
    tables = pd.concat([_read_table(path, ("stage", "expression", "faces"), path.stem) for path in paths])
    order = {stage: place for place, stage in enumerate(plots.DATA_STAGES)}
    return tables.sort_values("stage", key=lambda stages: stages.map(lambda s: order.get(s, len(order))), kind="stable")


def read_box_sides(path: str | Path) -> pd.Series:
    """Name of a face of ExpW -> side of its box, pixels of the photo. Raises UserError as `read_history` does."""
    table = _read_table(path, ("image_name", "width", "height"), "ingest_expw")
    return table.set_index("image_name")[["width", "height"]].max(axis=1)


def summary(figures: Mapping[str, Any], splits: tuple[str, ...] = ("validation", "test")) -> str:
    """The main figures as tables of text: one line per section, then per model compared, and the thresholds."""
    rows, others = [], []
    for split in splits:
        for name, row in figures[split].items():
            rest = (row[part] for part in ("chance_accuracy", "majority_class_accuracy", "macro_f1", "ece"))
            rows.append((split, title(name), row["n"], _accuracy(row), *rest))
        for key in [*VARIANTS, "against"]:
            for name, row in figures.get(key, {}).get(split, {}).items():
                if not name.startswith("ferplus_"):
                    rest = (row[part] for part in ("same_answer", "only_second_right", "only_first_right", "mcnemar_p"))
                    others.append((key, split, title(name), _accuracy(row), *rest))
    heads = ("split", "labels", "n", "accuracy (95 %)", "chance", "majority", "macro F1", "ECE")
    text = tabulate(rows, heads, floatfmt=".3f", intfmt=",")
    if others:
        heads = ("model", "split", "labels", "accuracy (95 %)", "same", "right alone", "wrong alone", "McNemar's p")
        text += "\n\n" + tabulate(others, heads, floatfmt=("",) * 4 + (".3f", "", "", "g"))
    for source, row in figures.get("threshold", {}).items():
        found = "from {threshold:.2f} on; {coverage:.3f} get one".format(**row) if "threshold" in row else "nowhere"
        text += f"\n{source}: certain answers are right in {row['wanted_accuracy']:.2f} (validation) {found}"
    return text


def _accuracy(row: Mapping[str, Any]) -> str:
    return f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}-{row['accuracy_high']:.3f})"


def _read_table(path: str | Path, columns: tuple[str, ...], stage: str) -> pd.DataFrame:
    remedy = f"Write it again with `dvc repro -f -s {stage}`."
    try:
        table = pd.read_csv(path, keep_default_na=False)
        table[list(columns)]  # a KeyError where one is missing
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {remedy}") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}). {remedy}") from error
    return table
