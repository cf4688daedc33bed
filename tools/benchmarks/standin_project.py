"""A small project with stand-in trainings: what `src.cluster` does costs the same there, and the rest next to nothing.

`make_project(folder)` makes a bare Git repository, a DVC remote that is a folder, and the clone of who calls. Stages
are `train` and `evaluate`, with this project's params.yaml and src/. An epoch sleeps `$STANDIN_S` seconds and works
`$STANDIN_CPU_S` (default 0); the weights depend on the data, the parameters and the number of epochs alone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INPUT = "data/processed/smote"

DVC_YAML = """
stages:
  smote: {cmd: python standin.py smote, deps: [standin.py], params: [smote], outs: [data/processed/smote]}
  train:
    cmd: python standin.py train
    deps: [data/processed/smote, standin.py]
    params: [train]
    outs: [models/train, metrics/details/train.json: {cache: false}]
  evaluate:
    cmd: python standin.py evaluate
    deps: [models/train, standin.py]
    metrics: [metrics/evaluate.json: {cache: false}]
"""

STANDIN = """
import hashlib, json, os, pathlib, random, sys, time
import yaml

stage, params = sys.argv[1], yaml.safe_load(open("params.yaml"))
train, data = params["train"], pathlib.Path("data/processed/smote")
size, backend = 100_000, os.environ.get("KERAS_BACKEND")
os.makedirs("metrics/details", exist_ok=True)
if stage == "smote":
    data.mkdir(parents=True)
    (data / "images.npy").write_bytes(random.Random(params["smote"]["seed"]).randbytes(size))
elif stage == "train":
    weights = hashlib.sha256((data / "images.npy").read_bytes() + json.dumps(train).encode()).hexdigest()
    state = pathlib.Path(".train_state", weights[:16] + ".json")
    state.parent.mkdir(exist_ok=True)
    epoch = 0
    if state.exists():
        epoch, weights = json.loads(state.read_text())
        print("continuing after epoch", epoch, flush=True)
    while epoch < train["epochs"]:
        time.sleep(float(os.environ.get("STANDIN_S", 0)))
        busy = time.process_time() + float(os.environ.get("STANDIN_CPU_S", 0))
        while time.process_time() < busy:
            pass
        if train["learning_rate"] > 5:
            sys.exit("error: Training diverged in epoch 1: the loss is nan.")
        epoch, weights = epoch + 1, hashlib.sha256(weights.encode()).hexdigest()
        state.with_suffix(".new").write_text(json.dumps([epoch, weights]))
        state.with_suffix(".new").replace(state)
    model = pathlib.Path("models/train")
    model.mkdir(parents=True)
    (model / "network.npz").write_bytes(random.Random(weights).randbytes(size))
    report = {"precision": "float32", "backend": backend, "cores": sorted(os.sched_getaffinity(0))}
    pathlib.Path("metrics/details/train.json").write_text(json.dumps(report))
    state.unlink()
else:
    digest = hashlib.sha256(pathlib.Path("models/train/network.npz").read_bytes()).digest()
    val = {"f1": digest[0] / 256, "fer+": digest[1] / 256}
    pathlib.Path("metrics/evaluate.json").write_text(json.dumps({"val": val, "backend": backend}))
"""


def environment(**variables: str) -> dict[str, str]:
    """Of this process without its settings of DVC, Git and this project, and with this Python first on PATH."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "FER_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**inherited, "PATH": path, "DVC_NO_ANALYTICS": "1", "DVC_TEST": "1", **variables}


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In `folder`, with the environment above. Raises RuntimeError on failure."""
    around = environment(**{"KERAS_BACKEND": "tensorflow", **variables})
    result = subprocess.run(command, cwd=folder, env=around, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result


def make_project(folder: Path, remote: str = "") -> Path:
    """`folder`/team.git, `folder`/store (or the DVC remote named), and the clone `folder`/caller, which is returned.

    The data is on the remote and in nobody's cache.
    """
    caller = folder / "caller"
    caller.mkdir(parents=True)
    shutil.copytree(ROOT / "src", caller / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", ".gitignore"):
        shutil.copyfile(ROOT / name, caller / name)
    (caller / "standin.py").write_text(STANDIN, encoding="utf-8")
    (caller / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (folder / "store").mkdir()
    run(folder, "git", "init", "-q", "--bare", "-b", "main", "team.git")
    run(caller, "git", "init", "-q", "-b", "main")
    for words in ("git config user.name t", "git config user.email t@example.org", "dvc init -q"):
        run(caller, *words.split())
    run(caller, "git", "remote", "add", "origin", str(folder / "team.git"))
    run(caller, "dvc", "remote", "add", "-q", "-d", "storage", remote or str(folder / "store"))
    for words in ("dvc repro -q", "git add -A", "git commit -qm project", "git push -q origin main"):
        run(caller, *words.split())
    if not remote:
        forget_data(caller)
    return caller


def forget_data(caller: Path, **variables: str) -> None:
    """Push what DVC has, and leave the clone without it."""
    run(caller, "dvc", "push", "-q", **variables)
    shutil.rmtree(caller / ".dvc/cache")
    shutil.rmtree(caller / INPUT)
