"""The secured Kafka and Postgres: the right client gets in, and each wrong one does not."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import asyncpg
import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from tests.support.acls import Acls
from tests.support.certificates import Authority
from tests.support.secured_kafka import MECHANISMS, SecuredKafka, toml_lines
from tests.support.secured_postgres import NewTlsPostgres, TlsPostgres

pytestmark = pytest.mark.real


def who_answers(options: dict[str, Any]) -> int:
    """Connect as a client; how many brokers answer. Raises KafkaError if none lets us in."""
    with KafkaAdminClient(**options, bootstrap_timeout_ms=1500) as admin:
        return len(admin.describe_cluster()["brokers"])


@pytest.mark.parametrize("listener", ["sasl_plaintext", "sasl_ssl"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_right_password(secured_kafka: SecuredKafka, listener: str, mechanism: str) -> None:
    options = secured_kafka.options(listener, mechanism)
    assert who_answers(options) == 1


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password(secured_kafka: SecuredKafka, mechanism: str) -> None:
    options = secured_kafka.options("sasl_plaintext", mechanism)
    with pytest.raises(KafkaError):
        who_answers({**options, "sasl_plain_password": "wrong"})


@pytest.mark.parametrize("listener", ["ssl", "mutual_ssl"])
def test_the_right_certificate(secured_kafka: SecuredKafka, listener: str) -> None:
    assert who_answers(secured_kafka.options(listener)) == 1


@pytest.mark.parametrize("listener", ["expired_ssl", "elsewhere_ssl"])
def test_a_bad_certificate(secured_kafka: SecuredKafka, listener: str) -> None:
    with pytest.raises(KafkaError):
        who_answers(secured_kafka.options(listener))


def test_a_foreign_authority(secured_kafka: SecuredKafka, foreign_authority: Authority) -> None:
    options = secured_kafka.options("ssl")
    with pytest.raises(KafkaError):
        who_answers({**options, "ssl_cafile": str(foreign_authority.ca)})


def test_no_certificate_where_one_is_wanted(secured_kafka: SecuredKafka) -> None:
    options = secured_kafka.options("mutual_ssl")
    del options["ssl_certfile"], options["ssl_keyfile"]
    with pytest.raises(KafkaError):
        who_answers(options)


def test_rights_come_and_go(secured_kafka: SecuredKafka, acls: Acls) -> None:
    secured_kafka.create_topic("rights")
    try:
        options = secured_kafka.options("sasl_plaintext", "PLAIN")
        producer = KafkaProducer(**options, enable_idempotence=False, max_block_ms=3000)
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send("rights", b"1").get(timeout=5)
        acls.grant("app", "WRITE", "DESCRIBE", topic="rights")
        assert producer.send("rights", b"1").get(timeout=5).offset == 0
        acls.deny("app", "WRITE", topic="rights")
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send("rights", b"2").get(timeout=5)
        acls.revoke("app")
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send("rights", b"3").get(timeout=5)
        producer.close(timeout=1)
    finally:
        secured_kafka.delete_topic("rights")


def test_the_certificates_name_is_the_user(secured_kafka: SecuredKafka, acls: Acls) -> None:
    secured_kafka.create_topic("by-name")
    acls.grant("app", "ALL", topic="by-name")
    options = secured_kafka.options("mutual_ssl")
    producer = KafkaProducer(**options, enable_idempotence=False, max_block_ms=3000)
    assert producer.send("by-name", b"1").get(timeout=5).offset == 0
    producer.close(timeout=1)
    secured_kafka.delete_topic("by-name")


def test_options_as_configuration(secured_kafka: SecuredKafka) -> None:
    lines = toml_lines(secured_kafka.options("sasl_ssl", "PLAIN"))
    assert 'security_protocol = "SASL_SSL"' in lines
    assert "bootstrap_servers" not in lines


def user_at(dsn: str) -> str:
    """Connect as a client and ask who we are, and whether TLS is used."""

    async def ask() -> str:
        connection = await asyncpg.connect(dsn)
        question = "select usename || ' ' || ssl from pg_stat_ssl join pg_stat_activity using (pid)"
        told: str = await connection.fetchval(f"{question} where pid = pg_backend_pid()")
        await connection.close()
        return told

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(ask())


def test_postgres_with_tls(tls_postgres: TlsPostgres) -> None:
    assert user_at(tls_postgres.tls_dsn()) == "app true"
    assert tls_postgres.sql("select 1") == "1"


def test_postgres_refuses_others(tls_postgres: TlsPostgres, foreign_authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        user_at(tls_postgres.tls_dsn(ca=foreign_authority.ca))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
        user_at(tls_postgres.tls_dsn(sslmode="disable"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        user_at(tls_postgres.tls_dsn(password="wrong"))


def test_postgres_with_bad_certificates(
    authority: Authority, new_tls_postgres: NewTlsPostgres
) -> None:
    expired = new_tls_postgres(authority.issue("pg-expired", "127.0.0.1", expired=True))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        user_at(expired.tls_dsn())
    elsewhere = new_tls_postgres(authority.issue("pg-elsewhere", "elsewhere.invalid"))
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        user_at(elsewhere.tls_dsn())
    assert user_at(elsewhere.tls_dsn(sslmode="verify-ca")) == "app true"
