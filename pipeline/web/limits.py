"""What a client may ask of the server: sizes, numbers, times."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import gt


@frozen
class Limits:
    """Bounds on what clients may send and on how long they may take.

    Attributes:
        connections: open at once. Beyond that the connection that has waited longest for a request is
            closed for the new one; if all are at work, the new one waits in the kernel's queue.
        request_line_bytes: of the request line; a longer one is answered 414.
        header_bytes: of all headers together; more is answered 431.
        headers: how many; more is answered 431.
        body_bytes: of a request's body; more is answered 413.
        head_seconds: from the first byte of a request, or from the start of the connection, to the end
            of its headers, and for the handshake of TLS.
        body_seconds: from the headers to the end of the body, and a second more for each
            ``slowest_bytes_per_second`` that have arrived.
        idle_seconds: from an answer to the next request.
        unread_seconds: how long a client may leave an answer unread, and a second more for each
            ``slowest_bytes_per_second`` that it takes.
        slowest_bytes_per_second: the rate below which a client is cut off.

    Raises:
        ValueError: a bound is not above 0.
    """

    connections: int = field(default=1000, validator=gt(0))
    request_line_bytes: int = field(default=8_192, validator=gt(0))
    header_bytes: int = field(default=32_768, validator=gt(0))
    headers: int = field(default=100, validator=gt(0))
    body_bytes: int = field(default=1_048_576, validator=gt(0))
    head_seconds: float = field(default=10.0, validator=gt(0))
    body_seconds: float = field(default=20.0, validator=gt(0))
    idle_seconds: float = field(default=60.0, validator=gt(0))
    unread_seconds: float = field(default=20.0, validator=gt(0))
    slowest_bytes_per_second: int = field(default=1_024, validator=gt(0))
