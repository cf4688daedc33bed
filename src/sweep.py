"""Try several values of some parameters: queued DVC experiments whose names say what differs, then a table.

    python -m src.sweep train.backbone=cnn,compact train.seed=1,2           # four experiments
    python -m src.sweep smote.enabled=true,false train.epochs=16 --jobs 2   # two; epochs is the same in both

Every combination of the values is checked before anything is queued. An experiment that fails does not stop the others.
params.yaml is afterwards as it was. The experiments are ordinary ones: `dvc exp show`, `dvc exp apply NAME`.
"""

import argparse
import copy
import itertools
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from src.errors import UserError, run_program
from src.experiments import experiment_commits, file_at
from src.params import load_params, parse_params
from src.storage import replace_file

PARAMS = Path("params.yaml")
_POLL_S = 5.0
_FINISHED = ("Success", "Failed")
_IDLE_POLLS = 12  # after so many without a running experiment nobody works on the queue any more


@dataclass(frozen=True)
class Experiment:
    """name, and the settings that `dvc exp run -S` gets, in the order given."""

    name: str
    settings: tuple[str, ...]


def plan(words: list[str], content: dict[str, Any], prefix: str = "") -> list[Experiment]:
    """Every combination of the values in `key=value,value`, named after the keys that have several.

    content: params.yaml as a mapping. Raises UserError for a word that is no setting, a key that is not there, or a
    value that it does not take.
    """
    axes = []
    for word in words:
        key, equals, values = word.partition("=")
        if not equals or not values:
            raise UserError(f"{word!r} is no setting; expected key=value or key=value,value, as in train.seed=1,2.")
        axes.append([(key, value) for value in values.split(",")])
    varied = {axis[0][0] for axis in axes if len(axis) > 1}
    experiments = []
    for combination in itertools.product(*axes):
        changed = copy.deepcopy(content)
        for key, value in combination:
            _set(changed, key, value)
        parse_params(changed)
        parts = [f"{key.removeprefix('train.')}-{value}" for key, value in combination if key in varied]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join([prefix, *parts] if prefix else parts)).strip("-")
        experiments.append(Experiment(name or "single", tuple(f"{key}={value}" for key, value in combination)))
    names = [experiment.name for experiment in experiments]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise UserError(f"Two experiments would have the same name: {', '.join(double)}. Give each value once.")
    return experiments


