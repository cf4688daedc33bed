"""Who sends nonsense, too much or too slowly gets one clear answer; the server stays up, its memory and disk free."""

import asyncio
import contextlib
import functools
import gzip
import itertools
import json
import select
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from src.web import limits
from src.web.app import body
from tests.realtime_fixtures import write_clip, write_film
from tests.web_fixtures import (
    EXAMPLES,
    Server,
    finish,
    jpeg,
    live,
    one_face,
    read_example,
    run_server,
    send_frame,
    wait_for,
)

GOOD = (EXAMPLES / "one.jpg").read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server")) as running:
        running.post("/api/pictures", GOOD)
        yield running


@pytest.fixture(autouse=True)
def stays_up(server: Server) -> Iterator[None]:
    """After each of them the server recognizes, and holds no file of theirs."""
    yield
    assert server.process.poll() is None
    assert server.post("/api/pictures", GOOD).json()["faces"][0]["expression"] == "happy"
    wait_for(lambda: not server.left())
    assert "Traceback" not in server.log.read_text(encoding="utf-8")


def png(width: int, height: int) -> bytes:
    """A valid PNG of one colour, however large; without ever holding its pixels."""

    def part(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(width // 8 + 1)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", pixels) + part(b"IEND", b"")


BAD_PICTURES = {
    "nothing": (b"", 400, "There was nothing in the body"),
    "text": (b"hello", 415, "This is not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "This is not a picture"),
    "gzip": (gzip.compress(bytes(10**7)), 415, "This is not a picture"),
    "cut off": (GOOD[:40], 422, "The picture is damaged."),
    "png of nothing": (b"\x89PNG\r\n\x1a\n" + bytes(100), 422, "The picture is damaged."),
    "webp of nothing": (b"RIFF\x10\0\0\0WEBPVP8 " + bytes(30), 422, "The picture is damaged."),
    "100 megapixels": (png(10_000, 10_000), 413, "The picture has more than 67 megapixels."),
    "bomb of 2.5 gigapixels": (png(50_000, 50_000), 413, "The picture has more than 67 megapixels."),
}


@pytest.mark.parametrize(("content", "status", "sentence"), BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_bad_pictures(server: Server, content: bytes, status: int, sentence: str) -> None:
    before = server.memory
    answer = server.post("/api/pictures", content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)
    assert server.memory < before + 60


@pytest.mark.slow
def test_largest_picture_gives_its_memory_back(server: Server) -> None:
    content = png(8192, 8191)  # 201 MB decoded
    server.post("/api/pictures", content)
    before = server.memory
    for _ in range(3):
        assert server.post("/api/pictures", content).status_code == 200
    assert server.memory < before + 60


@pytest.mark.slow
@pytest.mark.parametrize("announced", [True, False], ids=["with its length", "in chunks"])
@pytest.mark.parametrize("path", ["/api/pictures", "/api/videos"])
def test_upload_of_300_mb(server: Server, path: str, announced: bool) -> None:
    before = server.memory
    content = bytes(300 * 2**20)
    answer = server.post(
        path, content if announced else (content[at : at + 2**20] for at in range(0, 300 * 2**20, 2**20))
    )
    assert answer.status_code == 413
    assert "which is the most that is taken here" in answer.json()["error"]
    assert server.memory < before + 60


def test_an_announced_upload_is_refused_before_it_is_sent(server: Server) -> None:
    """As curl does it: it asks first."""
    head = f"POST /api/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10**12}\r\nExpect: 100-continue\r\n\r\n"
    assert talk(server, head.encode()).startswith(b"HTTP/1.1 413 ")


def talk(server: Server, content: bytes) -> bytes:
    """What is answered to these bytes."""
    with server.connect() as connection:
        connection.sendall(content)
        return connection.recv(65536)


@pytest.mark.parametrize("path", ["/api/pictures", "/api/videos"])
def test_a_visitor_who_leaves_in_the_middle(server: Server, path: str) -> None:
    with server.connect() as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode() + bytes(5000))
        time.sleep(0.2)
    wait_for(lambda: server.count("videos") == 0)


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
BAD_VIDEOS = {
    "text": (b"hello, this is text", "This is not a video that can be read here"),
    "picture": (GOOD, "This is not a video that can be read here"),
    "playlist": (PLAYLIST, "This is not a video that can be read here"),
    "concat": (b"ffconcat version 1.0\nfile /etc/hostname\n", "This is not a video that can be read here"),
    "header alone": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "video cannot be read"),
    "matroska of nothing": (b"\x1aE\xdf\xa3" + bytes(500), "video cannot be read"),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_VIDEOS.values(), ids=BAD_VIDEOS)
def test_bad_videos(server: Server, content: bytes, sentence: str) -> None:
    assert refusal(server, content).startswith(sentence)


def refusal(server: Server, content: bytes) -> str:
    """The sentence with which a video is refused, at once or after looking at it; it is deleted then."""
    answer = server.post("/api/videos", content)
    if answer.status_code == 415:
        return answer.json()["error"]
    number = answer.json()["id"]
    state = finish(server, number)
    assert state["results"] == [] and state["state"] == "failed"
    server.delete(number)
    return state["error"]


@pytest.mark.slow
def test_videos_without_frames_with_sound_only_and_with_huge_ones(server: Server, tmp_path: Path) -> None:
    film = write_clip(tmp_path / "clip.mp4", seconds=1).read_bytes()
    at = film.index(b"mdat") + 4
    assert refusal(server, film[:at] + bytes(len(film) - at))  # an index, and no frame that can be decoded
    huge = write_film(tmp_path / "huge.mp4", [np.zeros((4000, 4000, 3), np.uint8)] * 2, [0.0, 0.1])
    assert refusal(server, huge.read_bytes()).startswith("The frames of the video are too large")


@pytest.mark.slow
def test_an_endless_video(server: Server, tmp_path: Path) -> None:
    """Six minutes at a frame every two seconds; the first five are looked at."""
    frame = one_face(True)
    path = write_film(tmp_path / "long.mp4", [frame] * 180, [2.0 * number for number in range(180)])
    number = server.post("/api/videos", path.read_bytes()).json()["id"]
    state = finish(server, number)
    assert (state["state"], state["frames"], state["note"]) == ("done", 150, "Only the first 5 minutes were looked at.")
    assert server.get(f"/api/videos/{number}/people.json").json()["people"][0]["last_s"] < 300
    server.delete(number)


def fill(server: Server) -> list[socket.socket]:
    """Six who have begun to send a video; there is no room for a seventh."""
    connections = [server.connect() for _ in range(6)]
    for connection in connections:
        connection.sendall(b"POST /api/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n")
    wait_for(lambda: server.count("videos") == 6)
    answer = server.post("/api/videos", GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    return connections


def test_only_so_many_videos_wait(server: Server) -> None:
    """Nothing of them is left when their senders go."""
    for connection in fill(server):
        connection.close()
    wait_for(lambda: server.count("videos") == 0)


@pytest.mark.slow
def test_who_trickles_loses_the_place(server: Server) -> None:
    """Some bytes a second: one answer after twenty seconds, and place, file and connection are free again."""
    connections = fill(server)
    begin_s = time.monotonic()
    while not select.select(connections, [], [], 0.7)[0]:
        assert time.monotonic() < begin_s + 40
        for connection in connections:
            connection.sendall(bytes(10))
    for connection in connections:
        answer = b"".join(iter(functools.partial(connection.recv, 65536), b""))  # to its end: the server has closed it
        assert answer.startswith(b"HTTP/1.1 408 ") and answer.count(b"The upload was too slow: 50 kB a second") == 1
        connection.close()
    assert server.count("videos") == 0 and server.left() == []


@pytest.mark.parametrize(
    ("chunk", "seconds", "taken"),
    [(1000, 60, True), (100, 60, False), (1000, 1.3, False)],
    ids=["fine", "slow", "long"],
)
def test_pace_of_an_upload(monkeypatch: pytest.MonkeyPatch, chunk: int, seconds: float, taken: bool) -> None:
    """Ten chunks in two seconds, where a thousand bytes a second are asked for."""
    monkeypatch.setattr(limits, "PACE_BYTES", 1000)
    monkeypatch.setattr(limits, "PACE_S", 1.0)
    chunks = iter(range(9, -1, -1))

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return {"type": "http.request", "body": bytes(chunk), "more_body": next(chunks) > 0}

    async def upload() -> int:
        pieces = body(Request({"type": "http", "headers": []}, receive), 10**6, seconds)
        return sum([len(piece) async for piece in pieces])

    if taken:
        assert asyncio.run(upload()) == 10 * chunk
    else:
        with pytest.raises(HTTPException, match="408"):
            asyncio.run(upload())


@pytest.mark.slow
def test_a_thousand_faces(server: Server) -> None:
    face = cv2.resize(read_example("one.jpg")[20:380, 140:500], (80, 80), interpolation=cv2.INTER_AREA)
    crowd = np.tile(face, (32, 32, 1))
    faces = server.post("/api/pictures", jpeg(crowd)).json()["faces"]
    assert len(faces) > 800
    with live(server) as visitor:
        for number in range(4):
            answer = send_frame(visitor, 0.1 * number, jpeg(crowd[:1080, :1920]))
        assert len(answer["faces"]) > 8


BAD_MESSAGES: dict[str, list[str | bytes]] = {
    "no JSON": ["hello"],
    "other JSON": ["[1, 2]"],
    "unknown key": ['{"blur": false, "model": "/etc/passwd"}'],
    "frame first": [struct.pack("<d", 0) + GOOD],
    "no JPEG": ["{}", struct.pack("<d", 0) + b"hello"],
    "PNG": ["{}", struct.pack("<d", 0) + png(64, 64)],
    "too short": ["{}", b"\0\0\0"],
    "no number": ["{}", struct.pack("<d", float("nan")) + GOOD],
    "time goes back": ["{}", struct.pack("<d", 5) + GOOD, struct.pack("<d", 4) + GOOD],
    "before the beginning": ["{}", struct.pack("<d", -1) + GOOD],
    "large frame": ["{}", struct.pack("<d", 0) + jpeg(np.zeros((2000, 2000, 3), np.uint8))],
}


@pytest.mark.parametrize("messages", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_malformed_socket_messages(server: Server, messages: list[str | bytes]) -> None:
    with connect(server.url.replace("http", "ws") + "/api/live") as visitor:
        for message in messages:
            visitor.send(message)
        answers = []
        with pytest.raises(ConnectionClosed):
            while True:
                answers.append(json.loads(visitor.recv(20)))
        assert list(answers[-1]) == ["error"] and answers[-1]["error"].endswith(".")
    assert visitor.close_code in (1003, 1008)
    wait_for(lambda: server.count("visitors") == 0)


def test_a_message_that_is_too_large_ends_the_socket(server: Server) -> None:
    with live(server) as visitor, pytest.raises(ConnectionClosed):
        visitor.send(bytes(2**20 + 1))
        visitor.recv(10)
    assert visitor.close_code == 1009


def test_broken_web_socket_bytes(server: Server) -> None:
    head = (
        "GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert talk(server, head.encode() + b"\xff" * 5000).startswith(b"HTTP/1.1 101 ")


@pytest.mark.slow
def test_slow_readers_lose_their_place(server: Server) -> None:
    """Frames are sent and no answer is read: the server stops after ten seconds, and others are served meanwhile."""
    crowd = jpeg(np.tile(cv2.resize(read_example("one.jpg"), (160, 100)), (6, 6, 1)))
    with live(server) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def send() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                for number in itertools.count(1):
                    slow.send(struct.pack("<d", number) + crowd)

        threading.Thread(target=send, daemon=True).start()
        before = server.memory
        with live(server) as other:
            for number in range(20):
                assert send_frame(other, number, GOOD)["faces"]
        wait_for(lambda: server.count("visitors") == 0, 60)
        assert server.memory < before + 60


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1"]
)
def test_foreign_origin(server: Server, origin: str) -> None:
    answer = server.post("/api/pictures", GOOD, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]) == (403, "Another site's page may not use this server.")
    with pytest.raises(InvalidStatus) as refused:
        connect(server.url.replace("http", "ws") + "/api/live", origin=Origin(origin))
    assert refused.value.response.status_code == 403
    assert server.post("/api/pictures", GOOD, headers={"Origin": server.url}).status_code == 200


def test_foreign_host(server: Server) -> None:
    """A page of another site whose name was made to point here."""
    assert server.get("/api/model", headers={"Host": "evil.example"}).status_code == 421
    assert b" 421 " in talk(server, b"GET / HTTP/1.0\r\n\r\n")[:20]


PATHS = [
    "/static/../__main__.py", "/static/%2e%2e/app.py", "/static/..%2f..%2f..%2fetc/passwd", "//etc/passwd",
    "/static/%00", "/api/videos/..%2f..%2fetc", "/api/videos/../../etc/passwd", "/api/videos/x/%2e%2e%2fvideo",
    "/static/examples/", "/static/" + "a" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:30])
def test_path_tricks(server: Server, path: str) -> None:
    answer = talk(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    assert answer[9:12] in (b"404", b"422", b"400"), answer[:200]
    assert b"root:" not in answer and b"import" not in answer


def test_header_injection(server: Server) -> None:
    """Names of files and queries appear in no header and in no answer."""
    tricky = {"Content-Disposition": 'attachment; filename="../../x%0d%0aSet-Cookie: a=b"', "Content-Type": "text/html"}
    answer = server.post("/api/pictures?x=%0d%0aSet-Cookie:%20a=b", GOOD, headers=tricky)
    assert answer.status_code == 200 and "set-cookie" not in answer.headers and "x%0d" not in answer.text
    assert server.post("/api/videos?blur=%0d%0aX:y", GOOD).status_code == 422
    raw = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\n\x00: c\r\n\r\n"
    assert talk(server, raw)[9:12] == b"400"


def test_many_connections_are_refused_beyond_a_limit(server: Server) -> None:
    idle = [server.connect() for _ in range(205)]
    assert wait_for(lambda: server.get("/health").status_code) == 503
    for connection in idle:
        connection.close()
    wait_for(lambda: server.get("/health").status_code == 200)
