"""What `python -m src.cluster` costs, on stand-in trainings: seconds per run, requests and bytes at the remotes.

    python -m tools.benchmarks.bench_cluster runs 64                 all of a run is real but its training
    python -m tools.benchmarks.bench_cluster throughput 8            1 and 2 workers, and `dvc queue start --jobs 2`
    python -m tools.benchmarks.bench_cluster refs 1000               what a list of so many experiments costs
    python -m tools.benchmarks.bench_cluster scheduling 1000         Dask and the caller alone: runs do nothing

One HTTP server on this machine is Git server (`git http-backend`) and DVC remote, and counts. `--workers` are processes
with one core each and folders of their own; `--seconds` is how long a training lasts (asleep; in `throughput` at work).
Needs requirements-cluster.txt. Columns: docs/benchmarks.md. It never fails on a time.
"""

import contextlib
import http.server
import os
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.cluster import runner
from src.cluster.__main__ import Sweep, connected
from src.cluster.plan import Place, Run
from tools.benchmarks.cluster_machines import Cluster
from tools.benchmarks.measuring import machine, parser, show
from tools.benchmarks.standin_project import make_project, run

Row = dict[str, Any]


class CountingServer(http.server.ThreadingHTTPServer):
    """Git below /team.git, files below /store; requests and bytes by kind."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests, self.bytes = folder, Counter[str](), Counter[str]()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up."""

    def timed(self, cluster: Cluster, *words: str) -> float:
        """Seconds of a call of src.cluster, whose requests and bytes alone are then counted."""
        self.requests.clear()
        self.bytes.clear()
        return seconds_of(cluster, *words)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingServer

    def _any(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = "git" if self.path.startswith("/team.git") else "store"
        status, headers, content = self._git(body) if kind == "git" else self._store(body)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            self.server.bytes[kind] += len(content)
        self.server.bytes[kind] += len(body)
        self.server.requests[kind] += 1

    def _git(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """By the program of Git's that a web server starts for each request (CGI)."""
        path, _, query = self.path.partition("?")
        asked = {"REQUEST_METHOD": self.command, "PATH_INFO": path, "QUERY_STRING": query, "REMOTE_USER": "t"}
        place = {"GIT_PROJECT_ROOT": str(self.server.folder), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_ADDR": "127.0.0.1"}
        passed_on = {
            "CONTENT_TYPE": "Content-Type", "HTTP_CONTENT_ENCODING": "Content-Encoding", "GIT_PROTOCOL": "Git-Protocol",
        }  # fmt: skip
        sent = {variable: self.headers.get(name, "") for variable, name in passed_on.items()}
        environment = {**os.environ, **place, **asked, **sent, "CONTENT_LENGTH": str(len(body))}
        result = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
        head, _, content = result.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        return int(headers.pop("Status", "200").split()[0]), headers, content

    def _store(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = self.server.folder / self.path.lstrip("/")
        if self.command in ("PUT", "POST"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            return 200, {}, b""
        return (200, {}, path.read_bytes()) if path.is_file() else (404, {}, b"")

    do_GET = do_HEAD = do_PUT = do_POST = _any

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def project(workers: int, **variables: str) -> Iterator[tuple[Cluster, CountingServer]]:
    """A project on a counting server, and workers with one core each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = CountingServer(folder)
        caller = make_project(folder, f"{server.address}/store")
        run(folder, "git", "-C", "team.git", "config", "http.receivepack", "true")
        run(caller, "dvc", "remote", "modify", "storage", "method", "PUT")
        run(caller, "git", "remote", "set-url", "origin", f"{server.address}/team.git")
        run(caller, "git", "commit", "-qam", "remote")
        run(caller, "git", "push", "-q", "origin", "main")
        run(caller, "dvc", "push", "-q")
        cluster = Cluster(folder, caller, **variables)
        try:
            for number in range(workers):
                cluster.add_worker(f"worker{number}", TMPDIR=name)
            yield cluster, server
        finally:
            cluster.stop()
            server.shutdown()


def seconds_of(cluster: Cluster, *words: str) -> float:
    """Of a call of src.cluster with trainings of one epoch."""
    start = time.monotonic()
    cluster.run(*words, "-S", "train.epochs=1", timeout=None)
    return time.monotonic() - start


def runs(count: int, workers: int, seconds: float) -> list[Row]:
    """Real runs; what is above `seconds` in each is overhead."""
    rows: list[Row] = []
    with project(workers, STANDIN_S=str(seconds)) as (cluster, server):
        for what, first, number in (("first run of each machine", 0, workers), ("runs", workers, count)):
            wall = server.timed(cluster, "-S", f"train.seed=range({first},{first + number})")
            row: Row = {"what": f"{number} {what}", "seconds": wall}
            row["overhead, s per run"] = wall * workers / number - seconds
            for kind in ("git", "store"):
                row[f"{kind}: requests per run"] = server.requests[kind] / number
                row[f"{kind}: kB per run"] = server.bytes[kind] / number / 1000
            rows.append(row)
    return rows


def throughput(count: int, workers: int, seconds: float) -> list[Row]:
    """Trainings that keep a core busy: runs per minute with one worker, with several, and with DVC's own queue."""
    walls, several = {}, f"train.seed=range(0,{count})"
    for number in sorted({1, workers}):
        with project(number, STANDIN_CPU_S=str(seconds)) as (cluster, _):
            walls[f"src.cluster, workers with one core each: {number}"] = seconds_of(cluster, "-S", several)
    with project(0) as (cluster, _):
        run(cluster.caller, "dvc", "pull", "-q")
        run(cluster.caller, "dvc", "exp", "run", "--queue", "-S", several, "-S", "train.epochs=1")
        start = time.monotonic()
        run(cluster.caller, "dvc", "queue", "start", "--jobs", str(workers), STANDIN_CPU_S=str(seconds))
        while re.search("Queued|Running", shown := run(cluster.caller, "dvc", "queue", "status").stdout):
            time.sleep(1)
        done = shown.count("Success")
        walls[f"dvc queue start --jobs {workers} ({done} of {count} done)"] = time.monotonic() - start
    return [{"what": what, "seconds": wall, "runs per minute": 60 * count / wall} for what, wall in walls.items()]


def refs(count: int, _workers: int, seconds: float) -> list[Row]:
    """`count` experiments on the Git server: what the first look of a caller with one worker and one more push move."""
    rows: list[Row] = []
    with project(1, STANDIN_S=str(seconds)) as (cluster, server):
        commit = run(cluster.caller, "git", "rev-parse", "HEAD").stdout.strip()
        seconds_of(cluster, "-n", "one")
        one, ref = cluster.experiments()["one"], f"refs/exps/{commit[:2]}/{commit[2:]}"
        lines = "".join(f"create {ref}/many-{number} {one}\n" for number in range(count))
        command = ["git", "-C", str(cluster.folder / "team.git"), "update-ref", "--stdin"]
        subprocess.run(command, input=lines, text=True, check=True)
        for what, name in (("look, nothing to do", "one"), ("one more run", "two")):
            wall = server.timed(cluster, "-n", name)
            moved = {"git: requests": server.requests["git"], "git: kB": server.bytes["git"] / 1000}
            rows.append({"what": f"{count} experiments there: {what}", "seconds": wall, **moved})
    return rows


def no_run(spec: Row, source: str) -> Row:
    """In the place of `runner.place`."""
    return {"outcome": "done", "commit": "0" * 40}


def scheduling(count: int, workers: int, _seconds: float) -> list[Row]:
    """From the first run given to Dask to the end of the last one."""
    runner.place = no_run
    many = [Run(f"run-{number}", (f"train.seed={number}",), {}, ()) for number in range(count)]
    with connected(None, len(os.sched_getaffinity(0)) // workers, 0) as client:
        start = time.monotonic()
        sweep = Sweep(client, Place("0" * 40, "", {}), 1, 0)
        sweep.start(many)
        ended = sum(len(some) for some in sweep.ended())
        wall = time.monotonic() - start
    return [{"what": f"{ended} runs that do nothing", "seconds": wall, "ms per run": 1000 * wall / ended}]


PARTS = {"runs": runs, "throughput": throughput, "refs": refs, "scheduling": scheduling}


def main() -> None:
    words = parser(__doc__)
    words.add_argument("name", choices=PARTS)
    words.add_argument("count", type=int, help="number of runs")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--seconds", type=float, default=1.0)
    options = words.parse_args()
    print(machine())
    show(PARTS[options.name](options.count, options.workers, options.seconds), decimals=2)


if __name__ == "__main__":
    main()
