"""Write outputs whole or not at all: to a temporary name beside the target, then rename.

A killed process leaves at most a `.partial-*` entry, which the next writer of the same output removes; a `.partial-*`
of a process that still runs is left alone, so that two writers of one output do not meet.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # a process is looked for on its own machine only
_DEAD_AFTER = 3600  # seconds without a change, where it cannot be asked whether a process runs


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):  # a folder is gone; another writer may be doing the same
        path.unlink()


def _remove_leftovers(target: Path) -> None:
    """What writers of the target have left that were killed."""
    pattern = re.compile(rf"\.partial-([0-9a-f]{{8}})-([0-9]+)-[0-9a-f]{{8}}-{re.escape(target.name)}")
    for path in target.parent.glob(".partial-*"):
        match = pattern.fullmatch(path.name)
        if match and match[1] == _HOST and not _runs(int(match[2]), path):
            _remove(path)


def _runs(process: int, partial: Path) -> bool:
    try:
        if os.name == "posix":
            os.kill(process, 0)
            return True
        return time.time() - partial.stat().st_mtime < _DEAD_AFTER
    except PermissionError:
        return True
    except OSError:
        return False


def outdated_path(target: Path) -> Path:
    """Where the old `target` is while the new one takes its place; a kill in between leaves it there."""
    return target.with_name(f".outdated-{target.name}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A temporary path beside the target, which is gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    # No other writer has this name. It ends as the target's, since some writers look at the suffix.
    partial = target.with_name(f".partial-{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield partial
    finally:
        _remove(partial)


@contextlib.contextmanager
def replace_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary path to write; on success it becomes `target`, on failure it disappears.

    A link in its place is replaced, not followed: it may lead into DVC's cache.
    """
    with _partial(Path(target)) as partial:
        yield partial
        _sync(partial)
        partial.replace(target)


@contextlib.contextmanager
def replace_directory(target: str | Path) -> Iterator[Path]:
    """Give an empty temporary directory to fill; on success it becomes `target`, replacing what was there.

    Where `target` is a link, the folder that it leads to is replaced.
    """
    target = Path(os.path.realpath(target))
    with _partial(target) as partial:
        partial.mkdir()
        yield partial
        for entry in partial.rglob("*"):
            if entry.is_file():
                _sync(entry)
        outdated = outdated_path(target)
        _remove(outdated)
        if target.exists():
            target.replace(outdated)
        partial.replace(target)
        _remove(outdated)


def write_json(target: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with replace_file(target) as partial:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")  # file names need not be UTF-8
