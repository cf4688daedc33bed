"""What a person or a machine signs in to Google with, read and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dvc_gdrive import GDriveFileSystem

from src.errors import UserError

KEY_FILE = "gdrive_service_account_json_file_path"
HOW_TO_GET_A_CLIENT = (
    "Make a client of your own: Google Cloud console > Google Auth Platform > Clients > Create client > Desktop app "
    "(docs/google-drive.md, step 3)."
)


@dataclass(frozen=True)
class Credentials:
    """What to sign in with.

    kind: "client", the team's own OAuth client (the token of who signs in with it lies outside the project, in
    ~/.cache); "token", that of a person who has signed in elsewhere; "key", of a service account. content: as in the
    file that Google or PyDrive2 makes. path: of the key's file; None when GDRIVE_CREDENTIALS_DATA holds it.
    """

    kind: Literal["client", "token", "key"]
    content: dict[str, Any]
    path: Path | None = None

    @property
    def who(self) -> str:
        key = self.kind == "key"
        return f"the service account {self.content['client_email']}" if key else "the account you signed in with"

    def settings(self) -> dict[str, str]:
        """Secret part of the DVC remote; what comes from the environment is not in it."""
        if self.kind == "client":
            return {f"gdrive_{name}": self.content[name] for name in ("client_id", "client_secret")}
        if self.kind == "token":
            return {}
        return {"gdrive_use_service_account": "true"} | ({KEY_FILE: str(self.path)} if self.path else {})


def _parse(text: str) -> dict[str, Any]:
    """A JSON object; {} for anything else."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parse(path.expanduser().read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path} is not there, or a folder. Expected a JSON file as Google hands it out.") from None


def read_client(path: Path) -> Credentials:
    """An OAuth client as the Google Cloud console hands it out: client_secret_<id>.json."""
    client = _read(path).get("installed")
    if not isinstance(client, dict) or not {"client_id", "client_secret"} <= set(client):
        raise UserError(
            f"{path} holds no desktop OAuth client (one for a web site does not do; the key of a service account goes "
            f"to --service-account). {HOW_TO_GET_A_CLIENT}"
        )
    if client["client_id"] == GDriveFileSystem.DEFAULT_GDRIVE_CLIENT_ID:
        raise UserError(f"this is DVC's built-in OAuth client, which Google blocks. {HOW_TO_GET_A_CLIENT}")
    return Credentials("client", client)


def _is_key(content: dict[str, Any]) -> bool:
    return {"type", "client_email", "private_key"} <= set(content)


def read_key(path: Path) -> Credentials:
    """A service account's key as the console hands it out."""
    content = _read(path)
    if not _is_key(content):
        raise UserError(
            f"{path} is no key of a service account. Make one: Google Cloud console > IAM & Admin > Service Accounts > "
            "Keys > Add key > JSON. An OAuth client goes to --client-file."
        )
    return Credentials("key", content, path.expanduser().resolve())


def from_environment() -> Credentials | None:
    """What GDRIVE_CREDENTIALS_DATA holds; None when it is not set."""
    text = os.environ.get("GDRIVE_CREDENTIALS_DATA")
    if not text:
        return None
    content = _parse(text)
    if _is_key(content):
        return Credentials("key", content)
    if {"refresh_token", "client_secret"} <= set(content):
        return Credentials("token", content)
    raise UserError(
        "GDRIVE_CREDENTIALS_DATA holds neither the JSON key of a service account nor a token file from "
        "~/.cache/pydrive2fs. It must be the content of such a file, not its path."
    )
