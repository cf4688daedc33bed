"""The figures of an evaluation, drawn with matplotlib: byte-identical PNG files for identical numbers.

Every function takes plain tables and the path to write. Colours of classes: src/expressions.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from src.expressions import COLOURS, EXPRESSIONS
from src.storage import replace_file

DATA_STAGES = ("ingest_fer2013", "ingest_expw", "crop", "split", "undersample", "smote")
TRAIN_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"  # Okabe and Ito, as the classes
CONDITIONS = {
    "size": "side of the box in the photo (pixels)",
    "sharpness": "sharpness (variance of the Laplacian)",
    "brightness": "brightness (mean grey level)",
}
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")  # of sections
_ERROR_BARS: dict[str, Any] = {"color": "black", "linewidth": 0.9, "capsize": 2.5}
_CONFUSION_LABELS = (*EXPRESSIONS, "contempt")
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


def draw_confusion(path: str | Path, matrices: Mapping[str, np.ndarray]) -> None:
    """Title -> confusion matrix `(8, 7)`, rows true and columns predicted: each row's percentages, and the counts.

    The row of contempt, which the model does not name, is drawn where there are such faces.
    """
    with drawing(path, 5.6 * len(matrices), 5.6) as figure:
        for axes, (title, matrix) in zip(_panels(figure, 1, len(matrices)), matrices.items(), strict=True):
            confusion = matrix if matrix[-1].any() else matrix[:-1]
            support = confusion.sum(axis=1, keepdims=True)
            share = confusion / np.maximum(support, 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
            for (row, column), count in np.ndenumerate(confusion):
                colour = "white" if share[row, column] > 0.55 else "black"
                text = f"{share[row, column]:.0%}\n{count:,}"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
            names = [f"{name}\nn = {n:,}" for name, n in zip(_CONFUSION_LABELS, support[:, 0], strict=False)]
            axes.set_xticks(range(len(EXPRESSIONS)), EXPRESSIONS)
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.set(xlabel="predicted", ylabel="true", title=title)


def draw_per_class(path: str | Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Title -> `per_class` of `metrics.evaluate_faces`: precision (pale) and recall (full) with 95 % intervals."""
    with drawing(path, 7.2, 0.4 + 3 * len(sections)) as figure:
        for axes, (title, per_class) in zip(_panels(figure, len(sections), 1), sections.items(), strict=True):
            table = pd.DataFrame(per_class).T
            for side, measure, opacity, hatch in ((-0.2, "precision", 0.35, "///"), (0.2, "recall", 1.0, None)):
                edge: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.6, "hatch": hatch}
                places, colours = np.arange(len(table)) + side, [(COLOURS[name], opacity) for name in table.index]
                axes.bar(places, table[measure], 0.36, color=colours, **edge)
                axes.errorbar(places, table[measure], _ends(table, measure), fmt="none", **_ERROR_BARS)
                for place, value, high in zip(places, table[measure], table[f"{measure}_high"], strict=True):
                    axes.text(place, high + 0.02, f"{value:.2f}", ha="center", fontsize=7.5)
                axes.bar(0, 0, color=("#777777", opacity), label=measure, **edge)
            axes.set_xticks(range(len(per_class)), [f"{name}\nn = {row['n']:,}" for name, row in per_class.items()])
            axes.tick_params(axis="x", length=0)
            axes.set_ylim(0, 1.1)
            axes.grid(axis="y")
            axes.set_ylabel("fraction, 95 % interval")
            axes.set_title(title, loc="left")
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)


