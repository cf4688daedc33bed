"""Run the whole pipeline on the bundled sample as an isolated DVC experiment; show what comes out.

`make demo`, or `python -m tools.demo`; 80 s on two idle cores with AVX-512, two and a half minutes with AVX2. Leaves
params.yaml, dvc.lock, metrics/, models/ of the workspace as they are. Writes build/demo: metrics/, plots/, models/ (the
exported model and its card), and a drawn clip that the model just exported has annotated, with its table and timeline.
Each run replaces the last one and its experiment, which build/demo/experiment.txt names; other experiments stay,
whatever they are called.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

from src.errors import UserError, run_program
from src.report.experiments import experiment_commits
from src.storage import replace_directory
from tools.drawn_faces import draw_clip

OUTPUT = Path("build/demo")
NAME_FILE = OUTPUT / "experiment.txt"  # name and commit
CLIP_RATE = 25.0  # frames per second
CLIP_SIZE = (640, 480)  # pixels
# The sample is small: small batches give more than 6 steps an epoch. Drawn faces share strokes that photographs do not,
# so only those that agree almost fully are copies: unrelated ones reach .89, copies have 1.
SETTINGS = (
    *("dataset=sample", "split.copy_similarity=0.95", "train.teacher_epochs=0", "train.epochs=9"),
    *("train.average_epochs=2", "train.batch_size=32", "train.learning_rate=0.03"),
    *("export.int8=false", "export.multiview=false"),
)


def _git_identity() -> dict[str, str]:
    """Who commits the experiment, where Git does not know the user yet: DVC needs somebody."""
    if not subprocess.run(["git", "config", "user.email"], stdout=subprocess.DEVNULL).returncode:
        return {}
    names = {"NAME": "demo", "EMAIL": "demo@localhost"}
    return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in names.items()}


def _run(*command: str) -> None:
    """Run a command; its output is shown as it comes. Raises UserError on failure."""
    environment = {**_git_identity(), **os.environ, "WANDB_MODE": "disabled", "TQDM_MININTERVAL": "1"}
    result = subprocess.run(command, env=environment)
    if result.returncode:
        raise UserError(f"`{' '.join(command)}` failed with exit code {result.returncode}; its message is above.")


def _remove_last_experiment() -> None:
    note = NAME_FILE.read_text(encoding="utf-8").strip() if NAME_FILE.is_file() else ""
    for name, commit in experiment_commits().items():
        if note == f"{name} {commit}":
            _run("dvc", "exp", "remove", "-q", name)


def _collect(name: str, commit: str) -> None:
    """Copy metrics, plots and the exported model of the experiment into build/demo."""
    with replace_directory(OUTPUT) as partial:
        archive = subprocess.run(["git", "archive", commit, "metrics", "plots"], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(partial)], input=archive.stdout, check=True)
        (partial / "models").mkdir()
        for folder in ("plots/faces", "plots/leaderboard"):  # Git knows a .gitignore only; of the real data
            shutil.rmtree(partial / folder, ignore_errors=True)
        (partial / "metrics/leaderboard.csv").unlink(missing_ok=True)
        for path in ("models/export", "models/model_card.md", "plots/faces"):
            _run("dvc", "get", "-q", ".", path, "--rev", commit, "-o", str(partial / path), "--force")
        (partial / NAME_FILE.name).write_text(f"{name} {commit}\n", encoding="utf-8")


def _print_table() -> None:
    test = json.loads((OUTPUT / "metrics/details/evaluate.json").read_text(encoding="utf-8"))["test"]
    rows = [
        (section, row["n"], row["accuracy"], "{accuracy_low:.3f} to {accuracy_high:.3f}".format(**row), row["macro_f1"])
        for section, row in test.items()
    ]
    heads = ("test faces (drawn)", "n", "accuracy", "95 % interval", "macro F1")
    print("\n" + tabulate(rows, heads, floatfmt=".3f"))


def _recognize_clip() -> None:
    """Draw a short clip of two faces and let the real-time program name their expressions."""
    writer = cv2.VideoWriter(str(OUTPUT / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), CLIP_RATE, CLIP_SIZE)
    for frame, _ in draw_clip(np.random.default_rng(42), seconds=4.0, frames_per_second=CLIP_RATE, size=CLIP_SIZE):
        writer.write(frame)
    writer.release()
    files = {"--source": "clip.mp4", "--model": "models/export/model.onnx", "--output": "annotated.mp4"}
    files |= {"--csv": "faces.csv", "--summary": "timeline.png"}
    # Haar is built in: the demo must not depend on a download.
    command = (sys.executable, "-m", "src.realtime", "--headless", "--detector", "haar")
    _run(*command, *(word for option, name in files.items() for word in (option, str(OUTPUT / name))))


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not shutil.which("dvc"):
        raise UserError("`dvc` is not on PATH. Run `make demo`, which uses the project's own .venv.")
    name = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    _run("dvc", "exp", "run", "--temp", "--name", name, *(word for setting in SETTINGS for word in ("-S", setting)))
    commit = experiment_commits().get(name)
    if commit is None:
        raise UserError("The experiment left no result. Its messages are above; `dvc exp show` lists what is there.")
    _remove_last_experiment()
    _collect(name, commit)
    print("\nrecognizing expressions in a drawn clip", flush=True)
    _recognize_clip()
    _print_table()
    print(f"\nIn {OUTPUT}: annotated.mp4, timeline.png, faces.csv; metrics/, plots/ (see confusion.png), models/")
    print(f"Compare with your own experiments: dvc exp show; remove it: dvc exp remove {name}")


if __name__ == "__main__":
    run_program(main)
