"""The addresses of the server: page, pictures, videos, live socket, health, metrics."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from markdown_it import MarkdownIt
from prometheus_client import generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from src.web import limits, metrics
from src.web.engine import Engine, Visitor
from src.web.guard import Access, Guard
from src.web.schema import Example, Health, Limits, LiveSettings, ModelInfo, Picture, Problem, ResultName, Video
from src.web.videos import Videos

STATIC = Path(__file__).parent / "static"
_PICTURE, _VIDEO = (
    {"requestBody": {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}}}}}
    for kind in ("image/*", "video/*")
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "too large"},
    415: {"model": Problem, "description": "not of a kind that is read"},
    408: {"model": Problem, "description": "sent too slowly"},
    503: {"model": Problem, "description": "busy; try again later"},
}
_DESCRIPTION = """Faces and their expressions in pictures, videos and live frames, by the session of the live program.

Bodies are the bytes of the file. Every error is `{"error": "one sentence"}`. Where the server asks for a token, send it
as `Authorization: Bearer TOKEN`. The rows are those of `python -m src.realtime --json`.

`/api/live` is a web socket. First a text message, `{"token": null, "blur": false}`; then a frame as a binary message:
8 bytes of time stamp (seconds, float64, little-endian, rising) and a JPEG; the answer is a text message (`LiveFrame`);
then the next frame."""


def create_app(engine: Engine, videos: Videos, access: Access, *, visitors: int, cores: int) -> FastAPI:
    """visitors: live ones, at most. cores: threads that recognize."""
    threads = ThreadPoolExecutor(cores, thread_name_prefix="faces")
    live: set[WebSocket] = set()
    unplaced: set[WebSocket] = set()
    taken_in, recognized = asyncio.Semaphore(limits.PICTURES_TAKEN_IN), asyncio.Semaphore(limits.PICTURES_AT_ONCE)
    metrics.VISITORS.set_function(lambda: len(live))
    metrics.VIDEOS.set_function(lambda: len(videos))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        videos.open()
        yield
        await videos.close()
        threads.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="Facial expressions",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
        # FastAPI exports traces where the environment names a collector; addresses of visitors would be in them.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
    )

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        metrics.REFUSED.labels(str(error.status_code)).inc()
        headers = {503: {"Retry-After": "30"}, 408: {"Connection": "close"}}  # a slow sender keeps no connection either
        sentence = error.detail.rstrip(".") + "."
        return JSONResponse({"error": sentence}, error.status_code, headers.get(error.status_code))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return await refused(request, HTTPException(422, f"{first['loc'][-1]}: {first['msg']}"))

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/api", include_in_schema=False)
    async def api_page() -> FileResponse:
        return FileResponse(STATIC / "api.html")

    @app.get("/card", include_in_schema=False)
    async def card() -> HTMLResponse:
        """The model card, with HTML and pictures switched off."""
        body = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(engine.card)
        frame = (STATIC / "card.html").read_text(encoding="utf-8")
        return HTMLResponse(frame.replace("<!-- card -->", body or escape("There is no card beside this model.")))

    @app.head("/health", include_in_schema=False)
    @app.get("/health", tags=["running it"])
    async def health() -> Health:
        return Health(visitors=len(live), videos=len(videos))

    @app.get("/metrics", tags=["running it"], response_class=Response)
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type="text/plain; version=0.0.4")

    @app.get("/api/model", tags=["what it is"])
    async def model() -> ModelInfo:
        """What recognizes here, its figures on test, colours and limits."""
        more = {"figures": engine.figures(), "limits": Limits(visitors=visitors)}
        return ModelInfo.model_validate({**engine.run, **more})

    @app.get("/api/examples", tags=["what it is"])
    async def examples() -> list[Example]:
        """Drawn pictures, recognized when the server started."""
        return engine.examples

    example = {"content": {"application/json": {"example": engine.examples[0].result.model_dump(by_alias=True)}}}

    @app.post("/api/pictures", tags=["pictures"], responses={200: example, **_PROBLEMS}, openapi_extra=_PICTURE)
    async def picture(request: Request) -> Picture:
        """Faces in a JPEG, PNG or WebP. It stays in memory, and is forgotten with the answer."""
        if taken_in.locked():
            raise HTTPException(503, "Too many pictures at once. Try again in half a minute.")
        async with taken_in:
            content = b"".join([chunk async for chunk in body(request, limits.PICTURE_BYTES, limits.PICTURE_UPLOAD_S)])
            begin_s = time.perf_counter()
            async with recognized:
                answer = await asyncio.get_running_loop().run_in_executor(threads, engine.picture, content)
        metrics.SECONDS.labels("picture").observe(time.perf_counter() - begin_s)
        return answer

    @app.post("/api/videos", tags=["videos"], status_code=202, responses=_PROBLEMS, openapi_extra=_VIDEO)
    async def add_video(request: Request, blur: bool = False) -> Video:
        """Take in a video (MP4, MOV, MKV, WebM, AVI). blur: make faces unrecognizable in the annotated video."""
        return await videos.add(body(request, limits.VIDEO_BYTES, limits.VIDEO_UPLOAD_S), blur=blur)

    @app.get("/api/videos/{number}", tags=["videos"])
    async def video(number: str) -> Video:
        """How far a video is."""
        return videos.get(number)

    @app.delete("/api/videos/{number}", tags=["videos"], status_code=204)
    async def remove_video(number: str) -> Response:
        """Stop it, and delete all that is kept of it."""
        videos.remove(number)
        return Response(status_code=204)

    @app.get("/api/videos/{number}/{name}", tags=["videos"], response_class=FileResponse)
    async def result(number: str, name: ResultName) -> FileResponse:
        """A result: annotated video, a row per face and frame (CSV, or JSON lines), people (table, picture)."""
        return FileResponse(videos.result(number, name), filename=name)

    @app.websocket("/api/live")
    async def live_socket(socket: WebSocket) -> None:
        await socket.accept()
        if len(unplaced) >= limits.MOST_WITHOUT_A_PLACE:
            await socket.close(1013)
            return
        visitor: Visitor | None = None
        unplaced.add(socket)
        try:
            while True:
                message = await asyncio.wait_for(socket.receive(), limits.IDLE_S if visitor else limits.FIRST_MESSAGE_S)
                if message["type"] == "websocket.disconnect":
                    return
                begin_s = time.perf_counter()
                if message.get("text") is not None:
                    settings = LiveSettings.model_validate_json(message["text"])
                    if not access.accepts(settings.token):
                        raise HTTPException(401, "This server asks for a token.")
                    if visitor is None:
                        if len(live) >= visitors:
                            sentence = f"All {visitors} places are taken. The page tries again by itself."
                            raise HTTPException(503, sentence)
                        unplaced.discard(socket)
                        live.add(socket)
                        visitor = Visitor(engine)
                    visitor.session.view.blur = settings.blur
                    continue
                if visitor is None:
                    raise HTTPException(400, "Settings come first, as a text message.")
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(threads, visitor.step, message["bytes"])
                async with asyncio.timeout(limits.SLOW_READER_S):
                    await socket.send_text(answer.model_dump_json())
                metrics.SECONDS.labels("live").observe(time.perf_counter() - begin_s)
        except WebSocketDisconnect:
            pass
        except TimeoutError:
            await _end(socket, 1001, None)  # idle, or too slow a reader
        except ValidationError as error:
            await _end(socket, 1003, f"The settings are wrong: {error.errors()[0]['msg']}.")
        except HTTPException as error:
            metrics.REFUSED.labels(str(error.status_code)).inc()
            await _end(socket, 1013 if error.status_code == 503 else 1008, error.detail)
        finally:
            live.discard(socket)
            unplaced.discard(socket)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Guard, access=access)
    return app


async def _end(socket: WebSocket, code: int, sentence: str | None) -> None:
    """Say why, if the other side still listens."""
    try:
        async with asyncio.timeout(1):
            if sentence:
                await socket.send_json({"error": sentence})
            await socket.close(code)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        pass


async def body(request: Request, most: int, seconds: float) -> AsyncIterator[bytes]:
    """The body in pieces. Raises HTTPException when it is larger than `most` bytes, takes longer than `seconds`, or
    trickles: nobody holds a place by an upload that never ends."""
    too_large = HTTPException(413, f"This is larger than {most // 2**20} MB, which is the most that is taken here.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most and request.headers.get("expect"):
        raise too_large  # it has not been sent yet
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "This is a form: send the bytes of the file alone, as the body.")
    size = paced = 0
    now_s = asyncio.get_running_loop().time
    end_s = now_s() + seconds
    try:
        async with asyncio.timeout(limits.PACE_S) as pace:
            async for chunk in request.stream():
                size += len(chunk)
                if size - paced >= limits.PACE_BYTES:
                    pace.reschedule(min(now_s() + limits.PACE_S, end_s))
                    paced = size
                if size <= most:
                    yield chunk
                elif size > limits.DRAINED_BYTES:
                    break
    except (TimeoutError, ClientDisconnect) as error:  # who has left does not read it
        least = limits.PACE_BYTES / limits.PACE_S / 1000
        sentence = f"The upload was too slow: {least:.0f} kB a second at least, and {seconds:.0f} s in all."
        raise HTTPException(408, sentence) from error
    if size > most:
        raise too_large
    if size == 0:
        raise HTTPException(400, "There was nothing in the body: send the bytes of the file.")
