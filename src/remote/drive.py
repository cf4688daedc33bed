"""Sign in to Google as DVC will, and try the folder."""

import http.server
import json
import os
import queue
import secrets
import sys
import threading
import urllib.parse
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import appdirs
import httplib2
from oauth2client.client import HttpAccessTokenRefreshError, OAuth2Credentials, OAuth2WebServerFlow
from oauth2client.file import Storage
from oauth2client.service_account import ServiceAccountCredentials
from OpenSSL import crypto
from pydrive2.auth import GoogleAuth
from pydrive2.drive import GoogleDrive
from pydrive2.fs.spec import COMMON_SETTINGS, FOLDER_MIME_TYPE

from src.errors import UserError
from src.remote.credentials import Credentials

ANSWER_S = 30  # how long an answer of Google's may take
BROWSER_S = 300  # how long to wait for the person
PROBE = "facial-expressions-access-check.txt"
SCOPES = COMMON_SETTINGS["oauth_scope"]


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


def sign_in(credentials: Credentials, port: int = 0) -> GoogleDrive:
    """A session that is known to work.

    Raises UserError where a person is needed, and the errors of oauth2client and the network.
    """
    auth = GoogleAuth(settings=dict(COMMON_SETTINGS), http_timeout=ANSWER_S)
    web = httplib2.Http(timeout=ANSWER_S)
    if credentials.kind == "client":
        auth.credentials = _client_token(credentials.content, web, port)
    elif credentials.kind == "token":
        auth.credentials = OAuth2Credentials.from_json(json.dumps(credentials.content))
        auth.credentials.refresh(web)
    else:
        try:
            auth.credentials = ServiceAccountCredentials.from_json_keyfile_dict(credentials.content, SCOPES)
            auth.credentials.refresh(web)
        except (ValueError, KeyError, crypto.Error) as error:
            where = credentials.path or "GDRIVE_CREDENTIALS_DATA"
            raise UserError(f"the service account's key in {where} is damaged. Download it again.") from error
    auth.Authorize()
    return GoogleDrive(auth)


def _client_token(client: dict[str, Any], web: httplib2.Http, port: int) -> OAuth2Credentials:
    """The saved token, where DVC keeps it, renewed; where there is none the person signs in with the browser."""
    path = Path(appdirs.user_cache_dir("pydrive2fs", appauthor=False)) / client["client_id"] / "default.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = Storage(str(path))
    token = storage.get() if path.exists() else None
    if token is not None and token.client_secret == client["client_secret"]:
        try:
            token.refresh(web)
            return token
        except HttpAccessTokenRefreshError as error:
            if not is_interactive() or "invalid_grant" not in str(error):
                raise
            print("Google no longer accepts the saved sign-in; once more, please.")
    if not is_interactive():
        raise UserError(
            "somebody must sign in with a browser, and this machine has none (GDRIVE_NON_INTERACTIVE or CI is set, or "
            f"there is no terminal). Sign in on a machine with a browser and copy {path} from there to the same place "
            "here; a machine of its own uses a service account instead (--service-account). Over ssh: log in with "
            "`ssh -L 8080:localhost:8080`, add --port 8080 and open the printed address at home."
        )
    token = _ask_in_browser(client, web, port)
    token.set_store(storage)
    storage.put(token)
    return token


