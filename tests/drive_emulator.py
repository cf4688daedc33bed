"""Google Drive's API, version 2, as far as DVC, PyDrive2 and `src.remote` use it: real clients, no internet.

`DriveEmulator` is an HTTP proxy on a free port of 127.0.0.1. It ends TLS for Google's three hosts with a certificate
of its own and refuses every other host, so that nothing can slip through. A client is led here by
`DriveEmulator.environment()` alone; no code of the client is touched.

It keeps to what Google documents where a client can tell the difference: ids, several files of one name in a folder,
resumable uploads, Shared Drives, service accounts without storage, tokens that expire. It does not know Google's
quotas, signatures of keys, pages of long listings, consent screens or sharing rules; what passes here may still be
refused there.

`fail` and `cut` let chosen requests go wrong.
"""

import base64
import datetime
import hashlib
import http.server
import json
import re
import secrets
import socket
import ssl
import struct
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from oauth2client.client import OAuth2Credentials

HOSTS = ("www.googleapis.com", "oauth2.googleapis.com", "accounts.google.com")
FOLDER_ID, SHARED_DRIVE = "1team-folder", "1shared-drive"
FOLDER = "application/vnd.google-apps.folder"
CLIENT_ID = "1234-team.apps.googleusercontent.com"
CLIENT_SECRET = "the-teams-secret"
SERVICE_EMAIL = "ci@team.iam.gserviceaccount.com"
USER, SERVICE = "user", "service account"
PATIENCE_S = 1.0  # waited for a request's body before hanging up; Google's is not known


@dataclass
class Item:
    """A file or folder."""

    id: str
    title: str
    parent: str
    mime_type: str
    drive_id: str | None  # of the Shared Drive that it lies in
    content: bytes = b""
    trashed: bool = False

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match."""

    method: str
    path: str  # a regular expression
    times: int = 1
    status: int = 0
    reason: str = ""
    cut_after: int | None = None  # bytes of the body after which the connection breaks


@dataclass
class DriveError(Exception):
    """An answer of Google's that says no."""

    status: int
    reason: str
    message: str


