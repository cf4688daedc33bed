"""The report: complete, self-contained, escaped, honest about what is missing; the comment and the script of CI."""

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

import cv2
import numpy as np
import pytest
import yaml

from src.errors import UserError
from src.expressions import EXPRESSIONS
from src.report.comment import _label, render_comment
from src.report.contents import Contents, read_contents
from src.report.figures import decimal, signed
from src.report.markup import element
from src.report.page import render_markdown, render_page
from src.report.pipeline import _assign_lanes, draw_pipeline, find_flows, read_stages
from tests.conftest import ROOT

WITHOUT_END_TAG = {"meta", "img", "br", "hr"}
MAY_LOAD = {"script", "link", "iframe", "object", "embed", "video", "audio", "source", "base", "form", "input", "image"}


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
        return [attributes["src"] or "" for tag, attributes in self.tags if tag == "img"]

    def loads(self) -> list[str]:
        """Everything that a browser would fetch."""
        found = [tag for tag, _ in self.tags if tag in MAY_LOAD]
        for tag, attributes in self.tags:
            loaded = [attributes[name] or "" for name in ("src", "srcset", "data", "poster", "xlink:href", "style")
                      if name in attributes]  # fmt: skip
            if tag != "a":
                loaded.append(attributes.get("href") or "")
            found += [address for address in loaded if re.search(r"^(?!data:).*(//|url\()", address)]
            found += [name for name in attributes if name.startswith("on")]
        return found + re.findall(r"url\(|@import", "".join(self.styles))


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    result = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def _commit(folder: Path, subject: str) -> None:
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "--allow-empty", "-m", subject)


def _unpack(folder: Path) -> Path:
    """What the report reads of the real repository, as last committed: a training may be running beside the tests."""
    paths = (
        "dvc.yaml",
        "params.yaml",
        "metrics",
        "plots",
        "stages",
        ".dvc",
        "data/raw/full",
        "pretrained",
        ".gitignore",
    )
    archive = subprocess.run(["git", "archive", "HEAD", *paths], cwd=ROOT, capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    _git(folder, "init", "-q", "-b", "main")
    _commit(folder, "first")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The real repository with one commit, for a test to change."""
    return _unpack(tmp_path / "repository")


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _unpack(tmp_path_factory.mktemp("report") / "unchanged")


@pytest.fixture(scope="module")
def real(unchanged: Path) -> Contents:
    return read_contents(unchanged)


def _run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "src.report", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == code, result.stderr
    return result


def _change_metric(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "metrics/evaluate.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _picture(path: Path, seed: int) -> str:
    """Write noise as PNG; gives its bytes as they stand in a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (24, 24), np.uint8))
    return base64.b64encode(path.read_bytes()).decode()


def test_page_of_the_repository_loads_nothing(real: Contents, unchanged: Path) -> None:
    page = Page(render_page(real))
    assert page.loads() == []
    assert len(page.pictures) >= len(list((unchanged / "plots").glob("*.png"))) > 0
    policy = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert [part.strip() for part in (policy[0] or "").split(";")][:2] == ["default-src 'none'", "img-src data:"]


@pytest.mark.parametrize("text", [
    '<img src="http://example.org/a.png">', '<img src="//example.org/a.png">', "<script></script>",
    "<p onclick='x'></p>",
    "<style>p {background: url(a.png)}</style>", '<p style="background:url(http://a)"></p>', '<link href="a.css">',
], ids=["picture", "same-protocol", "script", "handler", "css", "inline-css", "link"])  # fmt: skip
def test_the_check_for_loading_finds(text: str) -> None:
    """The check above would notice."""
    text += "</link>" if text.startswith("<link") else ""
    assert Page(text).loads() != []


def test_page_shows_the_figures_of_evaluate(real: Contents, unchanged: Path) -> None:
    page = Page(render_page(real))
    evaluation = json.loads((unchanged / "metrics/evaluate.json").read_text(encoding="utf-8"))
    cells = [" ".join(row) for row in page.rows]
    for split in ("test", "validation"):
        for values in evaluation[split].values():
            shown = [f"{values['n']:,}"]
            for name in ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece"):
                shown.append(f"{values[name]:.3f}".removeprefix("0"))
            assert any(all(figure in cell for figure in shown) for cell in cells), shown
    for name, values in evaluation["test"]["all"]["per_class"].items():
        assert any(row[0] == name and f"{values['recall']:.3f}".removeprefix("0") in row[2] for row in page.rows if row)


