"""Fetching data: Kaggle's answers become instructions, downloads resume, `--check` says what is missing.

kagglehub itself runs here, against a small server of ours that speaks the two calls it makes: with
KAGGLE_API_ENVIRONMENT=LOCALHOST its address is http://localhost, which HTTP_PROXY leads to our port.
"""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.raw_data import contents, expw_files, fer2013_csv, fer2013_pictures, write_files, zip_bytes

Download = Callable[..., subprocess.CompletedProcess[str]]


class Kaggle(http.server.ThreadingHTTPServer):
    """Answers GetDataset and DownloadDataset; `stop_after` cuts the first download short at so many bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        self.status = 200
        self.archive = b""
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
    monkeypatch.setenv("KAGGLE_TEST_ADDRESS", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(tmp_path: Path) -> Download:
    """Run the program in an empty folder with an empty home: download("fer2013", token="secret")."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        kept = {
            name: value for name, value in os.environ.items() if "KAGGLE" not in name and "proxy" not in name.lower()
        }
        home = tmp_path.parent / f"{tmp_path.name}-home"
        environment = {
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "HTTP_PROXY": os.environ.get("KAGGLE_TEST_ADDRESS", "http://127.0.0.1:9"),
            **settings,
        }
        return subprocess.run(
            [sys.executable, "-m", "src.datasets.download", *arguments],
            cwd=tmp_path,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    return run


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr[result.stderr.index("error: ") :]


def test_without_network_or_token_it_says_both(download: Download, tmp_path: Path) -> None:
    message = error_of(download("fer2013", KAGGLE_API_ENVIRONMENT="PROD", HTTPS_PROXY="http://127.0.0.1:9"))
    assert "cannot be reached" in message
    assert "KAGGLE_API_TOKEN" in message
    assert "~/.kaggle/kaggle.json" in message
    assert "data/raw/full/fer2013" in message
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("status", "token", "words"),
    [
        (401, "", ["HTTP 401", "KAGGLE_API_TOKEN", "kaggle.com/settings/api"]),
        (403, "", ["HTTP 403", "KAGGLE_API_TOKEN"]),
        (403, "secret", ["HTTP 403", "accept its rules", "https://www.kaggle.com/datasets/msambare/fer2013"]),
        (404, "secret", ["no longer has msambare/fer2013", "by hand"]),
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
    write_files(tmp_path, {"kaggle/kaggle.json": b"not json"})
    message = error_of(download("expw", KAGGLE_CONFIG_DIR=str(tmp_path / "kaggle")))
    assert "Invalid Kaggle credentials file" in message
    assert "Make a new token" in message


def test_interrupted_download_resumes_and_is_put_in_place(kaggle: Kaggle, download: Download, tmp_path: Path) -> None:
    files = {**fer2013_pictures(), "notes.bin": os.urandom(4 * 2**20)}
    kaggle.archive = zip_bytes(files)
    kaggle.stop_after = 3 * 2**20
    message = error_of(download("fer2013", KAGGLE_API_TOKEN="secret"))
    assert "same command again" in message
    assert contents(tmp_path) == {}

    result = download("fer2013", KAGGLE_API_TOKEN="secret")
    assert result.returncode == 0, result.stderr
    assert kaggle.ranges[-1] is not None
    assert int(kaggle.ranges[-1][len("bytes=") : -1]) >= 2 * 2**20  # kagglehub writes 1 MiB at a time
    assert contents(tmp_path / "data/raw/full/fer2013") == files
    assert "dvc add data/raw/full/fer2013" in result.stdout
    assert set(kaggle.logins) == {"Bearer secret"}

    requests = len(kaggle.logins)
    again = download("fer2013", KAGGLE_API_TOKEN="secret")
    assert "already holds FER2013" in again.stdout
    assert len(kaggle.logins) == requests


def test_download_of_something_else_is_not_put_in_place(kaggle: Kaggle, download: Download, tmp_path: Path) -> None:
    kaggle.archive = zip_bytes({"readme.txt": b"x"})
    message = error_of(download("expw", KAGGLE_API_TOKEN="secret"))
    assert "holds no photos" in message
    assert contents(tmp_path) == {}


def test_files_of_the_user_are_not_overwritten(download: Download, tmp_path: Path) -> None:
    write_files(tmp_path / "data/raw/full/fer2013", {"mine.txt": b"mine"})
    assert "holds no FER2013" in error_of(download("fer2013"))
    assert (tmp_path / "data/raw/full/fer2013/mine.txt").read_bytes() == b"mine"


class TestCheck:
    def test_both_there(self, download: Download, tmp_path: Path) -> None:
        write_files(tmp_path / "data/raw/full/fer2013", {"fer2013.csv": fer2013_csv().encode()})
        write_files(tmp_path / "data/raw/full/expw", {"expw.zip": zip_bytes(expw_files())})
        assert download("--check").returncode == 0

    def test_fresh_clone_names_every_way(self, download: Download) -> None:
        message = error_of(download("--check"))
        for words in (
            "data/raw/full/fer2013 (FER2013) is missing",
            "data/raw/full/expw (ExpW) is missing",
            "make demo",
            "python -m src.datasets.download fer2013",
            "python -m src.datasets.download expw",
            "fer2013.csv or icml_face_data.csv",
            "label.lst",
            "dvc add data/raw/full/fer2013 data/raw/full/expw",
        ):
            assert words in message
        assert "dvc pull" not in message

    def test_tracked_but_not_pulled(self, download: Download, tmp_path: Path) -> None:
        write_files(tmp_path / "data/raw/full", {"fer2013.dvc": b"outs: []\n"})
        assert "dvc pull data/raw/full/fer2013.dvc" in error_of(download("--check"))

    def test_parts_not_unpacked(self, download: Download, tmp_path: Path) -> None:
        write_files(tmp_path / "data/raw/full/fer2013", {"fer2013.csv": fer2013_csv().encode()})
        write_files(tmp_path / "data/raw/full/expw", {"origin.7z.001": b"x"})
        message = error_of(download("--check"))
        assert "7z x origin.7z.001" in message
        assert "FER2013) is missing" not in message


def test_without_arguments_it_shows_its_help(download: Download) -> None:
    result = download()
    assert result.returncode == 2
    assert "mmlab.ie.cuhk.edu.hk" in result.stderr
