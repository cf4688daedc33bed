"""What README and docs/ name exists: links and their headings, files, commands, parameters; their Python runs."""

import importlib.util
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import yaml

from src.recognition import detection
from tests.conftest import ROOT, SAMPLE
from tests.test_dependencies import _names
from tests.test_dvc_graph import STAGES, declared
from tests.test_params import known_keys

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
CARD = ROOT / "pretrained/model_card.md"
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
# Our own folders. What stages write there counts as existing, and so do folders that stages write into.
FOLDERS = ("src/", "stages/", "tools/", "tests/", "docs/", "metrics/", "plots/", "models/", "pretrained/", "data/")
THE_USERS = ("data/raw/full", "data/raw/${dataset}", "metrics/details/ingest_NAME", "plots/class_distribution/NAME")
all_pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def _code(page: Path) -> list[str]:
    """Every line of a code block and every span of code, without the comments of a shell."""
    parts = re.split(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for text in parts[::2] for span in re.findall(r"`([^`]+)`", text)]
    return spans + [re.sub(r"\s+#.*", "", line) for block in parts[1::2] for line in block.splitlines()]


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _written() -> set[str]:
    """Outputs that dvc.yaml declares, and the folders above them."""
    paths = [Path(path) for stage in STAGES for path in declared(stage, "outs", "metrics")]
    return {place.as_posix() for path in paths for place in (path, *path.parents)}


def _without_braces(path: str) -> Iterator[str]:
    """a/{b,c}/d -> a/b/d, a/c/d"""
    pieces = [piece.split(",") for piece in re.split(r"[{}]", path)]
    return ("".join(choice) for choice in itertools.product(*pieces))


@pytest.mark.parametrize("page", [*PAGES, CARD], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", target):
            path, _, heading = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), target
            assert not heading or heading in _headings(other), target


@all_pages
def test_files_exist(page: Path) -> None:
    written = _written()
    for code in _code(page):
        for word in re.findall(r"(?<![\w./-])[\w.${},*/-]+", code):
            path = word.rstrip("/.,")
            if not word.startswith(FOLDERS) or path.startswith(THE_USERS) or "NAME" in path:
                continue
            for one in _without_braces(path) if "$" not in path else [path]:
                assert one in written or any(ROOT.glob(one)) or (ROOT / one).is_dir(), f"{one} in `{code}`"


@all_pages
def test_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for code in _code(page):
        for target in re.findall(r"(?:^|[^\w-])make ([a-z][\w-]*)", code):
            assert target in targets, code
        for module in re.findall(r"python[\d.]* -m ([\w.]+)", code):
            if "NAME" not in module:
                spec = importlib.util.find_spec(module)
                assert spec is not None, code
                is_package = spec.submodule_search_locations is not None
                assert not is_package or importlib.util.find_spec(f"{module}.__main__"), code


@all_pages
def test_parameters_exist(page: Path) -> None:
    sections = "|".join(section for section in PARAMS if section != "dataset")
    for code in _code(page):
        keys = [key for key in re.findall(r"-S ([\w.]+)=", code) if "NAME" not in key]
        whole = re.fullmatch(rf"((?:{sections})\.(?!json)[a-z_.0-9]+?)(?:[=:].*)?", code)
        for key in [*keys, *([whole[1]] if whole else [])]:
            assert any(f"{known}.".startswith(f"{key}.") for known in known_keys(PARAMS)), code


def test_readme_is_one_page_and_names_every_dependency() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 140
    assert max(map(len, lines)) <= 120
    words = set(re.findall(r"[\w-]+", " ".join(lines).lower()))
    assert set(_names("requirements.in")) - words == set()


def test_help_lists_every_target() -> None:
    command = ["make", "--no-print-directory", "help"]  # `make test` would have it printed
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert {line.split()[0] for line in listed.splitlines()} == set(phony[1].split())


def test_python_in_embedding_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline() -> Path:
        raise OSError("no network in this test")

    photo = cv2.imread(str(next((SAMPLE / "expw/origin").glob("happy*.jpg"))))
    assert photo is not None
    for name in ("group.jpg", "photo.jpg"):
        cv2.imwrite(str(tmp_path / name), cv2.resize(photo, (480, 360)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detection, "fetch_yunet", offline)
    text = (ROOT / "docs/embedding.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block.replace('"pretrained/', f'"{ROOT}/pretrained/'), "docs/embedding.md", "exec"), {})
    assert "happy" in capsys.readouterr().out
