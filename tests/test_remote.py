"""Google Drive as a DVC remote: the real `dvc` and the real `python -m src.remote` against an emulator of Drive.

This shows what DVC, PyDrive2 and we do, also when the network or Drive does not play along; it cannot show what
Google allows. `FER_DRIVE_FILES=1000 python -m pytest tests/test_remote.py -k many` pushes that many small files.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.remote.configuration import parse_folder
from tests.conftest import ROOT
from tests.drive_emulator import CLIENT_ID, CLIENT_SECRET, FOLDER, SERVICE_EMAIL, USER, DriveEmulator
from tests.drive_machines import Machine, random_bytes, track

MANY_FILES = int(os.environ.get("FER_DRIVE_FILES", "60"))
DVC_CLIENT_ID = "710796635688-iivsgbgsb6uv1fap6635dhvuei09o66c.apps.googleusercontent.com"
UPLOAD_CHUNK = 100 * 1024 * 1024  # bytes; googleapiclient's default, which PyDrive2 keeps

pytest_plugins = ["tests.drive_fixtures"]


@pytest.fixture
def machine(tmp_path: Path, drive: DriveEmulator) -> Machine:
    """A computer whose user has signed in already."""
    machine = Machine(tmp_path / "home", drive)
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = drive.user_credentials()
    return machine


@pytest.fixture
def project(tmp_path: Path, machine: Machine, project_with_data: Path) -> Path:
    """A folder `data` of four files, tracked and committed, not pushed yet."""
    folder = tmp_path / "project"
    shutil.copytree(project_with_data, folder)
    machine.drive.add_child("dvcstore", machine.drive.folder, FOLDER, USER)
    return folder


@pytest.fixture
def bare_project(tmp_path: Path, drive: DriveEmulator, empty_project: Path) -> tuple[Machine, Path]:
    """A project without a remote, on a computer where nobody has signed in."""
    folder = tmp_path / "project"
    shutil.copytree(empty_project, folder)
    return Machine(tmp_path / "home", drive), folder


def clone(machine: Machine, project: Path, name: str) -> Path:
    """What a teammate gets from Git: no cache, no secrets."""
    target = project.parent / name
    machine.run(project.parent, "git", "clone", "-q", str(project), str(target))
    assert not (target / ".dvc/cache").exists()
    assert not (target / ".dvc/config.local").exists()
    return target


def checksums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def content_of_files(drive: DriveEmulator) -> str:
    """A pattern for downloads, except that of the listing of the folder, which DVC fetches several times."""
    listing = next(item for path, item in drive.files_below(drive.folder) if path.endswith(".dir"))
    return rf"files/(?!{listing.id}).*alt=media"


def check_remote_is_whole(machine: Machine, project: Path) -> None:
    """All is on Drive, nothing damaged, and a new clone gets the same bytes."""
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert machine.drive.damaged_objects(machine.drive.folder) == []
    teammate = clone(machine, project, "teammate")
    machine.run(teammate, "dvc", "pull")
    assert checksums(teammate / "data") == checksums(project / "data")


# Pushing and pulling


@pytest.mark.parametrize("account", ["user", "user with an expired token", "service account"])
def test_round_trip(bare_project: tuple[Machine, Path], account: str) -> None:
    machine, project = bare_project
    drive = machine.drive
    if account == "user":
        options, variables, store = ["--client-file", machine.client_file()], machine.browser(), drive.folder
    elif account == "service account":
        options, variables, store = ["--service-account", machine.key_file()], {}, drive.shared_folder
    else:
        options, variables, store = ["--client-file", machine.client_file()], {}, drive.folder
        machine.save_token(drive.user_credentials(expired=True))
    address = f"https://drive.google.com/drive/folders/{store}?usp=sharing"
    machine.run_remote(project, "--folder", address, *options, variables=variables)
    if account == "user with an expired token":  # what src.remote refreshed has run out again
        machine.save_token(drive.user_credentials(expired=True))
    granted = drive.count("POST", "/token", 200)

    (project / "old.bin").write_bytes(random_bytes(70, 3))
    machine.run(project, "dvc", "add", "-q", "old.bin")
    track(machine, project, {"a.bin": random_bytes(5000, 1), "b.bin": random_bytes(70, 2), "empty.bin": b""})
    machine.run(project, "dvc", "push")
    if account != "user":
        assert drive.count("POST", "/token", 200) > granted
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert drive.damaged_objects(store) == drive.duplicates(store) == []

    teammate = clone(machine, project, "teammate")
    machine.run_remote(teammate, *options)  # the folder comes with the clone
    machine.run(teammate, "dvc", "pull")
    assert checksums(teammate / "data") == checksums(project / "data")

    before = {path for path, _ in drive.files_below(store)}
    (project / "old.bin.dvc").unlink()
    machine.run(project, "dvc", "gc", "-c", "-w", "-f")
    removed = before - {path for path, _ in drive.files_below(store)}
    checksum = hashlib.md5((project / "old.bin").read_bytes()).hexdigest()
    assert removed == {f"dvcstore/files/md5/{checksum[:2]}/{checksum[2:]}"}
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    in_trash = sum(item.trashed for item in drive.items.values()) - 2  # src.remote's files are there too
    assert in_trash == (1 if account == "service account" else 0), "only in a Shared Drive gc may but move to the trash"


def test_push_goes_on_after_passing_errors(machine: Machine, project: Path) -> None:
    """Every kind of request fails once, each in another way that PyDrive2 repeats."""
    faults = [
        ("POST", "/upload", 403, "userRateLimitExceeded"),
        ("PUT", "/upload", 503, "backendError"),
        ("GET", r"files\?q=", 403, "rateLimitExceeded"),
        ("POST", "^/drive/v2/files", 500, "internalError"),
        ("GET", "fields=driveId", 502, "badGateway"),
    ]
    for method, path, status, reason in faults:
        machine.drive.fail(method, path, status, reason)
    machine.run(project, "dvc", "push")
    for method, path, status, _ in faults:
        assert machine.drive.count(method, path, status) == 1
    check_remote_is_whole(machine, project)


@pytest.mark.parametrize("request_", [("POST", "/upload"), ("GET", r"files\?q=")], ids=["upload", "list"])
def test_push_stops_at_429_and_goes_on_when_repeated(
    machine: Machine, project: Path, request_: tuple[str, str]
) -> None:
    """PyDrive2 repeats 403 rate limits and 5xx, but never 429."""
    machine.drive.fail(*request_, 429, "rateLimitExceeded")
    result = machine.run(project, "dvc", "push", expect=None)
    assert result.returncode != 0
    assert "HttpError 429" in result.stderr
    assert machine.drive.count(*request_, 429) == 1
    machine.run(project, "dvc", "push")
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert machine.drive.damaged_objects(machine.drive.folder) == []


def test_push_cut_in_the_middle_of_an_upload(machine: Machine, project: Path) -> None:
    machine.drive.cut("PUT", "/upload", after=50_000)
    result = machine.run(project, "dvc", "push", expect=1)
    assert "failed to transfer" in result.stderr
    assert "failed to upload" in result.stderr
    assert "new:" in machine.run(project, "dvc", "status", "-c").stdout
    assert machine.drive.damaged_objects(machine.drive.folder) == []
    machine.run(project, "dvc", "push")
    check_remote_is_whole(machine, project)


def test_push_killed(machine: Machine, project: Path) -> None:
    machine.drive.fail("PUT", "/upload", 503, "backendError", times=100)  # keeps it busy
    push = machine.start(project, "dvc", "push")
    while not machine.drive.count("PUT", "/upload", 503) and push.poll() is None:
        time.sleep(0.02)
    push.send_signal(signal.SIGKILL)
    push.communicate(timeout=30)
    assert push.returncode == -signal.SIGKILL
    machine.drive.faults.clear()
    machine.run(project, "dvc", "push")
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert machine.drive.damaged_objects(machine.drive.folder) == []


def test_pull_in_trouble(machine: Machine, project: Path) -> None:
    """5xx and an access token that is refused are repeated in silence, 429 is not."""
    drive = machine.drive
    machine.run(project, "dvc", "push")
    teammate = clone(machine, project, "teammate")
    drive.fail("GET", content_of_files(drive), 429, "rateLimitExceeded")
    result = machine.run(teammate, "dvc", "pull", expect=1)
    assert "HttpError 429" in result.stderr
    assert "failed to download" in result.stderr
    assert not (teammate / "data").exists(), "half a folder was checked out"

    drive.fail("GET", "alt=media", 503, "backendError", times=2)
    drive.access_tokens.clear()
    machine.run(teammate, "dvc", "pull")
    assert drive.count("GET", "alt=media", 503) == 2
    assert drive.count("GET", "/drive", 401) > 0
    assert checksums(teammate / "data") == checksums(project / "data")
    assert machine.run(teammate, "dvc", "data", "status").stdout.strip() == "No changes."


def test_pull_cut_in_the_middle_of_a_file(machine: Machine, project: Path) -> None:
    """What has arrived stays in the cache whole, what was cut does not get there."""
    machine.run(project, "dvc", "push")
    teammate = clone(machine, project, "teammate")
    machine.drive.cut("GET", content_of_files(machine.drive), after=100_000)
    result = machine.run(teammate, "dvc", "pull", expect=1)
    assert "failed to download" in result.stderr
    for path in (teammate / ".dvc/cache/files/md5").glob("*/*"):
        assert hashlib.md5(path.read_bytes()).hexdigest() == path.parent.name + path.name.removesuffix(".dir")
    machine.run(teammate, "dvc", "pull")
    assert checksums(teammate / "data") == checksums(project / "data")


def test_two_clones_push_at_once(machine: Machine, project: Path) -> None:
    """Drive lets both make the same folders and files; nothing may be lost by that."""
    drive = machine.drive
    other = clone(machine, project, "other")
    common = {f"common{number}.bin": random_bytes(3000, 50 + number) for number in range(6)}
    track(machine, project, common | {f"mine{number}.bin": random_bytes(3000, number) for number in range(6)}, "new")
    track(
        machine, other, common | {f"theirs{number}.bin": random_bytes(3000, 20 + number) for number in range(6)}, "new"
    )
    pushes = [machine.start(folder, "dvc", "push", "new") for folder in (project, other)]
    for push in pushes:
        _, stderr = push.communicate(timeout=120)
        assert push.returncode == 0, stderr
    assert drive.damaged_objects(drive.folder) == []
    for number, folder in enumerate((project, other)):
        teammate = clone(machine, folder, f"teammate{number}")
        machine.run(teammate, "dvc", "pull", "new")
        assert checksums(teammate / "new") == checksums(folder / "new")


def test_file_over_one_upload_chunk(machine: Machine, project: Path) -> None:
    drive = machine.drive
    drive.patience = 60
    block = random_bytes(1 << 20)
    track(machine, project, {"large.bin": block * (UPLOAD_CHUNK // len(block) + 1)})
    machine.run(project, "dvc", "push")
    assert drive.count("PUT", "/upload", 308) == 1
    check_remote_is_whole(machine, project)


def test_push_without_its_folder_says_so(machine: Machine, project: Path) -> None:
    """DVC does not make the folder that its remote names; `src.remote` does."""
    machine.drive.items = {name: item for name, item in machine.drive.items.items() if item.title != "dvcstore"}
    result = machine.run(project, "dvc", "push", expect=None)
    assert result.returncode != 0
    assert "dvcstore exists and you can access it" in result.stderr


def test_many_small_files(machine: Machine, project: Path) -> None:
    drive = machine.drive
    drive.page_size = 20
    track(machine, project, {f"{number:04}.txt": f"{number}\n".encode() for number in range(MANY_FILES)})
    machine.run(project, "dvc", "push", timeout=900)
    assert len(list(drive.files_below(drive.folder))) == MANY_FILES + 5
    machine.run(project, "dvc", "gc", "-c", "-w", "-f", timeout=900)
    assert drive.count("GET", "pageToken=") > 0, "a listing of all files takes more than one page"
    assert len(list(drive.files_below(drive.folder))) == MANY_FILES + 5
    check_remote_is_whole(machine, project)


def test_push_without_a_sign_in_does_not_wait_for_a_browser(machine: Machine, project: Path) -> None:
    result = machine.run(project, "dvc", "push", expect=None, timeout=30, variables={"GDRIVE_CREDENTIALS_DATA": ""})
    assert result.returncode != 0
    assert "Non interactive mode (GDRIVE_NON_INTERACTIVE env) is enabled" in result.stderr


def test_push_with_a_dead_token_says_so(machine: Machine, project: Path) -> None:
    token = machine.drive.user_credentials(expired=True, refresh_token="dead")
    result = machine.run(project, "dvc", "push", expect=None, variables={"GDRIVE_CREDENTIALS_DATA": token})
    assert result.returncode != 0
    assert "Failed to authenticate GDrive: Access token refresh failed: invalid_grant" in result.stderr


# Setting up


def test_secrets_go_to_the_ignored_file_only(bare_project: tuple[Machine, Path]) -> None:
    machine, project = bare_project
    options = ("--folder", machine.drive.folder, "--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET)
    result = machine.run_remote(project, *options, variables=machine.browser())
    local = project / ".dvc/config.local"
    assert CLIENT_SECRET in local.read_text()
    assert local.stat().st_mode & 0o077 == 0
    changed = machine.run(project, "git", "status", "--porcelain", "--untracked-files=all").stdout
    assert changed == " M .dvc/config\n"
    machine.run(project, "git", "add", "-A")
    committed = machine.run(project, "git", "diff", "--cached").stdout
    assert machine.drive.folder in committed
    for secret in (CLIENT_ID, CLIENT_SECRET):
        assert secret not in committed + result.stdout.replace("client_id=" + CLIENT_ID, "")
    files = [path for path, _ in machine.drive.files_below(machine.drive.folder)]
    assert files == [], "the file written to try the folder was left"
    before = {path: path.read_bytes() for path in (local, project / ".dvc/config")}
    again = machine.run_remote(project)  # nobody asks for a browser any more
    assert "ready" in again.stdout
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("kind", ["user", "service"])
def test_a_saved_client_outlasts_a_check_with_the_variable(bare_project: tuple[Machine, Path], kind: str) -> None:
    machine, project = bare_project
    machine.save_token(machine.drive.user_credentials())
    machine.run_remote(project, "--folder", machine.drive.shared_folder, "--client-file", machine.client_file())
    local = project / ".dvc/config.local"
    before = local.read_text()
    credentials = machine.drive.user_credentials() if kind == "user" else machine.drive.service_credentials()
    machine.run_remote(project, variables={"GDRIVE_CREDENTIALS_DATA": credentials})
    assert CLIENT_SECRET in local.read_text()
    machine.run_remote(project)
    assert local.read_text() == before


def test_ci_needs_the_environment_only(bare_project: tuple[Machine, Path]) -> None:
    machine, project = bare_project
    variables = {"GDRIVE_CREDENTIALS_DATA": machine.drive.service_credentials(), "CI": "1"}
    machine.run_remote(project, "--folder", machine.drive.shared_folder, variables=variables)
    track(machine, project, {"a.bin": b"a"})
    machine.run(project, "dvc", "push", variables=variables)
    assert "PRIVATE KEY" not in (project / ".dvc/config.local").read_text() + (project / ".dvc/config").read_text()
    assert len(list(machine.drive.files_below(machine.drive.shared_folder))) == 2


def test_expired_sign_in_is_renewed_where_a_browser_is(bare_project: tuple[Machine, Path]) -> None:
    machine, project = bare_project
    token = machine.save_token(machine.drive.user_credentials(refresh_token="dead"))
    options = ("--folder", machine.drive.folder, "--client-file", machine.client_file())
    machine.run_remote(project, *options, variables=machine.browser())
    assert "refresh-2" in token.read_text()


def test_a_contributor_is_told_that_gc_will_not_work(bare_project: tuple[Machine, Path]) -> None:
    machine, project = bare_project
    machine.drive.fail("POST", "/trash", 403, "insufficientFilePermissions")
    options = ("--folder", machine.drive.shared_folder, "--service-account", machine.key_file())
    assert "`dvc gc -c` does not" in machine.run_remote(project, *options).stdout


Setup = Callable[[Machine, Path], list[str]]


def client(machine: Machine, project: Path) -> list[str]:
    """Options of a user who has signed in before."""
    machine.save_token(machine.drive.user_credentials())
    return ["--folder", machine.drive.folder, "--client-file", machine.client_file()]


def no_sign_in(machine: Machine, project: Path) -> list[str]:
    return ["--folder", machine.drive.folder, "--client-file", machine.client_file()]


def dead_token(machine: Machine, project: Path) -> list[str]:
    machine.save_token(machine.drive.user_credentials(refresh_token="dead"))
    return no_sign_in(machine, project)


def dvcs_own_client(machine: Machine, project: Path) -> list[str]:
    return ["--folder", machine.drive.folder, "--client-id", DVC_CLIENT_ID, "--client-secret", "x"]


def unknown_client(machine: Machine, project: Path) -> list[str]:
    client(machine, project)
    machine.drive.token_error = (401, "deleted_client", "The OAuth client was deleted.")
    return no_sign_in(machine, project)


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


def wrong_folder(machine: Machine, project: Path) -> list[str]:
    client(machine, project)
    return ["--folder", "1aBcDeFgHiJkLmNoP", "--client-file", machine.client_file()]


def file_for_a_folder(machine: Machine, project: Path) -> list[str]:
    item = machine.drive.add_child("notes.txt", machine.drive.folder, "text/plain", USER, b"x")
    return ["--folder", item.id, *client(machine, project)[2:]]


def folder_in_the_trash(machine: Machine, project: Path) -> list[str]:
    machine.drive.items[machine.drive.folder].trashed = True
    return client(machine, project)


def viewer(machine: Machine, project: Path) -> list[str]:
    machine.drive.read_only = True
    return client(machine, project)


def failing(status: int, reason: str) -> Setup:
    def set_up(machine: Machine, project: Path) -> list[str]:
        machine.drive.fail("POST", "/upload", status, reason, times=50)
        return client(machine, project)

    return set_up


def no_network(machine: Machine, project: Path) -> list[str]:
    machine.environment.update(HTTPS_PROXY="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")
    return client(machine, project)


def foreign_certificate(machine: Machine, project: Path) -> list[str]:
    del machine.environment["HTTPLIB2_CA_CERTS"]
    return client(machine, project)


def secret_in_the_project(machine: Machine, project: Path) -> list[str]:
    path = shutil.copy(machine.client_file(), project)
    return ["--folder", machine.drive.folder, "--client-file", str(path)]


def local_config_not_ignored(machine: Machine, project: Path) -> list[str]:
    (project / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    return client(machine, project)


def web_client(machine: Machine, project: Path) -> list[str]:
    path = Path(machine.client_file())
    path.write_text(path.read_text().replace("installed", "web"))
    return ["--folder", machine.drive.folder, "--client-file", str(path)]


def path_in_the_variable(machine: Machine, project: Path) -> list[str]:
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = machine.key_file()
    return ["--folder", machine.drive.folder]


def both_variable_and_option(machine: Machine, project: Path) -> list[str]:
    machine.environment["GDRIVE_CREDENTIALS_DATA"] = machine.drive.service_credentials()
    return client(machine, project)


def other_remote_of_that_name(machine: Machine, project: Path) -> list[str]:
    machine.run(project, "dvc", "remote", "add", "-q", "gdrive", "s3://bucket/path")
    return client(machine, project)


@pytest.mark.parametrize(
    ("set_up", "words"),
    [
        (lambda machine, project: [], ["names no Google Drive remote", "--folder"]),
        (lambda machine, project: ["--folder", "abcdef"], ["no credentials", "--client-file", "blocked by Google"]),
        (no_sign_in, ["this machine has none", "GDRIVE_NON_INTERACTIVE", "GDRIVE_CREDENTIALS_DATA", "ssh -L"]),
        (dead_token, ["no longer accepts", "7 days", "Publish app"]),
        (dvcs_own_client, ["built-in OAuth client", "Desktop app"]),
        (unknown_client, ["deleted_client", "id and secret"]),
        (service_account_in_my_drive, ["no storage of its own", "Shared Drive", SERVICE_EMAIL]),
        (folder_not_shared, ["no folder", SERVICE_EMAIL, "Content manager"]),
        (dead_key, ["does not accept the key", "clock"]),
        (damaged_key, ["key.json", "Download it again"]),
        (wrong_folder, ["no folder 1aBcDeFgHiJkLmNoP", "share"]),
        (file_for_a_folder, ["'notes.txt'", "a file, not a folder"]),
        (folder_in_the_trash, ["trash", "Restore"]),
        (viewer, ["may not write", "Editor"]),
        (failing(403, "storageQuotaExceeded"), ["is full", "gc -c"]),
        (failing(403, "accessNotConfigured"), ["Google Drive API", "Enable"]),
        (failing(403, "insufficientPermissions"), ["box for Google Drive", "tick it"]),
        (failing(429, "rateLimitExceeded"), ["too often", "Wait a few minutes"]),
        (failing(503, "backendError"), ["HTTP 503", "Wait a few minutes"]),
        (no_network, ["cannot be reached", "HTTPS_PROXY"]),
        (foreign_certificate, ["not trusted", "HTTPLIB2_CA_CERTS"]),
        (secret_in_the_project, ["inside the project", "committed"]),
        (local_config_not_ignored, ["does not ignore", ".dvc/.gitignore"]),
        (web_client, ["web site", "Desktop app"]),
        (path_in_the_variable, ["GDRIVE_CREDENTIALS_DATA", "not its path"]),
        (both_variable_and_option, ["GDRIVE_CREDENTIALS_DATA is set", "Unset it"]),
        (other_remote_of_that_name, ["s3://bucket/path", "--name"]),
    ],
    ids=lambda value: value.__name__.strip("<>") if callable(value) else "",
)
def test_failure_is_explained(bare_project: tuple[Machine, Path], set_up: Setup, words: list[str]) -> None:
    machine, project = bare_project
    options = set_up(machine, project)
    before = (project / ".dvc/config").read_bytes()
    result = machine.run_remote(project, *options, expect=1)
    lines = result.stderr.strip().split("\n")
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert (project / ".dvc/config").read_bytes() == before
    assert not (project / ".dvc/config.local").exists()


@pytest.mark.parametrize(
    ("consent", "words"), [("deny", ["access_denied", "test users"]), ("blocked", ["This app is blocked", "2 s"])]
)
def test_a_browser_that_brings_no_sign_in(bare_project: tuple[Machine, Path], consent: str, words: list[str]) -> None:
    machine, project = bare_project
    machine.drive.consent = consent  # type: ignore[assignment]
    options = ["--folder", machine.drive.folder, "--client-file", machine.client_file(), "--wait", "2"]
    result = machine.run_remote(project, *options, expect=1, variables=machine.browser())
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr
    assert not (project / ".dvc/config.local").exists()


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


def test_no_remote_is_committed() -> None:
    """A placeholder would break `dvc pull` for everybody."""
    config = subprocess.run(["git", "show", "HEAD:.dvc/config"], cwd=ROOT, capture_output=True, text=True)
    assert "[core]" in config.stdout
    assert "remote" not in config.stdout
