"""A request's head: the request line and the headers, checked and taken apart.

The head is cut out of the stream by its empty line before anything looks at it, so its size is known,
and llhttp sees one head at a time, whole. llhttp reads the headers, strictly. What it lets pass and this
server does not is looked for here: another version than HTTP/1.1, more than one space in the request
line, a transfer coding beside ``chunked``, a missing, repeated or malformed Host, a target that is no
path. Where a message ends is decided from its head alone, so two readers of it can't differ.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from pipeline.web.limits import Limits
from pipeline.web.refusal import (
    BAD_EXPECTATION,
    BODY_TOO_LARGE,
    HEAD_TOO_LARGE,
    LINE_TOO_LONG,
    RefusedError,
    malformed,
)

CHUNKED: Final = -1
"""The length of a body that comes in chunks."""

_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/1\.1\r\n")
_OTHER_VERSION = re.compile(rb"[^\r\n]* HTTP/\d\.\d\r\n")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::[0-9]{0,5})?")
_NOTED = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect")
)  # the headers that the server itself acts on
_OLD = (
    "HTTP/1.1 is needed here, and the request is of another version"
    " (nginx sends it with: proxy_http_version 1.1)"
)


class Request:
    """What a head says.

    Attributes:
        method: in capitals.
        path: as sent, without the query.
        query: what follows the question mark, as sent.
        headers: names in lower case and values, in the order in which they were sent.
        length: of the body in bytes, or `CHUNKED`.
        keep_alive: whether the client takes further answers on this connection.
        expects_continue: whether it waits for ``100 Continue`` before it sends the body.
    """

    __slots__ = ("expects_continue", "headers", "keep_alive", "length", "method", "path", "query")

    def __init__(self, method: str, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.headers = headers
        self.path = b"/"
        self.query = b""
        self.length = 0
        self.keep_alive = True
        self.expects_continue = False


class HeadParser:
    """Parses the heads of one connection, one after another. No method is a checkpoint."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._small = min(limits.request_line_bytes, limits.header_bytes)
        self._parser = HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._noted: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._keep_alive = True
        self._host = b"\0"  # none yet; no host is that

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header from llhttp."""
        name = name.lower()
        header = (name, value.strip())
        self._headers.append(header)
        if name in _NOTED:
            self._noted.append(header)

    def on_headers_complete(self) -> None:
        """Take note, from llhttp, that the head is complete."""
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def parse(self, head: bytes) -> Request:
        """Take a head apart: a whole one, with the empty line at its end.

        Raises:
            RefusedError: it breaks a rule, or a limit. The connection can't go on: nobody knows where
                the next request would begin.
        """
        line = _LINE.match(head)
        if line is None:
            raise _bad_line(head, self._limits)
        if len(head) > self._small:
            self._check_sizes(head, line.end())
        headers = self._headers = []
        noted = self._noted = []
        self._complete = False
        try:
            self._parser.feed_data(head)
        except HttpParserUpgrade:
            # Offered, and not taken: the connection stays at HTTP/1.1 (RFC 9110, 7.8).
            self._parser = HttpRequestParser(self)
        except HttpParserError as problem:
            raise malformed(str(problem)) from None
        if not self._complete:
            raise malformed("the headers have no end")
        if len(headers) > self._limits.headers:
            raise RefusedError(431, HEAD_TOO_LARGE, f"more than {self._limits.headers} headers")
        request = Request(line[1].decode(), headers)
        request.keep_alive = self._keep_alive
        self._note(request, noted)
        self._target(request, line[2])
        if request.length:
            # llhttp waits for the body, which is read elsewhere.
            self._parser = HttpRequestParser(self)
        return request

    def _check_sizes(self, head: bytes, line: int) -> None:
        limits = self._limits
        if line > limits.request_line_bytes:
            raise too_long(limits)
        if len(head) - line > limits.header_bytes:
            raise too_large(limits)

    def _note(self, request: Request, noted: list[tuple[bytes, bytes]]) -> None:
        """Act on the headers that say how long the message is and whom it is for."""
        host = None
        for name, value in noted:
            if name == b"host":
                if host is not None:
                    raise malformed("more than one Host")
                host = value
            elif name == b"content-length":
                request.length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise malformed("the only transfer coding taken is: chunked")
                request.length = CHUNKED
            elif value.lower() == b"100-continue":
                request.expects_continue = True
            else:
                raise RefusedError(
                    417, BAD_EXPECTATION, "the only expectation met is: 100-continue"
                )
        if host is None:
            raise malformed("no Host")
        if host != self._host:
            if not _HOST.fullmatch(host):
                raise malformed("the Host is no name or address")
            self._host = host
        if request.length > self._limits.body_bytes:
            raise body_too_large(self._limits)

    def _target(self, request: Request, target: bytes) -> None:
        """Take path and query from the request's target, and refuse what is not of this server."""
        if request.method == "CONNECT":
            raise malformed("this is no proxy: CONNECT is not taken")
        if b"#" in target:
            raise malformed("a fragment in the request's target")
        if not target.startswith(b"/"):
            target = self._not_a_path(request, target)
        request.path, _, request.query = target.partition(b"?")

    def _not_a_path(self, request: Request, target: bytes) -> bytes:
        """Return the path of a target in another form: ``http://host/path``, or ``*``."""
        if target == b"*" and request.method == "OPTIONS":
            return target
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            raise malformed("the request's target is no path")
        host, slash, path = rest.partition(b"/")
        if host.lower() != self._host.lower():
            raise malformed("the request's target and its Host differ")
        return slash + path if slash else b"/"


def too_long(limits: Limits) -> RefusedError:
    """Refuse a request line that is longer than the limit."""
    detail = f"the request line is longer than {limits.request_line_bytes} bytes"
    return RefusedError(414, LINE_TOO_LONG, detail)


def too_large(limits: Limits) -> RefusedError:
    """Refuse headers that are larger than the limit."""
    detail = f"the headers are larger than {limits.header_bytes} bytes"
    return RefusedError(431, HEAD_TOO_LARGE, detail)


def body_too_large(limits: Limits) -> RefusedError:
    """Refuse a body that is larger than the limit."""
    detail = f"the body is larger than {limits.body_bytes} bytes"
    return RefusedError(413, BODY_TOO_LARGE, detail)


def unfinished(head: bytes, limits: Limits) -> RefusedError | None:
    """Return why a head whose end has not arrived yet is refused already, or None."""
    line = head.find(b"\n")
    if line < 0:
        return too_long(limits) if len(head) > limits.request_line_bytes else None
    if not _LINE.match(head):
        return _bad_line(head, limits)
    if head.count(b"\n") != head.count(b"\r\n"):
        return malformed("a line feed without a carriage return")
    return too_large(limits) if len(head) - line > limits.header_bytes else None


def _bad_line(head: bytes, limits: Limits) -> RefusedError:
    """Say what is wrong with a request line."""
    if head.find(b"\n") > limits.request_line_bytes:
        return too_long(limits)
    if _OTHER_VERSION.match(head):
        return malformed(_OLD if b" HTTP/1.1\r\n" not in head else "a malformed request line")
    return malformed("a malformed request line")
