"""Folders, zips and tars from strangers: the same view of each, and nothing fills the machine."""

import contextlib
import gzip
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets import archives
from src.datasets.archives import FileTree, MemberError, open_tree
from src.errors import UserError
from tests.raw_data import bomb_bytes, tar_bytes, write_files, zip_bytes

FILES = {"a/one.csv": b"1", "two.csv": b"22", "a/b/three.csv": b"333\n4"}


def write_tree(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        write_files(tmp_path / "tree", files)
        return tmp_path / "tree"
    path = tmp_path / f"tree.{kind}"
    path.write_bytes(zip_bytes(files) if kind == "zip" else tar_bytes(files))
    return path


def read_all(tree: FileTree) -> dict[str, bytes]:
    return {name: tree.read(name) for name in tree.sizes}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz"])
def test_same_files_whatever_they_are_packed_in(tmp_path: Path, kind: str) -> None:
    clutter = {"__MACOSX/a/._one.csv": b"x", ".DS_Store": b"x", "a/.hidden.csv": b"x"}
    tree = open_tree(write_tree(tmp_path, kind, {**FILES, **clutter}))
    assert list(tree.sizes.items()) == [("a/b/three.csv", 5), ("a/one.csv", 1), ("two.csv", 2)]
    assert read_all(tree) == FILES
    assert tree.read("a/b/three.csv", limit=2) == b"33"
    assert list(tree.lines("a/b/three.csv", 3)) == [b"333", b"\n", b"4"]
    with pytest.raises(MemberError, match="missing"):
        tree.read("none.csv")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_names_are_keys_and_lead_nowhere(tmp_path: Path, kind: str) -> None:
    """Names as tar and Windows write them are made plain; one that points elsewhere opens what is in the archive."""
    (tmp_path / "secret.csv").write_bytes(b"secret")
    names = {"./a//b.csv": b"1", "c\\d.csv": b"2", "../secret.csv": b"3", "/etc/passwd.csv": b"4"}
    tree = open_tree(write_tree(tmp_path, kind, names))
    assert read_all(tree) == {"a/b.csv": b"1", "c/d.csv": b"2", "../secret.csv": b"3", "/etc/passwd.csv": b"4"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_archive_cut_short_is_refused_or_its_files_are(tmp_path: Path, kind: str, keep: float) -> None:
    path = write_tree(tmp_path, kind, {f"{number}.csv": os.urandom(4000) for number in range(5)})
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    try:
        tree = open_tree(path)
        assert len(read_all(tree)) < 5
    except UserError as error:
        assert "cut short" in str(error)
    except MemberError as error:
        assert str(error) == "damaged in the archive"


def test_zip_bomb_is_refused_from_its_directory(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(bomb_bytes())
    with pytest.raises(UserError, match=r"would unpack to 52\.0 GiB"):
        open_tree(tmp_path / "bomb.zip")


@pytest.mark.parametrize(("gibibytes", "limit"), [(50, 1), (2, 1)], ids=["size", "ratio"])
def test_tar_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, gibibytes: int, limit: int) -> None:
    entry = tarfile.TarInfo("big.csv")
    entry.size = gibibytes * 2**30
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(entry.tobuf() + bytes(1024)))
    with pytest.raises(UserError, match=rf"would unpack to {gibibytes}\.0 GiB .* at most {limit} GiB"):
        open_tree(tmp_path / "bomb.tar.gz")


def test_forged_tar_header_does_not_fill_the_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 7 * 2**30
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)))
    with pytest.raises(UserError, match=r"cannot be read as an archive .*too large"):
        open_tree(tmp_path / "bomb.tar.gz")


def test_file_larger_than_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = open_tree(write_tree(tmp_path, "zip", {"big.jpg": bytes(1001), "fine.jpg": bytes(1000)}))
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 1000)
    assert len(tree.read("fine.jpg")) == 1000
    with pytest.raises(MemberError, match="too large"):
        tree.read("big.jpg")


def test_damaged_member_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tree.zip"
    with zipfile.ZipFile(path, "w") as archive:  # stored
        archive.writestr("good.txt", b"good")
        archive.writestr("bad.txt", b"tobedamaged")
    path.write_bytes(path.read_bytes().replace(b"tobedamaged", b"tobeDamaged"))
    tree = open_tree(path)
    assert tree.read("good.txt") == b"good"
    with pytest.raises(MemberError, match="damaged"):
        tree.read("bad.txt")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_our_own_mistakes_are_not_called_damage(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tree(tmp_path, kind, FILES)
    monkeypatch.setattr(archives, "_is_clutter", lambda name: name["not a key"])
    with pytest.raises(TypeError):
        open_tree(path)


class TestLinks:
    def test_to_files_and_folders_anywhere_are_followed(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"elsewhere/photos/1.jpg": b"photo", "cache/ab/cd": b"cached", "tree/two.txt": b"22"})
        tree = tmp_path / "tree"
        (tree / "origin").symlink_to("../elsewhere/photos")
        (tree / "label.lst").symlink_to(tmp_path / "cache/ab/cd")  # as DVC links files into its cache
        (tmp_path / "whole").symlink_to("tree")
        for path in (tree, tmp_path / "whole"):
            assert read_all(open_tree(path)) == {
                "label.lst": b"cached", "origin/1.jpg": b"photo", "two.txt": b"22",
            }  # fmt: skip

    def test_circles_end(self, tmp_path: Path) -> None:
        write_files(tmp_path, {"tree/a/one.txt": b"1", "other/two.txt": b"2"})
        (tmp_path / "tree/a/up").symlink_to("..")
        (tmp_path / "tree/self").symlink_to(".")
        (tmp_path / "tree/other").symlink_to("../other")
        (tmp_path / "other/back").symlink_to("../tree")
        assert list(open_tree(tmp_path / "tree").sizes) == ["a/one.txt", "other/two.txt"]

    def test_to_nothing_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "fer2013.csv").symlink_to("moved.csv")
        with pytest.raises(UserError, match=r"fer2013\.csv is a link to moved\.csv, which is missing"):
            open_tree(tmp_path)


@given(st.binary(max_size=400))
def test_any_bytes_are_an_archive_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for suffix in archives.ARCHIVE_SUFFIXES:
        path = folder / f"any{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            _ = open_tree(path).sizes