class DriveEmulator:
    """`with DriveEmulator() as drive:` serves until the block ends; `drive.folder` is an empty folder of a user's.

    `drive.shared_folder` lies in a Shared Drive, of which the service account is a member.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.items: dict[str, Item] = {}
        # Under way: title, parent and type, and what has arrived.
        self.uploads: dict[str, tuple[tuple[str, str, str], bytearray]] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, int]] = []  # method, path, status
        self.refused_hosts: list[str] = []
        self.read_only = False
        self.contributor = False  # may add to the Shared Drive, but remove nothing
        self.shared_with_service: set[str] = set()  # ids of a user's folders
        self.token_error: tuple[int, str, str] | None = None  # status, code, description
        self.access_tokens: dict[str, str] = {}  # token -> who
        self.refresh_tokens = {"refresh-1"}
        self.codes: dict[str, str] = {}  # authorization codes given out, and the challenge of PKCE
        self.consent: Literal["grant", "deny", "blocked"] = "grant"
        self.folder, self.shared_folder = FOLDER_ID, "1shared-folder"
        self.items[self.folder] = Item(self.folder, "team data", "root", FOLDER, None)
        self.items[self.shared_folder] = Item(self.shared_folder, "team data", SHARED_DRIVE, FOLDER, SHARED_DRIVE)
        self._files = tempfile.TemporaryDirectory()
        self._tls, certificate = _server_context()
        Path(self._files.name, "ca.pem").write_bytes(certificate)
        self._service_key = _rsa_key("service account")
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "DriveEmulator":
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._files.cleanup()

    # What a test sets up

    def environment(self) -> dict[str, str]:
        """Variables that lead a client here."""
        proxy = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1"),
            "HTTPLIB2_CA_CERTS": str(Path(self._files.name) / "ca.pem"),
        }

    def user_credentials(self, expired: bool = False, refresh_token: str = "refresh-1") -> str:
        """A signed-in user's token in PyDrive2's JSON form."""
        lifetime = datetime.timedelta(hours=-1 if expired else 1)
        return OAuth2Credentials(
            "an-old-token" if expired else self.new_access_token(USER),
            CLIENT_ID,
            CLIENT_SECRET,
            refresh_token,
            datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + lifetime,
            "https://oauth2.googleapis.com/token",
            "DVC",
            scopes=["https://www.googleapis.com/auth/drive", "https://www.googleapis.com/auth/drive.appdata"],
        ).to_json()

    def service_credentials(self) -> str:
        """The key file of a service account, JSON."""
        key = self._service_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        facts = {"type": "service_account", "project_id": "team", "private_key_id": "key-1", "client_id": "42"}
        address = "https://oauth2.googleapis.com/token"
        return json.dumps({**facts, "private_key": key.decode(), "client_email": SERVICE_EMAIL, "token_uri": address})

    def fail(self, method: str, path: str, status: int, reason: str, times: int = 1) -> None:
        """The next `times` requests of that method and path (a regular expression) get an error."""
        with self.lock:
            self.faults.append(Fault(method, path, times, status, reason))

    def cut(self, method: str, path: str, after: int) -> None:
        """The next connection breaks after so many bytes of the request's or the answer's body."""
        with self.lock:
            self.faults.append(Fault(method, path, cut_after=after))

    def new_access_token(self, who: str) -> str:
        token = secrets.token_hex(8)
        with self.lock:
            self.access_tokens[token] = who
        return token

    # What a test looks at

    def count(self, method: str, path: str, status: int | None = None) -> int:
        """Requests so far whose path matches the regular expression."""
        with self.lock:
            return sum(
                used == method and bool(re.search(path, asked)) and status in (None, answered)
                for used, asked, answered in self.log
            )

    def files_below(self, folder: str) -> Iterator[tuple[str, Item]]:
        """Every file that is not in the trash, with its path."""
        with self.lock:
            children = [item for item in self.items.values() if item.parent == folder and not item.trashed]
        for item in children:
            if item.is_folder:
                for path, file in self.files_below(item.id):
                    yield f"{item.title}/{path}", file
            else:
                yield item.title, item

    def damaged_objects(self, folder: str) -> list[str]:
        """Paths of DVC objects whose content is not that of their name."""
        return [
            path
            for path, item in self.files_below(folder)
            if (match := re.search(r"files/md5/(..)/([0-9a-f]{30})(\.dir)?$", path))
            and hashlib.md5(item.content).hexdigest() != match[1] + match[2]
        ]

    # The service

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def item(self, item_id: str, who: str) -> Item:
        with self.lock:
            item = self.items.get(item_id)
        if item is None or (who == SERVICE and item.drive_id is None and not self.is_shared_with_service(item)):
            raise DriveError(404, "notFound", f"File not found: {item_id}")
        return item

    def is_shared_with_service(self, item: Item) -> bool:
        """A user's folder that was shared with the service account's address; what the account made is its own."""
        parent = self.items.get(item.parent)
        return item.id in self.shared_with_service or (parent is not None and self.is_shared_with_service(parent))

    def capabilities(self, folder: Item) -> dict[str, bool]:
        """What the caller may do in that folder; that of removing is said in Shared Drives only."""
        removing = {"canTrashChildren": not (self.read_only or self.contributor)} if folder.drive_id else {}
        return {"canAddChildren": not self.read_only, **removing}

    def add_child(self, title: str, parent_id: str, mime_type: str, who: str, content: bytes = b"") -> Item:
        """Files of one title in one folder are allowed, as in Drive."""
        drive_id = self.check_new_child(parent_id, mime_type, who)
        item = Item("1" + secrets.token_urlsafe(24), title, parent_id, mime_type, drive_id, content)
        with self.lock:
            self.items[item.id] = item
        return item

    def check_new_child(self, parent_id: str, mime_type: str, who: str) -> str | None:
        """Gives the Shared Drive that it will lie in."""
        parent = self.item(parent_id, who)
        if self.read_only:
            raise DriveError(403, "insufficientFilePermissions", "The user does not have sufficient permissions.")
        if who == SERVICE and parent.drive_id is None and mime_type != FOLDER:
            raise DriveError(403, "storageQuotaExceeded", "Service Accounts do not have storage quota.")
        return parent.drive_id

    def search(self, parameters: dict[str, str], who: str) -> dict[str, Any]:
        """files.list with the two forms of query that PyDrive2 sends."""
        query = parameters["q"]
        rest = re.sub(r"'(?:[^'\\]|\\.)*'", "?", query)
        if not re.fullmatch(r"\(?trashed=false and \((\? in parents( or )?)+\) and title=\?|"
                            r"\((\? in parents( or )?)+\) and trashed=false", rest):  # fmt: skip
            raise DriveError(400, "invalid", f"Invalid query: {query}")
        parents = set(re.findall(r"'([^']+)' in parents", query))
        title = re.search(r"title='((?:[^'\\]|\\.)*)'", query)
        wanted = title and re.sub(r"\\(.)", r"\1", title[1]).lower()  # Drive compares without regard to case
        drive_id = parameters.get("driveId")
        with self.lock:
            found = [
                item
                for item in self.items.values()
                if item.parent in parents
                and not item.trashed
                and item.drive_id == drive_id
                and (wanted is None or item.title.lower() == wanted)
            ]
        return {"kind": "drive#fileList", "items": [describe(item) for item in found]}

    def _token(self, who: str) -> dict[str, Any]:
        return {"access_token": self.new_access_token(who), "expires_in": 3599, "token_type": "Bearer"}

    def grant(self, form: dict[str, str]) -> dict[str, Any]:
        """The token endpoint."""
        if self.token_error:
            raise DriveError(*self.token_error)
        kind = form.get("grant_type")
        if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return self._token(SERVICE)
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            raise DriveError(401, "invalid_client", "The OAuth client was not found.")
        if kind == "refresh_token":
            if form["refresh_token"] not in self.refresh_tokens:
                raise DriveError(400, "invalid_grant", "Token has been expired or revoked.")
            return self._token(USER)
        if kind == "authorization_code" and form["code"] in self.codes:
            with self.lock:
                challenge = self.codes.pop(form["code"])
                self.refresh_tokens.add("refresh-2")
            verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if challenge != base64.urlsafe_b64encode(verifier).decode().rstrip("="):
                raise DriveError(400, "invalid_grant", "Invalid code verifier.")
            return {**self._token(USER), "refresh_token": "refresh-2"}
        raise DriveError(400, "invalid_grant", "Malformed auth code.")


def describe(item: Item) -> dict[str, Any]:
    """An item as the API shows it."""
    answer: dict[str, Any] = {
        "kind": "drive#file",
        "id": item.id,
        "title": item.title,
        "mimeType": item.mime_type,
        "parents": [{"id": item.parent}],
        "labels": {"trashed": item.trashed},
    }
    if item.drive_id:
        answer["driveId"] = item.drive_id
    if not item.is_folder:
        answer["fileSize"] = str(len(item.content))
        answer["md5Checksum"] = hashlib.md5(item.content).hexdigest()
    return answer


def _new_item(body: bytes) -> tuple[str, str, str]:
    """Title, parent and type in a request for a new file or folder."""
    new = json.loads(body)
    return new["title"], (new.get("parents") or [{"id": "root"}])[0]["id"], new.get("mimeType", "text/plain")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, drive: DriveEmulator) -> None:
        self.drive = drive
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed or cut off is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    host = ""

    def do_CONNECT(self) -> None:
        drive = self.server.drive
        self.host = self.path.rpartition(":")[0]
        if self.host not in HOSTS:
            with drive.lock:
                drive.refused_hosts.append(self.host)
            self.send_error(502)
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.connection = drive._tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb", 1 << 16)
        self.wfile = self.connection.makefile("wb")  # flushed after each answer
        self.close_connection = False

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        drive = self.server.drive
        fault = drive.take_fault(self.command, self.path)
        self.connection.settimeout(PATIENCE_S)
        try:
            if fault and fault.cut_after is not None and self.command in ("PUT", "POST"):
                self.rfile.read(fault.cut_after)
                self._break()
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.connection.settimeout(None)
            if fault and fault.status:
                raise DriveError(fault.status, fault.reason, "made to fail")
            self._route(body, fault)
        except TimeoutError:
            self._break()
        except DriveError as error:
            if self.host == "oauth2.googleapis.com":
                self._send(error.status, {"error": error.reason, "error_description": error.message})
            else:
                details = [{"domain": "global", "reason": error.reason, "message": error.message}]
                answer = {"code": error.status, "message": error.message, "errors": details}
                self._send(error.status, {"error": answer})

    def _route(self, body: bytes, fault: Fault | None) -> None:
        drive = self.server.drive
        url = urllib.parse.urlsplit(self.path)
        parameters = dict(urllib.parse.parse_qsl(url.query))
        method = self.command
        if self.host == "oauth2.googleapis.com" and url.path == "/token":
            self._send(200, drive.grant(dict(urllib.parse.parse_qsl(body.decode()))))
            return
        if self.host == "accounts.google.com":
            self._consent(parameters)
            return
        if self.headers.get("X-HTTP-Method-Override") == "GET":  # a query too long for an address
            method, parameters = "GET", dict(urllib.parse.parse_qsl(body.decode()))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        who = drive.access_tokens.get(token)
        if who is None:
            raise DriveError(401, "authError", "Invalid Credentials")
        if url.path.startswith("/upload/"):
            self._upload(method, parameters, body, who)
        elif url.path == "/drive/v2/files":
            if method == "GET":
                self._send(200, drive.search(parameters, who))
            else:
                self._send(200, describe(drive.add_child(*_new_item(body), who)))
        elif match := re.fullmatch(r"/drive/v2/files/([^/]+)(/trash)?", url.path):
            self._file(method, match, parameters, who, fault)
        else:
            raise DriveError(404, "notFound", f"{method} {self.path} is not emulated")

    def _file(
        self, method: str, match: re.Match[str], parameters: dict[str, str], who: str, fault: Fault | None
    ) -> None:
        drive = self.server.drive
        item = drive.item(match[1], who)
        if method == "GET" and parameters.get("alt") == "media":
            self._send_content(item, fault)
        elif method == "GET":
            self._send(200, describe(item) | ({"capabilities": drive.capabilities(item)} if item.is_folder else {}))
        elif drive.contributor:
            raise DriveError(403, "insufficientFilePermissions", "The user does not have sufficient permissions.")
        elif match[2]:
            item.trashed = True
            self._send(200, describe(item))
        elif method == "DELETE":
            with drive.lock:
                drive.items.pop(item.id, None)
            self._send(204, None)

    def _upload(self, method: str, parameters: dict[str, str], body: bytes, who: str) -> None:
        drive = self.server.drive
        if method == "POST":
            new = _new_item(body)
            drive.check_new_child(*new[1:], who)
            upload_id = secrets.token_urlsafe(16)
            with drive.lock:
                drive.uploads[upload_id] = new, bytearray()
            query = f"uploadType=resumable&upload_id={upload_id}"
            self._send(200, None, {"Location": f"https://{HOSTS[0]}/upload/drive/v2/files?{query}"})
            return
        (title, parent, mime_type), received = drive.uploads[parameters["upload_id"]]
        received += body
        total = (self.headers.get("Content-Range") or "").rpartition("/")[2]
        if len(received) < int(total or 0):
            self._send(308, None, {"Range": f"bytes=0-{len(received) - 1}"} if received else {})
            return
        with drive.lock:
            drive.uploads.pop(parameters["upload_id"])
        self._send(200, describe(drive.add_child(title, parent, mime_type, who, bytes(received))))

    def _send_content(self, item: Item, fault: Fault | None) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        cut_after, total = fault.cut_after if fault else None, len(item.content)
        if wanted is None:
            self._send(200, item.content, cut_after=cut_after)
        elif int(wanted[1]) >= total:
            self._send(416, None, {"Content-Range": f"bytes */{total}"})
        else:
            start, end = int(wanted[1]), min(int(wanted[2]) + 1, total)
            head = {"Content-Range": f"bytes {start}-{end - 1}/{total}"}
            self._send(206, item.content[start:end], head, cut_after)

    def _consent(self, parameters: dict[str, str]) -> None:
        """The page on which a person clicks "Allow"; here a visit is the click."""
        drive = self.server.drive
        if drive.consent == "blocked":
            self._send(200, {"page": "This app is blocked"})
            return
        answer = {"state": parameters["state"], "error": "access_denied"}
        if drive.consent == "grant":
            answer = {"state": parameters["state"], "code": secrets.token_hex(4)}
            assert parameters["code_challenge_method"] == "S256"
            with drive.lock:
                drive.codes[answer["code"]] = parameters["code_challenge"]
        self._send(302, None, {"Location": f"{parameters['redirect_uri']}?{urllib.parse.urlencode(answer)}"})

    def _send(
        self, status: int, answer: Any, headers: dict[str, str] | None = None, cut_after: int | None = None
    ) -> None:
        """answer: bytes, what becomes JSON, or None. The connection breaks after `cut_after` bytes of it."""
        self._log(status)
        body = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.wfile.flush()
            self._break()

    def _break(self) -> None:
        """End the connection as a lost network does: no farewell of TLS or of HTTP."""
        self._log(0)
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())

    def _log(self, status: int) -> None:
        drive = self.server.drive
        with drive.lock:
            drive.log.append((self.command, self.path, status))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@cache  # making keys takes longer than most tests
def _rsa_key(owner: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _server_context() -> tuple[ssl.SSLContext, bytes]:
    """A certificate for Google's hosts that nobody has signed but itself; PEM of what a client must trust."""
    key, pem = _rsa_key("server"), serialization.Encoding.PEM
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        file.write(certificate)
        file.flush()
        context.load_cert_chain(file.name)
    return context, certificate
