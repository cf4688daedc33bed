"""The report: complete, self-contained, escaped, honest about what is missing; the script of CI."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.report.contents import Contents, read_contents
from src.report.rendering import decimal, markdown, render_page, signed
from tests.conftest import ROOT

WITHOUT_END_TAG = {"meta", "img", "br", "hr"}
MAY_LOAD = {"script", "link", "iframe", "object", "embed", "video", "audio", "source", "base", "form", "input", "image"}
DETAILS = "metrics/details/evaluate.json"


class Page(HTMLParser):
    """Tags and text of a page; fails where a tag is not closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.styles: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in WITHOUT_END_TAG:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.styles if "style" in self._open else self.texts).append(data)
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def pictures(self) -> list[str]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]
        return [source.removeprefix("data:image/png;base64,") for source in sources]

    def row(self, name: str) -> list[str]:
        """The first row with that heading."""
        return next(row for row in self.rows if row and row[0] == name)

    def loads(self) -> list[str]:
        """What a browser would fetch or run."""
        found = [tag for tag, _ in self.tags if tag in MAY_LOAD] + re.findall(r"url\(|@import", "".join(self.styles))
        for name, value in ((name, value or "") for _, attributes in self.tags for name, value in attributes.items()):
            foreign = name in ("src", "srcset", "data", "poster") and not value.startswith("data:image/png;base64,")
            found += [f"{name}={value}"] if foreign or name.startswith("on") or "url(" in value else []
        return found


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    result = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def _commit(folder: Path, subject: str) -> None:
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "--allow-empty", "-m", subject)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the report reads of the real repository, as last committed: a training may be running beside the tests."""
    folder = tmp_path_factory.mktemp("report") / "repository"
    paths = ("dvc.yaml", "params.yaml", "metrics", "plots", "stages", ".dvc", "data/raw/full", "pretrained/*.md")
    archive = subprocess.run(["git", "archive", "HEAD", *paths], cwd=ROOT, capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    _git(folder, "init", "-q", "-b", "main")
    _commit(folder, "first")
    return folder


@pytest.fixture
def repository(unchanged: Path, tmp_path: Path) -> Path:
    """The real repository with one commit, for a test to change."""
    return shutil.copytree(unchanged, tmp_path / "repository", symlinks=True)


@pytest.fixture(scope="module")
def real(unchanged: Path) -> Contents:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("src.report.revisions._dvc_table", lambda *arguments: "")
        return read_contents(unchanged)


@pytest.fixture
def no_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that compare nothing: DVC's two commands take 3 s."""
    monkeypatch.setattr("src.report.revisions._dvc_table", lambda *arguments: "")


def _run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "src.report", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


def _json(path: Path, change: Callable[[dict[str, Any]], None] = lambda content: None) -> dict[str, Any]:
    """Change a file of JSON; gives its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return content


def _set_param(folder: Path, section: str, key: str, value: Any) -> Any:
    """Set it in params.yaml; gives what it was."""
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    before, params[section][key] = params[section][key], value
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return before


def _picture(path: Path, seed: int) -> str:
    """Write noise as PNG; gives its bytes as they stand in a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (24, 24), np.uint8))
    return base64.b64encode(path.read_bytes()).decode()


