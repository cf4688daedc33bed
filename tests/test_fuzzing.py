"""The fuzzer finds what it is there for, and one seed and number always make one input."""

import signal
from pathlib import Path

import pytest

from src.errors import UserError
from tools import fuzz_parsers


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("error", "found"),
    [(None, False), (UserError("x"), False), (IndexError("x"), True), (fuzz_parsers.TooSlow(), True)],
    ids=repr,
)
def test_a_find_is_what_no_user_should_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, found: bool
) -> None:
    def parse(*_: object) -> None:
        if error:
            raise error

    monkeypatch.setattr(fuzz_parsers, "TARGETS", (lambda folder, draw: parse,))
    assert bool(fuzz_parsers.try_input(1, 1, tmp_path / "input")) == found
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("number", range(6))
def test_an_input_can_be_made_again(tmp_path: Path, number: int) -> None:
    for name in ("first", "second"):
        assert fuzz_parsers.try_input(5, number, tmp_path / name) is None
    assert _files(tmp_path / "first") == _files(tmp_path / "second") != {}
