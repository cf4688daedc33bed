"""Runs on real Dask workers, Git and DVC, while machines, remotes and the caller fail. The trainings are stand-ins."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("distributed")

from tests.conftest import Mount
from tests.drive_emulator import FOLDER, FOLDER_ID, USER, DriveEmulator
from tools.benchmarks.cluster_machines import Cluster, wait_until
from tools.benchmarks.standin_project import forget_data, make_project, run

pytest_plugins = ["tests.drive_fixtures"]
pytestmark = pytest.mark.slow
EPOCH_S = "0.3"
SLOW_RUN = ("-n", "slow", "-S", "train.epochs=20")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    caller = make_project(tmp_path)
    cluster = Cluster(tmp_path, caller, STANDIN_S=EPOCH_S)
    yield cluster
    cluster.stop()


@pytest.fixture
def two(cluster: Cluster) -> Cluster:
    cluster.add_worker("one")
    cluster.add_worker("two")
    return cluster


def at(cluster: Cluster, name: str, path: str) -> str:
    """A file of an experiment, in the caller's clone."""
    commit = cluster.experiments()[name]
    return run(cluster.caller, "git", "show", f"{commit}:{path}").stdout


def test_results_are_where_dvc_users_look(two: Cluster) -> None:
    output = two.run("-n", "try", "-S", "train.seed=1,2,3,4", "-S", "train.epochs=2")
    assert set(two.experiments()) == {"try-1", "try-2", "try-3", "try-4"}
    assert output.count(": val.f1") == 4
    shown = run(two.caller, "dvc", "exp", "show", "--csv").stdout
    assert all(f"try-{number}," in shown for number in (1, 2, 3, 4))
    table = output[output.index("name ") :].splitlines()[2:6]
    figures = [float(line.split()[2]) for line in table]
    assert figures == sorted(figures, reverse=True), "best first"
    machine = at(two, "try-1", "metrics/details/machine.json")
    assert '"threads": 1' in machine
    assert '"backend": "tensorflow"' in machine
    # Both machines worked, and each got the data once.
    for name in ("one", "two"):
        assert len(list((two.folder / name / "runs").glob("*/fetched/*"))) == 1
        assert list((two.folder / name / "runs").glob("*/runs/*")) == []
    # The outputs are on the remote: a clone with an empty cache gets them.
    run(two.caller, "dvc", "exp", "pull", "origin", "try-2")
    run(two.caller, "dvc", "exp", "apply", "try-2")
    alone = run(two.caller, "sha256sum", "models/train/network.npz").stdout
    run(two.caller, "dvc", "repro", "-q", "-f", "-s", "train", STANDIN_S="0")
    assert run(two.caller, "sha256sum", "models/train/network.npz").stdout == alone, "the same bytes as a run alone"


def test_calling_again_takes_up_what_is_missing(two: Cluster) -> None:
    two.run("-S", "train.seed=1,2", "-S", "train.epochs=1")
    first = two.experiments()
    output = two.run("-S", "train.epochs=1", "-S", "train.seed=2,3,1")
    assert "3 experiments" in output
    assert "2 of them done already" in output
    assert output.count(": val.f1") == 1
    assert {name: two.experiments()[name] for name in first} == first
    run(two.caller, "git", "fetch", "-q", "--prune", "origin")
    for name in two.experiments():
        run(two.caller, "dvc", "exp", "remove", name)  # here, not on the remote
    assert two.run("-S", "train.epochs=1", "-S", "train.seed=1,2,3").count("tensorflow") == 3, "they are fetched"


def test_one_that_diverges_does_not_stop_the_others(two: Cluster) -> None:
    output = two.run("-n", "rate", "-S", "train.learning_rate=9,0.1,0.2", "-S", "train.epochs=1", expect=1)
    assert "rate-1 train.learning_rate=9: NOT DONE, failed: error: Training diverged" in output
    assert "1 of 3 are missing: rate-1" in output
    assert set(two.experiments()) == {"rate-2", "rate-3"}


def test_killed_worker(two: Cluster) -> None:
    """kill -9 of a Dask worker: what it had started ends with it, and the other worker does the run."""
    program = two.call(*SLOW_RUN)
    victim = wait_until(lambda: next((name for name in two.workers if two.training_on(name)), None))
    family = psutil.Process(two.workers[victim].pid).children(recursive=True)
    assert any("standin.py" in " ".join(process.cmdline()) for process in family)
    two.workers[victim].kill()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family), 10)
    output = two.finish(program)
    assert "is gone" in output
    assert output.count(": val.f1") == 1
    assert set(two.experiments()) == {"slow"}


def test_a_worker_that_comes_back_goes_on_from_the_last_whole_epoch(cluster: Cluster) -> None:
    cluster.add_worker("one")
    program = cluster.call(*SLOW_RUN)
    wait_until(lambda: cluster.training_on("one"))
    cluster.workers["one"].kill()
    cluster.add_worker("one")
    cluster.finish(program)
    log = next((cluster.folder / "one/runs").glob("*/logs/slow.log")).read_text()
    assert "continuing after epoch" in log


