"""The leaderboard as pictures: figures with their intervals, and learning curves."""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.evaluation.plots import drawing

# Okabe and Ito, in the order of the entries.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_GROUPS = {"validation": "validation, all", "test_fer2013": "test, FER2013", "test_expw": "test, ExpW"}


def draw_leaderboard(path: str | Path, table: pd.DataFrame) -> None:
    """One line per entry, the best on validation on top: accuracy with its 95 % interval, and macro F1 (hollow)."""
    ranked = table.sort_values("validation_accuracy", kind="stable").reset_index(drop=True)
    with drawing(path, 9.6, 1.6 + 0.42 * len(ranked)) as figure:
        axes = figure.subplots(1, len(_GROUPS), sharey=True)
        for place, (group, title) in enumerate(_GROUPS.items()):
            accuracy, colour = ranked[f"{group}_accuracy"], _COLOURS[place]
            reach = [accuracy - ranked[f"{group}_accuracy_low"], ranked[f"{group}_accuracy_high"] - accuracy]
            axes[place].errorbar(accuracy, ranked.index, xerr=reach, fmt="o", color=colour, capsize=2, label="accuracy")
            axes[place].plot(
                ranked[f"{group}_macro_f1"], ranked.index, "o", color=colour, fillstyle="none", label="macro F1"
            )
            axes[place].set_title(f"{title}\n(n = {_count(ranked[f'{group}_n'])})")
            axes[place].xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
            axes[place].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes[place].grid(axis="x")
            axes[place].legend(loc="lower right", fontsize=7)
        names = [f"{row['name']}: {row['title']}" for _, row in ranked.iterrows()]
        axes[0].set_yticks(ranked.index, names)
        axes[0].set_ylim(-0.7, len(ranked) - 0.3)


def _count(numbers: pd.Series) -> str:
    """The number of faces; a range where entries differ."""
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def draw_curves(path: str | Path, curves: dict[str, pd.DataFrame]) -> None:
    """Accuracy by epoch: validation solid; train, as seen under dropout, augmentation and mixup, dotted.

    A panel for each kind of entry, the first word of its name. A teacher's epochs are left out: it is an entry itself.
    """
    kinds: dict[str, dict[str, pd.DataFrame]] = {}
    for name, curve in curves.items():
        kinds.setdefault(name.partition("-")[0], {})[name] = curve[curve["phase"] != "teacher"]
    with drawing(path, 1.5 + 3.2 * len(kinds), 4.6) as figure:
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, group in zip(panels, kinds.values(), strict=True):
            for place, (name, curve) in enumerate(group.items()):
                colour = _COLOURS[place % len(_COLOURS)]
                epochs = range(1, len(curve) + 1)
                axes.plot(epochs, curve["val_accuracy"], color=colour, label=name)
                axes.plot(epochs, curve["accuracy"], ":", color=colour, linewidth=1)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid()
            axes.legend(loc="lower right", fontsize=8)
        panels[0].set_ylabel("accuracy: validation (solid), train as trained on (dotted)")
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
