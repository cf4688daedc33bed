"""What `python -m src.cluster` costs, on stand-in trainings: seconds per run, requests and bytes at the remotes.

    python -m tools.benchmarks.bench_cluster runs 64                 all of a run is real but its training
    python -m tools.benchmarks.bench_cluster scheduling 1000         Dask alone: every run is a sleep of .1 s
    python -m tools.benchmarks.bench_cluster throughput 8            1 and 2 workers beside `dvc queue start --jobs 2`
    python -m tools.benchmarks.bench_cluster refs 1000               what a list of so many experiments costs

One HTTP server on this machine is Git server (`git http-backend`) and DVC remote, and counts. `--workers` are processes
with one core each and folders of their own; `--seconds` is how long a training lasts (asleep; in `throughput` at work).
Needs requirements-cluster.txt. Columns: docs/benchmarks.md. It never fails on a time.
"""

import argparse
import contextlib
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tools.benchmarks.bench_data import machine
from tools.benchmarks.cluster_machines import Cluster
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

    def forget(self) -> None:
        self.requests.clear()
        self.bytes.clear()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CountingServer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, content: bytes = b"", headers: Row | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if self.command != "HEAD" else b"")

    def _any(self) -> None:
        body = self._body()
        kind = "git" if self.path.startswith("/team.git") else "store"
        content = self._git(body) if kind == "git" else self._store(body)
        self.server.requests[kind] += 1
        self.server.bytes[kind] += len(body) + content

    def _git(self, body: bytes) -> int:
        path, _, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.server.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "t",
            "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        result = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True).stdout
        head, _, content = result.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._answer(int(headers.pop("Status", "200").split()[0]), content, headers)
        return len(content)

    def _store(self, body: bytes) -> int:
        path = self.server.folder / self.path.lstrip("/")
        if self.command in ("PUT", "POST"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            self._answer(200)
            return 0
        content = path.read_bytes() if path.is_file() else b""
        self._answer(200 if path.is_file() else 404, content)
        return len(content) if self.command == "GET" else 0

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


def runs(count: int, workers: int, seconds: float) -> list[Row]:
    """Real runs; what is above `seconds` in each is overhead."""
    with project(workers, STANDIN_S=str(seconds)) as (cluster, server):
        rows = []
        for what, first in (("first run of each machine", 0), ("runs", workers)):
            last = workers if first == 0 else workers + count
            server.forget()
            start = time.monotonic()
            cluster.run("-S", f"train.seed=range({first},{last})", "-S", "train.epochs=1", timeout=None)
            wall, number = time.monotonic() - start, last - first
            rows.append({
                "what": f"{number} {what}", "seconds": wall, "overhead, s per run": wall * workers / number - seconds,
                **{f"{kind}: {unit} per run": total[kind] / number / size
                   for kind in ("git", "store")
                   for unit, total, size in (("requests", server.requests, 1), ("kB", server.bytes, 1000))},
            })  # fmt: skip
        return rows


def throughput(count: int, seconds: float) -> list[Row]:
    """Trainings that keep a core busy: runs per minute."""
    rows: list[Row] = []
    for workers in (1, 2):
        with project(workers, STANDIN_CPU_S=str(seconds)) as (cluster, _):
            start = time.monotonic()
            cluster.run("-S", f"train.seed=range(0,{count})", "-S", "train.epochs=1", timeout=None)
            rows.append(
                {"what": f"src.cluster, workers with one core each: {workers}", "seconds": time.monotonic() - start}
            )
    with project(0) as (cluster, _):
        run(cluster.caller, "dvc", "pull", "-q")
        queue = ("dvc", "exp", "run", "--queue", "-S", f"train.seed=range(0,{count})", "-S", "train.epochs=1")
        run(cluster.caller, *queue)
        start = time.monotonic()
        run(cluster.caller, "dvc", "queue", "start", "--jobs", "2", STANDIN_CPU_S=str(seconds))
        while re.search("Queued|Running", run(cluster.caller, "dvc", "queue", "status").stdout):
            time.sleep(1)
        rows.append({"what": "dvc queue start --jobs 2", "seconds": time.monotonic() - start})
        rows[-1]["done"] = run(cluster.caller, "dvc", "queue", "status").stdout.count("Success")
    return [{**row, "runs per minute": 60 * count / row["seconds"]} for row in rows]


def scheduling(count: int, workers: int) -> list[Row]:
    """Dask alone, in the way that src.cluster asks: resources, keys, runs that outlive the caller."""
    source = f"""
import time
from distributed import Client, LocalCluster, fire_and_forget, wait
if __name__ == "__main__":
    kind = {{"threads_per_worker": 1, "resources": {{"threads": 1}}, "dashboard_address": None}}
    with LocalCluster(n_workers={workers}, **kind) as c:
        with Client(c) as client:
            start = time.monotonic()
            futures = [client.submit(time.sleep, .1, key=f"run-{{i}}", pure=False, resources={{"threads": 1}})
                       for i in range({count})]
            fire_and_forget(futures)
            submitted = time.monotonic() - start
            looks = 0
            while futures:
                done = wait(futures, return_when="FIRST_COMPLETED").done
                futures = [future for future in futures if future not in done]
                client.sync(client.scheduler.identity, n_workers=-1)
                looks += 1
            print(submitted, time.monotonic() - start, looks)
"""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "scheduling.py")
        path.write_text(source, encoding="utf-8")
        output = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout
    submitted, wall, looks = map(float, output.split())
    ideal = count * 0.1 / workers
    return [{
        "what": f"{count} sleeps of .1 s, {workers} workers", "seconds": wall, "to submit": submitted,
        "ms per run": 1000 * (wall - ideal) * workers / count, "looks": looks,
    }]  # fmt: skip


def refs(count: int) -> list[Row]:
    """`count` experiments on the Git server: what the caller's first look and one more push move."""
    with project(1) as (cluster, server):
        commit = run(cluster.caller, "git", "rev-parse", "HEAD").stdout.strip()
        cluster.run("-n", "one", "-S", "train.epochs=1")
        ref = f"refs/exps/{commit[:2]}/{commit[2:]}"
        one = cluster.experiments()["one"]
        lines = "".join(f"create {ref}/many-{number} {one}\n" for number in range(count))
        subprocess.run(
            ["git", "update-ref", "--stdin"], cwd=cluster.folder / "team.git", input=lines, text=True, check=True
        )
        rows = []
        for what, words in (("look, nothing to do", ("-n", "one")), ("one more run", ("-n", "two"))):
            server.forget()
            start = time.monotonic()
            cluster.run(*words, "-S", "train.epochs=1")
            row = {"what": f"{count} experiments there: {what}", "seconds": time.monotonic() - start}
            rows.append({**row, "git: requests": server.requests["git"], "git: kB": server.bytes["git"] / 1000})
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["runs", "scheduling", "throughput", "refs"])
    parser.add_argument("count", type=int, help="number of runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    print(machine())
    rows = {
        "runs": lambda: runs(options.count, options.workers, options.seconds),
        "scheduling": lambda: scheduling(options.count, options.workers),
        "throughput": lambda: throughput(options.count, options.seconds),
        "refs": lambda: refs(options.count),
    }[options.name]()
    print(tabulate(rows, headers="keys", floatfmt=".2f"))


if __name__ == "__main__":
    main()
