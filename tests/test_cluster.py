"""What `python -m src.cluster` runs, and what it refuses before anything starts. Real workers: test_cluster_faults."""

import ast
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from src.cluster import plan, runner
from src.cluster.__main__ import follow
from src.errors import UserError
from src.params import parse_params
from tests.conftest import ROOT, copy_of_project
from tests.test_dependencies import _names
from tools.benchmarks.standin_project import make_project, run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def test_combinations_are_those_of_dvc(here: Path) -> None:
    settings = ("train.seed=range(1,3)", "smote.enabled=true,false")
    run(here, "dvc", "exp", "run", "--queue", "-n", "q", *(word for one in settings for word in ("-S", one)))
    queued = run(here, "git", "log", "-g", "--format=%H", "refs/exps/celery/stash").stdout.split()
    texts = [run(here, "git", "show", f"{commit}:params.yaml").stdout for commit in queued]
    run(here, "dvc", "queue", "remove", "--all")
    runs = plan.plan_runs(settings, "q")
    assert [one.name for one in runs] == ["q-1", "q-2", "q-3", "q-4"]
    by_dvc = [parse_params(yaml.safe_load(text)).model_dump() for text in texts]
    assert len(by_dvc) == 4 and all(one.params in by_dvc for one in runs)
    assert len({(one.params["train"]["seed"], one.params["smote"]["enabled"]) for one in runs}) == 4


def test_names_say_what_the_parameters_are_not_how_they_were_given(here: Path) -> None:
    one, same, other = (
        plan.plan_runs(words)[0].name
        for words in (["train.mixup=0.2", "train.seed=7"], ["train.seed=7"], ["train.seed=8"])
    )
    assert one == same != other
    assert len(plan.plan_runs(["train.seed=7,7,8"])) == 2, "the same run twice is one run"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.sed=1", "Could not override 'train.sed'"),
        ("+train.sed=1", "unknown key train.sed; did you mean train.seed?"),
        ("train.seed=1,x", "train.seed is 'x'; it should be a whole number"),
        ("train.seed", "missing EQUAL"),
        ("train.backbone=cnn,vgg61", "Did you mean vgg16?"),
        ("other.yaml:train.seed=1", "only params.yaml can be set"),
        ("train.average_epochs=5,0 train.early_stopping=3", "train.average_epochs keeps the mean"),
    ],
)
def test_wrong_settings_are_refused(here: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        plan.plan_runs(setting.split(" "))
    assert message in str(error.value)


def test_what_is_fetched_is_what_will_be_read(here: Path) -> None:
    assert plan.plan_runs(["train.seed=1"])[0].fetch == ("data/processed/smote",)
    assert plan.plan_runs(["smote.seed=1"])[0].fetch == (), "smote runs, so nothing of what it wrote is read"


def test_what_the_real_pipeline_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    fetched = plan._inputs({"train.seed"}, "full")
    assert {"data/processed/smote", "data/processed/split/validation", "data/processed/split/test"} <= set(fetched)
    assert not [path for path in fetched if path.startswith(("data/raw", "models", "data/processed/split/train"))]
    everything = plan._inputs({"dataset"}, "full")
    assert everything == ["data/raw/full/expw", "data/raw/full/fer2013"]
    assert plan._inputs({"dataset"}, "sample") == [], "the sample is in Git"


def test_work_that_no_worker_could_get_is_refused(here: Path) -> None:
    (here / "params.yaml").write_text((here / "params.yaml").read_text() + "\n# changed\n")
    with pytest.raises(UserError, match=r"params\.yaml is not committed"):
        plan.find_place(local=True)
    run(here, "git", "commit", "-qam", "changed")
    with pytest.raises(UserError, match="is not on the Git remote origin"):
        plan.find_place(local=False)
    run(here, "git", "push", "-q", "origin", "main")
    place = plan.find_place(local=False)
    assert (place.project, place.cache, place.config) == (None, None, ""), "nothing of this machine is sent away"
    assert place.author == {"name": "t", "email": "t@example.org"}, "a worker's machine need not know anybody"


def test_done_is_what_git_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = plan.find_place(local=True)
    runs = plan.plan_runs(["train.seed=1,2", "train.epochs=1"], "done")
    assert plan.finished_runs(place, runs) == {}
    words = ("dvc", "exp", "run", "-q", "--temp", "--pull", "-n", "done-2")
    run(here, *words, "-S", "train.seed=2", "-S", "train.epochs=1")
    assert set(plan.finished_runs(place, runs)) == {"done-2"}
    with pytest.raises(UserError, match=r"the experiment done-2 was run with another train\.seed"):
        plan.finished_runs(place, plan.plan_runs(["train.seed=1,3", "train.epochs=1"], "done"))
    # Another call has pushed one of that name while ours ran.
    (mine,) = plan.plan_runs(["train.seed=3", "train.epochs=1"], "done-2")
    outcome = {"outcome": "done", "commit": plan.experiments(place)["done-2"], "host": "here"}
    sweep = SimpleNamespace(place=place, ended=lambda: iter([[(mine, outcome)]]))
    commits: dict[str, str] = {}
    assert follow(sweep, [mine], commits) == ["done-2"] and commits == {}  # type: ignore[arg-type]
    assert "was run with another train.seed" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["lr sweep", "a/b", "", "a..b"])
