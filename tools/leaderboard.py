"""Tables of experiments: our recipe beside the reference systems, and what each part of the recipe is worth.

    python -m tools.leaderboard                       metrics/leaderboard.csv and its picture
    python -m tools.leaderboard --ablations           docs/ablations.md
    python -m tools.leaderboard --list                the entries of both, and the settings of each
    python -m tools.leaderboard --queue reference-2   queue it (or several, or `ablations`); `dvc queue start` runs them

A row is a DVC experiment of this clone; `recipe-released` is what dvc.lock holds at HEAD. Its settings and the hashes
of its data are read from its own dvc.lock and stand in the row. Rows are ranked together only where validation and
test are the same to the byte. Rows of the leaderboard whose experiment this clone lacks stay as committed.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.errors import UserError, run_program
from src.evaluation.plots import drawing
from src.report.experiments import experiment_commits, file_at, flat
from src.storage import replace_file
from tools.entries import ABLATIONS, BASELINE, LEADERBOARD, Entry, runs_wanted

TABLE = Path("metrics/leaderboard.csv")
PICTURE = Path("plots/leaderboard/accuracy.png")
ABLATIONS_PAGE = Path("docs/ablations.md")
RELEASED = "recipe-released"
DATA = {"train": "data/processed/smote", "validation": "data/processed/split/validation",
        "test": "data/processed/split/test"}  # fmt: skip
SAME = ["validation", "test"]  # what rows of one table share
# Sections of metrics/details/evaluate.json, the one by which rows are ranked first.
SECTIONS = {"ferplus": "FER+", "fer2013": "FER2013's labels", "expw": "ExpW"}
GROUPS = {f"{split}_{key}": f"{split}, {title}" for split in SAME for key, title in SECTIONS.items()}  # of columns
MEASURES = ("n", "accuracy", "accuracy_low", "accuracy_high", "macro_f1")
RARE = ("disgust", "fear")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito


@dataclass(frozen=True)
class Run:
    """What a commit says of the run whose results it holds."""

    commit: str
    settings: dict[str, Any]  # every parameter, dotted
    data: dict[str, str]  # train, validation, test -> md5 of the manifest, shortened
    figures: dict[str, Any]  # metrics/details/evaluate.json
    training: dict[str, Any]  # metrics/details/train.json


def read_run(name: str, commit: str) -> Run:
    """Raises UserError when the commit lacks a file, or holds one that is not as the stages write it."""
    try:
        content = {
            path: (file_at(commit, path) or b"").decode()
            for path in ("dvc.lock", "metrics/details/evaluate.json", "metrics/details/train.json")
        }
        if missing := [path for path, text in content.items() if not text]:
            raise ValueError(f"it has no {missing[0]}")
        lock, figures, training = content.values()
        stages = yaml.load(lock, yaml.CSafeLoader)["stages"].values()
        settings: dict[str, Any] = {}
        for stage in stages:
            settings |= flat(stage.get("params", {}).get("params.yaml", {}))
        hashes = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
        data = {part: hashes[path][:12] for part, path in DATA.items()}
        return Run(commit[:10], settings, data, json.loads(figures), json.loads(training))
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"the experiment {name} ({commit[:10]}) is incomplete ({' '.join(str(error).split())}). Run it again: "
            f"`python -m tools.leaderboard --queue {name}`, or remove it: `dvc exp remove {name}`."
        ) from error


def runs_of(entries: Mapping[str, Entry]) -> dict[str, Run]:
    """Name -> run, of what this clone has; those whose settings are not the entry's are named and left out."""
    known, found, missing = experiment_commits(), {}, []
    for name, settings in (run for entry in entries.items() for run in runs_wanted(*entry)):
        if name not in known:
            missing.append(name)
            continue
        run = read_run(name, known[name])
        wanted = {key: yaml.safe_load(value) for key, _, value in (setting.partition("=") for setting in settings)}
        if others := [f"{key}={run.settings.get(key)}" for key in wanted if run.settings.get(key) != wanted[key]]:
            print(f"{name}: left out, it was run with other settings: {', '.join(others)}")
        else:
            found[name] = run
    if missing:
        print(f"not run in this clone: {', '.join(missing)}")
    return found


