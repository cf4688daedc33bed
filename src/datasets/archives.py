"""One read-only view of a folder, a zip or a .tar.gz of files from strangers.

`open_tree(path)` lists the files by name and reads them one by one. Nothing is ever unpacked to disk, so a name is only
a key, however hostile. Archives that would unpack to more than is known of any data set are refused before they are
read, with a UserError; a file that is damaged or too large is a MemberError, and the others may be fine. Of a tar,
where going back starts from the beginning, only CSV files are listed.
"""

import contextlib
import gzip
import io
import posixpath
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

from src.errors import UserError

# All of ExpW is 7.6 GiB of JPEG, FER2013 as CSV .3 GiB and 3 times smaller when packed.
MAX_TOTAL_BYTES = 24 * 2**30
MAX_RATIO = 100  # unpacked to packed, of archives that unpack to more than 1 GiB
MAX_FILES = 2_000_000
MAX_FILE_BYTES = 64 * 2**20  # of one file read whole
ARCHIVE_SUFFIXES = (".zip", ".tar.gz")


class MemberError(Exception):
    """One file of a tree cannot be read; the others may be fine."""


@contextlib.contextmanager
def _library_reads(meaning: Callable[[Exception], Exception]) -> Iterator[None]:
    """Around single calls of zipfile, tarfile and gzip, which raise anything on damage, and around nothing of ours."""
    try:
        yield
    except (PermissionError, FileNotFoundError, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise meaning(error) from error


@dataclass(frozen=True)
class FileTree:
    """Files by name, which threads may share (those of a tar one thread alone).

    path: the folder or archive. packed: whether it is an archive. sizes: name of every file -> bytes, sorted by name.
    opener: opens a file for reading.
    """

    path: Path
    packed: bool
    sizes: dict[str, int]
    opener: Callable[[str], IO[bytes]]

    def _reads(self) -> contextlib.AbstractContextManager[None]:
        if not self.packed:
            return contextlib.nullcontext()
        return _library_reads(lambda error: MemberError("damaged in the archive"))

    def read(self, name: str, limit: int | None = None) -> bytes:
        """A file whole, or its first `limit` bytes. Raises MemberError: missing, damaged or too large to read whole."""
        if name not in self.sizes:
            raise MemberError("file missing")
        if limit is None and self.sizes[name] > MAX_FILE_BYTES:
            raise MemberError("file too large")
        with self._reads(), self.opener(name) as stream:
            return stream.read(self.sizes[name] if limit is None else limit)

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """The lines of a file of any length, with their ends; one of more than `limit` bytes in parts.

        Raises MemberError.
        """
        with self._reads():
            stream = io.BufferedReader(self.opener(name), 2**20)  # type: ignore[type-var]
        with stream:
            while True:
                with self._reads():
                    line = stream.readline(limit)
                if not line:
                    break
                yield line

    def full_name(self, name: str, root: Path) -> str:
        """For messages: relative to the folder searched, `archive.zip/name` inside an archive."""
        inside = self.path.relative_to(root).as_posix() if self.packed else ""
        return posixpath.join(inside, name).rstrip("/") or "."


def _folder(root: Path) -> FileTree:
    """Links are followed, to files and to folders; a link to a folder that it lies in is not."""
    sizes: dict[str, int] = {}

    def walk(folder: Path, prefix: str, inside: tuple[Path, ...]) -> None:
        here = folder.resolve()
        if here in inside:
            return
        for entry in folder.iterdir():
            if _is_clutter(entry.name):
                continue
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/", (*inside, here))
            elif entry.is_file():
                sizes[prefix + entry.name] = entry.stat().st_size
            elif entry.is_symlink():
                raise UserError(
                    f"{entry} is a link to {entry.readlink()}, which is missing. Correct the link, or put the file "
                    "itself there."
                )

    walk(root, "", ())
    return FileTree(root, False, dict(sorted(sizes.items())), lambda name: (root / name).open("rb"))


def _zip(path: Path) -> FileTree:
    with _library_reads(lambda error: damaged_archive(path, error)):
        # Given an open file, zipfile keeps no count of its readers, which threads could upset.
        archive = zipfile.ZipFile(path.open("rb"))
    files = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_extent(path, len(files), sum(entry.file_size for entry in files))
    return _archive(path, ((entry.filename, entry.file_size, entry) for entry in files), archive.open)


class _CautiousReader(io.BufferedReader):
    """Refuses the huge single reads with which a forged tar header makes `tarfile` fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > MAX_FILE_BYTES:
            raise tarfile.ReadError("an entry of the archive is too large")
        return super().read(size)


def _tar(path: Path) -> FileTree:
    files, total = [], 0
    with _library_reads(lambda error: damaged_archive(path, error)):
        archive = tarfile.open(fileobj=_CautiousReader(gzip.GzipFile(path, "rb")), mode="r:")  # noqa: SIM115

    def next_entry() -> tarfile.TarInfo | None:
        with _library_reads(lambda error: damaged_archive(path, error)):
            return archive.next()

    for number, entry in enumerate(iter(next_entry, None), start=1):  # sizes are checked before content is passed over
        total += entry.size
        _check_extent(path, number, total)
        if entry.isfile() and entry.name.lower().endswith(".csv"):
            files.append((entry.name, entry.size, entry))
    return _archive(path, files, archive.extractfile)


def _archive(path: Path, files: Iterable[tuple[str, int, Any]], opener: Callable[[Any], Any]) -> FileTree:
    """files: name, size in bytes and what `opener` opens."""
    named = ((posixpath.normpath(name.replace("\\", "/")), size, entry) for name, size, entry in files)
    known = {name: (size, entry) for name, size, entry in sorted(named, key=itemgetter(0)) if not _is_clutter(name)}
    return FileTree(path, True, {name: size for name, (size, _) in known.items()}, lambda name: opener(known[name][1]))


def _is_clutter(name: str) -> bool:
    """Hidden files and the resource forks that macOS adds to archives."""
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.split("/"))


def _check_extent(path: Path, files: int, total_bytes: int) -> None:
    limit = min(MAX_TOTAL_BYTES, max(2**30, MAX_RATIO * path.stat().st_size))
    if total_bytes > limit or files > MAX_FILES:
        raise UserError(
            f"{path} would unpack to {total_bytes / 2**30:.1f} GiB in {files} files; expected at most "
            f"{limit / 2**30:.0f} GiB from its size, and {MAX_FILES} files. None of the known data sets is so large; "
            "download it again."
        )


def damaged_archive(path: Path, error: Exception) -> UserError:
    """What to tell of an archive that cannot be read."""
    return UserError(
        f"{path} cannot be read as an archive ({str(error) or type(error).__name__}); it may be cut short. "
        "Expected a complete, unencrypted .zip or .tar.gz. Download it again."
    )


def open_tree(path: str | Path) -> FileTree:
    """Open a folder, .zip or .tar.gz. Raises UserError when it is damaged or too large."""
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    return _zip(path) if path.suffix.lower() == ".zip" else _tar(path)


def open_tree_and_archives(root: Path) -> list[FileTree]:
    """The folder itself, then every archive below it, sorted by name."""
    folder = open_tree(root)
    return [folder, *(open_tree(root / name) for name in folder.sizes if name.lower().endswith(ARCHIVE_SUFFIXES))]


def open_source(folder: Path, name: str, title: str, what: str) -> list[FileTree]:
    """`open_tree_and_archives` of the folder of a data set. Raises UserError that says how to get it."""
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing; expected {title} there: {what}. Put it there, fetch it with "
            f"`python -m src.datasets.download {name}` (needs a free account at Kaggle), or try the drawn faces: "
            "`make demo`."
        )
    return open_tree_and_archives(folder)


def find_named(trees: Iterable[FileTree], file: str) -> list[tuple[FileTree, str]]:
    """Every file of that name, whatever its folder and case."""
    return [(tree, name) for tree in trees for name in tree.sizes if name.rsplit("/", 1)[-1].lower() == file]


def read_named(trees: Iterable[FileTree], file: str, root: Path) -> dict[str, bytes]:
    """Every file of that name, whole, by its full name. Raises UserError where one cannot be read."""
    contents = {}
    for tree, name in find_named(trees, file):
        full_name = tree.full_name(name, root)
        try:
            contents[full_name] = tree.read(name)
        except MemberError as error:
            raise UserError(f"{root / full_name} cannot be read: {error}. Download it again.") from error
    return contents
