"""Whatever is sent: an answer that the document has, and exactly what was accepted is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.receipts import decode
from tests.support.ingest import JSON, NDJSON, StubWriter, make_client
from tests.support.replies import Reply

REFUSALS = {401, 413, 415, 422, 429, 503}
LIMIT = 1_000_000

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)
GOOD = st.fixed_dictionaries({"app": st.sampled_from(["a", "b", "ö"])}, optional={"n": SCALARS})
RECORDS = st.fixed_dictionaries({"app": st.text(max_size=5) | VALUES}, optional={"n": VALUES})
"""Some are what they must be, most are not quite."""

TEXTS = (GOOD | RECORDS | VALUES).map(lambda value: json.dumps(value).encode())
"""With NaN and half surrogates among them, which Python writes and JSON has not."""

DIRT = st.sampled_from(
    [b"", b"\n", b"\r\n", b" ", b"\x00", b"\xff\xfe", b"{", b"]", b'{"app":"a","app":"b"}', b"1e999",
     b'"\xed\xa0\x80"', b"[" * 2000, b'{"app":' * 600, b"\xef\xbb\xbf{}"]
)  # fmt: skip
LISTS = st.lists(TEXTS, max_size=8) | st.lists(GOOD.map(lambda value: json.dumps(value).encode()))
BODIES = st.one_of(
    st.binary(max_size=200),
    TEXTS,
    LISTS.map(b"\n".join),
    st.lists(TEXTS | DIRT | st.binary(max_size=20), max_size=8).map(b"\n".join),
    LISTS.map(lambda texts: b"[" + b",".join(texts) + b"]"),
)
USUAL = st.sampled_from([JSON, NDJSON])
HEADERS = USUAL | st.fixed_dictionaries(
    {
        "content-type": st.sampled_from(
            ["application/json", "application/x-ndjson", "text/plain", ""]
        )
    },
    optional={
        "content-encoding": st.sampled_from(["gzip", "deflate", "zstd", "identity", "br"]),
        "idempotency-key": st.text(st.characters(codec="latin-1"), max_size=10),
        "prefer": st.sampled_from(["wait=1", "wait=-1", "wait=1e9", "wait", "respond-async"]),
    },
)


def places(reply: Reply) -> list[tuple[int, int]]:
    """Where an answer says that its accepted records are."""
    if reply.status not in (202, 207):
        return [
            place_of(result) for result in reply.json.get("results", ()) if result["status"] == 202
        ]
    if "receipt" in reply.json:
        return [place_of(reply.json)]
    return [place_of(result) for result in reply.json["results"] if result["status"] == 202]


def place_of(result: dict[str, Any]) -> tuple[int, int]:
    receipt = decode(result["receipt"])
    return receipt.partition, receipt.offset


writer = StubWriter()
client = make_client(writer)


@given(body=BODIES, headers=HEADERS, cut=st.integers(1, 50))
def test_any_body_is_refused_or_written_exactly_as_the_answer_says(
    body: bytes, headers: dict[str, str], cut: int
) -> None:
    writer.log = {partition: [] for partition in writer.log}
    encoded = {name: value.encode("latin-1").decode("latin-1") for name, value in headers.items()}
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)] or [b""]
    reply = trio.run(client.request, "POST", "/v1/records", pieces, encoded)
    assert reply.status in REFUSALS | {202, 207}
    told = places(reply)
    assert len(set(told)) == len(told), "no two records have one receipt"
    assert sorted(told) == sorted(
        (partition, offset) for partition, log in writer.log.items() for offset in range(len(log))
    )
    for key, value, _ in writer.messages:
        record = json.loads(value or b"")
        assert str(record["app"]).encode() == key or isinstance(record["app"], float)
        assert value in body, "as it was sent, every digit of it"


@pytest.mark.parametrize("kind", [{}, NDJSON])
@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"a":' * 100_000, b'{"app":"a","x":' + b"[" * 400_000]
)
async def test_what_is_nested_without_end_is_refused(text: bytes, kind: dict[str, str]) -> None:
    writer = StubWriter()
    reply = await make_client(writer).post(text, kind)
    assert reply.status == 422
    assert not writer.messages


async def test_a_record_of_as_many_keys_as_its_size_allows_is_taken_and_one_more_is_too_large() -> (
    None
):
    """A million keys don't fit: some 80,000 do."""
    writer = StubWriter()
    client = make_client(writer, max_body_bytes=LIMIT)
    keys = b",".join(b'"k%d":1' % number for number in range(1_000_000))
    most = keys[: keys.rindex(b",", 0, LIMIT - 20)]
    assert (await client.post(b'{"app":"a",' + most + b"}")).status == 202
    assert (await client.post(b'{"app":"a",' + keys + b"}")).status == 413
    assert len(writer.messages) == 1