def draw_reliability(path: str | Path, sections: Mapping[str, tuple[pd.DataFrame, float]]) -> None:
    """Title -> reliability table (bins of equally many faces) and calibration error.

    Bars are 95 % intervals of a bin's accuracy (Agresti and Coull, The American Statistician 52, 1998).
    """
    with drawing(path, 4.2 * len(sections), 4.4) as figure:
        for axes, (title, (table, ece)) in zip(_panels(figure, 1, len(sections)), sections.items(), strict=True):
            accuracy, faces = table["accuracy"], table["faces"]
            centre = (accuracy * faces + 2) / (faces + 4)
            error = 1.96 * np.sqrt(centre * (1 - centre) / (faces + 4))
            ends = [accuracy - (centre - error).clip(0, accuracy), (centre + error).clip(accuracy, 1) - accuracy]
            axes.plot([0, 1], [0, 1], color="#777777", linestyle="--", linewidth=1, label="perfect calibration")
            label = f"{faces.min() if len(faces) else 0:,} faces or more a point"
            points = {"color": TRAIN_COLOUR, "marker": "o", "markersize": 4, "capsize": 2, "label": label}
            axes.errorbar(table["confidence"], accuracy, yerr=ends, **points)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability of the answer", ylabel="share that is right")
            axes.set_aspect("equal")
            axes.set_title(title)
            axes.text(0.97, 0.05, f"ECE {ece:.3f}", ha="right", transform=axes.transAxes, fontsize=10)
            axes.legend(loc="upper left")
            axes.grid()


def draw_risk_coverage(
    path: str | Path, curves: Mapping[str, tuple[pd.DataFrame, float]], uncertain_below: float
) -> None:
    """Title -> `calibration.risk_coverage` and the accuracy that is wanted: accuracy against the share answered."""
    with drawing(path, 7.2, 4) as figure:
        axes = figure.add_subplot()
        for (title, (curve, wanted)), colour in zip(curves.items(), _LINES, strict=False):
            axes.plot(100 * curve["coverage"], curve["accuracy"], color=colour, label=title)
            axes.axhline(wanted, color=colour, linestyle=":", linewidth=1)
            for threshold in (uncertain_below, 0.6, 0.8):
                row = curve[np.isclose(curve["threshold"], threshold)]
                for x, y in zip(100 * row["coverage"], row["accuracy"], strict=True):
                    axes.plot(x, y, "o", color=colour, markersize=4)
                    axes.annotate(f"{threshold:g}", (x, y), (3, 4), textcoords="offset points", fontsize=8)
        axes.set(xlim=(0, 104), ylim=(None, 1.04), xlabel="faces answered (%)", ylabel="answers that are right")
        axes.set_title("Numbers: threshold of probability. Dotted: accuracy wanted", loc="left", fontsize=9)
        axes.grid()
        axes.legend(loc="lower left", fontsize=8)


def draw_conditions(path: str | Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Title -> condition -> groups of `failures.by_condition`."""
    shown = [name for name in CONDITIONS if any(name in section for section in sections.values())] or [*CONDITIONS]
    with drawing(path, 3.4 * len(shown), 3.6) as figure:
        for axes, name in zip(_panels(figure, 1, len(shown), sharey=True), shown, strict=True):
            for (title, section), colour in zip(sections.items(), _LINES, strict=False):
                table = pd.DataFrame(section.get(name, []))
                if table.empty:
                    continue
                middle = np.sqrt(np.maximum(table["from"], 1) * table["to"])
                points = {"color": colour, "marker": "o", "markersize": 4, "capsize": 2, "label": title}
                axes.errorbar(middle, table["accuracy"], _ends(table, "accuracy"), **points)
            if name != "brightness":
                axes.set_xscale("log")
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
            axes.set_xlabel(CONDITIONS[name])
            axes.grid()
        figure.axes[0].set(ylabel="accuracy, 95 % interval", ylim=(0, 1))
        if figure.axes[-1].has_data():
            figure.axes[-1].legend(loc="lower right", fontsize=8)


def draw_corruptions(path: str | Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Title -> figures of `failures.by_corruption`: accuracy at each strength; the first point is the face as it is."""
    kinds = [name for name, value in next(iter(sections.values())).items() if isinstance(value, Mapping)]
    with drawing(path, 2.3 * len(kinds), 3.2) as figure:
        for axes, kind in zip(_panels(figure, 1, len(kinds), sharey=True), kinds, strict=True):
            for (title, section), colour in zip(sections.items(), _LINES, strict=False):
                values = [section["none"], *section[kind].values()]
                axes.plot(values, color=colour, marker="o", markersize=4, label=f"{title}, n = {section['n']:,}")
                axes.set_xticks(range(len(values)), ["as is", *section[kind]])
            name, _, unit = kind.partition(" (")
            axes.set_title(name)
            axes.set_xlabel(unit.rstrip(")"))
            axes.grid()
        figure.axes[0].set(ylabel="accuracy", ylim=(0, 1))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sections))


