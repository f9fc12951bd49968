"""The trivial ASGI application that every HTTP server is measured with. It imports nothing."""

from typing import Any

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"3")]


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer ``ok`` to everything."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"ok\n"})