def test_note_on_private_test_stands_beside_the_figures(real: Contents) -> None:
    assert real.fer2013_note  # the published figures have one
    page = Page(render_page(real))
    assert f"* {real.fer2013_note}" in page.text
    names = {row.name: row.split for row in real.rows}
    assert names["FER2013*"] == "test"
    assert names["FER2013"] == "validation"


def test_report_loads_no_deep_learning_framework() -> None:
    code = (
        "import sys, src.report, src.report.contents, src.report.page, src.report.comment; "
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'wandb'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_page_is_the_same_every_time(real: Contents, unchanged: Path) -> None:
    assert render_page(real) == render_page(read_contents(unchanged))


def test_faces_of_the_funnel_add_up(real: Contents) -> None:
    """Each face that was cropped is in a split or in the list of what was left out."""
    totals = {step.title: step.total for step in [*real.funnel.steps, *real.funnel.held_out]}
    removed = sum(loss.faces for loss in real.funnel.losses if loss.stage == "split")
    parts = totals["split: train part"] + totals["split: validation"] + totals["split: test"]
    assert totals["cropped, both"] == parts + removed
    assert totals["trained on"] == real.metrics["train"]["train"]["n"]
    page = Page(render_page(real))
    for step in real.funnel.steps:
        assert [step.title, f"{step.total:,}", *(f"{step.faces[name]:,}" for name in EXPRESSIONS)] in page.rows


def test_skipped_rows_are_listed_by_reason(repository: Path) -> None:
    path = repository / "metrics/ingest_expw.json"
    metric = json.loads(path.read_text(encoding="utf-8"))
    metric["skipped"] = {"total": 12, "by_reason": {"no <photo>": 12}, "examples": {}}
    metric["below_confidence_min"] = 1234
    path.write_text(json.dumps(metric), encoding="utf-8")
    rows = Page(render_page(read_contents(repository))).rows
    assert ["ingest_expw", "skipped: no <photo>", "12"] in rows
    assert ["ingest_expw", "below ingest_expw.confidence_min", "1,234"] in rows


def test_values_are_escaped(repository: Path) -> None:
    evil = "<script>alert('&')</script><img src=http://example.org/x onerror=y>"
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    assert "  weights: auto " in text
    (repository / "params.yaml").write_text(text.replace("  weights: auto ", f'  weights: "{evil}" '), encoding="utf-8")
    _change_metric(repository, lambda content: content["test"].update({evil: content["test"]["all"]}))
    (repository / "models").mkdir()
    (repository / "models/model_card.md").write_text(f"# Card\n\n{evil}\n\n![x](http://example.org/y.png)\n")
    page = Page(render_page(read_contents(repository)))
    assert page.loads() == []
    assert page.text.count(evil) >= 3  # parameter, metric, card
    assert ["train.weights", "auto", evil] in page.rows


def test_subject_of_a_commit_is_escaped(repository: Path) -> None:
    _commit(repository, "</style><script>x()</script>")
    page = Page(render_page(read_contents(repository)))
    assert page.loads() == []
    assert "</style><script>x()</script>" in page.text


def test_plain_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "a < b", title='"&"')
    assert (
        element("p", inner, " & c", class_="n") == '<p class="n"><b title="&quot;&amp;&quot;">a &lt; b</b> &amp; c</p>'
    )


def test_markdown_is_rendered() -> None:
    page = Page(render_markdown("# One\n\n- a `b`\n\n| x | y |\n|---|---|\n| 1 | \\*2 |\n\n[z](javascript:alert(1))"))
    assert [tag for tag, _ in page.tags if tag in ("h1", "h3", "li", "code", "table")] == ["h3", "li", "code", "table"]
    assert page.rows == [["x", "y"], ["1", "*2"]]
    assert not any(tag == "a" for tag, _ in page.tags)


