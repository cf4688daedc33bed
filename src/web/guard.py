"""What every request and socket passes first: host, origin, token. What every answer carries: headers of security."""

import secrets
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# The page loads nothing from elsewhere and nobody frames it; blob: is what it makes itself.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may use the server. token: asked for in /api/ and /metrics. public: host name under which a proxy shows it.

    Without either, the server answers to the names of this machine only, so that no page of another site can reach it
    by a name of its own (DNS rebinding).
    """

    token: str | None = None
    public: str | None = None

    def knows_host(self, host: str) -> bool:
        return self.token is not None or _without_port(host) in (*_LOOPBACK, self.public)

    def is_own(self, host: str) -> bool:
        """Whether the request was made on this machine by its own name, not through the proxy."""
        return _without_port(host) in _LOOPBACK

    def accepts(self, token: str | None) -> bool:
        return self.token is None or (token is not None and secrets.compare_digest(token.encode(), self.token.encode()))


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() else host


class Guard:
    """ASGI middleware; see `Access`."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        answer = JSONResponse({"error": refusal[1]}, refusal[0], {"Connection": "close"}) if refusal else self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._access.knows_host(host):
            return 421, "This server does not go by that name. Open the address that it printed when it started."
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "Another site's page may not use this server."
        path = scope["path"]
        scheme, _, token = headers.get("authorization", "").partition(" ")
        allowed = self._access.accepts(token if scheme.lower() == "bearer" else None)
        if path == "/metrics" and self._access.token is None and not self._access.is_own(host):
            return 404, "Not here."
        if not allowed and scope["type"] == "http" and (path.startswith("/api/") or path == "/metrics"):
            return 401, "This server asks for a token: open the address that it printed when it started."
        return None
