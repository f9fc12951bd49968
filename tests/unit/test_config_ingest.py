"""[ingest]: its values, and how it goes with [kafka] and [records]."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.ingest import placement
from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config, IngestConfig
from tests.support.configurations import document

LISTEN = 'listen = "127.0.0.1:8080"\n'
TOKEN = "a-token-of-some-length"


def read(
    tmp_path: Path, lines: str, records: str = 'key = "id"\ntenant = "app"', kafka: str = ""
) -> Config:
    path = tmp_path / "p.toml"
    more = f"[records]\n{records}\n[ingest]\n{LISTEN}{lines}\n"
    path.write_text(document(kafka=kafka, more=more))
    return load(path)


def mistakes(tmp_path: Path, lines: str, **tables: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, lines, **tables)
    return {mistake.key: mistake.message for mistake in error.value.mistakes}


def ingest(config: Config) -> IngestConfig:
    assert config.ingest is not None
    return config.ingest


def test_nothing_but_listen_is_needed_where_records_has_key_and_tenant(tmp_path: Path) -> None:
    config = read(tmp_path, "")
    assert ingest(config) == IngestConfig(("127.0.0.1", 8080))
    place = placement(config)
    assert (place.topic, place.tenant.text) == ("t", "app")
    assert [path.text for path in place.required] == ["app", "id"]
    assert place.idempotency is None


def test_every_value_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", TOKEN)
    tokens = tmp_path / "tokens"
    tokens.write_text("# for partners\none-more-of-them-0001\n\none-more-of-them-0002\n")
    lines = f"""
topic = "t"
key = "id"
tenant = "app"
idempotency_key = "meta.key"
schema = "s.json"
max_body_bytes = 5000
max_pending = 7
rate_per_tenant = "120/m"
tokens = ["${{TOKEN}}", "${{file:{tokens}}}"]
tls_cert = "c.pem"
tls_key = "k.pem"
cors_origins = ["https://a.example", "http://localhost:3000"]
"""
    config = read(tmp_path, lines)
    found = ingest(config)
    assert found.rate_per_tenant == 2.0
    assert found.tokens == (TOKEN, "one-more-of-them-0001", "one-more-of-them-0002")
    assert (found.max_body_bytes, found.max_pending) == (5000, 7)
    assert found.cors_origins == ("https://a.example", "http://localhost:3000")
    place = placement(config)
    assert place.idempotency is not None
    assert place.idempotency.text == "meta.key"
    assert TOKEN not in repr(config)


@pytest.mark.parametrize(
    ("lines", "key", "message"),
    [
        ('rate_per_tenant = "100"', "ingest.rate_per_tenant", 'such as "100/s"'),
        ('rate_per_tenant = "0/s"', "ingest.rate_per_tenant", "a rate above 0"),
        ("rate_per_tenant = 100", "ingest.rate_per_tenant", "a rate above 0"),
        ('cors_origins = "a.example"', "ingest.cors_origins", "https://app.example.com"),
        ('cors_origins = "https://a.example/path"', "ingest.cors_origins", "an origin"),
        ("max_pending = 0", "ingest.max_pending", "above 0"),
        ('tokens = ""', "ingest.tokens", "holds no token"),
        ('tokens = "short"', "ingest.tokens", "fewer than 16"),
        ('tokens = "topsecret topsecret"', "ingest.tokens", "can't be sent"),
        (f'tokens = ["{TOKEN}", "{TOKEN}"]', "ingest.tokens", "there twice"),
        ("tokens = 7", "ingest.tokens", "a number"),
        ('tls_cert = "c.pem"', "ingest.tls_key", "ingest.tls_cert needs it"),
        ('tls_key = "k.pem"', "ingest.tls_cert", "ingest.tls_key needs it"),
        ('topic = "tt"', "ingest.topic", 'did you mean "t"'),
        ('key = "@key"', "ingest.key", "no path into the record"),
        ('idempotency_key = "@header:x"', "ingest.idempotency_key", "no path into the record"),
        ('tenat = "a"', "ingest.tenat", 'did you mean "tenant"'),
        ('tenant = "other"', "ingest.tenant", 'records.tenant ("app") differ'),
        ('key = "other"', "ingest.key", "is not what orders the records"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_write(
    tmp_path: Path, lines: str, key: str, message: str
) -> None:
    found = mistakes(tmp_path, lines)
    assert list(found) == [key]
    assert message in found[key]
    assert "topsecret" not in found[key]
    assert TOKEN not in found[key]


def test_of_several_topics_one_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    text = document(more=f'[records]\nkey = "id"\n[ingest]\n{LISTEN}')
    path.write_text(text.replace('topics = "t"', 'topics = ["t", "u"]'))
    with pytest.raises(ConfigError, match=r'ingest.topic: missing: expected one of "t", "u"'):
        load(path)


@pytest.mark.parametrize(
    ("records", "lines", "tenant", "required"),
    [
        ('key = "id"', "", "id", ["id"]),
        ('key = "@key"', 'key = "user.id"', "user.id", ["user.id"]),
        ('key = "@key"\ntenant = "app"', "", "app", ["app"]),
        ('key = "@key"\ntenant = "@key"', 'tenant = "app"', "app", ["app"]),
        ('key = ["a", "b"]', 'tenant = "app"', "app", ["app", "a", "b"]),
        ('key = "id"', 'tenant = "app"\nkey = "id"', "app", ["app", "id"]),
    ],
)
def test_the_message_key_is_the_tenant_or_the_key(
    tmp_path: Path, records: str, lines: str, tenant: str, required: list[str]
) -> None:
    place = placement(read(tmp_path, lines, records))
    assert place.tenant.text == tenant
    assert [path.text for path in place.required] == required


@pytest.mark.parametrize(
    ("records", "lines", "key", "message"),
    [
        ('key = "@key"', "", "ingest.key", "what its message key is to be"),
        (
            'key = "@key"',
            'key = "id"\ntenant = "app"',
            "records.key",
            'orders by tenant: expected "id"',
        ),
        ('key = "@header:x"', "", "records.key", "writes no record that has"),
        ('key = "@key.id"', "", "records.key", "writes no record that has"),
        ('key = ["a", "b"]', "", "ingest.tenant", "with several keys"),
    ],
)
def test_what_does_not_go_with_records_is_told(
    tmp_path: Path, records: str, lines: str, key: str, message: str
) -> None:
    found = mistakes(tmp_path, lines, records=records)
    assert list(found) == [key]
    assert message in found[key]
