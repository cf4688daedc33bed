"""Pushing to and pulling from Google Drive: the real `dvc` and `python -m src.remote` against an emulator of Drive.

This shows what DVC, PyDrive2 and we do, also when the network or Drive does not play along; it cannot show what
Google allows.
"""

import hashlib
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.drive_emulator import FOLDER, USER, DriveEmulator
from tests.drive_machines import Machine, random_bytes, track
from tests.raw_data import contents

pytest_plugins = ["tests.drive_fixtures"]
pytestmark = pytest.mark.slow


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


def clone(machine: Machine, project: Path, name: str) -> Path:
    """What a teammate gets from Git: no cache, no secrets."""
    target = project.parent / name
    machine.run(project.parent, "git", "clone", "-q", str(project), str(target))
    assert not (target / ".dvc/cache").exists()
    assert not (target / ".dvc/config.local").exists()
    return target


def check_remote_is_whole(machine: Machine, project: Path) -> None:
    """All is on Drive, nothing damaged, and a new clone gets the same bytes."""
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert machine.drive.damaged_objects(machine.drive.folder) == []
    teammate = clone(machine, project, "teammate")
    machine.run(teammate, "dvc", "pull")
    assert contents(teammate / "data") == contents(project / "data")


@pytest.mark.parametrize("account", ["user with an expired token", "service account"])
def test_round_trip(tmp_path: Path, drive: DriveEmulator, empty_project: Path, account: str) -> None:
    """From a project without a remote, on a computer where nobody has signed in."""
    machine, project = Machine(tmp_path / "home", drive), tmp_path / "project"
    shutil.copytree(empty_project, project)
    options, store = ["--service-account", machine.key_file()], drive.shared_folder
    if account != "service account":
        options, store = ["--client-file", machine.client_file()], drive.folder
        machine.save_token(drive.user_credentials(expired=True))
    machine.run_remote(project, "--folder", f"https://drive.google.com/drive/folders/{store}?usp=sharing", *options)
    if account != "service account":  # what src.remote refreshed has run out again
        machine.save_token(drive.user_credentials(expired=True))
    granted = drive.count("POST", "/token", 200)

    (project / "old.bin").write_bytes(random_bytes(70, 3))
    machine.run(project, "dvc", "add", "-q", "old.bin")
    track(machine, project, {"a.bin": random_bytes(5000, 1), "b.bin": random_bytes(70, 2), "empty.bin": b""})
    machine.run(project, "dvc", "push")
    assert drive.count("POST", "/token", 200) > granted
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    assert drive.damaged_objects(store) == []

    teammate = clone(machine, project, "teammate")
    machine.run_remote(teammate, *options)  # the folder comes with the clone
    machine.run(teammate, "dvc", "pull")
    assert contents(teammate / "data") == contents(project / "data")

    before = {path for path, _ in drive.files_below(store)}
    (project / "old.bin.dvc").unlink()
    machine.run(project, "dvc", "gc", "-c", "-w", "-f")
    removed = before - {path for path, _ in drive.files_below(store)}
    checksum = hashlib.md5((project / "old.bin").read_bytes()).hexdigest()
    assert removed == {f"dvcstore/files/md5/{checksum[:2]}/{checksum[2:]}"}
    assert "in sync" in machine.run(project, "dvc", "status", "-c").stdout
    in_trash = sum(item.trashed for item in drive.items.values()) - 2  # src.remote's files are there too
    assert in_trash == (1 if account == "service account" else 0), "only in a Shared Drive gc may but move to the trash"


def test_ci_pulls_with_the_right_to_read_alone(machine: Machine, project: Path) -> None:
    """A service account that a person has let see the folder, nothing else: no Shared Drive, no token of a person."""
    drive = machine.drive
    machine.run(project, "dvc", "push")
    drive.shared_with_service, drive.read_only = {drive.folder}, True
    machine.environment |= {"GDRIVE_CREDENTIALS_DATA": drive.service_credentials(), "CI": "1"}
    runner = clone(machine, project, "runner")
    machine.run_remote(runner, "--pull")
    machine.run(runner, "dvc", "pull")
    assert contents(runner / "data") == contents(project / "data")


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


def test_push_that_fails_and_is_repeated(machine: Machine, project: Path) -> None:
    """PyDrive2 repeats 403 rate limits and 5xx, but never 429, and not what is cut in the middle of an upload."""
    machine.drive.fail("POST", "/upload", 429, "rateLimitExceeded")
    assert "HttpError 429" in machine.run(project, "dvc", "push", expect=1).stderr
    assert machine.drive.count("POST", "/upload", 429) == 1
    track(machine, project, {"more.bin": random_bytes(200_000, 9)})
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
    """5xx and an access token that is refused are repeated in silence, 429 and a cut are not. What has arrived stays in
    the cache whole, what was cut does not get there."""
    drive = machine.drive
    machine.run(project, "dvc", "push")
    teammate = clone(machine, project, "teammate")
    # Downloads, except that of the listing of the folder, which DVC fetches several times.
    listing = next(item for path, item in drive.files_below(drive.folder) if path.endswith(".dir"))
    files = rf"files/(?!{listing.id}).*alt=media"
    drive.fail("GET", files, 429, "rateLimitExceeded")
    drive.cut("GET", files, after=100_000)
    result = machine.run(teammate, "dvc", "pull", expect=1)
    assert "HttpError 429" in result.stderr
    assert result.stderr.count("failed to transfer") == 2
    assert "failed to download" in result.stderr
    assert not (teammate / "data").exists(), "half a folder was checked out"
    for path in (teammate / ".dvc/cache/files/md5").glob("*/*"):
        assert hashlib.md5(path.read_bytes()).hexdigest() == path.parent.name + path.name.removesuffix(".dir")

    drive.fail("GET", "alt=media", 503, "backendError", times=2)
    drive.access_tokens.clear()
    machine.run(teammate, "dvc", "pull")
    assert drive.count("GET", "alt=media", 503) == 2
    assert drive.count("GET", "/drive", 401) > 0
    assert contents(teammate / "data") == contents(project / "data")
    assert machine.run(teammate, "dvc", "data", "status").stdout.strip() == "No changes."


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
        assert contents(teammate / "new") == contents(folder / "new")


DVC_SAYS = {
    "no folder": "dvcstore exists and you can access it",  # DVC does not make what its remote names; `src.remote` does
    "no sign-in": "Non interactive mode (GDRIVE_NON_INTERACTIVE env) is enabled",
    "dead token": "Failed to authenticate GDrive: Access token refresh failed: invalid_grant",
}


@pytest.mark.parametrize("case", DVC_SAYS)
def test_messages_of_dvc_that_the_docs_explain(machine: Machine, project: Path, case: str) -> None:
    """It ends at once, and does not wait for a browser."""
    drive = machine.drive
    token = machine.environment["GDRIVE_CREDENTIALS_DATA"]
    if case == "no folder":
        drive.items = {name: item for name, item in drive.items.items() if item.title != "dvcstore"}
    else:
        token = "" if case == "no sign-in" else drive.user_credentials(expired=True, refresh_token="dead")
    variables = {"GDRIVE_CREDENTIALS_DATA": token}
    result = machine.run(project, "dvc", "push", expect=None, timeout=30, variables=variables)
    assert result.returncode != 0
    assert DVC_SAYS[case] in result.stderr
