"""The DVC experiments of this clone, as Git holds them."""

import subprocess


def experiment_commits() -> dict[str, str]:
    """Name -> commit hash, the newest where several have one name; empty outside a repository."""
    command = ["git", "for-each-ref", "--sort=creatordate", "--format=%(objectname) %(refname)", "refs/exps"]
    result = subprocess.run(command, capture_output=True, text=True)
    lines = result.stdout.splitlines() if result.returncode == 0 else []
    return {name.rpartition("/")[2]: commit for commit, name in (line.split() for line in lines)}