def test_differences_to_the_last_commit(repository: Path) -> None:
    assert "Nothing differs: no metric, no parameter, no plot." in Page(render_page(read_contents(repository))).text
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    epochs = yaml.safe_load(text)["train"]["epochs"]
    changed = text.replace(f"  epochs: {epochs} ", f"  epochs: {epochs + 1} ")
    (repository / "params.yaml").write_text(changed, encoding="utf-8")
    old = json.loads((repository / "metrics/evaluate.json").read_text(encoding="utf-8"))["test"]["fer2013"]["accuracy"]

    def better(content: dict) -> None:
        content["test"]["fer2013"]["accuracy"] = round(old + 0.02, 5)
        content["test"]["all"]["ece"] += 0.01

    _change_metric(repository, better)
    contents = read_contents(repository)
    page = Page(render_page(contents))
    assert ["train.epochs", f"{epochs}", f"{epochs + 1}"] in page.rows
    assert any(row[1:] == [f"{old:.5g}", f"{old + 0.02:.5g}", "+0.02"] for row in page.rows)
    deltas = [
        attributes["class"] for tag, attributes in page.tags if (attributes.get("class") or "").startswith("delta")
    ]
    assert deltas == ["delta better", "delta worse", "delta worse", "delta better"]  # two tiles, then two rows
    assert "2 files differ from this commit" in page.text

    _commit(repository, "second")
    assert "Nothing differs" in Page(render_page(read_contents(repository))).text
    earlier = Page(render_page(read_contents(repository, against="HEAD~1")))
    assert ["train.epochs", f"{epochs}", f"{epochs + 1}"] in earlier.rows


def test_changed_plot_is_shown_before_and_after(repository: Path) -> None:
    before = _picture(repository / "plots/extra.png", 1)
    _commit(repository, "second")
    after = _picture(repository / "plots/extra.png", 2)
    shown = [
        picture.removeprefix("data:image/png;base64,")
        for picture in Page(render_page(read_contents(repository))).pictures
    ]
    assert shown.index(before) == shown.index(after) + 1
    _commit(repository, "third")
    assert before not in render_page(read_contents(repository))


def test_pictures_of_people_only_on_request(repository: Path) -> None:
    face = _picture(repository / "plots/faces/mistakes.png", 3)
    _run(repository)
    assert face not in (repository / "build/report.html").read_text(encoding="utf-8")
    _run(repository, "--faces", "--output", "build/faces.html")
    page = Page((repository / "build/faces.html").read_text(encoding="utf-8"))
    assert f"data:image/png;base64,{face}" in page.pictures
    assert "Pictures of people. Keep this page" in page.text
    assert "exclude each other" in _run(repository, "--faces", "--comment", code=1).stderr


def test_faces_that_are_not_there_are_named(repository: Path) -> None:
    assert "dvc pull plots/faces" in Page(render_page(read_contents(repository, faces=True))).text


def test_model_card(repository: Path) -> None:
    """That of the current model, else that of the released one, else how to get one."""
    (repository / "models").mkdir()
    (repository / "models/model_card.md").write_text("# Of this run\n", encoding="utf-8")
    assert "Of this run" in Page(render_page(read_contents(repository))).text
    shutil.rmtree(repository / "models")
    released = Page(render_page(read_contents(repository)))
    assert "Of the released model, from pretrained/model_card.md" in released.text
    assert "Intended use" in released.text
    shutil.rmtree(repository / "pretrained")
    assert "There is no model card. dvc repro writes" in Page(render_page(read_contents(repository))).text


def test_nothing_run_yet(repository: Path) -> None:
    """Metrics and plots gone: the page says what is missing, and how to get it."""
    shutil.rmtree(repository / "metrics")
    shutil.rmtree(repository / "plots")
    result = _run(repository)
    assert result.stdout.startswith("build/report.html (")
    page = Page((repository / "build/report.html").read_text(encoding="utf-8"))
    assert "metrics/evaluate.json is missing. dvc repro makes it" in page.text
    assert "Missing: plots/class_distribution/ingest_fer2013.csv," in page.text
    assert "There is no picture in plots/." in page.text
    comment = _run(repository, "--comment").stdout
    assert "`metrics/evaluate.json` is missing" in comment


