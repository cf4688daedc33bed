"""Our recipes and the reference systems on the same split: one table and two pictures, rebuilt from the experiments.

    python -m tools.leaderboard                      metrics/leaderboard.csv and the pictures in plots/leaderboard
    python -m tools.leaderboard --list               the entries, and the settings of each
    python -m tools.leaderboard --run reference-2    run it first, as a DVC experiment; hours for some

An entry is a DVC experiment, or a commit of this repository. Experiments live in the clone they ran in (there
`dvc exp apply NAME` brings one back): an entry that this clone lacks keeps the row and the learning curve that are
committed. One that was run with other settings than the entry's is left out.
"""

import argparse
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from src.errors import UserError, run_program
from src.report.experiments import experiment_commits
from src.storage import replace_file
from tools.leaderboard.drawing import draw_curves, draw_leaderboard
from tools.leaderboard.entries import ENTRIES, Entry
from tools.leaderboard.table import COLUMNS, differences, find_commit, read_curve, read_row

TABLE = Path("metrics/leaderboard.csv")
FOLDER = Path("plots/leaderboard")
PICTURE = FOLDER / "accuracy.png"
CURVES_PICTURE = FOLDER / "curves.png"
CURVES = FOLDER / "curves"


def run(entry: Entry) -> None:
    """`dvc exp run` in a copy of the project; a killed one goes on where it was. Raises UserError on failure.

    An experiment of that name is replaced when the new one has succeeded.
    """
    before = entry.name in experiment_commits()
    name = f"{entry.name}-again" if before else entry.name
    if before and name in experiment_commits():
        _dvc("exp", "remove", "--quiet", name)
    settings = [word for setting in entry.settings for word in ("-S", setting)]
    _dvc("exp", "run", "--temp", "--name", name, *settings)
    if before:
        _dvc("exp", "remove", "--quiet", entry.name)
        _dvc("exp", "rename", "--quiet", name, entry.name)


def _dvc(*words: str) -> None:
    if subprocess.run(["dvc", *words]).returncode:
        raise UserError(f"`dvc {' '.join(words[:2])}` failed; its message is above.")


def _committed_rows() -> dict[str, dict[str, Any]]:
    if not TABLE.is_file():
        return {}
    try:
        table = pd.read_csv(TABLE)
    except ValueError as error:
        raise UserError(f"{TABLE} is damaged ({error}). `git checkout {TABLE}` restores it.") from error
    if list(table.columns) != list(COLUMNS):
        raise UserError(f"{TABLE} has other columns than expected. `git checkout {TABLE}` restores it.")
    return {str(row["name"]): {str(key): value for key, value in row.items()} for _, row in table.iterrows()}


def rebuild() -> None:
    """Write the table and both pictures. Raises UserError when there is nothing to show."""
    known, rows = experiment_commits(), _committed_rows()
    for entry in ENTRIES:
        commit = find_commit(entry, known)
        if commit:
            differing = differences(entry, commit)
            if differing:
                print(f"{entry.name}: left out, {commit[:10]} was run with other settings: {', '.join(differing)}")
                continue
            try:
                rows[entry.name] = read_row(entry, commit)
                curve = read_curve(commit)
            except (LookupError, ValueError) as error:
                raise UserError(
                    f"the experiment {entry.name} ({commit[:10]}) is incomplete ({error}). Run it again: "
                    f"`python -m tools.leaderboard --run {entry.name}`, or remove it: `dvc exp remove {entry.name}`."
                ) from error
            CURVES.mkdir(parents=True, exist_ok=True)
            with replace_file(CURVES / f"{entry.name}.csv") as partial:
                curve.to_csv(partial, index=False, lineterminator="\n")
        elif entry.name not in rows:
            print(f"{entry.name}: not run yet; `python -m tools.leaderboard --run {entry.name}` does")
    rows = {entry.name: {**rows[entry.name], "title": entry.title} for entry in ENTRIES if entry.name in rows}
    if not rows:
        raise UserError("no entry of the leaderboard has been run. Run one: `python -m tools.leaderboard --list`.")
    table = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    table = table.sort_values("validation_accuracy", ascending=False, kind="stable")
    with replace_file(TABLE) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    draw_leaderboard(PICTURE, table)
    curves = {name: pd.read_csv(CURVES / f"{name}.csv") for name in rows if (CURVES / f"{name}.csv").is_file()}
    draw_curves(CURVES_PICTURE, curves)
    print(summary(table))


def summary(table: pd.DataFrame) -> str:
    """The table for the screen, best on validation first."""
    lines = [f"{'':14}validation  FER2013 test (95 %)    macro F1   ExpW  train"]
    for _, row in table.iterrows():
        interval = f"({row['test_fer2013_accuracy_low']:.3f}-{row['test_fer2013_accuracy_high']:.3f})"
        train = "" if pd.isna(row["train_accuracy"]) else f"{row['train_accuracy']:6.3f}"
        lines.append(
            f"{row['name']:14}{row['validation_accuracy']:10.3f}  {row['test_fer2013_accuracy']:.3f} {interval}"
            f"  {row['test_fer2013_macro_f1']:9.3f}  {row['test_expw_accuracy']:.3f} {train}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.leaderboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [entry.name for entry in ENTRIES if entry.settings]
    parser.add_argument("--list", action="store_true", help="show the entries and their settings")
    parser.add_argument("--run", nargs="+", default=[], choices=names, metavar="NAME", help="run these entries first")
    options = parser.parse_args()
    if options.list:
        for entry in ENTRIES:
            print(
                f"{entry.name}: {entry.title}\n    {' '.join(entry.settings) or f'the code of commit {entry.commit}'}"
            )
        return
    for entry in ENTRIES:
        if entry.name in options.run:
            run(entry)
    rebuild()


if __name__ == "__main__":
    run_program(main)
