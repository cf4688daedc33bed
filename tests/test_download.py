"""Fetching data: Kaggle's answers become instructions, downloads resume, `--check` says what is missing.

kagglehub itself runs here, against a small server of ours that speaks the two calls it makes: with
KAGGLE_API_ENVIRONMENT=LOCALHOST its address is http://localhost, which HTTP_PROXY leads to our port.
"""

import hashlib
import http.server
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from src.datasets import ferplus
from src.datasets.download import main
from src.errors import run_program
from tests.conftest import ROOT
from tests.raw_data import contents, expw_files, fer2013_csv, write_files, zip_bytes

Download = Callable[..., tuple[str, str]]
VOTES = b"Usage,Image name,neutral\n"


class Kaggle(http.server.ThreadingHTTPServer):
    """Answers GetDataset and DownloadDataset; `stop_after` cuts the first download short at so many bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.archive = b""
        self.votes = VOTES
        self.stop_after: int | None = None
        self.ranges: list[str | None] = []
        self.logins: list[str | None] = []
        super().__init__(("127.0.0.1", 0), KaggleHandler)


class KaggleHandler(http.server.BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.logins.append(self.headers.get("Authorization"))
        if self.server.status != 200:
            self.send(self.server.status, b"{}")
        elif self.path.endswith("GetDataset"):
            self.send(200, json.dumps({"currentVersionNumber": 1}).encode())
        else:
            self.send_archive()

    def do_GET(self) -> None:  # kagglehub resumes with GET
        if self.path.endswith(ferplus.VOTES_FILE):
            self.send(200, self.server.votes)
        else:
            self.send_archive()

    def send_archive(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(re.findall(r"bytes=(\d+)-", wanted)[0]) if wanted else 0
        body = self.server.archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        stop, self.server.stop_after = self.server.stop_after, None
        self.wfile.write(body[:stop])
        self.close_connection = True

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    server = Kaggle()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("KAGGLE_TEST_ADDRESS", address)
    monkeypatch.setattr(ferplus, "VOTES_URL", f"{address}/{ferplus.VOTES_FILE}")
    monkeypatch.setattr(ferplus, "VOTES_SHA256", hashlib.sha256(VOTES).hexdigest())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Download:
    """The program in an empty folder with an empty home: download("fer2013", token="secret") -> message, output."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    shutil.copy(ROOT / "params.yaml", work)
    monkeypatch.chdir(work)
    for name in os.environ:
        if ("KAGGLE" in name and name != "KAGGLE_TEST_ADDRESS") or "proxy" in name.lower():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / "kaggle"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(*arguments: str, **settings: str) -> tuple[str, str]:
        monkeypatch.setenv("HTTP_PROXY", os.environ.get("KAGGLE_TEST_ADDRESS", "http://127.0.0.1:9"))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["download", *arguments])
        message = ""
        try:
            run_program(main)
        except SystemExit as error:
            message = str(error.code)
        captured = capsys.readouterr()
        return message, captured.out + captured.err

    return run


def error_of(result: tuple[str, str]) -> str:
    assert result[0].startswith("error: "), result
    return result[0]


def test_without_network_or_token_it_says_both(download: Download) -> None:
    message = error_of(download("fer2013", KAGGLE_API_ENVIRONMENT="PROD", HTTPS_PROXY="http://127.0.0.1:9"))
    assert "could not be downloaded" in message
    assert "HTTPS_PROXY" in message
    assert "KAGGLE_API_TOKEN" in message
    assert "~/.kaggle/kaggle.json" in message
    assert "data/raw/full/fer2013" in message
    assert contents(Path("data")) == {}


@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, "", ["HTTP 401", "KAGGLE_API_TOKEN", "kaggle.com/settings/api"]),
        (403, "", ["HTTP 403", "KAGGLE_API_TOKEN"]),
        (403, "secret", ["HTTP 403", "accept its rules", "https://www.kaggle.com/datasets/deadskull7/fer2013"]),
        (404, "secret", ["no longer has deadskull7/fer2013", "by hand"]),
        (500, "secret", ["HTTP 500", "same command again"]),
    ],
    ids=["401 without token", "403 without token", "rules not accepted", "gone", "server error"],
)
def test_answers_of_kaggle_become_instructions(
    kaggle: Kaggle, download: Download, status: int, token: str, words: list[str]
) -> None:
    kaggle.status = status
    message = error_of(download("fer2013", KAGGLE_API_TOKEN=token))
    assert all(word in message for word in words), message
    assert "secret" not in message


def test_broken_token_file(download: Download, tmp_path: Path) -> None:
    write_files(tmp_path / "home/kaggle", {"kaggle.json": b"not json"})
    message = error_of(download("expw"))
    assert "Invalid Kaggle credentials file" in message
    assert "Make a new token" in message


def test_interrupted_download_resumes_and_is_put_in_place(kaggle: Kaggle, download: Download) -> None:
    files = {"fer2013.csv": fer2013_csv().encode(), "notes.bin": os.urandom(4 * 2**20)}
    kaggle.archive = zip_bytes(files)
    kaggle.stop_after = 3 * 2**20
    message = error_of(download("fer2013", KAGGLE_API_TOKEN="secret"))
    assert "same command again" in message
    assert contents(Path("data")) == {}

    message, output = download("fer2013", KAGGLE_API_TOKEN="secret")
    assert message == "", output
    assert kaggle.ranges[-1] is not None
    assert int(kaggle.ranges[-1][len("bytes=") : -1]) >= 2 * 2**20  # kagglehub writes 1 MiB at a time
    assert contents(Path("data/raw/full/fer2013")) == {**files, ferplus.VOTES_FILE: VOTES}
    assert "dvc add data/raw/full/fer2013" in output
    assert set(kaggle.logins) == {"Bearer secret"}
    # Copies, not hard links into the cache of Kaggle's client, through which either could change the other.
    assert {path.stat().st_nlink for path in Path("data/raw/full/fer2013").iterdir()} == {1}

    requests = len(kaggle.logins)
    assert "already holds FER2013" in download("fer2013", KAGGLE_API_TOKEN="secret")[1]
    assert len(kaggle.logins) == requests


