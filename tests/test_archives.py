"""Folders, zips and tars from strangers: same view of each, and nothing leaves the tree or fills the machine."""

import contextlib
import gzip
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.datasets import archives
from src.datasets.archives import MemberError, open_tree, safe_name
from src.errors import UserError
from tests.raw_data import bomb_bytes, tar_bytes, write_files, zip_bytes

FILES = {"a/one.txt": b"1", "two.txt": b"22", "a/b/three.txt": b"333"}


def write_tree(tmp_path: Path, kind: str, files: dict[str, bytes]) -> Path:
    if kind == "folder":
        write_files(tmp_path / "tree", files)
        return tmp_path / "tree"
    path = tmp_path / f"tree.{kind}"
    path.write_bytes(zip_bytes(files) if kind == "zip" else tar_bytes(files))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar.gz", "tgz"])
def test_same_files_whatever_they_are_packed_in(tmp_path: Path, kind: str) -> None:
    clutter = {"__MACOSX/a/._one.txt": b"x", ".DS_Store": b"x", "a/.hidden": b"x"}
    tree = open_tree(write_tree(tmp_path, kind, {**FILES, **clutter}))
    assert list(tree.sizes.items()) == [("a/b/three.txt", 3), ("a/one.txt", 1), ("two.txt", 2)]
    assert dict(tree.read_many(tree.sizes)) == FILES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("a\\b.jpg", "a/b.jpg"),
        ("../b.jpg", None),
        ("a/../../b.jpg", None),
        ("a\\..\\b.jpg", None),
        ("/etc/passwd", None),
        ("\\server\\file", None),
        ("C:/b.jpg", None),
        ("c:b.jpg", None),
        ("", None),
        ("a\0.jpg", None),
    ],
)
def test_safe_name(name: str, expected: str | None) -> None:
    assert safe_name(name) == expected


@given(st.text(alphabet="./\\aC:\0 é", max_size=12))
def test_safe_names_stay_below_the_root(name: str) -> None:
    result = safe_name(name)
    if result is not None:
        assert os.path.normpath(f"/root/{result}").startswith("/root/")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "C:/evil.jpg"])
def test_member_outside_the_archive_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(UserError, match="points outside the archive"):
        open_tree(write_tree(tmp_path, kind, {name: b"x"}))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("keep", [0, 1, 10, 0.5, 0.9])
def test_archive_cut_short_is_refused_or_its_files_are(tmp_path: Path, kind: str, keep: float) -> None:
    path = write_tree(tmp_path, kind, {f"{number}.bin": os.urandom(4000) for number in range(5)})
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    try:
        tree = open_tree(path)
        read = [content for _, content in tree.read_many(tree.sizes)]
    except UserError as error:
        assert "cut short" in str(error)
    else:
        assert len(read) < 5 or any(isinstance(content, MemberError) for content in read)


def test_member_without_a_name_is_refused(tmp_path: Path) -> None:
    content = bytearray(zip_bytes({"x": b"1"}))
    directory = content.index(b"PK\x01\x02")
    for lengths in (26, directory + 28):  # of the name and of the extra field, which takes the name's byte over
        content[lengths : lengths + 4] = struct.pack("<HH", 0, 1)
    (tmp_path / "tree.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"tree\.zip"):
        open_tree(tmp_path / "tree.zip")


def test_zip_bomb_is_refused_from_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(bomb_bytes())
    with pytest.raises(UserError, match=r"would unpack to 52\.0 GiB"):
        open_tree(path)


def test_tar_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("big.csv")
    entry.size = 50 * 2**30
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(entry.tobuf() + bytes(1024)))
    with pytest.raises(UserError, match=r"would unpack to 50\.0 GiB"):
        open_tree(path)


def test_forged_tar_header_does_not_fill_the_memory(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 7 * 2**30
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(entry.tobuf(tarfile.USTAR_FORMAT) + bytes(2048)))
    with pytest.raises(UserError, match="cannot be read as an archive"):
        open_tree(path)


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
    read = dict(open_tree(path).read_many(["bad.txt", "good.txt"]))
    assert read["good.txt"] == b"good"
    assert isinstance(read["bad.txt"], MemberError)


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tree.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", b"1")
        archive.writestr("a//b.txt", b"2")
    with pytest.raises(UserError, match=r"a/b\.txt twice"):
        open_tree(path)


class TestLinks:
    def test_link_inside_the_folder_is_followed(self, tmp_path: Path) -> None:
        write_files(tmp_path / "tree", FILES)
        (tmp_path / "tree/link.txt").symlink_to("two.txt")
        assert open_tree(tmp_path / "tree").read("link.txt") == b"22"

    def test_the_folder_itself_may_be_a_link(self, tmp_path: Path) -> None:
        write_files(tmp_path / "elsewhere", FILES)
        (tmp_path / "tree").symlink_to("elsewhere")
        assert list(open_tree(tmp_path / "tree").sizes) == sorted(FILES)

    def test_link_into_the_dvc_cache_is_followed(self, tmp_path: Path) -> None:
        cached = "files/md5/ab/" + 30 * "0"
        write_files(tmp_path / "cache", {cached: b"photo"})
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree/photo.jpg").symlink_to(tmp_path / "cache" / cached)
        assert open_tree(tmp_path / "tree").read("photo.jpg") == b"photo"

    @pytest.mark.parametrize("target", ["../secret.txt", "..", "nowhere", "."])
    def test_link_out_of_the_folder_is_refused(self, tmp_path: Path, target: str) -> None:
        write_files(tmp_path, {"secret.txt": b"secret", "tree/two.txt": b"22"})
        (tmp_path / "tree/link.txt").symlink_to(target)
        with pytest.raises(UserError, match="links are not followed"):
            _ = open_tree(tmp_path / "tree").sizes


@given(st.binary(max_size=400))
def test_any_bytes_are_an_archive_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for suffix in archives.ARCHIVE_SUFFIXES:
        path = folder / f"any{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            _ = open_tree(path).sizes
