"""A stand-in for the wandb server: answers what wandb's client asks for during one run, and keeps what it was sent.

Written from the requests that wandb 0.31 makes; it proves what our own code sends and how it bears trouble, nothing
about the service.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """`silent`: takes connections and never answers. `lose_after`: stops answering after so many requests."""

    def __init__(self, silent: bool = False, lose_after: int | None = None) -> None:
        self.requests: list[tuple[str, str]] = []  # path, body
        self._closing = threading.Event()
        self.silent, self._lose_after = silent, lose_after
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def sent(self, path: str) -> str:
        """All bodies sent to addresses that hold `path`."""
        return "\n".join(body for address, body in self.requests if path in address)

    def _answer(self, path: str, body: str) -> dict[str, Any]:
        if path != "/graphql":
            return {}
        files = json.loads(body)["variables"].get("files", []) if "CreateRunFiles" in body else []
        project = {"id": "p", "name": "facial-expressions", "entity": {"id": "e", "name": "team"}}
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
        bucket = {"id": "r", "name": "a1b2", "displayName": "named-run", "config": "{}", "project": project}
        return {
            "data": {
                "viewer": {"id": "1", "entity": "team", "username": "team", "flags": "{}", "teams": {"edges": []}},
                "serverInfo": {"cliVersionInfo": {"max_cli_version": "99.0.0"}, "features": []},
                "model": {"bucket": None},
                "upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True},
                "project": {"artifact": None},
                "createArtifact": {"artifact": artifact},
                "createRunFiles": {
                    "runID": "r",
                    "uploadHeaders": [],
                    "files": [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in files],
                },
            }
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0))).decode(errors="replace")
                lost = outer._lose_after is not None and len(outer.requests) >= outer._lose_after
                if outer.silent or lost:
                    outer._closing.wait()
                    return
                outer.requests.append((self.path, body))
                content = json.dumps(outer._answer(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _reply

        return Handler