def test_the_machine_that_has_the_state_is_preferred(two: Cluster) -> None:
    """All is gone, caller and scheduler included; calling again gives the run to the machine that has begun it."""
    program = two.call(*SLOW_RUN)
    holder = wait_until(lambda: next((name for name in two.workers if two.training_on(name)), None))
    program.kill()
    program.communicate()
    two.stop()
    (two.folder / "again").mkdir()
    again = Cluster(two.folder / "again", two.caller, STANDIN_S=EPOCH_S)
    try:
        for name in ("one", "two"):
            (again.folder / name).symlink_to(two.folder / name)
            again.add_worker(name)
        again.run(*SLOW_RUN)
    finally:
        again.stop()
    log = next((two.folder / holder / "runs").glob("*/logs/slow.log")).read_text()
    assert "continuing after epoch" in log


def test_a_machine_that_vanishes(two: Cluster) -> None:
    """It stops answering without closing a connection, and comes back later: the run is counted once."""
    program = two.call(*SLOW_RUN)
    victim = wait_until(lambda: next((name for name in two.workers if two.training_on(name)), None))
    top = psutil.Process(two.workers[victim].pid)
    family = [top, *top.children(recursive=True)]
    for process in family:
        process.suspend()
    output = two.finish(program)
    assert "is gone" in output
    first = two.experiments()
    for process in family:
        if process.is_running():
            process.resume()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family[1:]), 30)
    assert two.experiments() == first


def test_a_full_disk(cluster: Cluster, mount: Mount) -> None:
    mount("one/runs", "size=1200k")
    cluster.add_worker("one")
    cluster.add_worker("two")
    output = cluster.run("-n", "full", "-S", "train.epochs=1,2")
    assert "leaves" in output
    assert "is full" in output
    assert set(cluster.experiments()) == {"full-1", "full-2"}


def test_a_full_disk_and_no_other_machine(cluster: Cluster, mount: Mount) -> None:
    mount("one/runs", "size=1200k")
    cluster.add_worker("one")
    output = cluster.run("-n", "full", "-S", "train.epochs=1", expect=1)
    assert "NOT DONE, machine: " in output
    assert "is full" in output
    assert "1 of 1 are missing: full. The same command takes them up." in output


@pytest.mark.parametrize("which", ["store", "team.git"])
def test_a_remote_that_refuses(two: Cluster, which: str) -> None:
    """What was trained is kept, is not counted as done, and the next call pushes it without training again."""
    two.environment["STANDIN_S"] = "0"
    store = two.folder / "store/files"
    hook = two.folder / "team.git/hooks/pre-receive"
    if which == "store":
        # Root may write anywhere: a file in the place of the folders that DVC would make.
        full = [store / "md5" / f"{number:02x}" for number in range(256)]
        blocked = [path for path in full if not path.exists()]
        for path in blocked:
            path.write_text("")
    else:
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho the quota of this server is used up >&2\nexit 1\n")
        hook.chmod(0o755)
    output = two.run("-n", "kept", "-S", "train.epochs=3", expect=1)
    assert f"NOT DONE, refused: `{'dvc' if which == 'store' else 'git'} push`" in output
    assert which == "store" or "remote: the quota of this server is used up" in output
    assert two.experiments() == {}
    trained = sorted(two.folder.glob("*/runs/*/runs/kept/models/train/network.npz"))
    assert len(trained) == 1
    if which == "store":
        for path in blocked:
            path.unlink()
    else:
        hook.unlink()
    again = two.run("-n", "kept", "-S", "train.epochs=3")
    assert again.count(": val.f1") == 1
    assert set(two.experiments()) == {"kept"}
    log = next(two.folder.glob("*/runs/*/logs/kept.log")).read_text()
    assert log.count("Running stage 'train'") == 1
    assert not trained[0].exists()


def test_a_caller_that_is_closed(two: Cluster) -> None:
    """Its runs go on and are pushed; calling again while they run joins them."""
    words = ("-n", "on", "-S", "train.seed=1,2,3", "-S", "train.epochs=8")
    program = two.call(*words)
    wait_until(lambda: any(two.training_on(name) for name in two.workers))
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()
    output = two.run(*words)
    assert set(two.experiments()) == {"on-1", "on-2", "on-3"}
    assert output.count("tensorflow") == 3
    logs = [path.read_text() for path in two.folder.glob("*/runs/*/logs/on-*.log")]
    assert sum(log.count("Running stage 'train'") for log in logs) == 3, "each was trained once"


