"""Bodies: read in pieces, inflated, within limits."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import trio
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.bodies import BodyBudget, ClientGoneError, Holding, encoding_of, read_body
from pipeline.ingest.problems import RefusedError

LIMIT = 10_000


def _raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def _streamed_zstd(data: bytes) -> bytes:
    """Without the size in the frame's head."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


COMPRESSORS: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two members of gzip": ("gzip", lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without head": ("deflate", _raw_deflate),
    "zstd": ("zstd", zstandard.compress),
    "zstd, streamed": ("zstd", _streamed_zstd),
    "two frames of zstd": (
        "zstd",
        lambda data: zstandard.compress(data[:3]) + _streamed_zstd(data[3:]),
    ),
}


async def read(
    pieces: Sequence[bytes], encoding: str = "identity", budget: BodyBudget | None = None,
    length: int | None = None,
) -> bytes:  # fmt: skip
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": True if left else last}

    last = False
    budget = budget or BodyBudget(10 * LIMIT)
    with Holding(budget) as holding:
        found = await read_body(receive, encoding, LIMIT, length, holding)
    assert budget.held == 0
    return found


def status_of(refused: pytest.ExceptionInfo[RefusedError]) -> int:
    return refused.value.problem.status


@pytest.mark.parametrize("name", COMPRESSORS)
@given(data=st.binary(min_size=3, max_size=2000), cut=st.integers(1, 100))
def test_a_compressed_body_is_inflated_whatever_its_pieces(
    name: str, data: bytes, cut: int
) -> None:
    encoding, compress = COMPRESSORS[name]
    body = compress(data)
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)]
    assert trio.run(read, pieces, encoding) == data


@pytest.mark.parametrize("name", COMPRESSORS)
async def test_the_limit_is_on_the_inflated_size(name: str) -> None:
    encoding, compress = COMPRESSORS[name]
    assert len(await read([compress(bytes(LIMIT))], encoding)) == LIMIT
    with pytest.raises(RefusedError) as refused:
        await read([compress(bytes(LIMIT + 1))], encoding)
    assert status_of(refused) == 413


@pytest.mark.parametrize("name", COMPRESSORS)
async def test_a_bomb_is_found_out_before_it_goes_off(name: str) -> None:
    encoding, compress = COMPRESSORS[name]
    bomb = compress(bytes(5_000_000))
    budget = BodyBudget(len(bomb) + LIMIT)
    with pytest.raises(RefusedError) as refused:
        await read([bomb[:LIMIT]], encoding, budget)
    assert status_of(refused) == 413
    assert budget.held == 0


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("lost", [1, 4, 9])
async def test_a_compressed_body_that_was_cut_off_is_refused(name: str, lost: int) -> None:
    encoding, compress = COMPRESSORS[name]
    body = compress(b'{"a": 1}\n{"a": 2}\n' * 50)
    with pytest.raises(RefusedError) as refused:
        await read([body[:-lost]], encoding)
    assert status_of(refused) == 422


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
@given(body=st.binary(max_size=300))
def test_any_bytes_are_inflated_or_refused(encoding: str, body: bytes) -> None:
    refused = None
    try:
        trio.run(read, [body], encoding)
    except RefusedError as error:
        refused = error.problem.status
    assert refused in (None, 413, 422)


async def test_a_length_above_the_limit_is_refused_before_a_byte_is_read() -> None:
    with pytest.raises(RefusedError) as refused:
        await read([], length=LIMIT + 1)
    assert status_of(refused) == 413


async def test_a_body_without_length_is_refused_at_the_limit() -> None:
    with pytest.raises(RefusedError) as refused:
        await read([bytes(LIMIT), b"x"])
    assert status_of(refused) == 413


async def test_requests_together_hold_no_more_than_the_budget() -> None:
    budget = BodyBudget(1000, held=900)
    with Holding(budget) as holding:
        holding.take(60)
        with pytest.raises(RefusedError) as refused:
            holding.take(60)
    assert status_of(refused) == 503
    assert refused.value.problem.retry_after is not None
    assert budget.held == 900


async def test_a_client_that_goes_amid_its_body_is_noticed() -> None:
    async def receive() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.disconnect"}

    with Holding(BodyBudget(LIMIT)) as holding, pytest.raises(ClientGoneError):
        await read_body(receive, "identity", LIMIT, None, holding)


@pytest.mark.parametrize("value", [b"br", b"gzip, gzip", b"compress", b"\xff"])
def test_an_encoding_that_is_not_known_is_refused(value: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        encoding_of(value)
    assert status_of(refused) == 415


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "identity"), (b"", "identity"), (b"identity", "identity"), (b"X-GZip", "gzip")],
)
def test_encodings_are_known_in_any_case(value: bytes | None, name: str) -> None:
    assert encoding_of(value) == name
