"""What Git and DVC say about the working tree: its commit, and what differs from an earlier one.

In: the repository at `root`. Out: Revision and Differences. Nothing is written. `dvc metrics diff` and `dvc params
diff` read files in Git only, so that no data and no cache is needed.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.errors import UserError


@dataclass(frozen=True)
class Revision:
    hash: str
    date: str  # of the commit, ISO 8601 with the committer's time zone
    subject: str

    @property
    def short(self) -> str:
        return self.hash[:8]


@dataclass(frozen=True)
class Change:
    """A metric or parameter before and after; None where it was not there."""

    file: str
    name: str
    old: Any
    new: Any

    @property
    def difference(self) -> float | None:
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (self.old, self.new)):
            return None
        return self.new - self.old


@dataclass(frozen=True)
class Differences:
    """The working tree against a commit. `trouble` says in one sentence why there is none to compare with."""

    against: Revision | None = None
    metrics: list[Change] = field(default_factory=list)
    params: list[Change] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)  # paths below plots/ whose content differs
    trouble: str = ""

    def of_metric(self, name: str, file: str = "metrics/evaluate.json") -> Change | None:
        return next((change for change in self.metrics if (change.file, change.name) == (file, name)), None)


def _git(root: Path, *arguments: str) -> bytes | None:
    """What a Git command prints, or None when it fails or there is no Git."""
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def is_repository(root: Path) -> bool:
    """Whether `root` is the top of a Git repository; a folder somewhere below another's top is not."""
    return _git(root, "rev-parse", "--show-prefix") == b"\n"


def find_revision(root: Path, name: str = "HEAD") -> Revision | None:
    """The commit of that name, or None where there is none."""
    if not is_repository(root):
        return None
    text = _git(root, "log", "-1", "--format=%H%n%cI%n%s", "--end-of-options", name, "--")
    if text is None:
        return None
    commit, date, subject = text.decode(errors="replace").rstrip("\n").split("\n", 2)
    return Revision(commit, date, subject)


def uncommitted_files(root: Path) -> list[str]:
    """Paths in Git that differ from the last commit; files that Git does not know are not counted."""
    text = _git(root, "diff", "--name-only", "-z", "HEAD", "--") or b""
    return [name for name in text.decode(errors="replace").split("\0") if name]


def _changes(root: Path, what: str, revision: Revision) -> list[Change]:
    """`dvc metrics diff` or `dvc params diff` against a commit."""
    command = [sys.executable, "-m", "dvc", what, "diff", "--json", revision.hash]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("ERROR: ")
        raise UserError(f"`dvc {what} diff --json {revision.short}` failed: {last}")
    found = json.loads(result.stdout or "{}")
    return [
        Change(file, name, values.get("old"), values.get("new"))
        for file, changes in sorted(found.items())
        for name, values in sorted(changes.items())
    ]


def _changed_plots(root: Path, revision: Revision) -> list[str]:
    changed = _git(root, "diff", "--name-only", "-z", revision.hash, "--", "plots") or b""
    added = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "plots") or b""
    return sorted({name for name in (changed + added).decode(errors="replace").split("\0") if name})


def compare(root: Path, against: str | None = None) -> Differences:
    """Metrics, parameters and plots of the working tree against the last commit, or the one named.

    Raises UserError for a name that is no commit, and when DVC cannot read one of the two sides.
    """
    if not is_repository(root):
        if against:
            raise UserError(f"--against {against}: this folder is not the top of a Git repository.")
        return Differences(trouble="This folder is not the top of a Git repository: there is nothing to compare with.")
    revision = find_revision(root, against or "HEAD")
    if revision is None:
        if against:
            raise UserError(
                f"--against {against}: no such commit here. `git log --oneline` lists those there are; in a shallow "
                "clone `git fetch --unshallow` gets the rest."
            )
        return Differences(trouble="There is no commit yet, so there is nothing to compare with.")
    if not (root / ".dvc").is_dir():
        return Differences(revision, trouble="There is no .dvc folder here, so DVC cannot compare anything.")
    return Differences(
        revision,
        _changes(root, "metrics", revision),
        _changes(root, "params", revision),
        _changed_plots(root, revision),
    )
