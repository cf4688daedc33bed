"""Sign in to Google as DVC will, and try the folder: find it, write a file of a few bytes, remove it."""

import os
import sys
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import appdirs
from oauth2client.client import OAuth2Credentials
from oauth2client.tools import ClientRedirectHandler, ClientRedirectServer
from OpenSSL import crypto
from pydrive2.auth import GoogleAuth, RefreshError
from pydrive2.drive import GoogleDrive
from pydrive2.files import ApiRequestError
from pydrive2.fs.spec import COMMON_SETTINGS, FOLDER_MIME_TYPE

from src.errors import UserError
from src.remote.credentials import Credentials, OAuthClient, ServiceAccount, UserToken

TIMEOUT = 30  # seconds that an answer of Google's may take
PROBE = "facial-expressions-access-check.txt"


@dataclass(frozen=True)
class FolderReport:
    title: str
    shared_drive: bool
    can_remove: bool


def is_interactive() -> bool:
    """Whether somebody is there who can click in a browser."""
    if os.environ.get("GDRIVE_NON_INTERACTIVE") or os.environ.get("CI"):
        return False
    return sys.stdin.isatty() or "BROWSER" in os.environ


def token_file(client_id: str) -> Path:
    """Where DVC keeps the token of who has signed in with that client."""
    return Path(appdirs.user_cache_dir("pydrive2fs", appauthor=False)) / client_id / "default.json"


def sign_in(credentials: Credentials, port: int = 0, wait: float = 300) -> GoogleDrive:
    """A session that is known to work. `wait`: seconds to wait for the browser.

    Raises UserError where a person is needed, and the errors of PyDrive2 and its libraries.
    """
    if isinstance(credentials, ServiceAccount):
        auth = GoogleAuth(
            settings={
                **COMMON_SETTINGS,
                "client_config_backend": "service",
                "service_config": {"client_json": credentials.key, "client_user_email": None},
            },
            http_timeout=TIMEOUT,
        )
        try:
            auth.ServiceAuth()
        except (ValueError, KeyError, crypto.Error) as error:
            where = credentials.path or "GDRIVE_CREDENTIALS_DATA"
            raise UserError(f"the service account's key in {where} is damaged. Download it again.") from error
        auth.Refresh()
    elif isinstance(credentials, UserToken):
        auth = GoogleAuth(settings=dict(COMMON_SETTINGS), http_timeout=TIMEOUT)
        auth.credentials = OAuth2Credentials.from_json(credentials.text)
        auth.Refresh()
        auth.Authorize()
    else:
        auth = _sign_in_client(credentials, port, wait)
    return GoogleDrive(auth)


