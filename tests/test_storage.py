"""Outputs are whole or not there, also with two writers, kills and links; a failure says what to do about it."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.errors import run_program
from src.storage import replace_directory, replace_file
from tests.conftest import ROOT


@pytest.mark.parametrize("replace", [replace_file, replace_directory])
def test_failed_write_leaves_what_was_there(tmp_path: Path, replace: Callable) -> None:
    def inside(path: Path) -> Path:
        return path if replace is replace_file else path / "a"

    with replace(tmp_path / "output") as partial:
        inside(partial).write_text("old")
    with pytest.raises(RuntimeError), replace(tmp_path / "output") as partial:
        inside(partial).write_text("half")
        raise RuntimeError
    assert inside(tmp_path / "output").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize("replace", [replace_file, replace_directory])
def test_two_writers_of_one_output_do_not_meet(tmp_path: Path, replace: Callable) -> None:
    """The slower one neither loses its half nor publishes the other's."""
    target = tmp_path / "output.txt"
    with replace(target) as slow:
        written = slow if replace is replace_file else slow / "a"
        written.write_text("slow, first half")
        with replace(target) as quick:
            (quick if replace is replace_file else quick / "a").write_text("quick")
        assert written.read_text() == "slow, first half"
    assert (target if replace is replace_file else target / "a").read_text() == "slow, first half"
    assert [path.name for path in tmp_path.iterdir()] == ["output.txt"]


KILLED = """
import os, signal, sys
from src.storage import replace_directory, replace_file
with replace_file("output.txt") as file, replace_directory("folder") as folder:
    file.write_text("half")
    (folder / "a").write_text("half")
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def _writer(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, how], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    _writer(tmp_path, "killed").wait()
    assert len(list(tmp_path.glob(".partial-*"))) == 2
    living = _writer(tmp_path, "lives")
    assert living.stdout is not None
    assert living.stdin is not None
    assert living.stdout.readline() == "writing\n"
    assert len(list(tmp_path.glob(".partial-*"))) == 2  # its own, in the place of the dead one's
    with replace_file(tmp_path / "output.txt") as file, replace_directory(tmp_path / "folder"):
        file.write_text("other")
        assert len(list(tmp_path.glob(".partial-*"))) == 4
    living.stdin.close()
    assert living.wait() == 0
    assert (tmp_path / "output.txt").read_text() == "half"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "output.txt"]


class TestLinks:
    @pytest.mark.parametrize("exists", [True, False])
    def test_a_folder_is_written_where_its_link_leads(self, tmp_path: Path, exists: bool) -> None:
        (tmp_path / "disk").mkdir()
        if exists:
            (tmp_path / "disk/big").mkdir()
            (tmp_path / "disk/big/old").write_text("old")
        (tmp_path / "output").symlink_to("disk/big")
        for _ in range(2):
            with replace_directory(tmp_path / "output") as partial:
                (partial / "new").write_text("new")
        assert (tmp_path / "output").is_symlink()
        assert [path.name for path in (tmp_path / "disk/big").iterdir()] == ["new"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "output"]
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["big"]

    def test_a_file_that_is_a_link_into_the_cache_leaves_the_cache_alone(self, tmp_path: Path) -> None:
        (tmp_path / "cached").write_text("cached")
        (tmp_path / "output.csv").symlink_to("cached")
        with replace_file(tmp_path / "output.csv") as partial:
            partial.write_text("new")
        assert (tmp_path / "cached").read_text() == "cached"
        assert (tmp_path / "output.csv").read_text() == "new"


# --- messages ---


def message_of(action: Callable[[], object]) -> str:
    def main() -> None:
        action()

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    return str(caught.value)


def test_a_full_disk_and_rights_say_so_and_other_errors_of_the_system_keep_their_traceback() -> None:
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number), "data/processed")

    assert "data/processed: The disk is full" in message_of(lambda: fail(errno.ENOSPC))
    assert "data/processed: Permission denied. Make it readable" in message_of(lambda: fail(errno.EACCES))
    with pytest.raises(OSError, match="Too many links"):
        run_program(lambda: fail(errno.EMLINK))
