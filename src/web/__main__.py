"""A small page and its API: faces and their expressions in pictures, videos and live from a browser's camera.

In: an exported model (pretrained/model.onnx). Out: a server on 127.0.0.1, elsewhere with a token.
Pictures and frames stay in memory, a video in a temporary file until its results are fetched; nothing is kept.
How-to: docs/page.md; for others: docs/deploy.md.

    python -m src.web                        # http://127.0.0.1:8000
"""

import argparse
import ipaddress
import logging
import os
import re
import secrets
import socket
import sys
from pathlib import Path

from src.errors import UserError, run_program
from src.web import limits

TOKEN_VARIABLE = "FER_WEB_TOKEN"
_EPILOG = f"""\
Elsewhere than on 127.0.0.1 the server asks for a token: that of the environment variable {TOKEN_VARIABLE}, or one that
it makes and prints when it starts.
Exit codes: 1 something is wrong (one line says what), 2 wrong options, 130 Ctrl-C, 143 told to end.
"""


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9.-]+", text.lower()):
        raise argparse.ArgumentTypeError(f"{text} is not a host name, such as faces.example.org")
    return text.lower()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.web",
        description="Show a page for pictures, videos and cameras, with an API. Nothing that is sent is kept.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="H", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, default=8000, metavar="P", help="port (default: 8000)")
    add("--public", type=_host_name, metavar="NAME", help="host name under which a proxy here shows the page")
    add("--visitors", type=int, default=12, metavar="N", help="live visitors at once (default: 12)")
    add("--model", type=Path, metavar="FILE", help="an export of this project (default: pretrained/model.onnx)")
    add("--detector", choices=("auto", "yunet", "haar"), default="auto", help="as for python -m src.realtime")
    add("--detector-model", type=Path, metavar="FILE", help="a YuNet file to use instead of fetching one")
    return parser


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise UserError(f"{host} port {port} cannot be used: {reason}. Name another one: --port 8001.") from error


def main(arguments: list[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    if os.name != "posix":
        raise UserError("The page runs on Linux and macOS. On Windows use WSL, or python -m src.realtime.")
    if options.visitors < 1:
        parser.error("--visitors must be at least 1.")
    token = os.environ.pop(TOKEN_VARIABLE, "") or None  # processes that are started do not inherit it
    if token is not None and len(token) < 16:
        raise UserError(f"The token in {TOKEN_VARIABLE} is too short: 16 characters at least.")
    listening = _listen(options.host, options.port)  # before the model is loaded: its error comes at once
    own_token = token is None and not ipaddress.ip_address(listening.getsockname()[0]).is_loopback
    if own_token:
        token = secrets.token_urlsafe(24)
    os.environ["OPENCV_LOG_LEVEL"] = "SILENT"
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(limits.PICTURE_PIXELS)

    import cv2
    import uvicorn

    from src.recognition.recognizer import DEFAULT_MODEL
    from src.web.app import create_app
    from src.web.engine import Engine
    from src.web.guard import Access
    from src.web.videos import Videos

    cv2.setNumThreads(1)  # visitors are what runs side by side
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model = options.model or DEFAULT_MODEL
    engine = Engine(model, options.detector, options.detector_model)
    print(engine.reason, file=sys.stderr)
    order = {"model": model, "detector": options.detector, "detector_model": options.detector_model}
    access = Access(token, options.public)
    app = create_app(engine, Videos(order), access, visitors=options.visitors, cores=cores)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{listening.getsockname()[1]}/" + (f"#token={token}" if own_token else "")
    print(f"listening on {address}" + (", for this machine alone" if token is None and not options.public else ""))
    if options.public:
        print(f"shown by a proxy as https://{options.public}/, {'with a token' if token else 'to everybody'}")
    elif token is not None:
        print("open to whoever has the token; without HTTPS it can be read on the way, and browsers refuse cameras")
    sys.stdout.flush()
    # No access log, and no lines of sockets: both hold addresses.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # nobody's address is used for anything
            ws_max_size=limits.FRAME_BYTES,
            ws_per_message_deflate=False,  # pictures do not get smaller
            limit_concurrency=limits.CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
    )
    server.run(sockets=[listening])


if __name__ == "__main__":
    run_program(main, "requirements-web.txt")
