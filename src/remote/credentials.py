"""What a person or a machine signs in to Google with, read and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc_gdrive import GDriveFileSystem

from src.errors import UserError

HOW_TO_GET_A_CLIENT = (
    "Make a client of your own: Google Cloud console > Google Auth Platform > Clients > Create client > Desktop app "
    "(docs/google-drive.md, step 3)."
)


@dataclass(frozen=True)
class OAuthClient:
    """The team's own OAuth client; the token of who signs in with it lies outside the project, in ~/.cache."""

    client_id: str
    client_secret: str
    title = "your Google account"
    email = "the account you signed in with"

    def settings(self) -> dict[str, str]:
        """Secret part of the DVC remote."""
        return {"gdrive_client_id": self.client_id, "gdrive_client_secret": self.client_secret}


@dataclass(frozen=True)
class UserToken:
    """GDRIVE_CREDENTIALS_DATA with the token of a person who has signed in elsewhere."""

    text: str
    title = "the token in GDRIVE_CREDENTIALS_DATA"
    email = OAuthClient.email

    def settings(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class ServiceAccount:
    """A service account's key: from a file, or, without `path`, from GDRIVE_CREDENTIALS_DATA."""

    key: dict[str, Any]
    path: Path | None = None

    @property
    def email(self) -> str:
        return str(self.key["client_email"])

    @property
    def title(self) -> str:
        return f"the service account {self.email}"

    def settings(self) -> dict[str, str]:
        file = {"gdrive_service_account_json_file_path": str(self.path)} if self.path else {}
        return {"gdrive_use_service_account": "true", **file}


Credentials = OAuthClient | UserToken | ServiceAccount


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path} is not there, or a folder. Expected the {what}, a JSON file.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the {what}. Download it again.")
    return content


def read_client(path: Path) -> OAuthClient:
    """An OAuth client as the Google Cloud console hands it out: client_secret_<id>.json."""
    content = _read_json(path, "OAuth client, client_secret_<id>.json")
    if content.get("type") == "service_account":
        raise UserError(f"{path} is the key of a service account. Give it with --service-account.")
    if "web" in content:
        raise UserError(f"{path} is a client for a web site; a program cannot sign in with it. {HOW_TO_GET_A_CLIENT}")
    client = content.get("installed")
    if not isinstance(client, dict) or not {"client_id", "client_secret"} <= set(client):
        raise UserError(f"{path} holds no desktop OAuth client. {HOW_TO_GET_A_CLIENT}")
    if client["client_id"] == GDriveFileSystem.DEFAULT_GDRIVE_CLIENT_ID:
        raise UserError(f"this is DVC's built-in OAuth client, which Google blocks. {HOW_TO_GET_A_CLIENT}")
    return OAuthClient(client["client_id"], client["client_secret"])


def _is_key(content: Any) -> bool:
    return isinstance(content, dict) and {"type", "client_email", "private_key"} <= set(content)


def read_key(path: Path) -> ServiceAccount:
    """A service account's key as the console hands it out."""
    content = _read_json(path, "key of a service account")
    if not _is_key(content):
        raise UserError(
            f"{path} is no key of a service account. Make one: Google Cloud console > IAM & Admin > Service Accounts > "
            "Keys > Add key > JSON. An OAuth client goes to --client-file."
        )
    return ServiceAccount(content, path.expanduser().resolve())


def from_environment() -> UserToken | ServiceAccount | None:
    """What GDRIVE_CREDENTIALS_DATA holds; None when it is not set."""
    text = os.environ.get("GDRIVE_CREDENTIALS_DATA")
    if not text:
        return None
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if _is_key(content):
        return ServiceAccount(content)
    if isinstance(content, dict) and {"refresh_token", "client_secret"} <= set(content):
        return UserToken(text)
    raise UserError(
        "GDRIVE_CREDENTIALS_DATA holds neither the JSON key of a service account nor a token file from "
        "~/.cache/pydrive2fs. It must be the content of such a file, not its path."
    )
