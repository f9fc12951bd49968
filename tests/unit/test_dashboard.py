"""What an instance tells of itself, and its addresses over real sockets."""

from __future__ import annotations

import base64
import json

import attrs
import pytest

from pipeline.config.model import HttpConfig
from pipeline.contracts.wish import Pause, Scope
from pipeline.dashboard.access import as_bearer, is_loopback
from pipeline.dashboard.ingest_model import IngestModel
from pipeline.observe.metrics import Metrics
from pipeline.records.disposition import KINDS, DeadLetterReason
from tests.support.dashboards import ONE, TOKEN, TWO, Given, receive, served

PATHS = ("/", "/dashboard.css", "/dashboard.js", "/api/history", "/api/state", "/api/tasks",
         "/api/instance", "/api/instance/history")  # fmt: skip


def test_lag_is_added_up_as_pipeline_lag_does() -> None:
    given = Given()
    state = given.model().state()
    assert (state["message_lag"], state["time_lag_seconds"]) == (8, 9.0)
    given.partitions = [ONE, attrs.evolve(TWO, message_lag=None, time_lag=None)]
    state = given.model().state()
    assert (state["message_lag"], state["time_lag_seconds"]) == (None, None)


def test_the_rate_is_what_was_applied_between_two_samples() -> None:
    given = Given()
    model = given.model()
    model.sample()
    assert model.state()["rate"] is None
    given.metrics.records_applied.labels("sessions", "0").inc(500)
    given.now = 1005.0
    model.sample()
    assert model.state()["rate"] == 100.0


def test_a_shards_latency_is_the_mean_between_two_samples() -> None:
    given = Given()
    model = given.model()
    given.metrics.apply_seconds.labels("db0").observe(50.0)
    model.sample()
    assert model.state()["shards"][0]["latency_seconds"] is None
    for seconds in (0.1, 0.3):
        given.metrics.apply_seconds.labels("db0").observe(seconds)
    model.sample()
    shard = model.state()["shards"][0]
    assert (shard["transactions"], shard["latency_seconds"]) == (2, pytest.approx(0.2))


def test_from_accepted_to_visible_is_the_mean_between_two_samples_with_an_hour_of_history() -> None:
    given = Given()
    model = given.model()
    model.sample()
    assert model.state()["accepted_to_visible_seconds"] is None
    for seconds in (0.5, 1.5, 4.0):
        given.metrics.accepted_to_visible_seconds.labels().observe(seconds)
    model.sample()
    state = model.state()
    assert (state["visible"], state["accepted_to_visible_seconds"]) == (3, 2.0)
    model.sample()
    assert [sample[4:] for sample in model.past()["samples"]] == [(0, None), (3, 2.0), (0, None)]


def test_a_partition_is_told_with_the_shard_that_it_writes_to() -> None:
    assert [each["shard"] for each in Given().model().state()["partitions"]] == ["db0", "db1"]


def test_pauses_and_dead_letters_are_told_by_whom_and_why() -> None:
    given = Given()
    what = Scope(shard="db0")
    given.pauses = [Pause(id="p1", by="ada@host", since=0, why="vacuum", what=what)]
    given.metrics.dead_letter_kinds.labels("constraint").inc(3)
    state = given.model().state()
    assert state["pauses"][0]["what"] == "shard db0"
    assert "by ada@host" in state["pauses"][0]["story"]
    assert state["dead_letters"] == {"constraint": 3}


def test_the_history_holds_an_hour() -> None:
    given = Given()
    model = given.model()
    for _ in range(800):
        given.now += 5
        model.sample()
    assert [len(model.past()["samples"]), model.past()["samples"][-1][0]] == [720, given.now]


def test_gains_and_losses_of_partitions_are_on_the_timeline() -> None:
    given = Given()
    model = given.model()
    model.sample()
    given.partitions, given.now = [attrs.evolve(ONE, assignment_id=3)], 1005.0
    model.sample()
    model.sample()
    assert model.past()["changes"] == [
        {"at": 1000.0, "gained": ["sessions-0", "sessions-1"], "lost": []},
        {"at": 1005.0, "gained": ["sessions-0"], "lost": ["sessions-0", "sessions-1"]},
    ]


