"""Which record of an idempotency key is applied, decided without a server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.deduplication import deduplication
from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.contracts.store import Claim
from pipeline.postgres.ledger.keys import IdempotencyKeys, Place, Selection
from pipeline.records.formats.json import json_decoder
from pipeline.records.idempotency import key_digest
from pipeline.records.path import Path
from pipeline.records.record import Record
from pipeline.records.rows import Digits, Shape
from tests.support.records import SOURCE, Raw, record

CLAIM = Claim("group", SOURCE, UUID(int=1))
OWN = (CLAIM.topic_id, SOURCE.partition)


def digest(document: Any, tenant: str | None = None, path: str = "key") -> str | None:
    whose = None if tenant is None else Path.parse(tenant)
    return key_digest(Path.parse(path), whose)(record(0, "a", document))


def test_a_whole_number_is_what_it_is_as_text() -> None:
    assert len({digest({"key": value}) for value in (7, 7.0, "7", Digits("7.0"))}) == 1
    assert digest({"key": 7.5}) != digest({"key": 7})


@pytest.mark.parametrize("value", ["", None, [], {}, ["7"], {"a": 1}])
def test_what_is_no_plain_value_is_no_key(value: Any) -> None:
    assert digest({"key": value}) is None
    assert digest({}) is None


def test_a_key_is_its_tenants_own() -> None:
    found = {
        digest({"key": key, "app": app}, "app")
        for key, app in (("1", "a"), ("1", "b"), ("2", "a"), ("a 1", None), ("1", ""), ("1", "1 a"))
    }
    assert len(found) == 6
    assert digest({"key": "1"}, "app") == digest({"key": "1", "app": None}, "app")


def test_the_header_is_read_whatever_bytes_it_has() -> None:
    of = key_digest(Path.parse("@header:idempotency-key"), None)

    def with_header(value: bytes | None) -> str | None:
        made = record(0, "a", {})
        assert isinstance(made.raw, Raw)
        made.raw.headers = [("other", b"x"), ("idempotency-key", value)]
        return of(made)

    values = [b"k", b"\xff", b"\xfe", "ü".encode()]
    assert len({with_header(value) for value in values}) == len(values)
    assert with_header(None) is with_header(b"") is of(record(0, "a", {})) is None


def test_a_row_has_the_fields_that_the_key_is_read_from() -> None:
    paths = (Path.parse("meta.key"), Path.parse("app"))
    decode = json_decoder([Path.parse("id")], Shape(("id", "n")), reads=paths)
    (made,) = decode(SOURCE, [Raw(value=b'{"id": 1, "n": 2, "app": "a", "meta": {"key": "k"}}')])
    of = key_digest(*paths)
    assert of(made) == of(record(0, "a", {"meta": {"key": "k"}, "app": "a"}))


def selected(records: list[tuple[int, str | None]], known: Mapping[str, Place]) -> Selection:
    keys = dict(records)
    chosen = IdempotencyKeys(lambda each: keys[each.offset], lambda *_: None)
    batch = [record(offset, key) for offset, key in records]
    return chosen.select(CLAIM, batch, known)


def offsets(records: Any) -> list[int]:
    return [each.offset for each in records]


def test_the_lowest_offset_of_a_batch_is_applied_wherever_it_stands() -> None:
    found = selected([(5, "k"), (3, "k"), (4, None), (6, "l"), (7, "k")], {})
    assert offsets(found.fresh) == [3, 4, 6]
    assert dict(zip(found.keys, found.offsets, strict=True)) == {"k": 3, "l": 6}
    assert found.repeated == 2


def test_a_known_key_is_applied_for_its_own_record_alone() -> None:
    elsewhere = (UUID(int=2), 0, 3)
    batch: list[tuple[int, str | None]] = [(3, "k"), (5, "k"), (6, "l")]
    assert offsets(selected(batch, {"k": (*OWN, 5)}).fresh) == [5, 6]
    assert offsets(selected(batch, {"k": (*OWN, 9)}).fresh) == [6]
    assert offsets(selected(batch, {"k": elsewhere}).fresh) == [6]
    nothing = selected([(1, "k")], {"k": elsewhere})
    assert (nothing.fresh, nothing.keys, nothing.repeated) == ([], [], 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.sampled_from([None, *"abc"])), unique_by=lambda p: p[0]
    ),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 50)),
)
def test_each_key_has_one_record_at_most_and_each_claim_is_of_it(
    batch: list[tuple[int, str | None]], known: dict[str, int]
) -> None:
    found = selected(batch, {key: (*OWN, offset) for key, offset in known.items()})
    keys = dict(batch)
    of_fresh = [keys[each.offset] for each in found.fresh if keys[each.offset] is not None]
    assert sorted(of_fresh, key=str) == sorted(found.keys)
    assert len(set(found.keys)) == len(found.keys)
    claims = dict(zip(found.keys, found.offsets, strict=True))
    assert claims == {keys[o]: o for o in offsets(found.fresh) if keys[o] is not None}
    assert len(found.fresh) + found.repeated == len(batch)
    for key in {key for _, key in batch if key is not None} - known.keys():
        assert claims[key] == min(offset for offset, own in batch if own == key)


CONFIG = """\
[pipeline]
name = "p"
{pipeline}
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["t"]
[records]
key = "id"
{records}
[sink]
table = "t"
primary_key = "id"
[sink.columns]
id = "id"
[[shards]]
name = "db0"
dsn = "postgresql://u@127.0.0.1/d"
{ingest}
"""


def configured(directory: FilePath, records: str, pipeline: str = "", ingest: str = "") -> Any:
    path = directory / "p.toml"
    path.write_text(CONFIG.format(records=records, pipeline=pipeline, ingest=ingest))
    return load(path)


def test_the_endpoints_header_is_the_key_unless_another_is_named(tmp_path: FilePath) -> None:
    assert deduplication(configured(tmp_path, "")) is None
    found = deduplication(configured(tmp_path, 'dedupe_for = "24h"'))
    assert found is not None
    assert (found.key.text, found.tenant, found.seconds) == (
        "@header:idempotency-key",
        None,
        86_400,
    )
    assert found.reads == ()
    named = 'dedupe_for = "1m"\nidempotency_key = "meta.id"\ntenant = "app"'
    found = deduplication(configured(tmp_path, named))
    assert found is not None
    assert [path.text for path in found.reads] == ["meta.id", "app"]
    ingest = '[ingest]\nlisten = "127.0.0.1:8080"\ntenant = "app"'
    found = deduplication(configured(tmp_path, 'dedupe_for = "24h"', ingest=ingest))
    assert found is not None
    assert found.tenant is not None
    assert found.tenant.text == "app"


@pytest.mark.parametrize(
    ("records", "pipeline", "where"),
    [
        ('idempotency_key = "a"', "", "records.idempotency_key: has no use without"),
        (
            'dedupe_for = "24h"',
            'delivery = "at-least-once"',
            "records.dedupe_for: needs the ledger",
        ),
    ],
)
def test_what_could_not_work_is_refused(
    tmp_path: FilePath, records: str, pipeline: str, where: str
) -> None:
    with pytest.raises(ConfigError, match=where):
        configured(tmp_path, records, pipeline)


def test_other_topics_and_partitions_are_other_places() -> None:
    """The same offset says nothing."""
    batch: list[Record] = [record(3, "a")]
    chosen = IdempotencyKeys(lambda _: "k", lambda *_: None)
    for other in (
        attrs.evolve(CLAIM, topic_id=UUID(int=2)),
        attrs.evolve(CLAIM, source=SOURCE._replace(partition=1)),
    ):
        known = {"k": (other.topic_id, other.source.partition, 3)}
        assert not chosen.select(CLAIM, batch, known).fresh
        assert chosen.select(other, batch, known).fresh == batch