def test_names_that_git_does_not_take(here: Path, name: str) -> None:
    with pytest.raises(UserError, match="letters, digits, - and _"):
        plan.plan_runs(["train.seed=1"], name)


def test_two_experiments_of_one_name_are_not_taken_for_one(here: Path) -> None:
    place = plan.find_place(local=False)
    ref = f"{place.experiments}torn"
    for whose in ("another's", "ours"):
        commit = run(here, "git", "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", whose).stdout.strip()
        run(here, "git", "update-ref", ref, commit)
        if whose == "another's":
            run(here, "git", "push", "-q", "origin", f"{ref}:{ref}")
    with pytest.raises(UserError, match="torn is one experiment here and another on the remote"):
        plan.finished_runs(place, plan.plan_runs(["train.seed=2"], "torn"))


def test_dask_is_imported_by_src_cluster_alone() -> None:
    dask = {"dask", "distributed", "cloudpickle", "bokeh"}
    found = set()
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py"), *(ROOT / "tools").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if dask & {name.split(".")[0] for name in names}:
                found.add(file.relative_to(ROOT).as_posix())
    assert found == {"src/cluster/__main__.py", "src/cluster/runner.py"}
    assert {name for name in _names("requirements.in") if name in dask} == set()


def test_a_worker_needs_no_checkout(tmp_path: Path) -> None:
    """What is sent to it loads where nothing of the project can be imported."""
    source = Path(runner.__file__).read_text(encoding="utf-8")
    assert not re.search(r"^\s*(from|import) (src|stages|tools)\b", source, re.MULTILINE)  # in functions, too
    command = [sys.executable, "-I", "-c", f"__name__ = 'sent'\n{source}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_run_that_waits_for_cores_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner.tempfile, "tempdir", str(tmp_path))
    with ExitStack() as other, ExitStack() as own:
        runner.take(other, "cores", ["0", "1"], 2)
        pauses = iter([lambda: None, other.close])
        monkeypatch.setattr(runner.time, "sleep", lambda seconds: next(pauses)())
        assert runner.take(own, "cores", ["0", "1"], 1) == ["0"]
    assert capsys.readouterr().err == "waiting for 1 free cores: other runs on this machine hold them\n"


def test_locks_agree() -> None:
    """Both install into one environment."""
    pins = {
        name: dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-cluster.txt")
    }
    cluster, pipeline = pins["requirements-cluster.txt"], pins["requirements.txt"]
    assert set(_names("requirements-cluster.in")) - {"-c"} <= set(cluster)
    assert {name for name in cluster if name in pipeline and cluster[name] != pipeline[name]} == set()


def test_without_dask_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError('distributed')")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import src.cluster.__main__"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == "error: Dask is not installed. `pip install -r requirements-cluster.txt` adds it."


SAMPLE_SETTINGS = (
    "dataset=sample", "split.copy_similarity=0.95", "train.backbone=cnn", "train.teacher_epochs=0", "train.epochs=2",
    "train.batch_size=32", "evaluate.bootstrap_samples=100", "export.int8=false", "export.multiview=false",
)  # fmt: skip


@pytest.mark.slow
def test_real_trainings_have_the_bytes_of_those_run_alone(tmp_path: Path) -> None:
    """The whole pipeline on the bundled sample, on one core, on two workers with clones and caches of their own.

    With FER_CLUSTER_PYTHONS (tools/benchmarks/cluster_machines.py) each has an environment of its own, too.
    """
    pytest.importorskip("distributed")
    from tools.benchmarks.cluster_machines import PYTHONS, Cluster

    project = tmp_path / "caller"
    project.mkdir()
    copy_of_project(project)
    run(tmp_path, "git", "init", "-q", "--bare", "team.git")
    run(project, "git", "remote", "add", "origin", str(tmp_path / "team.git"))
    run(project, "dvc", "remote", "add", "-q", "-d", "storage", str(tmp_path / "store"))
    run(project, "git", "commit", "-qam", "remote")
    run(project, "git", "push", "-q", "origin", "HEAD:main")
    settings = [word for setting in SAMPLE_SETTINGS for word in ("-S", setting)]
    cluster, used = Cluster(tmp_path, project), {"one": set[str](), "two": set[str]()}
    try:
        for name in used:
            cluster.add_worker(name)
        program = cluster.call("-n", "spread", "-S", "train.seed=1,2", *settings)
        while program.poll() is None:
            for name, packages in used.items():
                packages |= cluster.packages_of(name)
            time.sleep(1)
        assert cluster.finish(program).count(": val.f1") == 2
    finally:
        cluster.stop()
    assert list(used.values()) == [{str(Path(python).parents[1].resolve())} for python in (*PYTHONS, *PYTHONS)[:2]]
    run(project, "dvc", "exp", "pull", "-q", "origin", "spread-1", "spread-2")
    core = str(min(os.sched_getaffinity(0)))
    for seed in ("1", "2"):
        alone = ("dvc", "exp", "run", "-q", "--temp", "-n", f"alone-{seed}", "-S", f"train.seed={seed}")
        run(project, "taskset", "-c", core, *alone, *settings, "train")
        for name in (f"spread-{seed}", f"alone-{seed}"):
            run(project, "dvc", "get", "-q", ".", "models/train", "--rev", name, "-o", name)
        weights = [(project / f"{name}-{seed}/network.npz").read_bytes() for name in ("spread", "alone")]
        assert weights[0] == weights[1], f"seed {seed}"
