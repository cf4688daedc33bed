"""The configurations of deploy/ as they are, but for names, ports and certificates: Caddy and nginx really in front."""

import functools
import json
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from tests.conftest import ROOT
from tests.realtime_fixtures import write_clip
from tests.web_fixtures import EXAMPLES, Server, finish, jpeg, one_face, run_server, wait_for

pytestmark = pytest.mark.slow
_NAME = "faces.example.org"
# Debian keeps them out of the PATH of ordinary users.
_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the name in the configurations, and its key."""
    chain, key = folder / "fullchain.pem", folder / "privkey.pem"
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    name = ("-subj", f"/CN={_NAME}", "-addext", f"subjectAltName=DNS:{_NAME}")
    command = ["openssl", "req", *kind, *name, "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def nginx(folder: Path, port: int, behind: str, chain: Path, key: Path) -> list[str]:
    site = replaced(
        (ROOT / "deploy/nginx.conf").read_text(encoding="utf-8"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/letsencrypt/live/{_NAME}/fullchain.pem", str(chain)),
        (f"/etc/letsencrypt/live/{_NAME}/privkey.pem", str(key)),
        ("127.0.0.1:8000", behind),
    )
    paths = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    frame = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {paths}\n{site}\n}}"
    (folder / "nginx.conf").write_text(frame, encoding="utf-8")
    return ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, behind: str, chain: Path, key: Path) -> list[str]:
    site = replaced(
        (ROOT / "deploy/Caddyfile").read_text(encoding="utf-8"),
        (f"{_NAME} {{", f"https://{_NAME}:{port} {{\n\ttls {chain} {key}\n\tbind 127.0.0.1"),
        ("127.0.0.1:8000", behind),
    )
    options = f"{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {folder}\n}}\n"
    (folder / "Caddyfile").write_text(options + site, encoding="utf-8")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, int]]:
    program = shutil.which(request.param.__name__, path=_PATH)
    if program is None:
        pytest.skip(f"no {request.param.__name__}: apt-get install {request.param.__name__}")
    with run_server(tmp_path / "server", "--public", _NAME) as server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        behind = server.url.removeprefix("http://")
        command = request.param(tmp_path, port, behind, *certificate(tmp_path))
        process = subprocess.Popen([program, *command[1:]], stderr=subprocess.DEVNULL, env={"HOME": str(tmp_path)})
        try:
            wait_for(functools.partial(listens, port), 30)
            yield server, port
        finally:
            process.terminate()
            process.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_behind_a_proxy(proxied: tuple[Server, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page, pictures, video and live socket over HTTPS under the public name; metrics stay inside."""
    server, port = proxied
    lookup = socket.getaddrinfo

    def here(host: str, *rest: object, **options: object) -> list:
        return lookup("127.0.0.1" if host == _NAME else host, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", here)
    url = f"https://{_NAME}:{port}"
    with requests.Session() as session:
        session.verify = str(tmp_path / "fullchain.pem")
        session.trust_env = False
        # Browsers leave the port out of Host where it is 443; nginx's $host has none either.
        session.headers["Host"] = _NAME
        page = session.get(url, timeout=20)
        assert "<h1>Facial expressions</h1>" in page.text
        assert page.headers["strict-transport-security"] and page.headers["content-security-policy"]
        assert session.get(f"{url}/metrics", timeout=20).status_code == 404
        assert server.get("/metrics").status_code == 200
        picture = (EXAMPLES / "one.jpg").read_bytes()
        own = {"Origin": f"https://{_NAME}"}
        assert session.post(f"{url}/api/pictures", picture, headers=own, timeout=60).json()["faces"]
        foreign = {"Origin": "https://evil.example"}
        assert session.post(f"{url}/api/pictures", picture, headers=foreign, timeout=60).status_code == 403
        clip = write_clip(tmp_path / "clip.mp4", seconds=0.4).read_bytes()
        number = session.post(f"{url}/api/videos", clip, timeout=60).json()["id"]
        assert finish(server, number)["state"] == "done"
        result = session.get(f"{url}/api/videos/{number}/annotated.mp4", timeout=60)
        assert result.content[4:8] == b"ftyp" and result.headers["cache-control"] == "no-store"
        assert session.delete(f"{url}/api/videos/{number}", timeout=20).status_code == 204
        trust = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
        with connect(f"wss://{_NAME}:{port}/api/live", ssl=trust, proxy=None) as live:
            live.send("{}")
            for frame in range(3):
                live.send(struct.pack("<d", frame) + jpeg(one_face(True)))
                assert json.loads(live.recv(30))["faces"]
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and b"\xff\xd8\xff" in path.read_bytes()]
    assert kept == []
    assert not (tmp_path / "access.log").exists()