def test_ctrl_c_withdraws_what_has_not_begun(cluster: Cluster) -> None:
    cluster.add_worker("one")
    words = ("-n", "stop", "-S", "train.seed=1,2,3", "-S", "train.epochs=12")
    program = cluster.call(*words)
    wait_until(lambda: cluster.training_on("one"))
    program.send_signal(signal.SIGINT)
    assert "goes on to its push" in cluster.finish(program, expect=130)
    wait_until(cluster.experiments)
    assert len(cluster.experiments()) == 1
    output = cluster.run(*words)
    assert "1 of them done already" in output
    assert set(cluster.experiments()) == {"stop-1", "stop-2", "stop-3"}


def test_a_local_caller_that_is_killed_leaves_nothing_running(cluster: Cluster) -> None:
    """Its workers and their runs end with it; calling again goes on after the last whole epoch."""
    program = cluster.call(*SLOW_RUN, scheduler=False)
    state = cluster.caller / ".train_state"
    wait_until(lambda: list(state.glob("*.json")))
    family = psutil.Process(program.pid).children(recursive=True)
    program.kill()
    program.communicate()
    wait_until(lambda: not any(process.is_running() and process.status() != "zombie" for process in family), 20)
    cluster.run(*SLOW_RUN, scheduler=False)
    log = next(cluster.caller.glob(".dvc/tmp/cluster/*/logs/slow.log")).read_text()
    assert "continuing after epoch" in log


def test_no_machine_is_overbooked(cluster: Cluster) -> None:
    """Two cores are promised twice, by two workers that share a machine; no core has two runs at a time."""
    shared = {"TMPDIR": str(cluster.folder)}
    cluster.add_worker("three", "threads=2", **shared)
    cluster.add_worker("four", "threads=2", **shared)
    program = cluster.call("-n", "core", "-S", "train.seed=1,2,3,4,5,6", "-S", "train.epochs=5")
    running: list[list[int]] = []
    while program.poll() is None:
        running.append(_cores_in_use([cluster.workers[name] for name in ("three", "four")]))
        time.sleep(0.1)
    cluster.finish(program)
    assert max(map(len, running)) == 2
    assert all(len(set(cores)) == len(cores) for cores in running)


def _cores_in_use(workers: list[subprocess.Popen[Any]]) -> list[int]:
    """A core for each stand-in training below these workers."""
    found: list[int] = []
    for worker in workers:
        for process in psutil.Process(worker.pid).children(recursive=True):
            try:
                if process.cmdline()[1:3] == ["standin.py", "train"]:
                    found += process.cpu_affinity() or []
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    return found


def test_through_google_drive(tmp_path: Path, drive: DriveEmulator) -> None:
    """The data goes to both machines and the models come back by the stand-in for Drive; the bytes are those of a run
    alone."""
    caller = make_project(tmp_path, f"gdrive://{FOLDER_ID}/dvcstore")
    drive.add_child("dvcstore", drive.folder, FOLDER, USER)
    signed_in = {"GDRIVE_CREDENTIALS_DATA": drive.user_credentials(), "GDRIVE_NON_INTERACTIVE": "1"}
    variables = {**drive.environment(), **signed_in}
    forget_data(caller, **variables)
    cluster = Cluster(tmp_path, caller, STANDIN_S=EPOCH_S, **variables)
    try:
        for name in ("one", "two"):
            cluster.add_worker(name)
        drive.fail("PUT", "/upload", 503, "backendError")
        cluster.run("-n", "drive", "-S", "train.seed=1,2", "-S", "train.epochs=4")
    finally:
        cluster.stop()
    assert drive.damaged_objects(drive.folder) == []
    assert all(list((tmp_path / name / "runs").glob("*/fetched/*")) for name in ("one", "two"))
    run(caller, "dvc", "exp", "pull", "origin", "drive-2", **variables)
    run(caller, "dvc", "exp", "apply", "drive-2")
    alone = run(caller, "sha256sum", "models/train/network.npz").stdout
    run(caller, "dvc", "repro", "-q", "-f", "-s", "train")
    assert run(caller, "sha256sum", "models/train/network.npz").stdout == alone


def test_only_the_training_runs_under_the_machines_backend(cluster: Cluster) -> None:
    cluster.add_worker("one", KERAS_BACKEND="jax")
    assert "jax" in cluster.run("-n", "other", "-S", "train.epochs=1")
    assert set(cluster.experiments()) == {"other"}
    backends = {
        path: json.loads(at(cluster, "other", path))["backend"]
        for path in ("metrics/details/machine.json", "metrics/details/train.json", "metrics/evaluate.json")
    }
    assert list(backends.values()) == ["jax", "jax", "tensorflow"]
    assert "epochs: 1 " in at(cluster, "other", "params.yaml")


def test_workers_without_resources_are_named(cluster: Cluster) -> None:
    cluster.add_worker("one", "threads=1")
    output = cluster.run("--gpus", "1", "-S", "train.seed=1", expect=1)
    assert "error: no worker offers {'threads': 1, 'gpus': 1}; they offer {'threads': 1.0}" in output
