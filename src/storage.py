"""Write outputs whole or not at all: to a temporary name beside the target, then rename.

A killed process leaves at most a `.partial-*` entry, which the next run of the same output removes.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def _partial_path(target: Path) -> Path:
    return target.with_name(f".partial-{target.name}")


def outdated_path(target: Path) -> Path:
    """Where the old `target` is while the new one takes its place; a kill in between leaves it there."""
    return target.with_name(f".outdated-{target.name}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replace_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary path to write; on success it becomes `target`, on failure it disappears.

    The temporary name keeps the suffix of `target`, which some writers look at.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_path(target)
    partial.unlink(missing_ok=True)
    try:
        yield partial
        _sync(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_directory(target: str | Path) -> Iterator[Path]:
    """Give an empty temporary directory to fill; on success it becomes `target`, replacing what was there."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_path(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for entry in partial.rglob("*"):
            if entry.is_file():
                _sync(entry)
        outdated = outdated_path(target)
        shutil.rmtree(outdated, ignore_errors=True)
        if target.exists():
            target.replace(outdated)
        partial.replace(target)
        shutil.rmtree(outdated, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(target: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with replace_file(target) as partial:
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
