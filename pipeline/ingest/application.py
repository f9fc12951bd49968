"""The ASGI application: paths, methods, CORS, what is measured and logged of each request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from prometheus_client import Counter
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from pipeline.ingest.answers import Answer, refusal
from pipeline.ingest.bodies import ClientGoneError
from pipeline.ingest.cors import Cors
from pipeline.ingest.endpoint import RecordsEndpoint
from pipeline.ingest.problems import Problem, RefusedError
from pipeline.ingest.trace_context import PARENT as TRACE_PARENT
from pipeline.ingest.trace_context import trace_headers
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.web.asgi import Receive, Scope, Send

log = logging.getLogger(__name__)

RECORDS = "/v1/records"
RECEIPTS = "/v1/receipts/"
TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
GetHandler = Callable[[Mapping[bytes, bytes]], Answer]


class IngestApplication:
    """ASGI 3.

    Args:
        endpoint: takes records.
        metrics: what is counted here, and what ``/metrics`` shows.
        health: what ``/livez`` and ``/readyz`` show.
        openapi: the document, as JSON.
        cors: who may send from a browser.
    """

    def __init__(
        self,
        endpoint: RecordsEndpoint,
        metrics: Metrics,
        health: Health,
        openapi: bytes,
        cors: Cors,
    ) -> None:
        self._endpoint = endpoint
        self._metrics = metrics
        self._cors = cors
        self._requests: Callable[[int], Counter] = cache(metrics.ingest_requests.labels)
        self._records: Callable[[int], Counter] = cache(metrics.ingest_records.labels)
        self._seconds = metrics.ingest_request_seconds.labels()
        self._gets: dict[str, GetHandler] = {
            "/openapi.json": lambda _: Answer(
                200, openapi, [(b"content-type", b"application/json")], {}
            ),
            "/livez": lambda _: _probe(health.live()),
            "/readyz": lambda _: _probe(health.ready()),
            "/metrics": self._show_metrics,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. A checkpoint."""
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])  # as ASGI wants of what is not supported
        path: str = scope["path"]
        headers = dict(scope["headers"])
        if path != RECORDS:
            await self._elsewhere(scope["method"], path, headers, receive, send)
            return
        started = time.perf_counter()
        trace = trace_headers(scope["headers"]) if TRACE_PARENT in headers else ()
        answer = await self._take(scope["method"], headers, receive, trace)
        if answer is None:
            return
        self._requests(answer.status).inc()
        self._seconds.observe(time.perf_counter() - started)
        for status, count in answer.records.items():
            self._records(status).inc(count)
        await _send(send, answer, self._cors.headers(headers.get(b"origin")))

    async def _elsewhere(
        self, method: str, path: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        """Answer a request for another path than `RECORDS`."""
        if not path.startswith(RECEIPTS):
            await _send(send, self._other(method, path, headers), [])
            return
        told = await self._receipt(method, headers, path.removeprefix(RECEIPTS), receive)
        await _send(send, told, self._cors.headers(headers.get(b"origin")))

    async def _take(
        self,
        method: str,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        trace: Sequence[tuple[str, bytes]],
    ) -> Answer | None:
        """Answer a request for `RECORDS`; None if nobody waits for it any more."""
        if method == "POST":
            try:
                return await self._endpoint.post(headers, receive, trace)
            except ClientGoneError:
                return None
            except Exception:  # a mistake of ours: told, and no reason to end the others' requests
                return _mistake()
        if method == "OPTIONS" and self._cors:
            return Answer(204, b"", self._cors.preflight(headers.get(b"origin")), {})
        return _not_allowed(b"POST, OPTIONS" if self._cors else b"POST")

    async def _receipt(
        self, method: str, headers: Mapping[bytes, bytes], text: str, receive: Receive
    ) -> Answer:
        if method in ("GET", "HEAD"):
            try:
                return await self._endpoint.receipt(headers, text, receive)
            except Exception:  # as above
                return _mistake()
        if method == "OPTIONS" and self._cors:
            return Answer(204, b"", self._cors.preflight(headers.get(b"origin")), {})
        return _not_allowed(b"GET, HEAD, OPTIONS" if self._cors else b"GET, HEAD")

    def _other(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Answer:
        handler = self._gets.get(path)
        if handler is None:
            return refusal(Problem(404, "nothing is here; /openapi.json says what is where"))
        if method not in ("GET", "HEAD"):
            return _not_allowed(b"GET, HEAD")
        return handler(headers)

    def _show_metrics(self, headers: Mapping[bytes, bytes]) -> Answer:
        try:
            self._endpoint.authorize(headers)
        except RefusedError as error:
            return refusal(error.problem)
        media_type = [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode())]
        return Answer(200, self._metrics.render(), media_type, {})


def _mistake() -> Answer:
    """Answer for an exception that is being handled, and log it."""
    log.exception("a request failed")
    return refusal(Problem(500, "the endpoint has made a mistake; its log has it"))


def _probe(reasons: list[str]) -> Answer:
    text = "".join(f"{line}\n" for line in reasons) or "ok\n"
    return Answer(503 if reasons else 200, text.encode(), TEXT, {})


def _not_allowed(allowed: bytes) -> Answer:
    answer = refusal(Problem(405, f"expected one of the methods {allowed.decode()}"))
    return Answer(answer.status, answer.body, [*answer.headers, (b"allow", allowed)], {})


async def _send(send: Send, answer: Answer, more: list[tuple[bytes, bytes]]) -> None:
    headers = [*answer.headers, *more, (b"content-length", str(len(answer.body)).encode())]
    if answer.status == 204:
        headers.pop()
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
