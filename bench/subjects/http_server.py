"""The pipeline's own HTTP server with the trivial application; its argument is the port."""

from __future__ import annotations

import sys

import trio

from bench.subjects.http_application import app
from pipeline.web.binding import Tcp, listen
from pipeline.web.server import serve


async def main(port: int) -> None:
    """Serve until killed."""
    await serve(app, await listen(Tcp("127.0.0.1", port)))


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
