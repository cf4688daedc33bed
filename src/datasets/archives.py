"""Read-only view of a folder, a zip or a .tar.gz of files, with everything untrusted checked at the door.

`open_tree(path)` lists the files by their safe, slash-separated names and reads them one by one; nothing
is ever unpacked to disk. Refused, with a UserError: names that leave the tree (absolute, `..`, drive
letters), links out of a folder, encrypted or damaged archives, and archives that would unpack to more
than `MAX_TOTAL_BYTES` (a zip's own directory says so before anything is read).

A tree is picklable by its path only: each worker process opens its own, see `shared_tree`.
"""

import functools
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from src.errors import UserError

# All of ExpW is 7.6 GiB of JPEG, FER2013 as CSV 0.3 GiB.
MAX_TOTAL_BYTES = 24 * 2**30
MAX_FILE_BYTES = 64 * 2**20  # of one file read whole
MAX_FILES = 2_000_000
ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz")

DAMAGE = (  # what the archive readers of the standard library raise on broken input
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    IndexError,
    KeyError,
    OSError,
)
_MACHINE_FAULTS = (PermissionError, FileNotFoundError, MemoryError, RecursionError)
# `dvc config cache.type symlink` makes every tracked file a link into the content-addressed cache.
_DVC_CACHE_FILE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


class MemberError(Exception):
    """One file of a tree cannot be read; the others may be fine."""


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def safe_name(name: str) -> str | None:
    """The name with forward slashes and without `.` parts, or None when it could leave the tree."""
    name = name.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        return None
    return "/".join(parts)


def _is_clutter(name: str) -> bool:
    """Hidden files and the resource forks that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


class FileTree:
    """Files by name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Name of every file -> its size in bytes, sorted by name."""
        return dict(sorted(self._list().items()))

    def _list(self) -> dict[str, int]:
        raise NotImplementedError

    def open(self, name: str) -> IO[bytes]:
        """A file as a stream. Raises MemberError when its entry is damaged."""
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """A file whole. Raises MemberError when it is damaged or larger than MAX_FILE_BYTES."""
        try:
            with self.open(name) as stream:
                content = self._read_limited(stream)
        except _MACHINE_FAULTS:
            raise
        except DAMAGE as error:
            raise MemberError("damaged in the archive") from error
        if len(content) > MAX_FILE_BYTES:
            raise MemberError("file too large")
        return content

    def _read_limited(self, stream: IO[bytes]) -> bytes:
        """All of a stream, or a little more than MAX_FILE_BYTES of it."""
        return stream.read(MAX_FILE_BYTES + 1)

    def read_many(self, names: Iterable[str]) -> Iterator[tuple[str, bytes | MemberError]]:
        """Files whole, in the order that is quickest to read; a damaged one comes as its error."""
        for name in self._reading_order(names):
            try:
                yield name, self.read(name)
            except MemberError as error:
                yield name, error

    def _reading_order(self, names: Iterable[str]) -> Iterable[str]:
        return names


class FolderTree(FileTree):
    """Files below a folder. Links are followed as long as they stay below it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._root = path.resolve()
        self._prefix = f"{self._root}/"

    def _list(self) -> dict[str, int]:
        sizes = {}
        pending = [""]
        while pending:
            folder = pending.pop()
            with os.scandir(self._prefix + folder) as entries:  # knows about links without asking for each file
                for entry in entries:
                    name = folder + entry.name
                    if entry.is_symlink():
                        self._check_link(Path(entry.path))
                    if _is_clutter(entry.name):
                        continue
                    if entry.is_dir():
                        pending.append(f"{name}/")
                    elif entry.is_file():
                        sizes[name] = entry.stat().st_size
        return sizes

    def _check_link(self, link: Path) -> None:
        target = Path(os.path.realpath(link))
        inside = target.is_relative_to(self._root) and target.is_file()
        if not inside and not (target.is_file() and _DVC_CACHE_FILE.search(target.as_posix())):
            raise UserError(
                f"{link} is a link to {target}, which is not a file below {self._root}; such links are not followed. "
                "Put the files themselves there, or make the whole data folder a link."
            )

    def open(self, name: str) -> IO[bytes]:
        try:
            return open(self._prefix + name, "rb")  # noqa: PTH123 - half the time of a Path
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise MemberError("file missing") from None

    def _read_limited(self, stream: IO[bytes]) -> bytes:
        # Python sets aside as many bytes as are asked for: 64 MiB for every photo takes longer than reading it.
        size = os.fstat(stream.fileno()).st_size
        return stream.read(min(size, MAX_FILE_BYTES) + 1)


