"""How Kafka is reached: a word that is not known never means plaintext."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from tests.support.certificates import Authority, Certificate
from tests.support.configurations import document

SASL = 'security_protocol = "SASL_SSL"\n'


def mistakes(tmp_path: Path, kafka: str) -> dict[str, str]:
    """The mistakes in a configuration with these lines in [kafka], by key."""
    path = tmp_path / "pipeline.toml"
    path.write_text(document(kafka=kafka))
    try:
        load(path)
    except ConfigError as error:
        return {mistake.key: mistake.message for mistake in error.mistakes}
    return {}


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"])
def test_a_file_that_a_dsn_names_is_looked_at_first(tmp_path: Path, name: str) -> None:
    """asyncpg says that there is no such file, and not which."""
    path, there = tmp_path / "pipeline.toml", tmp_path / "there.pem"
    there.touch()
    path.write_text(document().replace('/app"', f'/app?{name}={there}"'))
    load(path)
    path.write_text(document().replace('/app"', f'/app?{name}={tmp_path}/nope.pem"'))
    with pytest.raises(ConfigError, match=f"dsn: {name} .*nope.pem: can't be read: No such file"):
        load(path)


def test_a_file_of_passwords_is_looked_at_first(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(document(shard=f'passfile = "{tmp_path}/nope"'))
    with pytest.raises(ConfigError, match=r"shards\[db0\].passfile: .*/nope: can't be read"):
        load(path)


@pytest.mark.parametrize("word", ["ssl", "TLS", "SASL_TLS", "SASL_SLL", "SASL_PLAIN", "plaintext"])
def test_a_protocol_that_is_not_known_is_a_mistake(tmp_path: Path, word: str) -> None:
    """kafka-python took any of them for PLAINTEXT."""
    found = mistakes(tmp_path, f'security_protocol = "{word}"')
    assert "one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL" in found["kafka.security_protocol"]


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('isolation_level = "read_comitted"', "isolation_level", 'mean "read_committed"?'),
        ('auto_offset_reset = "newest"', "auto_offset_reset", "one of earliest, latest, none"),
        (SASL + 'sasl_mechanism = "PLAN"', "sasl_mechanism", 'mean "PLAIN"?'),
        (SASL, "sasl_mechanism", 'missing: security_protocol "SASL_SSL" needs it'),
        ('ssl_cafile = "ca.pem"', "ssl_cafile", 'security_protocol "PLAINTEXT" does not use it'),
        ('sasl_mechanism = "PLAIN"', "sasl_mechanism", "has no effect"),
        (
            SASL + 'sasl_mechanism = "SCRAM-SHA-256"\nsasl_plain_username = "u"',
            "sasl_plain_password",
            'missing: sasl_mechanism "SCRAM-SHA-256" needs it',
        ),
        ("ssl_password = 912345678", "ssl_password", "expected a string, not a number"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, line: str, key: str, message: str) -> None:
    assert message in mistakes(tmp_path, line)[f"kafka.{key}"]


def test_what_goes_together_is_no_mistake(tmp_path: Path) -> None:
    whole = SASL + 'sasl_mechanism = "PLAIN"\nsasl_plain_username = "u"\nsasl_plain_password = "p"'
    assert mistakes(tmp_path, whole) == {}


def issued(tmp_path: Path, **options: Any) -> Certificate:
    return Authority(tmp_path, "unit").issue("client", "app", **options)


def ssl_lines(**options: str | Path) -> str:
    lines = [f'{name} = "{value}"' for name, value in options.items()]
    return "\n".join(['security_protocol = "SSL"', *lines])


def test_tls_files_that_serve_are_no_mistake(tmp_path: Path) -> None:
    made = issued(tmp_path, passphrase="open")
    lines = ssl_lines(
        ssl_cafile=tmp_path / "ca.pem",
        ssl_certfile=made.chain,
        ssl_keyfile=made.key,
        ssl_password="open",
    )
    assert mistakes(tmp_path, lines) == {}
    assert mistakes(tmp_path, ssl_lines(ssl_certfile=issued(tmp_path).both)) == {}


def test_a_tls_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """kafka-python says that no such file is there, and not which."""
    names = {f"ssl_{each}": f"nope-{each}.pem" for each in ("cafile", "certfile", "keyfile")}
    found = mistakes(tmp_path, ssl_lines(**names))
    assert found == {
        f"kafka.{name}": f"{file}: can't be read: No such file or directory"
        for name, file in names.items()
    }


def test_a_tls_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    made, other = issued(tmp_path), tmp_path / "other.pem"
    other.write_text("no PEM")
    assert mistakes(tmp_path, ssl_lines(ssl_cafile=other)) == {
        "kafka.ssl_cafile": f"{other}: holds no certificate in the form PEM"
    }
    assert mistakes(tmp_path, ssl_lines(ssl_certfile=other, ssl_keyfile=made.key)) == {
        "kafka.ssl_certfile": f"{other}: holds no certificate in the form PEM"
    }
    assert mistakes(tmp_path, ssl_lines(ssl_certfile=made.chain, ssl_keyfile=other)) == {
        "kafka.ssl_keyfile": f"{other}: holds no private key in the form PEM"
    }
    assert "holds no private key" in mistakes(tmp_path, ssl_lines(ssl_certfile=made.chain))[
        "kafka.ssl_keyfile"
    ]  # fmt: skip


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    made = issued(tmp_path)
    other = Authority(tmp_path, "unit").issue("other", "other")
    found = mistakes(tmp_path, ssl_lines(ssl_certfile=made.chain, ssl_keyfile=other.key))
    assert found == {"kafka.ssl_keyfile": f"{other.key}: is not the key of {made.chain}"}


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "missing: the key in"), ({"ssl_password": "wrong"}, "does not open the key in")],
)
def test_a_passphrase_is_asked_for_on_no_terminal(
    tmp_path: Path, given: dict[str, str], message: str
) -> None:
    made = issued(tmp_path, passphrase="open")
    lines = ssl_lines(ssl_certfile=made.chain, ssl_keyfile=made.key, **given)
    found = mistakes(tmp_path, lines)
    assert list(found) == ["kafka.ssl_password"]
    assert message in found["kafka.ssl_password"]
    assert "wrong" not in found["kafka.ssl_password"]