# --- the leaderboard ---


def row_of(run: Run) -> dict[str, Any]:
    """The row of a run as text: data, figures, then every setting."""
    row: dict[str, Any] = {"commit": run.commit, **run.data}
    row |= {key: run.training.get(key, "") for key in ("parameters", "epochs", "precision")}
    for split in SAME:
        for section in SECTIONS:
            figures = run.figures[split].get(section, {})
            row |= {f"{split}_{section}_{measure}": figures.get(measure, "") for measure in MEASURES}
    return {key: str(value) for key, value in (row | dict(sorted(run.settings.items()))).items()}


def rebuild() -> None:
    """Write the table and the picture. Raises UserError when there is nothing to show."""
    rows: dict[Any, dict[Any, str]] = {}
    if TABLE.is_file():
        try:
            old = pd.read_csv(TABLE, dtype=str, keep_default_na=False)
            old[["name", "title", *SAME]]  # a KeyError where it is another table
            rows = old.set_index("name", drop=False).to_dict("index")
        except (KeyError, ValueError) as error:
            raise UserError(f"{TABLE} is damaged ({error}). `git checkout {TABLE}` restores it.") from error
    runs = runs_of(LEADERBOARD)
    if file_at("HEAD", "dvc.lock"):
        command = ["git", "log", "-1", "--format=%H", "--", "dvc.lock", "metrics/details"]
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        runs = {RELEASED: read_run(RELEASED, commit), **runs}
    titles = {name: entry.title for name, entry in LEADERBOARD.items()} | {RELEASED: "the released model"}
    for name, run in runs.items():
        rows[name] = {"name": name, "title": titles[name], **row_of(run)}
    if not rows:
        raise UserError("nothing of the leaderboard has been run. `python -m tools.leaderboard --list` shows what can.")
    table = pd.DataFrame(list(rows.values())).fillna("")  # rows of other times have other settings
    tables = ranked_tables(table, rows.get(RELEASED, {}))
    with replace_file(TABLE) as partial:
        pd.concat(tables).to_csv(partial, index=False, lineterminator="\n")
    short = {name for name, entry in LEADERBOARD.items() if entry.too_short}
    drawn = [part[~part["name"].isin(short)] for part in tables]
    left_out = sorted(short & {name for part in tables for name in part["name"]})
    draw_accuracy(PICTURE, [part for part in drawn if len(part)], left_out)
    for part in tables:
        print(f"\n{_same_faces(part)}\n{summary(part)}")


def ranked_tables(table: pd.DataFrame, first: Mapping[str, str]) -> list[pd.DataFrame]:
    """One table for each pair of validation and test set, that of `first` before the larger ones; best on top."""
    groups = [group for _, group in table.groupby(SAME, sort=False)]
    groups.sort(key=lambda group: (any(group[part].iloc[0] != first.get(part) for part in SAME), -len(group)))
    return [group.loc[ranking(group).sort_values(ascending=False, kind="stable").index] for group in groups]


def _numbers(table: pd.DataFrame, column: str) -> pd.Series:
    return pd.to_numeric(table[column], errors="coerce")


def ranking(table: pd.DataFrame) -> pd.Series:
    """Validation accuracy by the first of `SECTIONS` that the table has."""
    columns = (_numbers(table, f"validation_{section}_accuracy") for section in SECTIONS)
    return next((column for column in columns if column.notna().all()), pd.Series(0.0, table.index))


