"""The figures of an evaluation, drawn with matplotlib: byte-identical PNG files for identical numbers.

Every function takes plain tables and the path to write. Colours of classes: src/expressions.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from src.evaluation.metrics import wilson_interval
from src.expressions import COLOURS, EXPRESSIONS
from src.storage import replace_file

DATA_STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote")
TRAIN_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"  # Okabe and Ito, as the classes
_STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@contextmanager
def drawing(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` x `height` inches that is written to `path` at the end, whatever the user's matplotlibrc."""
    with style.context(_STYLE, after_reset=True):
        figure = Figure(figsize=(width, height))
        yield figure
        with replace_file(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None})


def draw_confusion(path: str | Path, confusion: np.ndarray, title: str) -> None:
    """Confusion matrix `(7, 7)`, rows true and columns predicted: each row's percentages, and the counts below."""
    support = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(support, 1)
    with drawing(path, 6.2, 5.4) as figure:
        axes = figure.add_subplot()
        picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(confusion):
            axes.text(
                column,
                row,
                f"{100 * share[row, column]:.0f} %\n{count:,}",
                ha="center",
                va="center",
                color="white" if share[row, column] > 0.55 else "black",
                fontsize=8,
            )
        axes.set_xticks(range(len(EXPRESSIONS)), EXPRESSIONS)
        axes.set_yticks(
            range(len(EXPRESSIONS)), [f"{name}\nn = {n:,}" for name, n in zip(EXPRESSIONS, support[:, 0], strict=True)]
        )
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(title)
        bar = figure.colorbar(picture, ax=axes, shrink=0.8, label="share of the true class")
        bar.outline.set_visible(False)
        bar.set_ticks(np.linspace(0, 1, 6).tolist(), labels=[f"{percent} %" for percent in range(0, 101, 20)])


def draw_per_class(path: str | Path, confusion: np.ndarray, title: str) -> None:
    """Precision (pale) and recall (full) of each class with 95 % Wilson intervals."""
    hits = np.diagonal(confusion)
    measures = {"precision": confusion.sum(axis=0), "recall": confusion.sum(axis=1)}
    with drawing(path, 7.2, 3.6) as figure:
        axes = figure.add_subplot()
        for side, (measure, totals) in enumerate(measures.items()):
            for code, name in enumerate(EXPRESSIONS):
                if not totals[code]:
                    continue
                value = hits[code] / totals[code]
                low, high = wilson_interval(int(hits[code]), int(totals[code]))
                place = code + 0.4 * side - 0.2
                axes.bar(
                    place,
                    value,
                    width=0.36,
                    facecolor=(COLOURS[name], 0.35 if measure == "precision" else 1.0),
                    edgecolor="black",
                    linewidth=0.6,
                    hatch="///" if measure == "precision" else None,
                )
                axes.errorbar(
                    place, value, yerr=[[value - low], [high - value]], color="black", linewidth=0.9, capsize=2.5
                )
                axes.text(place, high + 0.02, f"{value:.2f}", ha="center", fontsize=7.5)
        for measure, hatch in (("precision", "///"), ("recall", None)):
            pale = measure == "precision"
            axes.bar(
                0,
                0,
                facecolor=("#777777", 0.35 if pale else 1.0),
                edgecolor="black",
                linewidth=0.6,
                hatch=hatch,
                label=measure,
            )
        axes.set_xticks(
            range(len(EXPRESSIONS)),
            [f"{name}\nn = {n:,}" for name, n in zip(EXPRESSIONS, measures["recall"], strict=True)],
        )
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(EXPRESSIONS) - 0.4)
        axes.set_ylim(0, 1.08)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.grid(axis="y")
        axes.set_ylabel("fraction, 95 % interval")
        axes.set_title(title, loc="left")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def draw_reliability(path: str | Path, table: pd.DataFrame, ece: float, title: str) -> None:
    """Reliability curve with the gap to perfect calibration, above the number of faces per bin.

    table: as `calibration.reliability_table` makes it.
    """
    with drawing(path, 4.6, 5.2) as figure:
        curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        assert isinstance(curve, Axes) and isinstance(histogram, Axes)
        left, width = table["low"], table["high"] - table["low"]
        accuracy, confidence = table["accuracy"], table["confidence"]
        curve.bar(left, accuracy, width, align="edge", color="#56B4E9", edgecolor="white", label="accuracy")
        curve.bar(
            left,
            confidence - accuracy,
            width,
            bottom=accuracy,
            align="edge",
            facecolor=("#D55E00", 0.3),
            edgecolor="#D55E00",
            linewidth=0.6,
            hatch="////",
            label="gap to the mean probability",
        )
        curve.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfect calibration")
        curve.plot(confidence, accuracy, color="black", marker="o", markersize=3, linewidth=1)
        curve.set_ylim(0, 1)
        curve.set_ylabel("accuracy")
        curve.set_title(title)
        curve.legend(loc="upper left")
        curve.text(0.97, 0.05, f"ECE {ece:.3f}", ha="right", transform=curve.transAxes, fontsize=10)
        curve.grid()
        histogram.bar(left, table["faces"], width, align="edge", color="#999999", edgecolor="white")
        histogram.set_xlim(0, 1)
        histogram.set_xlabel("probability of the answer")
        histogram.set_ylabel("faces")
        histogram.grid(axis="y")
        figure.align_ylabels()


