"""What a person or a machine signs in to Google with, read and checked."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    from_environment = False

    def settings(self) -> dict[str, Any]:
        """Secret part of the DVC remote."""
        return {"gdrive_client_id": self.client_id, "gdrive_client_secret": self.client_secret}

    def __post_init__(self) -> None:
        from dvc_gdrive import GDriveFileSystem

        if self.client_id == GDriveFileSystem.DEFAULT_GDRIVE_CLIENT_ID:
            raise UserError(f"this is DVC's built-in OAuth client, which Google blocks. {HOW_TO_GET_A_CLIENT}")
        if not self.client_id.endswith(".apps.googleusercontent.com"):
            raise UserError(
                f"'{self.client_id}' is no OAuth client id: those end in .apps.googleusercontent.com. "
                f"{HOW_TO_GET_A_CLIENT}"
            )


@dataclass(frozen=True)
class UserToken:
    """GDRIVE_CREDENTIALS_DATA with the token of a person who has signed in elsewhere."""

    text: str
    title = "the token in GDRIVE_CREDENTIALS_DATA"
    from_environment = True

    def settings(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class ServiceAccount:
    """A service account's key: in a file, or, without `path`, in GDRIVE_CREDENTIALS_DATA."""

    key: str  # JSON
    path: Path | None = None

    @classmethod
    def from_file(cls, path: Path) -> "ServiceAccount":
        content = _read_json(path.expanduser(), "key of a service account")
        if content.get("type") != "service_account" or not {"client_email", "private_key"} <= set(content):
            raise UserError(
                f'{path} is no key of a service account ("type": "service_account"). Make one in the Google Cloud '
                "console > IAM & Admin > Service Accounts > Keys > Add key > JSON. An OAuth client goes to "
                "--client-file."
            )
        return cls(json.dumps(content), path.expanduser().resolve())

    @property
    def from_environment(self) -> bool:
        return self.path is None

    @property
    def email(self) -> str:
        return str(json.loads(self.key)["client_email"])

    @property
    def title(self) -> str:
        return f"the service account {self.email}"

    def settings(self) -> dict[str, Any]:
        """Secret part of the DVC remote."""
        file = {"gdrive_service_account_json_file_path": str(self.path)} if self.path else {}
        return {"gdrive_use_service_account": "true", **file}


Credentials = OAuthClient | UserToken | ServiceAccount


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is not there. Expected the {what}, a JSON file.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder. Expected the {what}, a JSON file.") from None
    except ValueError:
        raise UserError(f"{path} is not JSON. Expected the {what}; download it again.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the {what}. Download it again.")
    return content


def read_client(path: Path) -> OAuthClient:
    """An OAuth client as the Google Cloud console hands it out: client_secret_<id>.json."""
    content = _read_json(path.expanduser(), "OAuth client, client_secret_<id>.json")
    if content.get("type") == "service_account":
        raise UserError(f"{path} is the key of a service account. Give it with --service-account.")
    if "web" in content:
        raise UserError(
            f"{path} is a client for a web site, which cannot sign in from a program. {HOW_TO_GET_A_CLIENT}"
        )
    client = content.get("installed")
    if not isinstance(client, dict) or not {"client_id", "client_secret"} <= set(client):
        raise UserError(f"{path} holds no desktop OAuth client. {HOW_TO_GET_A_CLIENT}")
    return OAuthClient(client["client_id"], client["client_secret"])


def from_environment() -> UserToken | ServiceAccount | None:
    """What GDRIVE_CREDENTIALS_DATA holds; None when it is not set."""
    text = os.environ.get("GDRIVE_CREDENTIALS_DATA")
    if not text:
        return None
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict) and content.get("type") == "service_account":
        return ServiceAccount(text)
    if isinstance(content, dict) and "refresh_token" in content and "client_secret" in content:
        return UserToken(text)
    raise UserError(
        "GDRIVE_CREDENTIALS_DATA holds neither the JSON key of a service account nor a token file from "
        "~/.cache/pydrive2fs. It must be the content of such a file, not its path."
    )