def draw_learning_curves(path: str | Path, history: pd.DataFrame) -> None:
    """Loss and accuracy of train and validation over the epochs, the teacher's apart from the network's own.

    history: epoch, phase, loss, accuracy, val_loss, val_accuracy, kept: the epoch that was kept is marked, or all whose
    mean was. The start of a later phase of one network is a dashed line.
    """
    is_teacher = history["phase"] == "teacher"
    networks = {"teacher": history[is_teacher], "the network itself": history[~is_teacher]}
    networks = {name: rows for name, rows in networks.items() if len(rows)}
    with drawing(path, 7.2, 3 * len(networks)) as figure:
        panels = iter(_panels(figure, len(networks), 2))
        for name, rows in networks.items():
            for measure in ("loss", "accuracy"):
                axes = next(panels)
                marker = "o" if len(rows) <= 2 else None  # a line of one point cannot be seen
                for column, colour, label in (
                    (measure, TRAIN_COLOUR, "train"),
                    (f"val_{measure}", VALIDATION_COLOUR, "validation"),
                ):
                    axes.plot(rows["epoch"], rows[column], color=colour, label=label, marker=marker, markersize=4)
                kept = rows[rows["kept"].astype(bool)]
                if len(kept):
                    last = kept["epoch"].iloc[-1]
                    label = f"kept: epoch {last}" if len(kept) == 1 else f"kept: mean of {len(kept)} epochs, to {last}"
                    values = (kept["epoch"], kept[f"val_{measure}"])
                    axes.plot(*values, "o", markersize=7, color="none", markeredgecolor="black", label=label)
                for start in rows["epoch"][1:][(rows["phase"] != rows["phase"].shift())[1:]]:
                    axes.axvline(start - 0.5, color="#777777", linestyle="--", linewidth=1)
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.set(xlabel="epoch", ylabel=measure)
                axes.set_title(name, loc="left")
                axes.grid()
                axes.legend(loc="best", fontsize=8)


def draw_class_distribution(path: str | Path, distribution: pd.DataFrame) -> None:
    """Faces per class after each data stage, stages that changed no count under one name.

    distribution: stage, expression, faces; drawn in the order given.
    """
    counts = distribution.pivot_table(index="stage", columns="expression", values="faces", aggfunc="sum", sort=False)
    counts = counts.reindex(columns=list(EXPRESSIONS)).fillna(0).astype(int)
    groups = (counts != counts.shift()).any(axis=1).cumsum()
    names = [",\n".join(rows.index) for _, rows in counts.groupby(groups, sort=False)]
    counts = counts[~groups.duplicated()]
    with drawing(path, max(7.2, 1.3 * len(names) + 1), 3.6) as figure:
        axes = figure.add_subplot()
        width = 0.85 / len(EXPRESSIONS)
        for code, name in enumerate(EXPRESSIONS):
            places = np.arange(len(names)) + (code - (len(EXPRESSIONS) - 1) / 2) * width
            axes.bar(places, counts[name], width, color=COLOURS[name], edgecolor="black", linewidth=0.4, label=name)
        totals = counts.sum(axis=1)
        axes.set_xticks(range(len(names)), [f"{name}\nn = {n:,}" for name, n in zip(names, totals, strict=True)])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_ylabel("faces")
        axes.grid(axis="y")
        axes.legend(ncols=len(EXPRESSIONS), loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8, columnspacing=1.2)


def _panels(figure: Figure, rows: int, columns: int, *, sharey: bool = False) -> list[Any]:
    """rows x columns axes, row by row."""
    return list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)


def _ends(table: pd.DataFrame, measure: str) -> np.ndarray:
    """How far the 95 % interval reaches below and above each value, `(2, N)`."""
    return np.abs(table[[f"{measure}_low", f"{measure}_high"]].to_numpy() - table[[measure]].to_numpy()).T
