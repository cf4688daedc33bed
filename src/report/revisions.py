"""What Git and DVC say about the working tree: its commit, and what differs from an earlier one.

Nothing is written. `dvc metrics diff` and `dvc params diff` read files in Git only, so no data and no cache is needed.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError
from src.report.experiments import git


@dataclass(frozen=True)
class Revision:
    hash: str
    date: str  # of the commit, ISO 8601 with the committer's time zone
    subject: str

    @property
    def short(self) -> str:
        return self.hash[:7]


@dataclass(frozen=True)
class Differences:
    """The working tree against a commit; None where there is no commit to compare with."""

    against: Revision | None = None
    metrics: str = ""  # DVC's table in Markdown, or empty
    params: str = ""


def _names(root: Path, *arguments: str) -> list[str]:
    text = (git(root, *arguments) or b"").decode(errors="replace")
    return [name for name in text.split("\0") if name]


def find_revision(root: Path, name: str = "HEAD") -> Revision | None:
    """The commit of that name; None where there is none, or where `root` is not the top of a repository."""
    if git(root, "rev-parse", "--show-prefix") != b"\n":
        return None
    found = _names(root, "log", "-1", "--format=%H%x00%cI%x00%s%x00", "--end-of-options", name, "--")
    return Revision(*found[:3]) if found else None


def uncommitted_files(root: Path) -> list[str]:
    """Paths in Git that differ from the last commit; files that Git does not know are not counted."""
    return _names(root, "diff", "--name-only", "-z", "HEAD", "--")


def _dvc_table(root: Path, what: str, revision: Revision) -> str:
    """What `dvc metrics diff --md` or `dvc params diff --md` prints; empty where nothing differs."""
    command = [sys.executable, "-m", "dvc", what, "diff", "--md", revision.short]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        message = " ".join(result.stderr.split()).removeprefix("ERROR: ")
        raise UserError(f"`dvc {what} diff {revision.short}` failed: {message}")
    table = result.stdout.strip()
    return table if table.count("\n") > 1 else ""  # more than a head


def compare(root: Path, against: str | None = None) -> Differences:
    """Metrics and parameters of the working tree against the last commit, or the one named.

    Raises UserError for a name that is no commit, and when DVC cannot read one of the two sides.
    """
    revision = find_revision(root, against or "HEAD")
    if revision is None and against:
        raise UserError(
            f"--against {against}: no such commit here. `git log --oneline` lists those there are, if this folder is "
            "the top of a Git repository; in a shallow clone `git fetch --unshallow` gets the rest."
        )
    if revision is None:
        return Differences()
    return Differences(revision, _dvc_table(root, "metrics", revision), _dvc_table(root, "params", revision))
