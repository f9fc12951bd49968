"""Who is refused by Kafka is told why, by every command in the same words."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.local.ports import HOST
from pipeline.local.postgres import psql
from tests.support import accounts
from tests.support.acls import Acls
from tests.support.certificates import Authority
from tests.support.commands import Outcome, command
from tests.support.secured_kafka import Options, SecuredKafka, toml_lines
from tests.support.servers import DatabaseFactory, unique_name

pytestmark = pytest.mark.real

COMMANDS = (("check",), ("lag",), ("dlq", "list"), ("run",))

CONFIG = """\
[pipeline]
name = "{name}"

[kafka]
bootstrap_servers = {servers}
topics = ["{name}"]
{options}

[records]
key = "id"

{sink}

[[shards]]
name = "db0"
dsn = "{dsn}"

[errors]
dead_letter_topic = "{name}.dlq"
"""


@pytest.fixture
def topic(secured_kafka: SecuredKafka, request: pytest.FixtureRequest) -> Iterator[str]:
    """A topic with its dead letter topic, on which nobody has a right yet."""
    name = unique_name(request)
    for each in (name, f"{name}.dlq"):
        secured_kafka.create_topic(each)
    yield name
    for each in (name, f"{name}.dlq"):
        secured_kafka.delete_topic(each)


@pytest.fixture
def dsn(database: DatabaseFactory) -> str:
    made = database()
    psql(made, accounts.TABLE)
    return made


def written(directory: Path, name: str, dsn: str, options: Options) -> Path:
    path = directory / "pipeline.toml"
    servers = str(options["bootstrap_servers"]).replace("'", '"')
    path.write_text(
        CONFIG.format(
            name=name, servers=servers, options=toml_lines(options), sink=accounts.SINK, dsn=dsn
        )
    )
    return path


def told_by_all(config: Path, reason: str) -> list[Outcome]:
    """Every command ends with exit code 2, and says the reason in the same sentence."""
    done = [command(*name, "--config", config) for name in COMMANDS]
    for outcome in done:
        assert outcome.code == 2, outcome
        assert "Traceback" not in outcome.errors
    sentences = {
        re.findall(rf"Kafka at \S+ can't be used: .*{reason}.*", o.errors)[0] for o in done
    }
    assert len(sentences) == 1, sentences
    return done


WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    "password": (
        "sasl_plaintext",
        {"sasl_plain_password": "wrong-secret"},
        "user or password of app are refused, sasl_mechanism SCRAM-SHA-512",
    ),
    "user": (
        "sasl_ssl",
        {"sasl_plain_username": "nobody", "sasl_mechanism": "PLAIN"},
        "user or password of nobody are refused, sasl_mechanism PLAIN",
    ),
    "mechanism": (
        "sasl_plaintext",
        {"sasl_mechanism": "OAUTHBEARER"},
        "it does not take sasl_mechanism OAUTHBEARER .it takes PLAIN, SCRAM-SHA-256, SCRAM",
    ),
    "plaintext at TLS": ("ssl", {"security_protocol": "PLAINTEXT"}, "it speaks TLS at that port"),
    "TLS at plaintext": ("plain", {"security_protocol": "SSL"}, "it does not speak TLS at that"),
    "no SASL at SASL": (
        "sasl_plaintext",
        {"security_protocol": "PLAINTEXT"},
        "the port is not one for PLAINTEXT",
    ),
    "SASL at none": (
        "ssl",
        {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "app",
            "sasl_plain_password": "wrong-secret",
        },
        "it takes no user and password at that port",
    ),
    "expired": ("expired_ssl", {}, "its certificate is not valid .certificate has expired"),
    "another host": ("elsewhere_ssl", {}, "its certificate is for another host"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_who_is_refused_is_told_why_by_every_command(
    mistake: str, secured_kafka: SecuredKafka, topic: str, dsn: str, tmp_path: Path
) -> None:
    listener, changed, reason = WRONG[mistake]
    if listener == "plain":
        options: dict[str, str | list[str]] = {"bootstrap_servers": [secured_kafka.bootstrap]}
    else:
        options = secured_kafka.options(listener)
    options |= changed
    if not str(options.get("security_protocol", "")).startswith("SASL"):
        options = {name: given for name, given in options.items() if not name.startswith("sasl")}
    if options.get("security_protocol") == "PLAINTEXT":
        options = {name: given for name, given in options.items() if not name.startswith("ssl")}
    done = told_by_all(written(tmp_path, topic, dsn, options), reason)
    assert not any("secret" in outcome.errors + outcome.output for outcome in done)


def test_a_foreign_authority_is_told_by_the_option_to_mend(
    secured_kafka: SecuredKafka, foreign_authority: Authority, topic: str, dsn: str, tmp_path: Path
) -> None:
    options = secured_kafka.options("ssl") | {"ssl_cafile": str(foreign_authority.ca)}
    config = written(tmp_path, topic, dsn, options)
    told_by_all(config, "its certificate is not trusted .*: ssl_cafile must hold the authority's")


def test_a_certificate_that_is_wanted_is_told(
    secured_kafka: SecuredKafka, topic: str, dsn: str, tmp_path: Path
) -> None:
    options = secured_kafka.options("mutual_ssl")
    del options["ssl_certfile"], options["ssl_keyfile"]
    told_by_all(written(tmp_path, topic, dsn, options), "mend ssl_certfile and ssl_keyfile")


def test_rights_that_are_missing_are_told_all_at_once(
    secured_kafka: SecuredKafka, acls: Acls, topic: str, dsn: str, tmp_path: Path
) -> None:
    config = written(tmp_path, topic, dsn, secured_kafka.options("sasl_plaintext"))
    on_topic = f"no permission: grant Read on topic {topic} to the user of [kafka]"
    on_group = f"no permission: grant Read on group {topic} to the user of [kafka]"
    on_letters = f"no permission: grant Write on topic {topic}.dlq to the user of [kafka]"
    checked = command("check", "--config", config)
    assert checked.code == 2
    assert all(right in checked.errors for right in (on_topic, on_group, on_letters))
    ran = command("run", "--config", config)
    assert ran.code == 2
    assert on_topic in ran.errors
    assert on_group in ran.errors
    acls.grant("app", "READ", topic=topic)
    acls.grant("app", "READ", group=topic)
    assert on_letters in command("run", "--config", config).errors
    acls.grant("app", "DESCRIBE", topic=f"{topic}.dlq")
    checked = command("check", "--config", config)
    assert [line for line in checked.errors.splitlines() if line.startswith(str(config))] == [
        f"{config}: errors.dead_letter_topic: {on_letters}"
    ]
    acls.grant("app", "WRITE", topic=f"{topic}.dlq")
    checked = command("check", "--config", config)
    assert checked.code == 0, checked
    on_reading = f"can't read them: no permission: grant Read on topic {topic}.dlq to the user of"
    assert on_reading in " ".join(checked.output.split())
    assert command("lag", "--config", config).code == 0


def test_a_right_to_look_only_is_not_enough_and_lag_names_the_topic(
    secured_kafka: SecuredKafka, acls: Acls, topic: str, dsn: str, tmp_path: Path
) -> None:
    config = written(tmp_path, topic, dsn, secured_kafka.options("sasl_plaintext"))
    acls.grant("app", "DESCRIBE", topic=topic)
    acls.grant("app", "DESCRIBE", group=topic)
    told = command("check", "--config", config).errors
    assert f"kafka.topics: no permission: grant Read on topic {topic} " in told
    assert f"kafka.group_id: no permission: grant Read on group {topic} " in told
    acls.revoke("app")
    lag = command("lag", "--config", config)
    assert lag.code == 2
    assert f"no permission: grant Read on topic {topic} to the user of [kafka]" in lag.errors


def test_a_server_that_hangs_spoils_no_command_and_is_named(
    secured_kafka: SecuredKafka, dsn: str, topic: str, tmp_path: Path
) -> None:
    """kafka-python took one at random, and gave it all the time that it had."""
    with socket.create_server((HOST, 0), backlog=50) as silent:
        hung = f"{HOST}:{silent.getsockname()[1]}"
        options: Options = {"bootstrap_servers": [hung, secured_kafka.bootstrap]}
        config = written(tmp_path, topic, dsn, options)
        for name in (("check",), ("lag",), ("dlq", "list")):
            outcome = command(*name, "--config", config)
            assert outcome.code == 0, outcome
            said = " ".join((outcome.errors + outcome.output).split())
            assert f"{hung} can't be used: no answer within 3 s" in said