class ZipTree(FileTree):
    """Files of a zip."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            # Given an open file, zipfile keeps no count of its readers, which threads could upset.
            self._zip = zipfile.ZipFile(path.open("rb"))
        except _MACHINE_FAULTS:
            raise
        except DAMAGE as error:
            raise damaged_archive(path, error) from error
        entries = [entry for entry in self._zip.infolist() if not entry.filename.endswith("/")]
        _check_extent(path, len(entries), sum(entry.file_size for entry in entries))
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            name = _member_name(path, entry.filename)
            if _is_clutter(name):
                continue
            if name in self._entries:
                raise UserError(f"{path} holds {name} twice; expected one file per name. Download the archive again.")
            self._entries[name] = entry

    def _list(self) -> dict[str, int]:
        return {name: entry.file_size for name, entry in self._entries.items()}

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(self._entries[name])
        except _MACHINE_FAULTS:
            raise
        except DAMAGE as error:
            raise MemberError("damaged in the archive") from error


class _CautiousReader(io.BufferedReader):
    """Refuses the huge single reads with which a forged tar header makes `tarfile` fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > MAX_FILE_BYTES + 1:
            raise tarfile.ReadError("an entry of the archive is too large")
        return super().read(size)


class TarTree(FileTree):
    """Files of a .tar.gz. Meant to be read in storage order: going back starts anew."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._entries: dict[str, tarfile.TarInfo] = {}
        total = 0
        try:
            stream = _CautiousReader(gzip.GzipFile(path, "rb"))
            self._tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
            for entry in self._tar:  # in storage order; sizes are checked before the content is passed over
                total += entry.size
                _check_extent(path, len(self._entries), total)
                name = _member_name(path, entry.name) if not entry.isdir() else ""
                if entry.isfile() and not _is_clutter(name):
                    self._entries[name] = entry
        except _MACHINE_FAULTS:
            raise
        except DAMAGE as error:
            raise damaged_archive(path, error) from error

    def _list(self) -> dict[str, int]:
        return {name: entry.size for name, entry in self._entries.items()}

    def open(self, name: str) -> IO[bytes]:
        stream = self._tar.extractfile(self._entries[name])
        if stream is None:
            raise MemberError("damaged in the archive")
        return stream

    def _reading_order(self, names: Iterable[str]) -> Iterable[str]:
        return sorted(names, key=lambda name: self._entries[name].offset)


def damaged_archive(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read as an archive ({str(error) or type(error).__name__}); it may be cut short. "
        "Expected a complete, unencrypted .zip or .tar.gz. Download it again."
    )


def _member_name(path: Path, raw: str) -> str:
    name = safe_name(raw)
    if name is None:
        raise UserError(
            f"{path} holds a file named {raw[:80]!r}, which points outside the archive; expected plain relative names. "
            "Do not use this archive; download it from its original source."
        )
    return name


def _check_extent(path: Path, files: int, total_bytes: int) -> None:
    if total_bytes > MAX_TOTAL_BYTES or files > MAX_FILES:
        raise UserError(
            f"{path} would unpack to {total_bytes / 2**30:.1f} GiB in {files} files; expected at most "
            f"{MAX_TOTAL_BYTES / 2**30:.0f} GiB and {MAX_FILES} files. None of the known data sets is so large; "
            "download it again."
        )


def open_tree(path: str | Path) -> FileTree:
    """Open a folder, .zip or .tar.gz. Raises UserError when it is damaged, unsafe or too large."""
    path = Path(path)
    if path.is_dir():
        return FolderTree(path)
    return ZipTree(path) if path.name.lower().endswith(".zip") else TarTree(path)


def open_tree_and_archives(root: Path) -> list[FileTree]:
    """The folder itself, then every archive below it, sorted by name."""
    folder = FolderTree(root)
    return [folder, *(open_tree(root / name) for name in folder.sizes if is_archive(name))]


def shared_tree(path: str) -> FileTree:
    """`open_tree`, opened once per process: for worker functions, which get the path."""
    return _shared_tree(path, os.getpid())


@functools.lru_cache(maxsize=2)
def _shared_tree(path: str, process: int) -> FileTree:
    # A forked worker must not use its parent's open zip: they would move one another's place in the file.
    return open_tree(path)
