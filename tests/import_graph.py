"""Which modules of ours a stage depends on: what it imports, directly or through others, minus a reviewed list.

    python -m tests.import_graph --write     # write the lists of dvc.yaml anew

Run it after a change of imports. DVC runs a stage again when one of these files changes in any byte, so a file whose
change cannot alter what stages compute is left out: see `UNLISTED`.
"""

import ast
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent

# Modules of which no stage lists a change, and why none is lost. What they import is not followed either.
UNLISTED = {
    "src/errors.py": "words of messages and exit codes",
    "src/storage.py": "how and where files are written; not what is in them",
    "src/params.py": "checks params.yaml; DVC compares the values themselves, and no key has a default",
    "src/sheets.py": "fonts and layout of sheets, which people look at and nothing reads",
    "src/datasets/expw_sheets.py": "as src/sheets.py",
    "src/network/wandb_log.py": "a log",
    "src/network/state.py": "keeps an interrupted training; that a resumed one ends as if it had not been "
    "interrupted is proved by tests/test_network.py and tests/test_kill.py",
    "src/recognition/__init__.py": "names to import, resolved on first use",
    "stages/__init__.py": "Ctrl-C while a stage loads its libraries, where its memory comes from, and rounding: the "
    "processor's best convolutions, no GPU where exports are compared",
}


def _file_of(module: str) -> Path | None:
    """The file of one of our modules, or None for a name that is not a module of ours."""
    path = ROOT / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _packages_of(file: Path) -> set[Path]:
    """The `__init__.py` files that are run before it."""
    return {folder / "__init__.py" for folder in file.parents if (folder / "__init__.py").is_file()}


def direct_imports(file: Path) -> set[Path]:
    """The files of ours that it imports by itself."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed"
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ("src", "stages"):
                path = _file_of(name)
                if path is not None:
                    found |= {path, *_packages_of(path)}
    return found


def imported_files(start: str | Path) -> set[str]:
    """Paths below the repository root of `start` and all it imports of ours, but those that are empty or `UNLISTED`."""
    unlisted = {ROOT / name for name in UNLISTED}
    waiting = [ROOT / start, *_packages_of(ROOT / start)]
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in seen | unlisted:
            seen.add(file)
            waiting += direct_imports(file)
    return {file.relative_to(ROOT).as_posix() for file in seen if file.stat().st_size}


def _with_list(text: str, stage: str, key: str, pattern: str, entries: list[str]) -> str:
    """dvc.yaml with the entries of the stage's list `key` that match `pattern` replaced by `entries`, at its end."""
    start = re.search(rf"^  {stage}:\n(?:    .*\n)*?    {key}:\n", text, re.MULTILINE)
    assert start, f"dvc.yaml: no block list {key} in stage {stage}"
    block = re.match(r"(?:      .*\n)*", text[start.end() :])
    assert block
    kept = [line for line in block[0].splitlines(keepends=True) if not re.fullmatch(rf"      - {pattern}\n", line)]
    kept += [f"      - {entry}\n" for entry in sorted(entries)]
    return text[: start.end()] + "".join(kept) + text[start.end() + block.end() :]


def _sources(stages: dict[str, dict]) -> list[str]:
    """What crop reads: the outputs of every ingest stage, and the photos of those that write a table of boxes."""
    found = []
    for name, stage in stages.items():
        if name.startswith("ingest_"):
            written = [out for out in stage["outs"] if isinstance(out, str) and out.startswith("data/interim/")]
            tables = any(out.endswith(".csv") for out in written)
            found += written + [dep for dep in stage["deps"] if tables and dep.startswith("data/raw/")]
    return found


def rewritten(text: str) -> str:
    """dvc.yaml with the `.py` files of every stage's deps, and the data of crop's, as they should be."""
    stages = yaml.safe_load(text)["stages"]
    text = _with_list(text, "crop", "deps", r"data/\S+", _sources(stages))
    for stage in stages:
        text = _with_list(text, stage, "deps", r"\S+\.py", list(imported_files(f"stages/{stage}.py")))
    return text


def main() -> None:
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    path = ROOT / "dvc.yaml"
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