def _same_faces(table: pd.DataFrame) -> str:
    """Which validation and test set a table is of, and how many faces each section has."""
    parts = []
    for split in SAME:
        counts = {title: _numbers(table, f"{split}_{section}_n").max() for section, title in SECTIONS.items()}
        shown = ", ".join(f"{title} {count:,.0f}" for title, count in counts.items() if count > 0)
        parts.append(f"{split} {table[split].iloc[0] or 'not recorded'} (n: {shown})")
    return "; ".join(parts)


def summary(table: pd.DataFrame) -> str:
    """Accuracies for the screen; intervals and macro F1 are in the file."""
    keys = {f"{group}_accuracy": title for group, title in GROUPS.items()}
    shown = table[["name", *(key for key in keys if (table[key] != "").any())]].rename(columns=keys)
    return shown.to_markdown(index=False, tablefmt="simple", disable_numparse=True)


def draw_accuracy(path: Path, tables: list[pd.DataFrame], left_out: list[str]) -> None:
    """Accuracy with its 95 % interval, and macro F1 (hollow); tables of other faces or labels below a line, since they
    are not ranked with those above it."""
    drawn = pd.concat(tables, ignore_index=True).iloc[::-1].reset_index(drop=True)
    groups = {key: title for key, title in GROUPS.items() if _numbers(drawn, f"{key}_accuracy").notna().any()}
    ranked_by = next((key for key in groups if key.startswith("validation")), "")
    groups = {key: title for key, title in groups.items() if key == ranked_by or key.startswith("test")}
    with drawing(path, 3.2 + 1.9 * len(groups), 1.6 + 0.42 * len(drawn)) as figure:
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for place, (axes, (group, title)) in enumerate(zip(panels, groups.items(), strict=True)):
            accuracy, low, high = (_numbers(drawn, f"{group}_accuracy{end}") for end in ("", "_low", "_high"))
            style: dict[str, Any] = {"color": _COLOURS[place], "capsize": 2, "label": "accuracy"}
            axes.errorbar(accuracy, drawn.index, xerr=[accuracy - low, high - accuracy], fmt="o", **style)
            macro_f1 = _numbers(drawn, f"{group}_macro_f1")
            axes.plot(macro_f1, drawn.index, "o", color=_COLOURS[place], fillstyle="none", label="macro F1")
            counts = sorted(set(_numbers(drawn, f"{group}_n").dropna()), reverse=True)
            axes.set_title(f"{title}\n(n = {' or '.join(f'{count:,.0f}' for count in counts)})", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], min_n_ticks=2))
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.grid(axis="x")
            below = len(drawn) - 0.5
            for part in tables[:-1]:
                below -= len(part)
                axes.axhline(below, color="#777777", linewidth=0.8)
        panels[0].legend(loc="lower right", fontsize=7)
        panels[0].set_yticks(drawn.index, [f"{row['name']}: {row['title']}" for _, row in drawn.iterrows()], fontsize=8)
        panels[0].set_ylim(-0.7, len(drawn) - 0.3)
        if left_out:
            figure.supxlabel(f"not drawn, too few epochs: {', '.join(left_out)}", fontsize=8)


# --- the ablations ---

PAGE = """# Ablations

What each part of the recipe is worth: one change at a time, `{backbone}`, {epochs} epochs unless said. Made by
`python -m tools.leaderboard --ablations` from DVC experiments; `--queue ablations` and `dvc queue start` run them.
All figures are of validation, on which defaults are chosen: the mean over the seeds, and from the lowest to the highest
where there are several. Test is not looked at. A difference smaller than the spread over seeds says nothing.
Rows stand in one table only where they were validated on the same faces with the same labels.
"""