def test_page_of_the_repository_loads_nothing(real: Contents) -> None:
    page = Page(render_page(real))
    assert page.loads() == []
    policy = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert [part.strip() for part in (policy[0] or "").split(";")][:2] == ["default-src 'none'", "img-src data:"]
    declared = set(re.findall(r"plots/(\w+)\.png: {cache: false}", (ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    committed = {path.stem for path in (ROOT / "plots").glob("*.png")}
    assert {Path(plot.path).stem for plot in real.plots} == declared & committed != set()
    assert len(page.pictures) == len(real.plots)


def test_page_shows_the_figures_of_evaluate(real: Contents) -> None:
    cells = [" ".join(row) for row in Page(render_page(real)).rows]
    evaluation = json.loads(subprocess.check_output(["git", "show", f"HEAD:{DETAILS}"], cwd=ROOT))
    for values in (*evaluation["test"].values(), *evaluation["validation"].values()):
        keys = [key for key in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece") if key in values]
        shown = [f"{values['n']:,}", *(f"{values[key]:.3f}".removeprefix("0") for key in keys)]
        assert any(all(figure in cell for figure in shown) for cell in cells), shown


@pytest.mark.usefixtures("no_dvc")
def test_sections_that_nobody_has_named_are_shown(repository: Path) -> None:
    """A new labelling protocol or source needs no change here."""
    section = {"n": 3153, "accuracy": 0.8141, "majority_class_accuracy": 0.377}
    _json(repository / DETAILS, lambda content: content["test"].update(ferplus_majority_8=section))
    page = Page(render_page(read_contents(repository)))
    column = page.row("faces").index("majority class")
    row = page.row("FER+ majority 8")
    assert row[1] == "3,153" and row[2].startswith(".814") and row[column] == ".377"


def test_report_loads_no_deep_learning_framework() -> None:
    code = (
        "import sys, src.report.contents, src.report.rendering; "
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'wandb', 'dvc'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_faces_after_each_stage_add_up(real: Contents) -> None:
    """Each face that was cropped is in a split or in the list of what was left out."""
    totals = {name: sum(faces.values()) for name, faces in real.steps.items()}
    removed = sum(faces for stage, _, faces in real.losses if stage == "split")
    assert totals["crop"] == sum(totals[f"split: {part}"] for part in ("train", "validation", "test")) + removed
    page = Page(render_page(real))
    for name, faces in real.steps.items():
        assert page.row(name) == [name, f"{totals[name]:,}", *(f"{faces[key]:,}" for key in EXPRESSIONS)]


@pytest.mark.usefixtures("no_dvc")
def test_what_was_left_out_is_listed_by_reason(repository: Path) -> None:
    skipped = {"skipped": {"total": 12, "by_reason": {"no <photo>": 12}}, "below_confidence_min": 1234}
    _json(repository / "metrics/details/ingest_expw.json", lambda content: content.update(skipped))
    rows = Page(render_page(read_contents(repository))).rows
    assert ["ingest_expw: skipped: no <photo>", "12"] in rows
    assert ["ingest_expw: below ingest_expw.confidence_min", "1,234"] in rows


def test_values_are_escaped(repository: Path) -> None:
    evil = "<script>alert('&')</script><img src=http://example.org/x onerror=y>"
    _commit(repository, f"</style>{evil}")
    before = _set_param(repository, "train", "weights", evil)
    _json(repository / DETAILS, lambda content: content["test"].update({evil: content["test"]["all"]}))
    (repository / "models").mkdir()
    (repository / "models/model_card.md").write_text(f"# Card\n\n{evil}\n\n![x](http://example.org/y.png)\n")
    page = Page(render_page(read_contents(repository)))
    assert page.loads() == []
    assert page.text.count(evil) >= 4  # subject, section, parameter, card
    assert ["params.yaml", "train.weights", before, evil] in page.rows


def test_markdown_is_rendered() -> None:
    page = Page(markdown("# One\n\n- a `b`\n\n| x | y |\n|---|---|\n| 1 | \\*2 |\n\n[z](javascript:alert(1))"))
    assert [tag for tag, _ in page.tags if tag in ("h1", "h3", "li", "code", "table")] == ["h3", "li", "code", "table"]
    assert page.rows == [["x", "y"], ["1", "*2"]]
    assert not any(tag == "a" for tag, _ in page.tags)


def test_differences_to_a_commit(repository: Path) -> None:
    before = _picture(repository / "plots/confusion.png", 1)
    _commit(repository, "second")
    after = _picture(repository / "plots/confusion.png", 2)
    epochs = _set_param(repository, "train", "epochs", 7)
    old = _json(repository / "metrics/evaluate.json")["test"]["fer"]
    _json(repository / "metrics/evaluate.json", lambda content: content["test"].update(fer=round(old + 0.02, 4)))

    def change(content: dict[str, Any]) -> None:
        content["test"]["fer2013"]["accuracy"] += 0.02
        content["test"]["fer2013"]["ece"] += 0.01

    _json(repository / DETAILS, change)
    page = Page(render_page(read_contents(repository)))
    assert ["params.yaml", "train.epochs", f"{epochs}", "7"] in page.rows
    assert ["metrics/evaluate.json", "test.fer", f"{old:.5g}", f"{old + 0.02:.5g}", "0.02"] in page.rows
    classes = [attributes.get("class") for tag, attributes in page.tags if tag == "span"]
    assert [name for name in classes if name in ("better", "worse")] == ["better", "better", "worse"]  # a tile, a row
    assert "+.020" in page.row("FER2013")[2]
    assert page.pictures[page.pictures.index(before) + 1] == after
    assert "plots/confusion.png" in page.text.partition("Changed since:")[2][:200]
    assert page.text.count("plots/confusion.png") == 1, "named once"

    _commit(repository, "third")
    now = Page(render_page(read_contents(repository)))
    assert "Nothing differs" in now.text and before not in now.pictures
    earlier = Page(render_page(read_contents(repository, against="HEAD~1")))
    assert (earlier.rows, earlier.pictures) == (page.rows, page.pictures)


def test_pictures_of_people_only_on_request(repository: Path, no_dvc: None) -> None:
    face = _picture(repository / "plots/faces/mistakes.png", 3)
    assert face not in render_page(read_contents(repository))
    _run(repository, "--faces", "--output", "build/faces.html")
    page = Page((repository / "build/faces.html").read_text(encoding="utf-8"))
    assert face in page.pictures and "Pictures of people. Keep this page" in page.text


@pytest.mark.usefixtures("no_dvc")
def test_what_is_missing_is_named_with_the_way_to_get_it(repository: Path) -> None:
    """No metrics, plots, faces; the card of the current model, else of the released one, else none."""
    shutil.rmtree(repository / "metrics")
    shutil.rmtree(repository / "plots")
    (repository / "models").mkdir()
    (repository / "models/model_card.md").write_text("# Of this run\n", encoding="utf-8")
    contents = read_contents(repository, faces=True)
    text = Page(render_page(contents)).text
    assert "Missing: metrics/evaluate.json, metrics/details/evaluate.json, plots/class_distribution/ingest" in text
    assert "There is no picture in plots/." in text and "dvc pull plots/faces" in text and "Of this run" in text
    shutil.rmtree(repository / "models")
    assert "Of the released model, from pretrained/model_card.md" in Page(render_page(read_contents(repository))).text
    shutil.rmtree(repository / "pretrained")
    assert "There is no model card. dvc repro writes" in Page(render_page(read_contents(repository))).text


def test_without_git_and_before_the_first_commit(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    for _ in range(2):
        page = Page(render_page(read_contents(repository)))
        assert "no Git commit" in page.text and "there is nothing to compare with" in page.text
        with pytest.raises(UserError, match="--against HEAD: no such commit here"):
            read_contents(repository, against="HEAD")
        _git(repository, "init", "-q")


BROKEN: dict[str, tuple[str, str | None, str]] = {
    "no-params": ("params.yaml", None, "params.yaml is missing. Run from the repository root"),
    "params-broken": ("params.yaml", "a: [", "params.yaml is not valid YAML"),
    "metrics-cut": (DETAILS, '{"test": {', f"{DETAILS} is not as stage evaluate writes it"),
    "metrics-list": (DETAILS, "[]", f"{DETAILS} is not as stage evaluate writes it"),
    "metrics-binary": (DETAILS, "\udcff", f"{DETAILS} is not as stage evaluate writes it ('utf-8' codec"),
    "metrics-other": (DETAILS, '{"test": {"all": {"accuracy": "x"}}}', "is not as stage evaluate writes it"),
    "split-other": ("metrics/details/split.json", '{"faces": 3}', "split.json is not as stage split writes it"),
    "crop-other": ("metrics/details/crop.json", '{"skipped": []}', "crop.json is not as stage crop writes it"),
    "classes": ("plots/class_distribution/smote.csv", "a,b\n1,2\n", "smote.csv is not as stage smote writes it"),
}


@pytest.mark.usefixtures("no_dvc")
@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_a_user_error(repository: Path, case: str) -> None:
    name, content, message = BROKEN[case]
    if content is None:
        (repository / name).unlink()
    else:
        (repository / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=re.escape(message)):
        read_contents(repository)


def test_failure_is_one_line_and_keeps_the_old_page(repository: Path) -> None:
    (repository / "build").mkdir()
    (repository / "build/report.html").write_text("old", encoding="utf-8")
    (repository / DETAILS).write_text("[]", encoding="utf-8")
    for arguments, message in (
        ([], DETAILS), (["--against=--output=x"], "--against --output=x: no such commit here."),
        (["--output", "params.yaml"], "--output params.yaml: name a file that ends in .html"),
    ):  # fmt: skip
        result = _run(repository, *arguments, code=1)
        assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
    assert [path.name for path in (repository / "build").iterdir()] == ["report.html"]
    assert (repository / "build/report.html").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(
    ("value", "text", "difference"),
    [(0.6487, ".649", "+.649"), (1.0567, "1.057", "+1.057"), (-0.012, "−.012", "−.012"), (-0.0001, ".000", "±0")],
)
def test_decimals(value: float, text: str, difference: str) -> None:
    assert (decimal(value), signed(value)) == (text, difference)


@pytest.mark.slow
def test_script_of_ci_on_a_merge(repository: Path, tmp_path: Path) -> None:
    """As on GitHub: a shallow clone of the merge of a pull request into its base."""
    _git(repository, "checkout", "-q", "-b", "change")
    evil = "[w](https://www.evil.example) @maintainer ![x](y) <b> `a` a#1 &#64;you x\\"
    _set_param(repository, "train", "weights", evil)
    _json(repository / "metrics/evaluate.json", lambda content: content["val"].update(f1=0.9))
    for seed, name in enumerate(("confusion", "new")):
        _picture(repository / f"plots/{name}.png", seed)
    _commit(repository, "better")
    _git(repository, "checkout", "-q", "main")
    _git(repository, "merge", "-q", "--no-ff", "-m", "Merge", "change")
    base = _git(repository, "rev-parse", "HEAD^1")
    clone = tmp_path / "clone"
    _git(tmp_path, "clone", "-q", "--depth", "2", repository.as_uri(), str(clone))
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EVENT": "pull_request", "PICTURES": "https://example.org/raw",
        "GITHUB_RUN_ID": "7", "GITHUB_SERVER_URL": "https://example.org", "GITHUB_REPOSITORY": "a/b",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }  # fmt: skip
    script = ["bash", str(ROOT / ".github/report.sh")]
    subprocess.run(script, cwd=clone, env=environment, check=True, capture_output=True)
    comment = (clone / "build/ci/comment.md").read_text(encoding="utf-8")
    assert re.search(r"\| val.f1 +\| 0\.\d+ +\| 0.9 +\|", comment)
    written = comment.partition("**plots**")[0]
    assert "maintainer" in written and "evil.example" in written and "www" not in written
    assert not set("[]<>@!&`:\\") & set(written) and written.count("#") == 3
    now = f"https://example.org/raw/{_git(clone, 'rev-parse', 'HEAD')}/plots"
    changed = (
        f"![before](https://example.org/raw/{base}/plots/confusion.png) | ![plots/confusion.png]({now}/confusion.png)"
    )
    assert changed in comment and f"| absent | ![plots/new.png]({now}/new.png) |" in comment
    assert "https://example.org/a/b/actions/runs/7#artifacts" in comment
    assert (tmp_path / "summary").read_text(encoding="utf-8") == comment
    assert Page((clone / "build/ci/report.html").read_text(encoding="utf-8")).loads() == []
    assert (clone / "build/ci/plots_diff/index.html").is_file()

    subprocess.run(script, cwd=clone, env={**environment, "EVENT": "push"}, check=True, capture_output=True)
    assert [path.name for path in (clone / "build/ci").iterdir()] == ["report.html"]


def test_workflow_gives_code_of_a_pull_request_no_rights() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    # YAML 1.1 reads `on` as true; no pull_request_target
    assert set(workflow[True]) == {"push", "pull_request", "schedule"}
    assert "secrets." not in text
    jobs = workflow["jobs"]
    assert "permissions" not in jobs["test"]
    assert jobs["comment"]["permissions"] == {"pull-requests": "write"}
    assert not any("checkout" in step.get("uses", "") for step in jobs["comment"]["steps"])
    for step in (step for job in jobs.values() for step in job["steps"]):
        assert "${{" not in step.get("run", "")  # values of a pull request reach a shell through variables only
        assert re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", step.get("uses", "actions/none@v1"))
    runs = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    assert [run for run in runs if run.startswith("make")] == ["make setup", "make lint", 'make "$TARGET"']
    assert ".github/report.sh" in runs and os.access(ROOT / ".github/report.sh", os.X_OK)
