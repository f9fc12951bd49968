"""Values from outside: the environment, with defaults and as numbers, and files of secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config
from tests.support.configurations import DSN, document

Loader = Callable[[str], Config]


@pytest.fixture
def loaded(tmp_path: Path) -> Loader:
    def read(text: str) -> Config:
        path = tmp_path / "pipeline.toml"
        path.write_text(text)
        return load(path)

    return read


def mistake(loaded: Loader, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(text)
    (only,) = caught.value.mistakes
    return f"{only.key}: {only.message}"


def test_numbers_come_from_the_environment(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"N": "5", "S": "1.5", "CHECK": "false"}.items():
        monkeypatch.setenv(name, value)
    config = loaded(
        document(
            shard='connections = "${N}"',
            kafka='session_timeout_ms = "${N}0000"\ncheck_crcs = "${CHECK}"',
            more='[limits]\ndrain_deadline = "${S}"\nlock_timeout = "${N}s"',
        )
    )
    assert config.shards[0].connections == 5
    assert config.kafka.options == {"session_timeout_ms": 50000, "check_crcs": False}
    assert (config.limits.drain_deadline, config.limits.lock_timeout) == (1.5, 5.0)


def test_a_number_as_text_in_the_file_stays_a_mistake(loaded: Loader) -> None:
    text = mistake(loaded, document(more='[limits]\nmax_batch = "5"'))
    assert text == 'limits.max_batch: expected a whole number above 0, not "5"'


@pytest.mark.parametrize("value", ["x", "0", "-1", "1.5", "true", "007", "1e9"])
def test_what_is_no_count_is_a_mistake_from_the_environment_too(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("N", value)
    text = mistake(loaded, document(more='[limits]\nmax_batch = "${N}"'))
    assert text == f'limits.max_batch: expected a whole number above 0, not "{value}"'


@pytest.mark.parametrize(("value", "expected"), [(None, "b"), ("", "b"), ("x", "x")])
def test_a_default_stands_in_for_a_variable(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
) -> None:
    monkeypatch.delenv("A", raising=False)
    monkeypatch.setenv("B", "b")
    if value is not None:
        monkeypatch.setenv("A", value)
    for written in ("${A:-b}", "${A:-${B}}"):
        config = loaded(document(more=f'[errors]\ndead_letter_topic = "t-{written}"'))
        assert config.errors.dead_letter_topic == f"t-{expected}"


def test_what_is_not_set_is_named(loaded: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A", raising=False)
    monkeypatch.delenv("B", raising=False)
    text = mistake(loaded, document(more='[errors]\ndead_letter_topic = "${A}${B}"'))
    assert text == "errors.dead_letter_topic: the environment variables A, B are not set"


def test_what_comes_from_outside_is_not_looked_at_again(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A", "${B}")
    config = loaded(document(kafka='group_id = "${A}"'))
    assert config.kafka.group_id == "${B}"


def test_secrets_come_from_files(
    loaded: Loader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("p%40ss\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    dsn = "postgresql://app:${file:${CREDENTIALS_DIRECTORY}/password}@h/d"
    assert loaded(document().replace(DSN, dsn)).shards[0].dsn == "postgresql://app:p%40ss@h/d"


def test_a_file_that_cannot_be_read_is_named(loaded: Loader, tmp_path: Path) -> None:
    text = mistake(loaded, document().replace(DSN, f"${{file:{tmp_path}/no}}"))
    assert (
        text == f"shards[db0].dsn: the file {tmp_path}/no can't be read: No such file or directory"
    )


def test_what_a_file_holds_is_never_shown(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("s3cr3t")
    reference = "${file:secret}"
    text = mistake(loaded, document(more=f'[limits]\nmax_batch = "{reference}"'))
    assert reference in text
    assert "s3cr3t" not in text


def test_a_variable_without_braces_gets_a_hint(loaded: Loader) -> None:
    text = mistake(loaded, document().replace(DSN, "$DSN"))
    assert text == 'shards[db0].dsn: "$DSN" stands for itself: for the variable write "${DSN}"'
    text = mistake(loaded, document().replace('"k:9092"', '["$KAFKA"]'))
    assert '"${KAFKA}"' in text
    sasl = 'security_protocol = "SASL_SSL"\nsasl_mechanism = "PLAIN"\nsasl_plain_username = "u"\n'
    assert loaded(document(kafka=sasl + 'sasl_plain_password = "$ECRET"')), "it may be so"


@pytest.mark.parametrize(
    "password", ["p@ss/s3cr3t", "p/s3cr3t", "12#s3cr3t", "12?s3cr3t", "1/s3cr3t"]
)
def test_a_password_that_is_not_encoded_is_told_and_not_shown(
    loaded: Loader, password: str
) -> None:
    text = mistake(loaded, document().replace(DSN, f"postgresql://app:{password}@h/d"))
    assert "percent-encode a password's special characters" in text
    assert "s3cr3t" not in text
    assert "p@" not in text


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://app@h1:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql://app:p%40ss@[::1]:5432/d?application_name=a@b",
        "postgresql:///d?host=/var/run/postgresql",
    ],
)
def test_other_urls_of_postgres_are_taken(loaded: Loader, dsn: str) -> None:
    assert loaded(document().replace(DSN, dsn)).shards[0].dsn == dsn


@pytest.mark.parametrize(
    ("text", "expected"), [("1h", 3600.0), ("2d", 172_800.0), ("1.5h", 5400.0)]
)
def test_durations_have_hours_and_days(loaded: Loader, text: str, expected: float) -> None:
    config = loaded(document(more=f'[limits]\nstatement_timeout = "{text}"'))
    assert config.limits.statement_timeout == expected


def test_an_address_in_a_file_is_read_again(loaded: Loader, tmp_path: Path) -> None:
    place = tmp_path / "dsn"
    place.write_text("postgresql://app:one@h/d\n")
    config = loaded(document().replace(f'dsn = "{DSN}"', f'dsn_file = "{place}"'))
    shard = config.shards[0]
    assert shard.dsn == shard.read_dsn() == "postgresql://app:one@h/d"
    place.write_text("postgresql://app:two@h/d\n")
    assert shard.read_dsn() == "postgresql://app:two@h/d"
    place.write_text("s3cr3t")
    with pytest.raises(ValueError, match="expected a URL") as raised:
        shard.read_dsn()
    assert "s3cr3t" not in str(raised.value)
    place.unlink()
    with pytest.raises(ValueError, match="can't be read: No such file"):
        shard.read_dsn()


def test_an_address_file_may_be_a_credential_of_systemd(
    loaded: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "db0").write_text("postgresql://app:one@h/d")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    text = document().replace(f'dsn = "{DSN}"', 'dsn_file = "${CREDENTIALS_DIRECTORY}/db0"')
    shard = loaded(text).shards[0]
    (tmp_path / "db0").write_text("postgresql://app:two@h/d")
    assert shard.dsn == "postgresql://app:one@h/d"
    assert shard.read_dsn() == "postgresql://app:two@h/d"


def test_an_address_is_in_one_place(loaded: Loader, tmp_path: Path) -> None:
    both = document().replace(f'dsn = "{DSN}"', f'dsn = "{DSN}"\ndsn_file = "x"')
    assert mistake(loaded, both) == ("shards[db0].dsn_file: has no use beside dsn: leave one out")
    missing = document().replace(f'dsn = "{DSN}"', f'dsn_file = "{tmp_path}/no"')
    assert mistake(loaded, missing) == (
        f"shards[db0].dsn_file: the file {tmp_path}/no can't be read: No such file or directory"
    )
    odd = document().replace(f'dsn = "{DSN}"', "dsn_file = 7")
    assert mistake(loaded, odd) == "shards[db0].dsn_file: expected the path of a file, not 7"


@pytest.mark.parametrize("wanted", ["standby", "read-only", "prefer-standby", "readwrite"])
def test_a_server_that_takes_no_writes_can_not_be_asked_for(loaded: Loader, wanted: str) -> None:
    dsn = f"postgresql://h1,h2/d?target_session_attrs={wanted}"
    text = mistake(loaded, document().replace(DSN, dsn))
    assert "but the pipeline writes: expected one of any, primary, read-write" in text


@pytest.mark.parametrize(
    ("key", "known"),
    [("pooler", "auto, transaction, none"),
     ("synchronous_commit", "on, remote_apply, remote_write, local, off")],
)  # fmt: skip
def test_what_a_shard_takes_is_named(loaded: Loader, key: str, known: str) -> None:
    text = mistake(loaded, document().replace(f'dsn = "{DSN}"', f'dsn = "{DSN}"\n{key} = "x"'))
    assert text == f'shards[db0].{key}: expected one of {known}, not "x"'
