"""A person's computer or a CI runner that knows no other Google Drive than the emulator."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.conftest import ROOT
from tests.drive_emulator import CLIENT_ID, CLIENT_SECRET, DriveEmulator

Result = subprocess.CompletedProcess[str]
Variables = Mapping[str, str]
NONE: Variables = {}


class Machine:
    """A home folder of its own: no token, no DVC settings, no Git settings of who runs the tests."""

    def __init__(self, home: Path, drive: DriveEmulator) -> None:
        self.home, self.drive = home, drive
        home.mkdir(parents=True)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DVC_", "GDRIVE_", "GIT_", "PYTEST_")) and name not in ("CI", "BROWSER")
        }
        self.environment = {
            **inherited,
            **drive.environment(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / "cache"),
            "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc"),
            "DVC_SYSTEM_CONFIG_DIR": str(home / "dvc-system"),
            "DVC_SITE_CACHE_DIR": str(home / "dvc-site"),
            "DVC_NO_ANALYTICS": "1",
            "DVC_TEST": "1",  # no look for a newer DVC
            "GDRIVE_NON_INTERACTIVE": "1",
            "WANDB_MODE": "disabled",
            "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime 1.31 otherwise reports to mobile.events.data.microsoft.com
            **{f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in IDENTITY.items()},
        }

    def start(self, folder: Path, *command: str, variables: Variables = NONE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, folder: Path, *command: str, variables: Variables = NONE, expect: int | None = 0, timeout: float = 120
    ) -> Result:
        """Run in `folder`; `expect` is the exit code, None for any; `timeout` in seconds."""
        with self.start(folder, *command, variables=variables) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        result = Result(command, process.returncode, stdout, stderr)
        if expect is not None and result.returncode != expect:
            raise AssertionError(f"{command}: exit code {result.returncode}\n{stdout[-3000:]}\n{stderr[-3000:]}")
        return result

    def run_remote(self, folder: Path, *arguments: str) -> Result:
        """`python -m src.remote` of this project, in another one."""
        command = (sys.executable, "-m", "src.remote", *arguments)
        return self.run(folder, *command, variables={"PYTHONPATH": str(ROOT)})

    def save_token(self, text: str) -> Path:
        """Put a token where DVC keeps the one of somebody who has signed in."""
        path = self.home / "cache/pydrive2fs" / CLIENT_ID / "default.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def client_file(self) -> str:
        """The OAuth client as Google's console hands it out."""
        path = self.home / "client_secret.json"
        path.write_text(json.dumps({"installed": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}}))
        return str(path)

    def key_file(self) -> str:
        """The service account's key."""
        path = self.home / "key.json"
        path.write_text(self.drive.service_credentials(), encoding="utf-8")
        return str(path)


IDENTITY = {"NAME": "t", "EMAIL": "t@example.org"}


def random_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def track(machine: Machine, folder: Path, files: dict[str, bytes], name: str = "data") -> None:
    """`dvc add` and commit a folder."""
    (folder / name).mkdir(exist_ok=True)
    for path, content in files.items():
        (folder / name / path).write_bytes(content)
    machine.run(folder, "dvc", "add", "-q", name)
    machine.run(folder, "git", "add", "-A")
    machine.run(folder, "git", "commit", "-qm", f"track {name}")
