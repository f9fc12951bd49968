"""A Kafka broker with TLS, SASL and access control lists, for tests of security and rights.

One broker with a listener for each way to connect; all of them lead to the same topics. The
listener ``bootstrap`` (plaintext, without a password) is the test's own: whoever comes there is a
super user. At the others the users of `USERS` log in, and ``app`` may do nothing until it is
allowed to (see `tests.support.acls`)::

    def test_something(secured_kafka):
        secured_kafka.create_topic("t")                              # as the super user
        options = secured_kafka.options("sasl_ssl", "SCRAM-SHA-512", user="app")
        KafkaConsumer("t", **options)                                # kafka-python's names
        toml_lines(options)                                          # the same, under [kafka]
        {**options, "sasl_plain_password": "wrong"}                  # what a test makes of it

Listeners: "ssl", "mutual_ssl" (wants a client's certificate: `options` has one of ``app``),
"expired_ssl", "elsewhere_ssl" (a certificate for another host), "sasl_plaintext", "sasl_ssl".
SASL mechanisms: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512. Fixture: ``secured_kafka``, one a session.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from pipeline.local import Kafka
from pipeline.local.ports import HOST, free_port
from tests.support.brokers import QUICK_JVM
from tests.support.certificates import Authority, Certificate
from tests.support.postgres_servers import server_directory

Options = Mapping[str, str | list[str]]

USERS: Mapping[str, str] = {"admin": "admin-secret", "app": "app-secret"}
"""User → password; ``admin`` is a super user."""

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOLS: Mapping[str, str] = {
    "ssl": "SSL",
    "mutual_ssl": "SSL",
    "expired_ssl": "SSL",
    "elsewhere_ssl": "SSL",
    "sasl_plaintext": "SASL_PLAINTEXT",
    "sasl_ssl": "SASL_SSL",
}
"""Listener → its security protocol."""

LOGINS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


class SecuredKafka(Kafka):
    """The broker. Its certificates are from an authority that clients are to trust."""

    jvm = QUICK_JVM

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory, remove=True)
        self.authority = authority
        self.ports = {listener: free_port() for listener in PROTOCOLS}
        self.client_certificate = authority.issue("kafka-client", "app")
        server = authority.issue("kafka", HOST, "localhost")
        shown = {
            "ssl": server,
            "mutual_ssl": server,
            "sasl_ssl": server,
            "expired_ssl": authority.issue("kafka-expired", HOST, expired=True),
            "elsewhere_ssl": authority.issue("kafka-elsewhere", "elsewhere.invalid"),
        }
        self._settings |= self._listeners() | _access_control() | _passwords()
        for listener, certificate in shown.items():
            self._settings |= _tls(listener, certificate, authority)
        self._settings["listener.name.mutual_ssl.ssl.client.auth"] = "required"

    def start(self, timeout: float = 60.0) -> None:
        """Start the broker; at the first start the users get their SCRAM passwords."""
        super().start(timeout)
        changes = [
            UserScramCredentialUpsertion(user, mechanism, password)
            for user, password in USERS.items()
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
        ]
        for change in changes:  # a user may occur once in a request
            with self.admin() as admin:
                problems = admin.alter_user_scram_credentials([change])
            assert not any(problems.values()), problems

    def options(
        self, listener: str, mechanism: str | None = None, user: str = "app"
    ) -> dict[str, str | list[str]]:
        """The right options of a client at a listener, under kafka-python's names."""
        protocol = PROTOCOLS[listener]
        chosen: dict[str, str | list[str]] = {
            "bootstrap_servers": [f"{HOST}:{self.ports[listener]}"],
            "security_protocol": protocol,
        }
        if protocol.endswith("SSL"):
            chosen["ssl_cafile"] = str(self.authority.ca)
        if listener == "mutual_ssl":
            chosen["ssl_certfile"] = str(self.client_certificate.chain)
            chosen["ssl_keyfile"] = str(self.client_certificate.key)
        if protocol.startswith("SASL"):
            chosen["sasl_mechanism"] = mechanism or "SCRAM-SHA-512"
            chosen["sasl_plain_username"] = user
            chosen["sasl_plain_password"] = USERS[user]
        return chosen

    def _listeners(self) -> dict[str, str]:
        places = {"PLAINTEXT": self.port} | {name.upper(): p for name, p in self.ports.items()}
        all_of_them = ",".join(f"{name}://{HOST}:{port}" for name, port in places.items())
        protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT"}
        protocols |= {name.upper(): protocol for name, protocol in PROTOCOLS.items()}
        return {
            "listeners": f"{all_of_them},CONTROLLER://{HOST}:{self.controller_port}",
            "advertised.listeners": all_of_them,
            "listener.security.protocol.map": ",".join(
                f"{name}:{protocol}" for name, protocol in protocols.items()
            ),
            "inter.broker.listener.name": "PLAINTEXT",
        }


def _access_control() -> dict[str, str]:
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin",  # ANONYMOUS: who comes to the plaintext listener
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/,DEFAULT",
    }


def _passwords() -> dict[str, str]:
    settings = {}
    accounts = " ".join(f'user_{user}="{password}"' for user, password in USERS.items())
    for listener in ("sasl_plaintext", "sasl_ssl"):
        prefix = f"listener.name.{listener}"
        settings[f"{prefix}.sasl.enabled.mechanisms"] = ",".join(MECHANISMS)
        for mechanism in MECHANISMS:
            login = LOGINS[mechanism.partition("-")[0]]
            known = f" {accounts}" if mechanism == "PLAIN" else ""
            name = f"{prefix}.{mechanism.lower()}.sasl.jaas.config"
            settings[name] = f"{login} required{known};"
    return settings


def _tls(listener: str, certificate: Certificate, authority: Authority) -> dict[str, str]:
    prefix = f"listener.name.{listener}.ssl"
    return {
        f"{prefix}.keystore.type": "PEM",
        f"{prefix}.keystore.location": str(certificate.both),
        f"{prefix}.truststore.type": "PEM",
        f"{prefix}.truststore.location": str(authority.ca),
    }


def toml_lines(options: Options, leave_out: Sequence[str] = ("bootstrap_servers",)) -> str:
    """Options as lines of a configuration's section [kafka]; without what a `Job` writes itself."""
    kept = {name: value for name, value in options.items() if name not in leave_out}
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in kept.items())


@contextmanager
def secured_broker(authority: Authority) -> Iterator[SecuredKafka]:
    """A running broker for as long as the block lasts (about 6 s to start)."""
    with server_directory() as place, ExitStack() as stack:
        broker = SecuredKafka(place / "kafka", authority)
        stack.callback(broker.close)
        broker.start()
        yield broker


@pytest.fixture(scope="session")
def secured_kafka(authority: Authority) -> Iterator[SecuredKafka]:
    """The secured broker, one for the session. Who changes rights takes them back."""
    with secured_broker(authority) as broker:
        yield broker