class _Answers(http.server.ThreadingHTTPServer):
    """Takes what the browser brings back from Google. Each connection has a thread of its own: browsers also open
    connections on which they ask for nothing."""

    def __init__(self, port: int) -> None:
        self.state = secrets.token_urlsafe(16)  # with it comes the answer to our question and to no other
        self.answer: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        super().__init__(("localhost", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Answers)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        known = query.get("state") == self.server.state and bool({"code", "error"} & set(query))
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"You can close this page and go back to the terminal." if known else b"Not here.")
        if known:
            self.server.answer.put(query)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _ask_in_browser(client: dict[str, Any], web: httplib2.Http, port: int) -> OAuth2Credentials:
    """PyDrive2's own way waits without limit for the browser, and takes an answer from anyone."""
    try:
        server = _Answers(port)
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}). Give another --port.") from error
    flow = OAuth2WebServerFlow(
        client["client_id"],
        client["client_secret"],
        SCOPES,
        redirect_uri=f"http://localhost:{server.server_address[1]}/",
        pkce=True,
        prompt="consent",  # else Google gives no refresh token the second time
    )
    with server:
        address = flow.step1_get_authorize_url(state=server.state)
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
        print(f"Sign in with the Google account that may use the folder:\n\n    {address}\n", flush=True)
        webbrowser.open(address)
        try:
            answer = server.answer.get(timeout=BROWSER_S)
        except queue.Empty:
            raise UserError(
                f'nobody signed in within {BROWSER_S} s. If the page said "This app is blocked" or "Access blocked": '
                "the OAuth client is not your team's own, or an administrator of your organisation does not allow it; "
                "use a client made in a project of yours (docs/google-drive.md, step 3) or ask the administrator. If "
                'it said "Google hasn\'t verified this app": Advanced > Go to it. If no page opened, open the address '
                "above."
            ) from None
        finally:
            server.shutdown()
    if "error" in answer:
        raise UserError(
            f"Google did not let you in ({answer['error']}): you clicked Cancel, or the consent screen is in Testing "
            "mode and your address is not among its test users. Publish the app, or add the address: Google Cloud "
            "console > Google Auth Platform > Audience."
        )
    return flow.step2_exchange(answer["code"], http=web)


def check_folder(drive: GoogleDrive, folder: str, store: str, credentials: Credentials, pull: bool) -> FolderReport:
    """Find the folder and, unless only to `pull`, write a small file, remove it, and make the path `store` in it.

    DVC does not make these folders: its first push would end with "Confirm ... exists and you can access it".
    Raises UserError for what is no folder, else PyDrive2's errors.
    """
    item = drive.CreateFile({"id": folder})
    item.FetchMetadata(fields="id,title,mimeType,driveId,labels,capabilities")
    if item["mimeType"] != FOLDER_MIME_TYPE:
        raise UserError(f"'{item['title']}' on Google Drive is a file, not a folder. Give --folder with a folder.")
    if item.get("labels", {}).get("trashed"):
        raise UserError(f"the folder '{item['title']}' is in the trash of Google Drive. Restore it or use another one.")
    shared_drive, may = item.get("driveId"), item.get("capabilities", {})
    # Only folders in a Shared Drive say it. A contributor there could not remove the file again that tries it.
    can_remove = bool(may.get("canTrashChildren") or not shared_drive)
    if not pull:
        if credentials.kind == "key" and not shared_drive:
            raise UserError(
                f"a service account has no storage of its own and '{item['title']}' is not in a Shared Drive, so it "
                "can only read there. Add --pull if this machine only pulls; else use a folder in a Shared Drive "
                f"(Google Workspace) with {credentials.who} as Content manager, or sign in as a person with "
                "--client-file."
            )
        if not may.get("canAddChildren", True):
            raise UserError(
                f"the folder '{item['title']}' is there, but {credentials.who} may not write to it. Share it with "
                "that account as Editor or, in a Shared Drive, as Content manager; or add --pull to pull only."
            )
        if can_remove:
            probe = drive.CreateFile({"title": PROBE, "parents": [{"id": folder}]})
            probe.SetContentString("Written and removed by `python -m src.remote` to see whether it can be done.\n")
            probe.Upload()
            probe.Trash()
    for title in filter(None, store.split("/")):
        folder = _subfolder(drive, folder, title, shared_drive, make=not pull)
    return FolderReport(item["title"], bool(shared_drive), can_remove)


def _subfolder(drive: GoogleDrive, parent: str, title: str, shared_drive: str | None, make: bool) -> str:
    """Id of the subfolder."""
    parameters: dict[str, Any] = {"q": f"trashed=false and ('{parent}' in parents) and title='{title}'"}
    if shared_drive:
        parameters |= {"corpora": "drive", "driveId": shared_drive}
    for found in drive.ListFile(parameters).GetList():
        if found["title"] == title and found["mimeType"] == FOLDER_MIME_TYPE:
            return str(found["id"])
    if not make:
        raise UserError(f"the folder has no '{title}' yet: there is nothing to pull before somebody has pushed.")
    made = drive.CreateFile({"title": title, "parents": [{"id": parent}], "mimeType": FOLDER_MIME_TYPE})
    made.Upload()
    return str(made["id"])
