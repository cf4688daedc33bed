"""What Git holds: the DVC experiments of this clone, and files of any commit."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def git(root: Path, *arguments: str) -> bytes | None:
    """What a Git command prints, or None when it fails or there is no Git."""
    try:
        result = subprocess.run(["git", "-C", root, *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def experiment_commits() -> dict[str, str]:
    """Name -> commit hash, the newest where several have one name; empty outside a repository."""
    refs = git(Path(), "for-each-ref", "--sort=creatordate", "--format=%(objectname) %(refname)", "refs/exps")
    lines = (refs or b"").decode().splitlines()
    return {name.rpartition("/")[2]: commit for commit, name in (line.split() for line in lines)}


def file_at(commit: str, path: str, root: Path = Path()) -> bytes | None:
    """Content of a file as it was in that commit, or None where Git did not have it, or there is no Git."""
    return git(root, "show", f"{commit}:{path}")


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{"test": {"fer": 1}} -> {"test.fer": 1}."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) else {f"{above}{key}": value}
    return found
