"""Setting up the Google Drive remote: `src.remote` in this process, against an emulator of Drive.

This shows what PyDrive2 and we do; it cannot show what Google allows. tests/test_push_pull.py runs the real `dvc`.
"""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path

import httplib2
import pytest

from src.errors import run_program
from src.remote import drive as drive_module
from src.remote.__main__ import main
from src.remote.configuration import parse_folder
from tests.conftest import ROOT
from tests.drive_emulator import CLIENT_ID, CLIENT_SECRET, FOLDER, SERVICE_EMAIL, USER, DriveEmulator
from tests.drive_machines import Machine

DVC_CLIENT_ID = "710796635688-iivsgbgsb6uv1fap6635dhvuei09o66c.apps.googleusercontent.com"
CERTIFICATES = httplib2.CA_CERTS

Remote = Callable[..., str]
Setup = Callable[[Machine, Path], list[str]]

pytest_plugins = ["tests.drive_fixtures"]


@pytest.fixture
def machine(tmp_path: Path, drive: DriveEmulator) -> Machine:
    """A computer on which nobody has signed in."""
    return Machine(tmp_path / "home", drive)


@pytest.fixture
def project(tmp_path: Path, empty_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One without a remote."""
    folder = tmp_path / "project"
    shutil.copytree(empty_project, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def remote(
    machine: Machine, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Remote:
    """remote("--folder", "x"): what the program prints; with `expect=1` its error, a line."""

    def run(*options: str, expect: int = 0) -> str:
        for name in set(os.environ) - set(machine.environment):
            if not name.startswith("PYTEST_"):
                monkeypatch.delenv(name)
        for name, value in machine.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(httplib2, "CA_CERTS", machine.environment.get("HTTPLIB2_CA_CERTS", CERTIFICATES))
        monkeypatch.setattr(sys, "argv", ["src.remote", *options])
        code, error = 0, ""
        try:
            run_program(main)
        except SystemExit as end:
            code, error = 1, str(end)
        assert code == expect, error
        assert error.count("\n") == 0
        assert error.startswith("error: ") == bool(expect)
        return error or capsys.readouterr().out

    return run


@pytest.fixture
def browser(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at the computer, whose browser opens every address and clicks "Allow"; the addresses."""
    opened = []

    def visit(address: str) -> None:
        context = ssl.create_default_context(cafile=machine.environment["HTTPLIB2_CA_CERTS"])
        urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(address, timeout=20).read()

    def open_page(address: str) -> None:
        opened.append(address)
        threading.Thread(target=visit, args=(address,), daemon=True).start()

    machine.environment |= {"GDRIVE_NON_INTERACTIVE": "", "BROWSER": "here"}
    monkeypatch.setattr("webbrowser.open", open_page)
    return opened


def client(machine: Machine) -> list[str]:
    return ["--folder", machine.drive.folder, "--client-file", machine.client_file()]


def signed_in(machine: Machine) -> list[str]:
    """Options of a user who has signed in before."""
    machine.save_token(machine.drive.user_credentials())
    return client(machine)


def test_secrets_go_to_the_ignored_file_only(
    machine: Machine, project: Path, remote: Remote, browser: list[str]
) -> None:
    printed = remote(*client(machine))
    local = project / ".dvc/config.local"
    assert CLIENT_SECRET in local.read_text()
    assert local.stat().st_mode & 0o077 == 0
    changed = machine.run(project, "git", "status", "--porcelain", "--untracked-files=all").stdout
    assert changed == " M .dvc/config\n"
    committed = machine.run(project, "git", "diff").stdout
    assert machine.drive.folder in committed
    for secret in (CLIENT_ID, CLIENT_SECRET):
        assert secret not in committed + printed.replace("client_id=" + CLIENT_ID, "")
    assert list(machine.drive.files_below(machine.drive.folder)) == [], "the file written to try the folder was left"
    before = {path: path.read_bytes() for path in (local, project / ".dvc/config")}
    assert "ready" in remote()
    assert len(browser) == 1, "signed in once"
    assert {path: path.read_bytes() for path in before} == before


# Signing in


def test_an_idle_connection_and_a_strangers_answer_do_not_disturb_the_sign_in(
    machine: Machine, remote: Remote, browser: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Browsers open connections ahead of use. And any page may send the browser to our port with a code of its own:
    only what comes with our `state` counts. The emulator checks the other guard, PKCE."""
    idle = []
    open_page = webbrowser.open

    def disturbed(address: str) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
        assert query["code_challenge_method"] == "S256"
        assert len(query["state"]) > 20
        home = urllib.parse.urlsplit(query["redirect_uri"])
        idle.append(socket.create_connection((home.hostname or "", home.port or 0)))
        for wrong in ("code=theirs", "code=theirs&state=guessed", "error=access_denied", ""):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{query['redirect_uri']}?{wrong}", timeout=10)
        open_page(address)

    monkeypatch.setattr("webbrowser.open", disturbed)
    try:
        assert "ready" in remote(*client(machine))
    finally:
        for connection in idle:
            connection.close()


def test_expired_sign_in_is_renewed_where_a_browser_is(machine: Machine, remote: Remote, browser: list[str]) -> None:
    token = machine.save_token(machine.drive.user_credentials(refresh_token="dead"))
    remote(*client(machine))
    assert "refresh-2" in token.read_text()


@pytest.mark.parametrize(
    ("consent", "words"), [("deny", ["access_denied", "test users"]), ("blocked", ["This app is blocked", "1 s"])]
)
def test_a_browser_that_brings_no_sign_in(
    machine: Machine,
    project: Path,
    remote: Remote,
    browser: list[str],
    monkeypatch: pytest.MonkeyPatch,
    consent: str,
    words: list[str],
) -> None:
    monkeypatch.setattr(drive_module, "BROWSER_S", 1)
    machine.drive.consent = consent  # type: ignore[assignment]
    error = remote(*client(machine), expect=1)
    for word in words:
        assert word in error
    assert not (project / ".dvc/config.local").exists()


# Machines and rights


@pytest.mark.parametrize("kind", ["user", "service"])
def test_a_saved_client_outlasts_a_check_with_the_variable(
    machine: Machine, project: Path, remote: Remote, kind: str
) -> None:
    machine.save_token(machine.drive.user_credentials())
    remote("--folder", machine.drive.shared_folder, "--client-file", machine.client_file())
    local = project / ".dvc/config.local"
    before = local.read_text()
    credentials = machine.drive.user_credentials() if kind == "user" else machine.drive.service_credentials()
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = credentials
    remote()
    assert CLIENT_SECRET in local.read_text()
    del machine.environment["GDRIVE_CREDENTIALS_DATA"]
    remote()
    assert local.read_text() == before


def test_a_machine_that_only_pulls(machine: Machine, project: Path, remote: Remote) -> None:
    """A service account that may read a person's folder: nothing is written there, and no key into the project."""
    drive = machine.drive
    drive.shared_with_service, drive.read_only = {drive.folder}, True
    machine.environment |= {"GDRIVE_CREDENTIALS_DATA": drive.service_credentials(), "CI": "1"}
    options = ("--pull", "--folder", drive.folder)
    assert "nothing to pull before somebody has pushed" in remote(*options, expect=1)
    drive.read_only = False
    drive.add_child("dvcstore", drive.folder, FOLDER, USER)
    drive.read_only = True
    before = set(drive.items)
    assert "can be read" in remote(*options)
    assert set(drive.items) == before
    assert drive.count("POST", "/drive/") == drive.count("PUT", "/drive/") == 0
    local = (project / ".dvc/config.local").read_text()
    assert "gdrive_use_service_account = true" in local
    assert "PRIVATE KEY" not in local + (project / ".dvc/config").read_text()


def test_a_contributors_check_leaves_nothing_behind(machine: Machine, remote: Remote) -> None:
    machine.drive.contributor = True
    options = ("--folder", machine.drive.shared_folder, "--service-account", machine.key_file())
    assert "`dvc gc -c` does not" in remote(*options)
    assert list(machine.drive.files_below(machine.drive.shared_folder)) == []


def test_a_key_file_that_has_moved_is_replaced(
    machine: Machine, project: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Path(machine.key_file())
    remote("--folder", machine.drive.shared_folder, "--service-account", str(key))
    moved = key.rename(key.with_name("moved.json"))
    assert f"{key} is not there" in remote(expect=1)
    remote("--service-account", str(moved))
    (project / "folder").mkdir()
    monkeypatch.chdir(project / "folder")
    assert str(moved) in (project / ".dvc/config.local").read_text()
    assert "ready" in remote()


# What goes wrong


def dead_token(machine: Machine, project: Path) -> list[str]:
    machine.save_token(machine.drive.user_credentials(refresh_token="dead"))
    return client(machine)


def dvcs_own_client(machine: Machine, project: Path) -> list[str]:
    options = client(machine)
    content = {"installed": {"client_id": DVC_CLIENT_ID, "client_secret": "x"}}
    Path(options[-1]).write_text(json.dumps(content))
    return options


def unknown_client(machine: Machine, project: Path) -> list[str]:
    machine.drive.token_error = (401, "deleted_client", "The OAuth client was deleted.")
    return signed_in(machine)


def service_account_in_my_drive(machine: Machine, project: Path) -> list[str]:
    machine.drive.shared_with_service = {machine.drive.folder}
    return ["--folder", machine.drive.folder, "--service-account", machine.key_file()]


def folder_not_shared(machine: Machine, project: Path) -> list[str]:
    return ["--folder", machine.drive.folder, "--service-account", machine.key_file()]


def dead_key(machine: Machine, project: Path) -> list[str]:
    machine.drive.token_error = (400, "invalid_grant", "Invalid JWT Signature.")
    return ["--folder", machine.drive.shared_folder, "--service-account", machine.key_file()]


def damaged_key(machine: Machine, project: Path) -> list[str]:
    path = Path(machine.key_file())
    path.write_text(path.read_text().replace("MII", "???"))
    return ["--folder", machine.drive.shared_folder, "--service-account", str(path)]


def client_for_a_key(machine: Machine, project: Path) -> list[str]:
    return ["--folder", machine.drive.shared_folder, "--service-account", machine.client_file()]


def wrong_folder(machine: Machine, project: Path) -> list[str]:
    return ["--folder", "1aBcDeFgHiJkLmNoP", *signed_in(machine)[2:]]


def file_for_a_folder(machine: Machine, project: Path) -> list[str]:
    item = machine.drive.add_child("notes.txt", machine.drive.folder, "text/plain", USER, b"x")
    return ["--folder", item.id, *signed_in(machine)[2:]]


def folder_in_the_trash(machine: Machine, project: Path) -> list[str]:
    machine.drive.items[machine.drive.folder].trashed = True
    return signed_in(machine)


def viewer(machine: Machine, project: Path) -> list[str]:
    machine.drive.read_only = True
    return signed_in(machine)


def failing(status: int, reason: str) -> Setup:
    def set_up(machine: Machine, project: Path) -> list[str]:
        machine.drive.fail("POST", "/upload", status, reason, times=50)
        return signed_in(machine)

    return set_up


def no_network(machine: Machine, project: Path) -> list[str]:
    machine.environment.update(HTTPS_PROXY="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    return signed_in(machine)


def foreign_certificate(machine: Machine, project: Path) -> list[str]:
    del machine.environment["HTTPLIB2_CA_CERTS"]
    return signed_in(machine)


def secret_in_the_project(machine: Machine, project: Path) -> list[str]:
    return [*client(machine)[:-1], str(shutil.copy(machine.client_file(), project))]


def local_config_not_ignored(machine: Machine, project: Path) -> list[str]:
    (project / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    return signed_in(machine)


def web_client(machine: Machine, project: Path) -> list[str]:
    options = client(machine)
    path = Path(options[-1])
    path.write_text(path.read_text().replace("installed", "web"))
    return options


def path_in_the_variable(machine: Machine, project: Path) -> list[str]:
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = machine.key_file()
    return ["--folder", machine.drive.folder]


def both_variable_and_option(machine: Machine, project: Path) -> list[str]:
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = machine.drive.service_credentials()
    return client(machine)


def other_remote_of_that_name(machine: Machine, project: Path) -> list[str]:
    with (project / ".dvc/config").open("a") as file:
        file.write("['remote \"gdrive\"']\n    url = s3://bucket/path\n")
    machine.run(project, "git", "commit", "-qam", "s3")
    return client(machine)


@pytest.mark.parametrize(
    ("set_up", "words"),
    [
        (lambda machine, project: [], ["names no Google Drive remote", "--folder"]),
        (lambda machine, project: ["--folder", "abcdef"], ["no credentials", "--client-file", "blocked by Google"]),
        (lambda machine, project: client(machine), ["this machine has none", "GDRIVE_NON_INTERACTIVE", "ssh -L"]),
        (dead_token, ["no longer accepts", "7 days", "Publish app"]),
        (dvcs_own_client, ["built-in OAuth client", "Desktop app"]),
        (unknown_client, ["deleted_client", "id and secret"]),
        (service_account_in_my_drive, ["no storage of its own", "Shared Drive", SERVICE_EMAIL, "--pull"]),
        (folder_not_shared, ["no folder", SERVICE_EMAIL, "share the folder"]),
        (dead_key, ["does not accept the key", "clock"]),
        (damaged_key, ["key.json", "Download it again"]),
        (client_for_a_key, ["no key of a service account", "--client-file"]),
        (wrong_folder, ["no folder 1aBcDeFgHiJkLmNoP", "share"]),
        (file_for_a_folder, ["'notes.txt'", "a file, not a folder"]),
        (folder_in_the_trash, ["trash", "Restore"]),
        (viewer, ["may not write", "Editor", "--pull"]),
        (failing(403, "storageQuotaExceeded"), ["is full", "gc -c"]),
        (failing(403, "accessNotConfigured"), ["Google Drive API", "Enable"]),
        (failing(403, "insufficientPermissions"), ["box for Google Drive", "tick it"]),
        (failing(403, "domainPolicy"), ["HTTP 403, domainPolicy", "Content manager"]),
        (failing(429, "rateLimitExceeded"), ["too often", "Wait a few minutes"]),
        (failing(503, "backendError"), ["HTTP 503", "Wait a few minutes"]),
        (no_network, ["cannot be reached", "HTTPS_PROXY"]),
        (foreign_certificate, ["not trusted", "HTTPLIB2_CA_CERTS"]),
        (secret_in_the_project, ["inside the project", "committed"]),
        (local_config_not_ignored, ["does not ignore", ".dvc/.gitignore"]),
        (web_client, ["web site", "Desktop app"]),
        (path_in_the_variable, ["GDRIVE_CREDENTIALS_DATA", "not its path"]),
        (both_variable_and_option, ["GDRIVE_CREDENTIALS_DATA is set", "Unset it"]),
        (other_remote_of_that_name, ["s3://bucket/path", "dvc remote rename"]),
    ],
    ids=lambda value: value.__name__.strip("<>") if callable(value) else "",
)
def test_failure_is_explained(machine: Machine, project: Path, remote: Remote, set_up: Setup, words: list[str]) -> None:
    options = set_up(machine, project)
    before = (project / ".dvc/config").read_bytes()
    error = remote(*options, expect=1)
    for word in words:
        assert word in error
    assert (project / ".dvc/config").read_bytes() == before
    assert not (project / ".dvc/config.local").exists()


def test_outside_a_project(remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no DVC project" in remote(expect=1)


# What people paste


@pytest.mark.parametrize(
    "text",
    [
        "1aBc-D_e",
        " 1aBc-D_e ",
        "https://drive.google.com/drive/folders/1aBc-D_e",
        "https://drive.google.com/drive/u/0/folders/1aBc-D_e?usp=sharing",
        "https://drive.google.com/open?id=1aBc-D_e&authuser=0",
    ],
)
def test_folder_is_found_in_what_people_paste(text: str) -> None:
    assert parse_folder(text) == "1aBc-D_e"


@pytest.mark.parametrize("how", ["ARGS=--folder {}", "FOLDER={}"])
def test_make_hands_an_address_with_an_ampersand_over_whole(tmp_path: Path, how: str) -> None:
    """A bare & would end the command and start a job in the background."""
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    text = (ROOT / "Makefile").read_text().replace("$(CURDIR)/.venv/bin", str(python.parent))
    (tmp_path / "Makefile").write_text(text)
    address = "https://drive.google.com/open?id=1aBc-D_e&authuser=0"
    command = ["make", "-s", "-o", "setup", "remote", how.format(address)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.stderr == ""
    assert result.stdout.split() == ["-m", "src.remote", "--folder", address]


def test_no_remote_is_committed() -> None:
    """A placeholder would break `dvc pull` for everybody."""
    config = subprocess.run(["git", "show", "HEAD:.dvc/config"], cwd=ROOT, capture_output=True, text=True)
    assert "[core]" in config.stdout
    assert "remote" not in config.stdout