def test_votes_are_fetched_for_a_fer2013_that_is_there_already(kaggle: Kaggle, download: Download) -> None:
    write_files(Path("data/raw/full/fer2013"), {"fer2013.csv": fer2013_csv().encode()})
    kaggle.votes = b"something else"
    message = error_of(download("fer2013"))
    assert "gave another file than expected" in message
    assert "ingest_fer2013.labels=original" in message
    kaggle.votes = VOTES
    assert download("fer2013")[0] == ""
    assert Path("data/raw/full/fer2013", ferplus.VOTES_FILE).read_bytes() == VOTES
    assert kaggle.logins == []


def test_votes_out_of_reach(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(Path("data/raw/full/fer2013"), {"fer2013.csv": fer2013_csv().encode()})
    monkeypatch.setattr(ferplus, "VOTES_URL", "http://127.0.0.1:9/votes")
    assert "the votes of FER+ cannot be fetched" in error_of(download("fer2013"))


def test_the_hash_is_that_of_the_real_votes() -> None:
    if "FER_REAL_DATA" not in os.environ:
        pytest.skip("FER_REAL_DATA names no folder with fer2013new.csv")
    content = Path(os.environ["FER_REAL_DATA"], ferplus.VOTES_FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == ferplus.VOTES_SHA256


def test_download_of_something_else_is_not_put_in_place(kaggle: Kaggle, download: Download) -> None:
    kaggle.archive = zip_bytes({"readme.txt": b"x"})
    message = error_of(download("expw", KAGGLE_API_TOKEN="secret"))
    assert "holds no photos" in message
    assert contents(Path("data")) == {}


def test_what_is_packed_is_put_in_place_and_how_to_unpack_it_is_said(kaggle: Kaggle, download: Download) -> None:
    files = {"label.lst": b"x", "origin.7z.001.001": b"x", "origin.7z.001.002": b"y"}
    kaggle.archive = zip_bytes(files)
    message = error_of(download("expw", KAGGLE_API_TOKEN="secret"))
    assert "cd data/raw/full/expw && cat origin.7z.* > origin.7z && 7z x origin.7z" in message
    assert contents(Path("data/raw/full/expw")) == files


def test_files_of_the_user_are_not_overwritten(download: Download) -> None:
    write_files(Path("data/raw/full/fer2013"), {"mine.txt": b"mine"})
    message = error_of(download("fer2013"))
    assert "is not empty, so nothing was fetched: data/raw/full/fer2013 holds no FER2013" in message
    assert Path("data/raw/full/fer2013/mine.txt").read_bytes() == b"mine"


class TestCheck:
    def test_both_there(self, download: Download) -> None:
        write_files(Path("data/raw/full/fer2013"), {"fer2013.csv": fer2013_csv().encode()})
        write_files(Path("data/raw/full/expw"), {"expw.zip": zip_bytes(expw_files())})
        _, said = download("--check")
        assert "has no fer2013new.csv, which ingest_fer2013.labels=ferplus needs" in said
        write_files(Path("data/raw/full/fer2013"), {"fer2013new.csv": b""})
        assert download("--check") == ("", "")

    def test_without_expw(self, download: Download) -> None:
        write_files(Path("data/raw/full/fer2013"), {"fer2013.csv": fer2013_csv().encode(), "fer2013new.csv": b""})
        assert "To do without ExpW" in error_of(download("--check"))
        settings = Path("params.yaml")
        settings.write_text(settings.read_text(encoding="utf-8").replace("enabled: true", "enabled: false", 1))
        assert download("--check") == ("", "")
        assert Path("data/raw/full/expw").is_dir()  # DVC wants it to be there

    def test_fresh_clone_names_every_way(self, download: Download) -> None:
        message = error_of(download("--check"))
        for words in (
            "data/raw/full/fer2013 is missing; expected FER2013",
            "data/raw/full/expw is missing; expected ExpW",
            "make demo",
            "python -m src.datasets.download fer2013",
            "python -m src.datasets.download expw",
            "fer2013.csv or icml_face_data.csv",
            "label.lst",
            "mmlab.ie.cuhk.edu.hk",
            "dvc add data/raw/full/fer2013 data/raw/full/expw",
        ):
            assert words in message
        assert "dvc pull" not in message

    def test_tracked_but_not_pulled(self, download: Download) -> None:
        write_files(Path("data/raw/full"), {"fer2013.dvc": b"outs: []\n"})
        assert "dvc pull data/raw/full/fer2013.dvc" in error_of(download("--check"))

    def test_parts_not_unpacked(self, download: Download) -> None:
        write_files(Path("data/raw/full/fer2013"), {"fer2013.csv": fer2013_csv().encode()})
        write_files(Path("data/raw/full/expw"), {"origin.7z.001": b"x"})
        message = error_of(download("--check"))
        assert "cat origin.7z.* > origin.7z && 7z x origin.7z" in message
        assert "fer2013 is missing" not in message


def test_without_arguments_it_shows_its_help(download: Download) -> None:
    code, output = download()
    assert code == "2"
    assert "mmlab.ie.cuhk.edu.hk" in output