def test_without_git(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    page = Page(render_page(read_contents(repository)))
    assert "no Git commit" in page.text
    assert "not the top of a Git repository" in page.text
    assert "not the top of a Git repository" in _run(repository, "--comment").stdout


def test_before_the_first_commit(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    _git(repository, "init", "-q")
    assert "There is no commit yet" in Page(render_page(read_contents(repository))).text


BROKEN: dict[str, tuple[str, str | None, str]] = {
    "no-dvc-yaml": ("dvc.yaml", None, "dvc.yaml is missing. Run from the repository root"),
    "no-params": ("params.yaml", None, "params.yaml is missing"),
    "dvc-yaml-list": ("dvc.yaml", "- a\n", "dvc.yaml cannot be read as stages"),
    "dvc-yaml-circle": (
        "dvc.yaml", "stages: {a: {deps: [x], outs: [y]}, b: {deps: [y], outs: [x]}}", "waits for another one: a, b",
    ),
    "params-text": ("params.yaml", "text", "params.yaml must be a mapping"),
    "params-broken": ("params.yaml", "a: [", "params.yaml is not valid YAML"),
    "params-binary": ("params.yaml", "\udcff", "params.yaml is not UTF-8"),
    "metrics-cut": ("metrics/evaluate.json", '{"test": {', "metrics/evaluate.json is not valid JSON"),
    "metrics-list": ("metrics/evaluate.json", "[]", "metrics/evaluate.json is not as stage evaluate writes it"),
    "metrics-other": ("metrics/evaluate.json", '{"test": {"all": {}}}', "is not as stage evaluate writes it"),
    "split-other": ("metrics/split.json", '{"faces": 3}', "metrics/split.json is not as stage split writes it"),
    "crop-other": ("metrics/crop.json", '{"skipped": []}', "metrics/crop.json is not as stage crop writes it"),
    "classes": ("plots/class_distribution/smote.csv", "a,b\n1,2\n", "does not list the faces of the seven expressions"),
    "counts": ("plots/class_distribution/smote.csv", "expression,faces\nangry,x\n", "does not list the faces"),
}  # fmt: skip


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
    (repository / "metrics/evaluate.json").write_text("[]", encoding="utf-8")
    result = _run(repository, code=1)
    assert result.stderr.startswith("error: metrics/evaluate.json")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in (repository / "build").iterdir()] == ["report.html"]
    assert (repository / "build/report.html").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("name", ["nowhere", "--output=x", "HEAD~9"])
def test_unknown_commit_is_refused(repository: Path, name: str) -> None:
    result = _run(repository, f"--against={name}", code=1)
    assert result.stderr.startswith(f"error: --against {name}: no such commit here.")
    shutil.rmtree(repository / ".git")
    with pytest.raises(UserError, match="not the top of a Git repository"):
        read_contents(repository, against=name)


def test_output_that_is_a_folder_is_refused(repository: Path) -> None:
    assert "is a folder; name a file" in _run(repository, "--output", "metrics", code=1).stderr


def test_pipeline_shows_every_stage_and_flow(real: Contents) -> None:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    drawing = Page(draw_pipeline(real.stages))
    assert [stage.name for stage in real.stages] == list(content)
    for name in content:
        assert name in drawing.texts
    assert "from data/raw/full/fer2013" in drawing.texts
    readers = {path: flow.readers for flow in find_flows(real.stages) for _, path in flow.outputs}
    assert readers["data/processed/split/test"] == ("evaluate",)
    assert readers["data/processed/split/validation"] == ("train", "export", "evaluate")
    declared = {dep for stage in content.values() for dep in stage["deps"] if not dep.endswith(".py")}
    assert set(readers) == {path for path in declared if not path.startswith("data/raw")}


def test_stages_are_drawn_in_the_order_of_the_data() -> None:
    text = "stages: {late: {deps: [a], outs: [b]}, early: {outs: [{a: {cache: false}}, '${where}/c']}}"
    stages = read_stages(text, {"where": "there"})
    assert [stage.name for stage in stages] == ["early", "late"]
    assert stages[0].outputs == ("a", "there/c")


def test_lines_that_overlap_are_in_different_lanes() -> None:
    spans = [(0.0, 100.0), (10.0, 20.0), (30.0, 40.0), (15.0, 35.0)]
    lanes = _assign_lanes(spans)
    for first in range(len(spans)):
        for second in range(first):
            overlap = spans[first][0] <= spans[second][1] and spans[second][0] <= spans[first][1]
            assert not (overlap and lanes[first] == lanes[second])
    assert lanes[1] == lanes[2] == 0
    assert lanes[0] == max(lanes)


@pytest.mark.parametrize(
    ("value", "text"), [(0.6487, ".649"), (1.0567, "1.057"), (-0.012, "−.012"), (0.0, ".000"), (1.0, "1.000")]
)
def test_decimals(value: float, text: str) -> None:
    assert decimal(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.02, "+.020"), (-0.02, "−.020"), (0.0001, "0"), (-0.0001, "0"), (1.5, "+1.500")]
)
def test_differences_have_a_sign(value: float, text: str) -> None:
    assert signed(value) == text


