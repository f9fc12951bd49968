"""What `pipeline check` says of paths, by the newest records."""

from __future__ import annotations

from pathlib import Path

import attrs
import orjson
import pytest

from pipeline.check.newest import Newest, missing_paths
from pipeline.config.load import load
from pipeline.config.model import Config, RecordsConfig
from pipeline.records.formats.json import json_decoder
from pipeline.records.path import Path as RecordPath
from tests.support.records import SOURCE, Raw

CONFIG = """\
[pipeline]
name = "orders"
[kafka]
bootstrap_servers = ["127.0.0.1:9092"]
topics = ["sessions"]
[records]
key = "{key}"
[sink]
table = "public.orders"
primary_key = ["id"]
[sink.columns]
id = "id"
customer = "{customer}"
rare = "zzz"
[[shards]]
name = "db0"
dsn = "postgresql://one/db0"
"""


def config(tmp_path: Path, key: str = "id", customer: str = "customer.name") -> Config:
    path = tmp_path / "orders.toml"
    path.write_text(CONFIG.format(key=key, customer=customer))
    return load(path)


def newest(*documents: object) -> Newest:
    values = [None if each is None else orjson.dumps(each) for each in documents]
    raws = [Raw(offset, None, value) for offset, value in enumerate(values)]
    decode = json_decoder([RecordPath.parse("id")])
    return Newest(decode(SOURCE, raws), {"sessions": 1})


def told(made: Config, found: Newest) -> dict[str, tuple[str, bool]]:
    return {each.key: (each.message, wrong) for each, wrong in missing_paths(made, found)}


RECORDS = newest({"id": 1, "customer": {"name": None}}, {"id": 2, "customer": {"name": "b"}}, None)


def test_a_path_that_no_record_has_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    """It wrote null into every row, without a word."""
    found = told(config(tmp_path, customer="customer.nmae"), RECORDS)
    assert found["sink.columns.customer"] == (
        'none of the 2 newest records has customer.nmae (did you mean "customer.name"?)', False
    )  # fmt: skip


def test_a_field_that_may_be_rare_is_a_warning(tmp_path: Path) -> None:
    assert told(config(tmp_path), RECORDS) == {
        "sink.columns.rare": ("none of the 2 newest records has zzz", False)
    }


def test_an_ordering_key_that_no_record_has_is_a_mistake(tmp_path: Path) -> None:
    """`@key` is the default, and topics without message keys are common."""
    message, wrong = told(config(tmp_path, key="@key"), RECORDS)["records.key"]
    assert message == (
        "none of the 3 newest records has @key: nothing could be applied; name a field of the "
        "value that every record has"
    )
    assert wrong


def test_a_tenant_that_no_record_has_is_a_mistake(tmp_path: Path) -> None:
    made = attrs.evolve(config(tmp_path), records=RecordsConfig(keys=("id",), tenant="idd"))
    assert told(made, RECORDS)["records.tenant"] == (
        'none of the 2 newest records has idd (did you mean "id"?)', True
    )  # fmt: skip


def test_without_records_nothing_is_said(tmp_path: Path) -> None:
    assert told(config(tmp_path), newest()) == {}
    assert told(config(tmp_path), newest(None)) == {}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("$.customer.name", "customer.name"),
        ("$.x[0]", "x"),
        ("items[]", "items"),
        ("items[0].name", "items"),
        ("a.items[*].b[1]", "a.items"),
        ("items[-1:].name", "items"),
        ("a['b']", "a.b"),
        ("$['a']['b']", "a.b"),
        ('a["b"].c', "a.b.c"),
        ("@key.a['b']", "@key.a.b"),
        ("@key.items[0].b", "@key.items"),
        ("a['b.c']", "b.c"),
    ],
)
def test_another_languages_path_is_refused_with_the_right_form(text: str, meant: str) -> None:
    with pytest.raises(ValueError, match="is not a valid path") as raised:
        RecordPath.parse(text)
    assert repr(meant) in str(raised.value)


@pytest.mark.parametrize(
    "text", ["a", "a.b", "a[b]", "tags[", "it's", "@key.a", "@header:a[0]", "a b", "$type"]
)
def test_a_fields_name_may_hold_what_is_no_step_of_another_language(text: str) -> None:
    assert RecordPath.parse(text).text == text
