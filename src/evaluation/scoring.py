"""An exported model and two FaceSets -> metrics/evaluate.json, the files of plots/, and the summary on screen.

`stages/evaluate.py` calls these in turn. The model is the exported ONNX file, which is what people embed; that it
agrees with the Keras model is checked where it is exported.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.errors import UserError
from src.evaluation import plots
from src.evaluation.calibration import reliability_table
from src.evaluation.metrics import DECIMALS, SOURCES, ScoringRules, baselines, confusion_matrix, evaluate_split
from src.expressions import EXPRESSIONS
from src.faceset import FaceSet
from src.recognition.classifier import Classifier
from src.sheets import draw_sheet, save_picture
from src.storage import replace_file

_HISTORY_COLUMNS = ("epoch", "phase", "loss", "accuracy", "val_loss", "val_accuracy")
_SHEET_TILE = 128  # pixels, side of a face on the sheet of mistakes
_SHEET_COLUMNS = 8


@dataclass(frozen=True)
class ScoredFaces:
    """Faces with the model's probabilities for them, float32 `(N, 7)`."""

    faces: FaceSet
    probabilities: np.ndarray

    def select(self, rows: np.ndarray) -> "ScoredFaces":
        """The rows given as a boolean mask `(N,)`."""
        return ScoredFaces(self.faces.select(rows), self.probabilities[rows])

    @property
    def predicted(self) -> np.ndarray:
        """Class indices, int64 `(N,)`."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float32 `(N,)`."""
        return self.probabilities.max(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """int64 `(7, 7)`, rows true, columns predicted."""
        return confusion_matrix(self.faces.targets, self.predicted)


def score_split(classifier: Classifier, directory: str | Path) -> ScoredFaces:
    """Load a part of the split and classify its faces.

    Raises UserError when the set is missing, empty or of another image size than the model's, when its labels do
    not say which pictures have a copy in train, or when the model's answers are not probabilities.
    """
    faces = FaceSet.load(directory)
    if not len(faces):
        raise UserError(f"{directory} holds no faces to score. Check the data and `split.protocol` in params.yaml.")
    if faces.image_size != classifier.metadata.image_size:
        raise UserError(
            f"{directory} holds faces of {faces.image_size} pixels, but the model was trained on "
            f"{classifier.metadata.image_size}. Bring both up to date with `dvc repro`."
        )
    if "copy_in_train" not in faces.labels.columns or faces.labels["copy_in_train"].dtype != bool:
        raise UserError(
            f"{directory}/labels.csv has no column copy_in_train of True and False. "
            "Rebuild it with `dvc repro -f -s split`."
        )
    probabilities = classifier.predict(np.asarray(faces.images))
    if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise UserError(
            "The model's outputs are not probabilities (each row should sum to 1). "
            "Export it again with `dvc repro -f -s export`."
        )
    return ScoredFaces(faces, probabilities)


def evaluation_figures(test: ScoredFaces, validation: ScoredFaces, rules: ScoringRules) -> dict[str, Any]:
    """The content of metrics/evaluate.json: sections of the test split, those of validation without the
    per-class part (to compare experiments without looking at test), and baselines of the test split."""
    return {
        "test": evaluate_split(test.probabilities, test.faces.labels, rules),
        "validation": evaluate_split(
            validation.probabilities,
            validation.faces.labels.drop(columns="copy_in_train"),
            rules,
            per_class=False,
        ),
        "baseline": baselines(test.faces.targets),
    }


def variant_figures(
    classifier: Classifier, test: ScoredFaces, validation: ScoredFaces, rules: ScoringRules
) -> dict[str, Any]:
    """The headline figures of another export of the same network, per split and source, and `same_answer`: the share
    of faces that it names as the first one did."""
    figures: dict[str, Any] = {}
    for name, scored in (("test", test), ("validation", validation)):
        probabilities = classifier.predict(np.asarray(scored.faces.images))
        labels = scored.faces.labels.drop(columns="copy_in_train", errors="ignore")
        sections = evaluate_split(probabilities, labels, rules, per_class=False)
        figures[name] = {
            section: {key: row[key] for key in ("n", "accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece")}
            for section, row in sections.items()
        }
        same = probabilities.argmax(axis=1) == scored.predicted
        figures[name]["all"]["same_answer"] = round(float(same.mean()), DECIMALS)
    return figures


def write_plot_tables(directory: Path, test: ScoredFaces, rules: ScoringRules) -> None:
    """The CSV files that DVC draws itself, for each source; with a header alone where it has no faces.

    confusion_<source>.csv: actual, predicted; one row per face. reliability_<source>.csv: confidence, accuracy, faces;
    one row per bin.
    """
    names = np.array(EXPRESSIONS)
    for source in SOURCES:
        part = test.select((test.faces.labels["source"] == source).to_numpy())
        confusion = pd.DataFrame({"actual": names[part.faces.targets], "predicted": names[part.predicted]})
        reliability = _reliability(part, rules)[["confidence", "accuracy", "faces"]]
        for name, table in (("confusion", confusion), ("reliability", reliability)):
            with replace_file(directory / f"{name}_{source}.csv") as partial:
                table.round(5).to_csv(partial, index=False, lineterminator="\n")


def draw_test_plots(directory: Path, test: ScoredFaces, rules: ScoringRules, ece: float, *, name: str = "test") -> None:
    """confusion.png, per_class.png and reliability.png of the test split, or of other faces by their name."""
    of_test = f"{name}, n = {len(test.faces):,}"
    plots.draw_confusion(directory / "confusion.png", test.confusion, f"Confusion matrix ({of_test})")
    plots.draw_per_class(directory / "per_class.png", test.confusion, of_test)
    plots.draw_reliability(directory / "reliability.png", _reliability(test, rules), ece, f"Reliability ({of_test})")


def draw_mistakes(path: Path, test: ScoredFaces, count: int, *, name: str = "test") -> None:
    """A sheet of the `count` faces with the highest probability on a wrong class, worst first.

    The faces are photos of people: the sheet belongs into the DVC cache, not into Git.
    """
    targets, predicted, confidence = test.faces.targets, test.predicted, test.confidence
    wrong = np.flatnonzero(predicted != targets)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [f"{EXPRESSIONS[targets[i]]}>{EXPRESSIONS[predicted[i]]} {100 * confidence[i]:.0f} %" for i in worst]
    sheet = draw_sheet(
        [test.faces.images[i] for i in worst],
        captions,
        _SHEET_COLUMNS,
        _SHEET_TILE,
        f"Worst mistakes, true>predicted: {len(worst)} of {len(wrong):,} ({name}, n = {len(targets):,})",
    )
    save_picture(path, sheet)


def read_history(path: str | Path) -> pd.DataFrame:
    """The epochs of the training, as stage train writes them. Raises UserError when missing or incomplete."""
    history = _read_table(path, _HISTORY_COLUMNS, "train")
    if history.empty:
        raise UserError(f"{path} holds no epoch. Train again with `dvc repro -f -s train`.")
    return history


def read_class_distribution(directory: str | Path) -> pd.DataFrame:
    """Faces per class after each data stage, in stage order. Raises UserError when there is no table."""
    paths = sorted(Path(directory).glob("*.csv"))
    if not paths:
        raise UserError(f"{directory} holds no tables. Build the data with `dvc repro`.")
    tables = pd.concat([_read_table(path, ("stage", "expression", "faces"), path.stem) for path in paths])
    order = {stage: place for place, stage in enumerate(plots.DATA_STAGES)}
    return tables.sort_values("stage", key=lambda stages: stages.map(lambda s: order.get(s, len(order))), kind="stable")


def summary(figures: dict[str, Any], splits: tuple[str, ...] = ("validation", "test")) -> str:
    """The headline figures as a table of text, one line per section."""
    lines = [f"{'section':<32}{'n':>7}  accuracy (95 %)      balanced  macro F1    loss     ECE"]
    for split in splits:
        for section, row in figures[split].items():
            interval = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}-{row['accuracy_high']:.3f})"
            lines.append(
                f"{split + ' ' + section:<32}{row['n']:>7,}  {interval}  {row['balanced_accuracy']:>8.3f}"
                f"  {row['macro_f1']:>8.3f}  {row['loss']:>6.3f}  {row['ece']:>6.3f}"
            )
    return "\n".join(lines)


def _reliability(test: ScoredFaces, rules: ScoringRules) -> pd.DataFrame:
    return reliability_table(test.confidence, test.predicted == test.faces.targets, rules.reliability_bins)


def _read_table(path: str | Path, columns: tuple[str, ...], stage: str) -> pd.DataFrame:
    remedy = f"Write it again with `dvc repro -f -s {stage}`."
    try:
        table = pd.read_csv(path, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {remedy}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())}). {remedy}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path} lacks the columns {missing}. {remedy}")
    return table