def ablations_page(runs: Mapping[str, Run]) -> str:
    """docs/ablations.md. Raises UserError without a run of the baseline."""
    base = next((run for name, run in runs.items() if name.startswith(BASELINE)), None)
    if base is None:
        raise UserError(f"{BASELINE} has not been run. `python -m tools.leaderboard --queue ablations` queues it.")
    tables: dict[str, list[dict[str, Any]]] = {base.data["validation"]: []}
    for name, entry in ABLATIONS.items():
        named = {setting.partition("=")[0] for setting in entry.settings} | {"train.seed"}
        groups: dict[str, list[Run]] = {}
        for run in (runs[run_name] for run_name in runs if run_name.rpartition("-")[0] == name):
            others = {key for key in base.settings if base.settings[key] != run.settings.get(key)} - named
            others -= {setting.partition("=")[0] for setting in ABLATIONS[BASELINE].settings}
            if others:
                print(f"{name}: {run.commit} left out, it differs from the baseline in {', '.join(sorted(others))} too")
            else:
                groups.setdefault(run.data["validation"], []).append(run)
        for validation, same in groups.items():
            tables.setdefault(validation, []).append({"change": entry.title, **_means(same)})
    pages = [PAGE.format(backbone=base.settings["train.backbone"], epochs=base.settings["train.epochs"])]
    for validation, rows in tables.items():
        title = "On the same faces" if validation == base.data["validation"] else "On other faces or labels"
        pages.append(f"## {title} (validation {validation})\n")
        pages.append(pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True))
        pages.append("")
    return "\n".join(pages)


def _means(runs: list[Run]) -> dict[str, str]:
    """Mean and spread over seeds of what validation has; recall of the rare classes where it was measured."""
    shown = {"seeds": str(len(runs)), "train faces": f"{runs[0].training.get('train', {}).get('n', 0):,}"}
    for section, title in SECTIONS.items():
        found = [run.figures["validation"][section] for run in runs if section in run.figures["validation"]]
        if found:
            shown[title] = _spread([part["accuracy"] for part in found])
            shown[f"macro F1, {title}"] = _spread([part["macro_f1"] for part in found])
        for name in RARE:
            recalls = [part["per_class"][name]["recall"] for part in found if name in part.get("per_class", {})]
            if recalls:
                shown[f"{name}, {title}"] = _spread(recalls)
    return shown


def _spread(values: list[float]) -> str:
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


# --- the program ---


def queue(name: str, entry: Entry) -> None:
    """`dvc exp run --queue`, once for every seed; a killed training continues where it was."""
    taken = experiment_commits()
    for run_name, settings in runs_wanted(name, entry):
        if run_name in taken:
            print(f"{run_name} is there already; `dvc exp remove {run_name}` makes room for another run")
            continue
        command = ["dvc", "exp", "run", "--queue", "--name", run_name]
        if subprocess.run([*command, *(word for setting in settings for word in ("-S", setting))]).returncode:
            raise UserError(f"`dvc exp run --queue --name {run_name}` failed; its message is above.")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.leaderboard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    entries = LEADERBOARD | ABLATIONS
    parser.add_argument("--ablations", action="store_true", help="write docs/ablations.md instead of the leaderboard")
    parser.add_argument("--list", action="store_true", help="show the entries and their settings")
    parser.add_argument("--queue", nargs="+", choices=[*entries, "ablations"], metavar="NAME", help="queue experiments")
    options = parser.parse_args()
    if options.list:
        for name, entry in entries.items():
            print(f"{name}: {entry.title}{f', seeds {entry.seeds}' if entry.seeds else ''}")
            print(f"    {' '.join(entry.settings)}")
    elif options.queue:
        for name, entry in entries.items():
            if name in options.queue or ("ablations" in options.queue and name in ABLATIONS):
                queue(name, entry)
        print("`dvc queue start` runs what is queued, `dvc queue status` shows it")
    elif options.ablations:
        page = ablations_page(runs_of(ABLATIONS))
        with replace_file(ABLATIONS_PAGE) as partial:
            partial.write_text(page, encoding="utf-8")
        print(f"wrote {ABLATIONS_PAGE}")
    else:
        rebuild()


if __name__ == "__main__":
    run_program(main)
