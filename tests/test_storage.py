"""Outputs are whole or not there, also with two writers, kills and links; a failure says what to do about it."""

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src.errors import run_program
from src.storage import replace_directory, replace_file
from tests.conftest import ROOT, run_in
from tests.raw_data import contents


@pytest.mark.parametrize(("replace", "inside"), [(replace_file, ""), (replace_directory, "a")])
def test_failed_and_overtaken_writes(tmp_path: Path, replace: Callable, inside: str) -> None:
    """A failed one leaves what was there; of two at once neither loses its half nor publishes the other's."""
    target = tmp_path / "output"
    with replace(target) as slow:
        (slow / inside).write_text("slow")
        with replace(target) as quick:
            (quick / inside).write_text("quick")
        assert (target / inside).read_text() == "quick"
        assert (slow / inside).read_text() == "slow"
    with pytest.raises(RuntimeError), replace(target) as partial:
        (partial / inside).write_text("half")
        raise RuntimeError
    assert (target / inside).read_text() == "slow"
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_many_writers_of_one_directory(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for _ in range(10):
            with replace_directory(tmp_path / "folder") as partial:
                for name in ("a", "b"):
                    (partial / name).write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert (tmp_path / "folder/a").read_text() == (tmp_path / "folder/b").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


WRITER = """
import os, signal, sys
from src.storage import replace_directory, replace_file
with replace_file("output.txt") as file, replace_directory("folder") as folder:
    file.write_text("other")
    (folder / "a").write_text("other")
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    writer = (sys.executable, "-c", WRITER)
    run_in(tmp_path, *writer, "killed", check=False, PYTHONPATH=str(ROOT))
    assert len(list(tmp_path.glob(".partial-*"))) == 2
    with replace_file(tmp_path / "output.txt") as file, replace_directory(tmp_path / "folder"):
        file.write_text("mine")
        assert len(list(tmp_path.glob(".partial-*"))) == 2  # its own, in the place of the dead one's
        run_in(tmp_path, *writer, "lives", PYTHONPATH=str(ROOT))
        assert (tmp_path / "output.txt").read_text() == "other"
    assert (tmp_path / "output.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "output.txt"]


def test_a_folder_is_written_where_its_link_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").symlink_to("disk/big")
    for name in ("old", "new"):  # there is nothing at the end of the link, then something
        with replace_directory(tmp_path / "output") as partial:
            (partial / name).write_text(name)
    assert (tmp_path / "output").is_symlink()
    assert contents(tmp_path / "disk") == {"big/new": b"new"}


def test_a_file_that_is_a_link_into_the_cache_leaves_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "cached").write_text("cached")
    (tmp_path / "output.csv").symlink_to("cached")
    with replace_file(tmp_path / "output.csv") as partial:
        partial.write_text("new")
    assert (tmp_path / "cached").read_text() == "cached"
    assert (tmp_path / "output.csv").read_text() == "new"


@pytest.fixture
def a_users_folder() -> Iterator[Path]:
    """A folder, and for its time a process that permissions bind, which they do not for root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        if os.geteuid():
            yield folder
            return
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def message_of(action: Callable[[], object]) -> str:
    def main() -> None:
        action()

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    return str(caught.value)


def test_an_unreadable_input_and_an_unwritable_folder_are_told_apart(a_users_folder: Path) -> None:
    file, folder, closed = (a_users_folder / name for name in ("data.csv", "folder", "closed"))
    file.write_text("x")
    folder.mkdir()
    closed.mkdir()
    (closed / "inside.csv").write_text("x")
    file.chmod(0o200)
    folder.chmod(0o500)
    closed.chmod(0o000)
    try:
        for path, read in (
            (file, file.read_text),
            (closed, lambda: list(closed.iterdir())),
            (closed / "inside.csv", (closed / "inside.csv").read_text),
        ):
            message = message_of(read)
            assert message.startswith(f"error: {path}: Permission denied. Make it readable")
        message = message_of(lambda: (folder / "new.csv").write_text("x"))
        assert message.startswith(f"error: {folder / 'new.csv'}: Permission denied. Make the folder writable")
    finally:
        closed.chmod(0o700)
        folder.chmod(0o700)


def test_a_full_disk_says_so_and_other_errors_of_the_system_keep_their_traceback() -> None:
    def fail(number: int) -> None:
        raise OSError(number, os.strerror(number), "data/processed")

    assert "data/processed: The disk is full" in message_of(lambda: fail(errno.ENOSPC))
    assert "data/processed: The file system is read-only" in message_of(lambda: fail(errno.EROFS))
    with pytest.raises(OSError, match="Too many links"):
        run_program(lambda: fail(errno.EMLINK))