def _sign_in_client(client: OAuthClient, port: int, wait: float) -> GoogleAuth:
    """Use the saved token, or have the person sign in with the browser."""
    path = token_file(client.client_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = GoogleAuth(
        settings={
            **COMMON_SETTINGS,
            "save_credentials": True,
            "save_credentials_backend": "file",
            "save_credentials_file": str(path),
            "client_config_backend": "settings",
            "client_config": {
                "client_id": client.client_id,
                "client_secret": client.client_secret,
                "auth_uri": "https://accounts.google.com/o/oauth2/auth",
                "token_uri": "https://oauth2.googleapis.com/token",
                "revoke_uri": "https://oauth2.googleapis.com/revoke",
                "redirect_uri": "",
            },
        },
        http_timeout=TIMEOUT,
    )
    if path.exists():
        auth.LoadCredentials()
    if auth.credentials is not None and auth.credentials.client_secret == client.client_secret:
        try:
            auth.Refresh()
        except RefreshError as error:
            if not is_interactive() or "invalid_grant" not in str(error):
                raise
            print("Google no longer accepts the saved sign-in; once more, please.")
        else:
            auth.SaveCredentials()
            auth.Authorize()
            return auth
    if not is_interactive():
        raise UserError(
            "somebody must sign in with a browser, and this machine has none (GDRIVE_NON_INTERACTIVE or CI is set, or "
            "there is no terminal). Run the same command on a machine with a browser; then copy "
            f"{path} from there to the same place here, or put its content into GDRIVE_CREDENTIALS_DATA. Over "
            "ssh: log in with `ssh -L 8080:localhost:8080`, add --port 8080 and open the printed address at home."
        )
    _ask_in_browser(auth, port, wait)
    auth.SaveCredentials()
    return auth


def _ask_in_browser(auth: GoogleAuth, port: int, wait: float) -> None:
    """PyDrive2's own way waits for ever when the browser never comes back; this one says why it may not have."""
    try:
        server = ClientRedirectServer(("localhost", port), ClientRedirectHandler)
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}). Give another --port.") from error
    with server:
        auth.GetFlow()
        auth.flow.redirect_uri = f"http://localhost:{server.server_address[1]}/"
        address = auth.GetAuthUrl()
        print(f"Sign in with the Google account that may use the folder:\n\n    {address}\n", flush=True)
        webbrowser.open(address)
        end = time.monotonic() + wait
        while not {"code", "error"} & set(server.query_params) and time.monotonic() < end:
            server.timeout = max(0.1, end - time.monotonic())
            server.handle_request()
    if "code" in server.query_params:
        auth.Auth(server.query_params["code"])
    elif "error" in server.query_params:
        raise UserError(
            f"Google did not let you in ({server.query_params['error']}): you clicked Cancel, or the consent screen "
            "is in Testing mode and your address is not among its test users. Publish the app, or add the address: "
            "Google Cloud console > Google Auth Platform > Audience."
        )
    else:
        raise UserError(
            f'nobody signed in within {wait:.0f} s. If the page said "This app is blocked" or "Access blocked": '
            "the OAuth client is not your team's own, or an administrator of your organisation does not allow it; use "
            "a client made in a project of yours (docs/google-drive.md, step 3) or ask the administrator. If it said "
            '"Google hasn\'t verified this app": Advanced > Go to it. If no page opened, open the address above.'
        )


def check_folder(drive: GoogleDrive, folder: str, store: str) -> FolderReport:
    """Find the folder, write to it, remove what was written, and make the folders of the path `store` in it.

    DVC does not make them: its first push would end with "Confirm ... exists and you can access it".
    Raises UserError for what is no folder, else PyDrive2's errors.
    """
    item = drive.CreateFile({"id": folder})
    item.FetchMetadata(fields="id,title,mimeType,driveId,labels")
    if item["mimeType"] != FOLDER_MIME_TYPE:
        raise UserError(f"'{item['title']}' on Google Drive is a file, not a folder. Give --folder with a folder.")
    if item.get("labels", {}).get("trashed"):
        raise UserError(f"the folder '{item['title']}' is in the trash of Google Drive. Restore it or use another one.")
    probe = drive.CreateFile({"title": PROBE, "parents": [{"id": folder}]})
    probe.SetContentString("Written and removed by `python -m src.remote` to see whether this folder can be used.\n")
    probe.Upload()
    can_remove = True
    try:
        probe.Trash()
    except ApiRequestError as error:
        if error.error.get("code") != 403:
            raise
        can_remove = False
    parent = folder
    for title in filter(None, store.split("/")):
        parent = _find_or_make_folder(drive, parent, title, item.get("driveId"))
    return FolderReport(item["title"], bool(item.get("driveId")), can_remove)


def _find_or_make_folder(drive: GoogleDrive, parent: str, title: str, shared_drive: str | None) -> str:
    """Id of the subfolder."""
    parameters: dict[str, Any] = {"q": f"trashed=false and ('{parent}' in parents) and title='{title}'"}
    if shared_drive:
        parameters |= {"corpora": "drive", "driveId": shared_drive}
    for found in drive.ListFile(parameters).GetList():
        if found["title"] == title and found["mimeType"] == FOLDER_MIME_TYPE:
            return str(found["id"])
    made = drive.CreateFile({"title": title, "parents": [{"id": parent}], "mimeType": FOLDER_MIME_TYPE})
    made.Upload()
    return str(made["id"])
