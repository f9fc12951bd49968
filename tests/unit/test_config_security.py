"""How Kafka is reached: a word that is not known never means plaintext."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
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
    assert mistakes(tmp_path, whole + '\nssl_cafile = "ca.pem"') == {}