def _set(content: dict[str, Any], key: str, value: str) -> None:
    """Change a parameter; one that is not there is left to `parse_params`, which names the nearest."""
    *path, last = key.split(".")
    for name in path:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise UserError(f"params.yaml: {key} is not a parameter; {name} has no keys below it.")
    try:
        content[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise UserError(
            f"{key}={value} is no value that params.yaml can hold. Several values are separated by commas, without "
            "brackets: train.seed=1,2."
        ) from None


def _dvc(*words: str, check: bool = True) -> str:
    result = subprocess.run(["dvc", *words], capture_output=True, text=True)
    if check and result.returncode:
        message = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise UserError(f"`dvc {' '.join(words)}` failed: {message[0] if message else result.returncode}")
    return result.stdout


def _statuses() -> dict[str, str]:
    """Name of every task of the queue -> Queued, Running, Success or Failed."""
    found = {}
    for line in _dvc("queue", "status").splitlines():
        columns = line.split()
        if len(columns) >= 3 and columns[-1] in ("Queued", "Running", *_FINISHED):
            found[columns[1]] = columns[-1]
    return found


def queue(experiments: list[Experiment]) -> None:
    """Put them into DVC's queue. Raises UserError when a name is taken, and then queues none."""
    taken = set(_dvc("exp", "list", "--name-only").split()) | set(_statuses())
    again = [experiment.name for experiment in experiments if experiment.name in taken]
    if again:
        raise UserError(
            f"There are experiments of these names already: {', '.join(again)}. Remove them (`dvc exp remove NAME`, "
            "`dvc queue remove NAME`), or give the new ones a prefix: --name second."
        )
    before = PARAMS.read_bytes()
    try:
        for experiment in experiments:
            settings = [word for setting in experiment.settings for word in ("-S", setting)]
            _dvc("exp", "run", "--queue", "--name", experiment.name, *settings)
            print(f"queued {experiment.name}: {' '.join(experiment.settings)}")
    finally:
        if PARAMS.read_bytes() != before:
            with replace_file(PARAMS) as partial:
                partial.write_bytes(before)


def wait(experiments: list[Experiment], jobs: int) -> dict[str, str]:
    """Start the workers; returns when all have ended, or nothing goes on: name -> its last status, or Removed."""
    _dvc("queue", "start", "--jobs", str(jobs))
    names = [experiment.name for experiment in experiments]
    ended: dict[str, str] = {}
    idle = 0
    with tqdm(total=len(names), desc="experiments", disable=None) as bar:
        while len(ended) < len(names):
            time.sleep(_POLL_S)
            status = _statuses()
            ended = {name: status[name] for name in names if status.get(name) in _FINISHED}
            bar.update(len(ended) - bar.n)
            idle = 0 if "Running" in status.values() else idle + 1
            if idle >= _IDLE_POLLS and len(ended) < len(names):  # removed from the queue, or its workers stopped
                return {name: status.get(name, "Removed") for name in names}
    return ended


def table(ended: dict[str, str]) -> str:
    """Validation figures, the best first; of the failed ones what went wrong."""
    revisions = experiment_commits()
    rows, failed = [], []
    for name, status in ended.items():
        content = file_at(revisions[name], "metrics/evaluate.json") if name in revisions else None
        if status == "Success" and content is not None:
            figures = json.loads(content)["validation"]["all"]
            rows.append((figures["accuracy"], name, figures))
        elif status not in _FINISHED:
            failed.append(f"{name}: not run ({status.lower()}); `dvc queue start` goes on with what is queued")
        else:
            lines = _dvc("queue", "logs", name, check=False).splitlines()
            reasons = [line for line in lines if line.startswith("error: ")]
            failed.append(f"{name}: failed: {reasons[-1] if reasons else f'see `dvc queue logs {name}`'}")
    width = max([len(name) for name in ended], default=0)
    lines = [f"{'validation':{width}}       n  accuracy (95 %)      macro F1    loss"] if rows else []
    for _, name, row in sorted(rows, key=lambda item: -item[0]):
        interval = f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f}-{row['accuracy_high']:.3f})"
        lines.append(f"{name:{width}} {row['n']:>7,}  {interval}  {row['macro_f1']:>8.3f}  {row['loss']:>6.3f}")
    return "\n".join([*lines, *failed])


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of experiments; expected 1 or more")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.sweep",
        description="Run every combination of parameter values as queued DVC experiments, named after what differs, "
        "and compare them on validation.",
        allow_abbrev=False,
    )
    parser.add_argument("settings", nargs="+", metavar="KEY=VALUE[,VALUE]", help="as in train.backbone=cnn,compact")
    parser.add_argument("--name", default="", help="prefix of the experiments' names")
    parser.add_argument("--jobs", type=_jobs, default=1, help="experiments at a time (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be run")
    options = parser.parse_args()
    if not shutil.which("dvc"):
        raise UserError("`dvc` is not on PATH. Run `source .venv/bin/activate` first.")
    load_params(PARAMS)  # its message about a missing or damaged file
    experiments = plan(options.settings, yaml.safe_load(PARAMS.read_text(encoding="utf-8")), options.name)
    if options.dry_run:
        print("\n".join(f"{experiment.name}: {' '.join(experiment.settings)}" for experiment in experiments))
        return
    queue(experiments)
    try:
        ended = wait(experiments, options.jobs)
    except KeyboardInterrupt:
        raise UserError(
            "interrupted; the queue goes on without you. `dvc queue status` shows it, `dvc queue stop --kill` ends it."
        ) from None
    print(table(ended))
    if "Success" not in ended.values():
        raise UserError("No experiment succeeded.")


if __name__ == "__main__":
    run_program(main)
