"""The DVC experiments of this clone, and files of any commit, as Git holds them."""

import subprocess
from pathlib import Path


def experiment_commits() -> dict[str, str]:
    """Name -> commit hash, the newest where several have one name; empty outside a repository."""
    command = ["git", "for-each-ref", "--sort=creatordate", "--format=%(objectname) %(refname)", "refs/exps"]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = result.stdout.splitlines() if result.returncode == 0 else []
    return {name.rpartition("/")[2]: commit for commit, name in (line.split() for line in lines)}


def file_at(commit: str, path: str, root: Path = Path()) -> bytes | None:
    """Content of a file as it was in that commit, or None where Git did not have it, or there is no Git."""
    try:
        result = subprocess.run(["git", "-C", str(root), "show", f"{commit}:{path}"], capture_output=True)
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None