def draw_learning_curves(path: str | Path, history: pd.DataFrame) -> None:
    """Loss and accuracy of train and validation over the epochs.

    history: epoch, phase, loss, accuracy, val_loss, val_accuracy; where it has a column `kept`, the epoch that
    was kept is marked. The start of each later phase is a dashed line.
    """
    epochs = history["epoch"].to_numpy()
    starts = np.flatnonzero(history["phase"].to_numpy()[1:] != history["phase"].to_numpy()[:-1]) + 1
    kept = np.flatnonzero(_flags(history["kept"])) if "kept" in history.columns else np.array([], int)
    few = len(epochs) <= 2  # a line of one point cannot be seen
    with drawing(path, 7.2, 3.3) as figure:
        for place, measure in enumerate(("loss", "accuracy")):
            axes = figure.add_subplot(1, 2, place + 1)
            for column, colour, label in (
                (measure, TRAIN_COLOUR, "train"),
                (f"val_{measure}", VALIDATION_COLOUR, "validation"),
            ):
                axes.plot(epochs, history[column], color=colour, label=label, marker="o" if few else None, markersize=4)
                if label == "validation" and len(kept):
                    value = history[column].iloc[kept[-1]]
                    axes.plot(
                        epochs[kept[-1]],
                        value,
                        marker="o",
                        markersize=7,
                        color="none",
                        markeredgecolor="black",
                        label=f"kept: epoch {epochs[kept[-1]]}, {value:.3f}",
                        linestyle="none",
                    )
            for start in starts:
                axes.axvline(epochs[start] - 0.5, color="#777777", linestyle="--", linewidth=1)
            for start in (0, *starts) if len(starts) else ():
                axes.annotate(
                    f" {str(history['phase'].iloc[start]).replace('_', ' ')}",
                    (epochs[start] - 0.5, 1.0),
                    xycoords=("data", "axes fraction"),
                    va="bottom",
                    fontsize=8,
                    color="#555555",
                )
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("epoch")
            axes.set_ylabel(measure)
            axes.grid()
            axes.legend(loc="best", fontsize=8)


def draw_class_distribution(path: str | Path, distribution: pd.DataFrame) -> None:
    """Faces per class after each data stage. distribution: stage, expression, faces; drawn in the order given."""
    stages = list(dict.fromkeys(distribution["stage"]))
    counts = distribution.pivot_table(index="stage", columns="expression", values="faces", aggfunc="sum")
    counts = counts.reindex(index=stages, columns=list(EXPRESSIONS)).fillna(0)
    with drawing(path, max(7.2, 1.3 * len(stages) + 1), 3.6) as figure:
        axes = figure.add_subplot()
        width = 0.85 / len(EXPRESSIONS)
        for code, name in enumerate(EXPRESSIONS):
            places = np.arange(len(stages)) + (code - (len(EXPRESSIONS) - 1) / 2) * width
            axes.bar(places, counts[name], width, color=COLOURS[name], edgecolor="black", linewidth=0.4, label=name)
        totals = counts.sum(axis=1).astype(int)
        axes.set_xticks(range(len(stages)), [f"{stage}\nn = {totals[stage]:,}" for stage in stages])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(stages) - 0.4)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylabel("faces")
        axes.grid(axis="y")
        axes.legend(ncols=len(EXPRESSIONS), loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8, columnspacing=1.2)


def _flags(column: pd.Series) -> np.ndarray:
    """A yes/no column of a CSV file, written as booleans or as 0 and 1, as bool `(N,)`."""
    return column.astype(str).str.lower().isin({"true", "1", "1.0"}).to_numpy()