def test_comment_lists_what_differs(repository: Path) -> None:
    assert "No metric, parameter or plot differs" in render_comment(read_contents(repository))
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    evil = "x`|@someone <b>\\n![p](http://example.org)"
    (repository / "params.yaml").write_text(text.replace("  weights: auto ", f'  weights: "{evil}" '), encoding="utf-8")
    _change_metric(repository, lambda content: content["test"]["expw"].update(accuracy=0.5))
    _picture(repository / "plots/confusion.png", 5)
    _picture(repository / "plots/new one.png", 6)
    contents = read_contents(repository)
    comment = render_comment(contents, "https://example.org/raw/")
    assert "| `train.weights` | `auto` | `x @someone <b> ![p](http://example.org)` |" in comment
    assert "`test.expw.accuracy`" in comment
    assert re.search(r"\| ExpW \| \d+ \| \.500 \(.*\) \*\*\+\.\d{3}\*\*", comment)
    assert contents.differences.against and contents.revision
    address = f"https://example.org/raw/{contents.revision.hash}"
    assert f"| ![plots/confusion.png]({address}/plots/confusion.png) | ![plots/confusion.png]({address}/" in comment
    assert f"| absent | ![plots/new one.png]({address}/plots/new%20one.png) |" in comment
    assert "example.org/raw" not in render_comment(contents)


@pytest.mark.parametrize(
    "name", ["[win](https://evil.example)", "@maintainer", "![x](y)", "<b>", "`a` | b", "www.x.org"]
)
def test_a_section_with_a_foreign_name_stays_text(name: str) -> None:
    """Of a metrics file that a pull request brings."""
    assert not set("[]()<>@!|`/:.") & set(_label(name))
    assert _label("FER2013 PrivateTest*, without copies") == "FER2013 PrivateTest\\*, without copies"


def test_comment_fits_into_githubs_limit(repository: Path) -> None:
    _change_metric(repository, lambda content: content.update({f"{'long' * 60}{index}": index for index in range(900)}))
    comment = render_comment(read_contents(repository))
    assert len(comment) < 65_536
    assert comment.count("<details>") == comment.count("</details>") == 1


def test_script_of_ci_on_a_merge(repository: Path, tmp_path: Path) -> None:
    """As on GitHub: a shallow clone of the merge of a pull request into its base."""
    _git(repository, "checkout", "-q", "-b", "change")
    _change_metric(repository, lambda content: content["test"]["all"].update(macro_f1=0.9))
    _picture(repository / "plots/confusion.png", 7)
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
    assert "`test.all.macro_f1`" in comment
    assert f"https://example.org/raw/{base}/plots/confusion.png" in comment
    assert "https://example.org/a/b/actions/runs/7#artifacts" in comment
    assert (tmp_path / "summary").read_text(encoding="utf-8") == comment
    assert Page((clone / "build/ci/report.html").read_text(encoding="utf-8")).loads() == []
    plots = {path.name for path in (clone / "build/ci/plots_diff/static").iterdir()}
    assert {"workspace_plots_confusion.png", f"{base}_plots_confusion.png"} <= plots

    subprocess.run(script, cwd=clone, env={**environment, "EVENT": "push"}, check=True, capture_output=True)
    assert [path.name for path in (clone / "build/ci").iterdir()] == ["report.html"]


def test_workflow_gives_code_of_a_pull_request_no_rights() -> None:
    text = (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML 1.1 reads `on` as true; no pull_request_target
    assert "secrets." not in text
    jobs = workflow["jobs"]
    assert "permissions" not in jobs["test"]
    assert jobs["comment"]["permissions"] == {"pull-requests": "write"}
    assert not any("checkout" in step.get("uses", "") for step in jobs["comment"]["steps"])
    for job in jobs.values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")  # values of a pull request reach a shell through variables only
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@(v\d+|[0-9a-f]{40})", step["uses"])
    runs = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    assert [run for run in runs if run.startswith("make")] == ["make setup", "make lint", "make test"]
    assert ".github/report.sh" in runs
    assert os.access(ROOT / ".github/report.sh", os.X_OK)
