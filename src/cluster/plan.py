"""What is to be run: settings in DVC's own grammar -> named runs, checked before anything starts. Knows no Dask.

`dvc exp run --queue -S a=1,2` and this read settings with the same code. What has been run is what Git says: the
experiments of this commit, here or on the Git remote.
"""

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.config import Config
from dvc.exceptions import InvalidArgumentError
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from hydra.errors import HydraException

from src.errors import UserError
from src.params import parse_params
from src.report.experiments import file_at, flat
from src.report.revisions import uncommitted_files

PARAMS = "params.yaml"


@dataclass(frozen=True)
class Run:
    """settings: `key=value`, for `-S`. params: all parameters that follow. fetch: what its stages read out of DVC."""

    name: str
    settings: tuple[str, ...]
    params: dict[str, Any]
    fetch: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where workers find the project and bring the results; what is None a worker chooses below its own folder.

    author: name and email, with which experiments are committed.
    project: on this machine alone, this clone, which then is Git remote and cache as well.
    config: .dvc/config.local, which Git does not carry; never sent to other machines.
    """

    commit: str
    url: str
    author: dict[str, str]
    project: str | None = None
    cache: str | None = None
    config: str = ""

    @property
    def experiments(self) -> str:
        """Folder of their refs, as DVC has it."""
        return f"refs/exps/{self.commit[:2]}/{self.commit[2:]}/"


def git(*words: str) -> str:
    """Output of a Git command. Raises UserError with Git's own words."""
    result = subprocess.run(["git", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        said = result.stderr.strip().splitlines() or ["no message"]
        fatal = [line for line in said if line.startswith("fatal:")] or said[-1:]
        raise UserError(f"`git {words[0]}` failed: {fatal[0]}")
    return result.stdout.strip()


def plan_runs(settings: Sequence[str], name: str | None = None) -> list[Run]:
    """Every combination, named `name`, or `name-1`, `name-2` as DVC does, or by a hash of all parameters.

    Raises UserError for what DVC's grammar or src/params.py does not accept, in any of the runs.
    """
    if name is not None and (
        "/" in name or subprocess.run(["git", "check-ref-format", f"refs/exps/aa/bb/{name}"]).returncode
    ):
        raise UserError(f"--name {name}: letters, digits, - and _ make a name that Git takes.")
    overrides = to_path_overrides(settings)
    if others := set(overrides) - {PARAMS}:
        raise UserError(f"-S {others.pop()}:...: only {PARAMS} can be set.")
    content = yaml.safe_load((file_at("HEAD", PARAMS) or b"{}").decode())
    before = flat(parse_params(content).model_dump())
    try:
        sweeps = [sweep[PARAMS] for sweep in get_hydra_sweeps(overrides)] if overrides else [[]]
        every = [_with_settings(content, sweep) for sweep in sweeps]
    except (InvalidArgumentError, HydraException) as error:
        said = str(error.__cause__ or error).split("See https")[0].split("To append")[0]
        raise UserError(f"-S: {' '.join(said.split())} See params.yaml for the keys.") from error
    runs: dict[str, Run] = {}
    for number, (sweep, params) in enumerate(zip(sweeps, every, strict=True), 1):
        digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:8]
        run_name = f"run-{digest}" if name is None else name if len(sweeps) == 1 else f"{name}-{number}"
        changed = {key for key, value in flat(params).items() if before[key] != value}
        runs[run_name] = Run(run_name, tuple(sweep), params, tuple(_inputs(changed, params["dataset"])))
    return list(runs.values())


def _with_settings(content: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.json")
        path.write_text(json.dumps(content), encoding="utf-8")
        apply_overrides(path, settings)
        return parse_params(json.loads(path.read_text(encoding="utf-8"))).model_dump()


def _inputs(changed: set[str], dataset: str) -> list[str]:
    """What the stages that these parameters touch, and all after them, read of DVC's."""
    stages = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8").replace("${dataset}", dataset))["stages"]
    outs = {name: [out for out in stage.get("outs", []) if isinstance(out, str)] for name, stage in stages.items()}
    runs: set[str] = set()
    for _ in stages:
        written = {out for name in runs for out in outs[name]}
        for name, stage in stages.items():
            touched = any(f"{key}.".startswith(f"{param}.") for key in changed for param in stage.get("params", []))
            if touched or written & set(stage.get("deps", [])):
                runs.add(name)
    kept = {out for name in stages if name not in runs for out in outs[name]}
    deps = {dep for name in runs for dep in stages[name].get("deps", [])}
    return sorted(dep for dep in deps if dep in kept or Path(f"{dep}.dvc").is_file())


def find_place(local: bool) -> Place:
    """Raises UserError where a worker could not get this commit, or not bring its results."""
    if git("rev-parse", "--show-prefix"):
        raise UserError("run this at the top of the repository.")
    if changed := uncommitted_files(Path()):
        raise UserError(
            f"{changed[0]} is not committed ({len(changed)} in all); a worker gets the commit: `git stash`?"
        )
    commit, here = git("rev-parse", "HEAD"), Path.cwd()
    dvc_config = Config(str(here / ".dvc"))
    name, _, email = git("var", "GIT_COMMITTER_IDENT").rpartition(">")[0].partition(" <")
    author = {"name": name, "email": email}
    if local:
        config, cache = here / ".dvc/config.local", dvc_config["cache"].get("dir", ".dvc/cache")
        secrets = config.read_text(encoding="utf-8") if config.is_file() else ""
        return Place(commit, str(here), author, str(here), str(here / cache), secrets)
    git("fetch", "-q", "origin")
    if not git("for-each-ref", "--contains", commit, "refs/remotes/origin"):
        raise UserError(f"the commit {commit[:7]} is not on the Git remote origin, where workers get it: `git push`.")
    if not dvc_config["core"].get("remote"):
        raise UserError("there is no DVC remote, through which data and results go: docs/google-drive.md.")
    url = git("remote", "get-url", "origin")
    return Place(commit, str(Path(url).resolve()) if Path(url).exists() else url, author)


def finished_runs(place: Place, runs: list[Run]) -> dict[str, str]:
    """Name -> commit of the runs that Git has, here or on the remote.

    Raises UserError where one of that name has other parameters.
    """
    here, there = experiments(place), experiments(place, remote=True)
    known = {**here, **there}
    done = [run for run in runs if run.name in known]
    if torn := [run.name for run in done if here.get(run.name, known[run.name]) != known[run.name]]:
        raise UserError(f"{torn[0]} is one experiment here and another on the remote: `dvc exp remove {torn[0]}`.")
    fetch_experiments(place, [run.name for run in done])
    for run in done:
        if problem := of_other_parameters(run, known[run.name]):
            raise UserError(problem)
    return {run.name: known[run.name] for run in done}


def of_other_parameters(run: Run, commit: str) -> str | None:
    """What to do where the experiment `commit` has the run's name and other parameters."""
    params = flat(parse_params(yaml.safe_load(file_at(commit, PARAMS) or b"{}")).model_dump())
    others = [key for key, value in flat(run.params).items() if params[key] != value]
    if not others:
        return None
    return (
        f"the experiment {run.name} was run with another {others[0]}. Choose another --name, or remove it: "
        f"`dvc exp remove {run.name}`, and with `-g origin` on the remote."
    )


def experiments(place: Place, remote: bool = False) -> dict[str, str]:
    """Name -> hash of the experiments of the commit, in this clone or on the Git remote."""
    local = ("for-each-ref", "--format=%(objectname) %(refname)", place.experiments)
    refs = git(*(("ls-remote", place.url, f"{place.experiments}*") if remote else local)).splitlines()
    return {ref.removeprefix(place.experiments): commit for commit, ref in map(str.split, refs)}


def fetch_experiments(place: Place, names: list[str]) -> None:
    """Their refs, with metrics and parameters; models and data stay on the remote until `dvc exp pull`."""
    here = experiments(place)
    if missing := [f"{place.experiments}{name}" for name in names if name not in here]:
        git("fetch", "-q", place.url, *(f"{ref}:{ref}" for ref in missing))