def test_an_endpoint_tells_what_it_accepts_and_refuses() -> None:
    metrics, now = Metrics(), [1000.0]
    model = IngestModel(
        Given().identity(), metrics, lambda: 7, lambda: ["draining"], clock=lambda: now[0]
    )
    model.sample()
    metrics.ingest_records.labels(202).inc(50)
    metrics.ingest_records.labels(422).inc(2)
    metrics.ingest_request_seconds.observe(0.25)
    now[0] += 5
    model.sample()
    state = model.state()
    assert state["rate"] == 10
    assert state["trouble"] == ["draining"]
    assert state["ingest"] == {
        "pending": 7, "latency_seconds": 0.25, "accepted": 50, "refused": {"422": 2}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("0.0.0.0", False), ("10.0.0.1", False), ("evil.example", False), ("", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


def test_others_are_told_an_address_that_they_can_use() -> None:
    identity = Given().identity()
    told = identity.presence(HttpConfig("127.0.0.1", 0), 9187)
    assert (told.address, told.loopback) == ("127.0.0.1:9187", True)
    told = identity.presence(HttpConfig("0.0.0.0", 0), 9187)
    assert (told.address, told.loopback) == ("here:9187", False)
    told = identity.presence(HttpConfig("127.0.0.1", 0, (), ("10.0.0.7", 80)), 9187)
    assert (told.address, told.loopback) == ("10.0.0.7:80", False)


async def test_without_a_token_the_page_is_for_this_machine_alone() -> None:
    async with served(Given().model()) as port:
        for path in PATHS:
            answer = (await receive(port, path, f"localhost:{port}")).lower()
            assert answer.startswith(b"http/1.1 200"), path
            head = answer.partition(b"\r\n\r\n")[0]
            assert b"content-security-policy: default-src 'none'" in head
            assert b"unsafe" not in head
            answer = await receive(port, path, "evil.example")
            assert answer.startswith(b"HTTP/1.1 403"), path
        answer = await receive(port, "/api/events", until=b"}\n\n")
        state = json.loads(answer.partition(b"data: ")[2].partition(b"\n\n")[0])
        assert state["shards"][0]["trouble"] == "away: refused"


async def test_with_a_token_everything_but_metrics_and_probes_needs_it() -> None:
    basic = base64.b64encode(f"ada:{TOKEN}".encode()).decode()
    wrong = base64.b64encode(b"ada:something-else").decode()
    async with served(Given().model(), tokens=[TOKEN]) as port:
        for path in (*PATHS, "/api/events"):
            for headers in ("", f"Authorization: Basic {wrong}\r\n", "Authorization: Bearer x\r\n"):
                answer = await receive(port, path, "web-1", headers=headers)
                assert answer.startswith(b"HTTP/1.1 401"), path
                assert b'www-authenticate: basic realm="pipeline"' in answer.lower()
        for path in PATHS:
            for given in (f"Basic {basic}", f"Bearer {TOKEN}"):
                answer = await receive(port, path, "web-1", headers=f"Authorization: {given}\r\n")
                assert answer.startswith(b"HTTP/1.1 200"), path
        for path in ("/metrics", "/livez", "/readyz"):
            assert (await receive(port, path, "web-1")).startswith(b"HTTP/1.1 200"), path


def test_a_password_that_is_none_is_no_token() -> None:
    assert as_bearer("Basic not-base64!") == ""
    assert as_bearer("Basic " + base64.b64encode(b"\xff:\xff").decode()) == ""
    assert as_bearer("Bearer abc") == "Bearer abc"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (DeadLetterReason("", "DecodeError"), "not-json"),
        (DeadLetterReason("", "RowError"), "value"),
        (DeadLetterReason("", "HandlerReject"), "handler"),
        (DeadLetterReason("", "NumericValueOutOfRangeError", "22003"), "data"),
        (DeadLetterReason("", "ForeignKeyViolationError", "23503"), "constraint"),
        (DeadLetterReason("", "InternalServerError", "XX000"), "other"),
    ],
)
def test_reasons_of_dead_letters_are_of_few_kinds(reason: DeadLetterReason, kind: str) -> None:
    assert reason.kind == kind
    assert kind in KINDS
