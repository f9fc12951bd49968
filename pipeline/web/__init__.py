"""A small ASGI server: HTTP/1.1 on Trio over httptools; knows nothing of Kafka or Postgres.

How it works, and what it refuses, is told in ``docs/design/web.md``. `server.serve` serves an ASGI 3
application on the listening sockets of `binding.listen`, within `limits.Limits`.
"""
