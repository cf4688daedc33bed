"""Spread DVC experiments over the machines of a Dask cluster; docs/many-machines.md goes through it.

    python -m src.cluster -S train.seed=1,2,3 -S smote.enabled=true,false       on this machine
    python -m src.cluster --scheduler tcp://head:8786 -S train.seed=1,2,3       on the workers of that scheduler

Every combination of the settings is one experiment, as in `dvc exp run --queue`. What Git has already is not run again.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate
from tqdm import tqdm

from src.cluster import runner
from src.cluster.plan import Place, Run, fetch_experiments, find_place, finished_runs, of_other_parameters, plan_runs
from src.errors import UserError, run_program
from src.report.experiments import file_at

try:
    import cloudpickle
    import dask
    from distributed import Client, Future, LocalCluster, fire_and_forget, wait
except ModuleNotFoundError:
    sys.exit("error: Dask is not installed. `pip install -r requirements-cluster.txt` adds it.")

LOOK_S = 10.0  # how often to look which workers are there
# Dask's watching of itself takes a tenth of a core, which here is one that trains.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
Outcome = dict[str, Any]


@contextmanager
def connected(scheduler: str | None, threads: int, gpus: int) -> Iterator[Client]:
    """A client of the scheduler, or of workers started here, one for each run at a time."""
    if scheduler:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, ValueError) as error:
            raise UserError(f"no Dask scheduler answers at {scheduler} ({' '.join(str(error).split())}).") from error
        with client:
            yield client
        return
    at_once = len(os.sched_getaffinity(0)) // threads
    if gpus:
        at_once = min(at_once, len(runner.gpu_names()) // gpus)
    if not at_once:
        raise UserError(f"this machine has not {threads} cores and {gpus} GPUs: --threads, --gpus.")
    how: dict[str, Any] = {"n_workers": at_once, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:8787"}
    offers = {"threads": threads, "gpus": gpus}
    with dask.config.set(UNWATCHED), LocalCluster(resources=offers, **how) as cluster, Client(cluster) as client:
        yield client


class Sweep:
    """Runs under way on a cluster."""

    def __init__(self, client: Client, place: Place, threads: int, gpus: int) -> None:
        self.client, self.place = client, place
        self.needs = {"threads": threads} | ({"gpus": gpus} if gpus else {})
        self.source = Path(runner.__file__).read_text(encoding="utf-8")
        self.pending: dict[Future, tuple[Run, set[str]]] = {}  # with the workers that are left, where some have failed
        self.tried: dict[str, set[str]] = {}
        self.workers: set[str] = set()

    def able_workers(self) -> set[str]:
        """Addresses of the workers that offer what a run needs. Raises UserError where none of those at hand does."""
        # Not scheduler_info(): a second request, of the client itself, may overwrite its answer with an empty one.
        ask: Any = self.client.scheduler
        workers = self.client.sync(ask.identity, n_workers=-1)["workers"]
        offers = {address: worker["resources"] for address, worker in workers.items()}
        able = {
            address
            for address, offer in offers.items()
            if all(offer.get(kind, 0) >= count for kind, count in self.needs.items())
        }
        if workers and not able and not self.workers:
            there = ", ".join(sorted(set(map(str, offers.values()))))
            raise UserError(
                f"no worker offers {self.needs}; they offer {there}. Start them with --resources, see "
                "docs/many-machines.md, or ask for less with --threads and --gpus."
            )
        return able

    def submit(self, run: Run, workers: set[str] | None = None, insist: bool = False) -> None:
        """Runs go on when this program is gone, and a key that the scheduler knows is joined, not run twice."""
        spec = {**asdict(self.place), **asdict(run), "gpus": 0, **self.needs}
        key = f"{run.name}-{self.place.commit[:12]}-{len(self.tried.setdefault(run.name, set()))}"
        options: dict[str, Any] = {"workers": sorted(workers), "allow_other_workers": not insist} if workers else {}
        future = self.client.submit(
            runner.place, spec, self.source, key=key, pure=False, resources=self.needs, **options
        )
        fire_and_forget(future)
        self.pending[future] = (run, workers if workers and insist else set())

    def start(self, runs: list[Run]) -> None:
        """Where a run has begun before, it is given to the machine that has its state."""
        self.workers = self.able_workers()
        kept: dict[str, list[str]] = self.client.run(runner.kept_runs, self.place.project) if self.workers else {}
        for run in runs:
            self.submit(run, {worker for worker, names in kept.items() if run.name in names} & self.workers)

    def look(self) -> None:
        """Say which workers have gone or come."""
        now = self.able_workers()
        for worker in self.workers - now:
            tqdm.write(f"{worker} is gone; what it ran is given to others")
        for worker in now - self.workers:
            tqdm.write(f"{worker} is there")
        if not now and (self.workers or not self.tried):
            tqdm.write("no worker is there: waiting for one")
        self.workers = now

    def ended(self) -> Iterator[list[tuple[Run, Outcome]]]:
        """Runs with their last outcomes, as they end. What a machine could not do is first tried on all others."""
        while self.pending:
            try:
                done = wait(list(self.pending), timeout=LOOK_S, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            self.look()
            left_alone = {future for future, (_, only) in self.pending.items() if only and not only & self.workers}
            last = []
            for future in done | left_alone:
                run, _ = self.pending.pop(future)
                if future in done and future.status == "finished":
                    outcome = future.result()
                else:  # several workers have died of this run, or all that were left for it are gone
                    why = str(future.exception()) if future in done else "no machine is left that has not failed"
                    self.client.cancel(future, force=True)
                    outcome = {"outcome": "machine", "why": why}
                tried = self.tried[run.name]
                tried.add(outcome.get("worker", ""))
                others = self.workers - tried
                if outcome["outcome"] == "machine" and "worker" in outcome and others:
                    tqdm.write(f"{run.name} leaves {outcome['host']}: {outcome['why']}")
                    self.submit(run, others, insist=True)
                else:
                    last.append((run, outcome))
            yield last


def figures(commit: str) -> dict[str, Any]:
    """Of an experiment: validation, and the machine."""
    paths = ("metrics/evaluate.json", "metrics/details/train.json", str(runner.MACHINE))
    metrics, training, machine = (json.loads(file_at(commit, path) or b"{}") for path in paths)
    return {
        **{f"val.{key}": value for key, value in metrics.get("val", {}).items()},
        **{key: machine.get(key, "") for key in ("host", "threads", "gpus", "backend")},
        "precision": training.get("precision", ""),
    }


def varied(runs: list[Run]) -> dict[str, dict[str, str]]:
    """Name -> those of its settings in which the runs differ."""
    settings = {run.name: dict(setting.partition("=")[::2] for setting in run.settings) for run in runs}
    keys = [key for key in settings[runs[0].name] if len({values.get(key) for values in settings.values()}) > 1]
    return {name: {key: values[key] for key in keys} for name, values in settings.items()}


def table(runs: list[Run], commits: dict[str, str]) -> str:
    """Best first by macro F1 on validation."""
    settings = varied(runs)
    rows = [{"name": name, **settings[name], **figures(commit)} for name, commit in commits.items()]
    rows.sort(key=lambda row: -row.get("val.f1", 0))
    return tabulate(rows, headers="keys")


def line(name: str, outcome: Outcome, seconds: float) -> str:
    if outcome["outcome"] != "done":
        where = f" ({outcome['host']}:{outcome['log']})" if "log" in outcome else ""
        return f"{name}: NOT DONE, {outcome['outcome']}: {outcome['why']}{where}"
    shown = figures(outcome["commit"])
    return f"{name}: val.f1 {shown.get('val.f1', '?')}, {outcome['host']}, after {seconds / 60:.1f} min"


def follow(sweep: Sweep, runs: list[Run], commits: dict[str, str]) -> list[str]:
    """Print one line for each run that ends; adds those done to `commits`, returns the names of the others."""
    start, settings, lost = time.monotonic(), varied(runs), []
    with tqdm(total=len(runs), initial=len(commits), unit="run", desc="experiments", disable=None) as bar:
        for ended in sweep.ended():
            fetch_experiments(sweep.place, [run.name for run, outcome in ended if outcome["outcome"] == "done"])
            for run, outcome in ended:  # another call may have pushed one of that name meanwhile
                if outcome["outcome"] == "done" and (problem := of_other_parameters(run, outcome["commit"])):
                    outcome.update(outcome="refused", why=problem)
            done = {run.name: outcome["commit"] for run, outcome in ended if outcome["outcome"] == "done"}
            commits.update(done)
            lost += [run.name for run, _ in ended if run.name not in done]
            for run, outcome in ended:
                name = " ".join([run.name, *(f"{key}={value}" for key, value in settings[run.name].items())])
                tqdm.write(line(name, outcome, time.monotonic() - start))
                bar.update()
    return lost


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m src.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="as of `dvc exp run`"
    )
    parser.add_argument("-n", "--name", help="of the experiments, which get -1, -2, ...; default: by their parameters")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster; default: workers on this machine")
    parser.add_argument("--threads", type=int, metavar="N", help="cores of each run; default: 4, or what is here")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="of each run; default: 0")
    options = parser.parse_args()
    usual = 4 if options.scheduler else min(4, len(os.sched_getaffinity(0)))
    threads = usual if options.threads is None else options.threads
    if threads < 1 or options.gpus < 0:
        parser.error("--threads is at least 1, --gpus at least 0")

    runs, place = plan_runs(options.set_param, options.name), find_place(local=options.scheduler is None)
    commits = finished_runs(place, runs)
    missing, lost = [run for run in runs if run.name not in commits], []
    print(f"{len(runs)} experiments at commit {place.commit[:7]}, {len(commits)} of them done already")
    if missing:
        cloudpickle.register_pickle_by_value(runner)
        with connected(options.scheduler, threads, options.gpus) as client:
            print(f"dashboard: {client.dashboard_link}", flush=True)
            sweep = Sweep(client, place, threads, options.gpus)
            try:
                sweep.start(missing)
                lost = follow(sweep, runs, commits)
            except KeyboardInterrupt:
                client.cancel(list(sweep.pending), force=True)
                print("what had begun on a cluster goes on to its push; the same command takes up the rest")
                raise
    if commits:
        print(table(runs, commits))
    if lost:
        raise UserError(f"{len(lost)} of {len(runs)} are missing: {', '.join(lost)}. The same command takes them up.")


if __name__ == "__main__":
    run_program(main)
