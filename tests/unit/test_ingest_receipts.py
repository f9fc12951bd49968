"""What became of records, as requests are told it, over a ledger that says what a test wants."""

# ruff: noqa: ARG001 (the clock is asked for to be in force)

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import jsonschema_rs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from pipeline.ingest.answers import REFUSED_TYPE
from pipeline.ingest.outcomes import Outcomes
from pipeline.ingest.poller import (
    FAILED_SECONDS,
    MOST_ASKED,
    MOST_PLACES,
    POLL_SECONDS,
    Poller,
)
from pipeline.ingest.preferences import MOST_SECONDS, wait_of
from pipeline.ingest.receipts import encode
from pipeline.kafka.delivery import NotDelivered
from pipeline.postgres.ledger.outcomes import Outcome, Place, State
from tests.support.ingest import TOPIC_ID, Client, StubWriter, make_client
from tests.support.replies import Reply

ONE = b'{"app": "a", "n": 1}'
WAIT = {"prefer": "wait=5"}
APPLIED = Outcome(State.APPLIED)
REFUSED = Outcome(State.REFUSED, "the row is refused")


@attrs.define(eq=False)
class Ledger:
    """Says what a test puts into ``known``, and counts how often it is asked."""

    known: dict[int, Outcome] = attrs.field(factory=dict)
    """By offset."""
    questions: list[int] = attrs.field(factory=list)
    """How many places each question had."""
    error: Exception | None = None
    silent: bool = False

    async def ask(self, places: Sequence[Place]) -> Mapping[Place, Outcome]:
        self.questions.append(len(places))
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        return {each: self.known[each.offset] for each in places if each.offset in self.known}


def poller_of(ledger: Ledger) -> Poller:
    return Poller("db0", ledger.ask, str)


@asynccontextmanager
async def running(ledger: Ledger) -> AsyncIterator[tuple[Client, Poller]]:
    poller = poller_of(ledger)
    client = make_client(StubWriter(1), outcomes=Outcomes(lambda _: poller))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        yield client, poller
        nursery.cancel_scope.cancel()


def receipt(offset: int, partition: int = 0) -> str:
    return encode(TOPIC_ID, partition, offset)


async def get(client: Client, text: str, **headers: str) -> Reply:
    return await client.request("GET", f"/v1/receipts/{text}", headers=headers)


async def test_a_post_that_waits_is_answered_when_the_effect_is_committed(
    autojump_clock: MockClock,
) -> None:
    ledger, replies = Ledger(), list[Reply]()

    async def post(client: Client) -> None:
        replies.append(await client.post(ONE, WAIT))

    async with running(ledger) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(post, client)
        await trio.sleep(2)
        assert not replies
        ledger.known[0] = APPLIED
    (reply,) = replies
    assert reply.status == 200
    assert reply.json == {"receipt": receipt(0), "state": "applied"}
    assert reply.headers["preference-applied"] == "wait=5"
    assert len(client_metrics(client)) == 1


def client_metrics(client: Client) -> list[str]:
    text = client.app._metrics.render().decode()
    return [
        line
        for line in text.splitlines()
        if line.startswith('pipeline_ingest_records_total{status="202"} 1.0')
    ]


async def test_a_post_that_waits_in_vain_is_answered_202_with_its_receipt(
    autojump_clock: MockClock,
) -> None:
    async with running(Ledger()) as (client, _):
        began = trio.current_time()
        reply = await client.post(ONE, WAIT)
        assert trio.current_time() - began == pytest.approx(5)
    assert (reply.status, reply.json) == (202, {"receipt": receipt(0), "state": "waiting"})


async def test_a_client_that_goes_is_waited_for_no_longer(autojump_clock: MockClock) -> None:
    async with running(Ledger()) as (client, poller):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.post, ONE, WAIT)
            nursery.start_soon(partial(get, client, receipt(7), prefer="wait=5"))
            await trio.sleep(1)
            assert len(poller._questions) == 2
            client.gone.set()
        assert trio.current_time() - began == pytest.approx(1)
        assert not poller._questions


async def test_a_dead_letter_is_a_problem_of_its_own(autojump_clock: MockClock) -> None:
    async with running(Ledger({0: REFUSED})) as (client, _):
        for reply in (await client.post(ONE, WAIT), await get(client, receipt(0))):
            assert reply.status == 422
            assert reply.headers["content-type"] == "application/problem+json"
            assert (reply.json["type"], reply.json["state"]) == (REFUSED_TYPE, "refused")
            assert "the row is refused" in reply.json["detail"]
            assert reply.json["receipt"] == receipt(0)


async def test_a_batch_that_waits_is_told_per_record(autojump_clock: MockClock) -> None:
    known = {0: APPLIED, 1: REFUSED, 2: Outcome(State.SET_ASIDE, "app-1 is held")}
    records = [{"app": "a"}, {"app": "a"}, {"app": "a"}, {"app": "a"}, {"no": 1}]
    async with running(Ledger(known)) as (client, _):
        reply = await client.post(json.dumps(records).encode(), WAIT)
    assert reply.status == 207
    assert [each["status"] for each in reply.json["results"]] == [200, 422, 202, 202, 422]
    states = [each.get("state") for each in reply.json["results"]]
    assert states == ["applied", "refused", "set-aside", "waiting", None]
    assert (reply.json["accepted"], reply.json["refused"]) == (4, 1)


@pytest.mark.parametrize(("known", "status"), [({}, 202), ({0: APPLIED}, 202),
                                               ({0: APPLIED, 1: APPLIED}, 200)])  # fmt: skip
async def test_a_batch_is_200_once_all_of_it_is_applied(
    known: dict[int, Outcome], status: int, autojump_clock: MockClock
) -> None:
    async with running(Ledger(known)) as (client, _):
        assert (await client.post(b'[{"app": "a"}, {"app": "a"}]', WAIT)).status == status


async def test_a_get_without_a_wait_is_answered_by_the_next_question(
    autojump_clock: MockClock,
) -> None:
    ledger = Ledger()
    async with running(ledger) as (client, _):
        reply = await get(client, receipt(7))
        assert (reply.status, reply.json["state"]) == (202, "waiting")
        assert ledger.questions == [1]
        ledger.known[7] = APPLIED
        assert (await get(client, receipt(7))).json["state"] == "applied"
        assert (await get(client, receipt(8), prefer="wait=1")).status == 202


async def test_what_is_no_receipt_of_this_topic_is_not_found(autojump_clock: MockClock) -> None:
    other = encode(type(TOPIC_ID)(int=8), 0, 1)
    async with running(Ledger()) as (client, _):
        for text in ("", "x", receipt(1)[:-1], other):
            assert (await get(client, text)).status == 404
        assert (await client.request("DELETE", f"/v1/receipts/{receipt(1)}")).status == 405
    told = await get(make_client(StubWriter()), receipt(1))
    assert (told.status, "does not tell" in told.json["detail"]) == (404, True)


async def test_a_receipt_is_told_with_a_token_only(autojump_clock: MockClock) -> None:
    poller = poller_of(Ledger())
    outcomes = Outcomes(lambda _: poller)
    client = make_client(StubWriter(), outcomes=outcomes, tokens=("s" * 16,))
    assert (await get(client, receipt(1))).status == 401


async def test_without_receipts_nobody_waits(autojump_clock: MockClock) -> None:
    reply = await make_client(StubWriter()).post(ONE, WAIT)
    assert (reply.status, set(reply.json)) == (202, {"receipt"})
    assert "preference-applied" not in reply.headers


async def test_a_shard_that_is_down_ends_the_wait_and_says_why(autojump_clock: MockClock) -> None:
    ledger = Ledger(error=OSError("it does not answer"))
    async with running(ledger) as (client, _):
        began = trio.current_time()
        reply = await client.post(ONE, WAIT)
        assert trio.current_time() - began < POLL_SECONDS
        assert (reply.status, reply.json["state"]) == (202, "unknown")
        assert reply.json["why"] == "shard db0 can't be asked: it does not answer"
        asked = len(ledger.questions)
        assert (await client.post(ONE, WAIT)).json["state"] == "unknown"
        assert len(ledger.questions) == asked
        await trio.sleep(FAILED_SECONDS)
        ledger.error, ledger.known = None, {2: APPLIED}
        assert (await client.post(ONE, WAIT)).status == 200


async def test_a_shard_that_is_silent_is_named_when_the_time_is_over(
    autojump_clock: MockClock,
) -> None:
    async with running(Ledger(silent=True)) as (client, _):
        reply = await client.post(ONE, WAIT)
    assert (reply.status, reply.json["state"]) == (202, "unknown")
    assert "db0 has not answered" in reply.json["why"]


async def test_the_end_of_the_endpoint_ends_every_wait(autojump_clock: MockClock) -> None:
    replies = []

    async def post(client: Client) -> None:
        replies.append(await client.post(ONE, WAIT))

    async with running(Ledger()) as (client, poller), trio.open_nursery() as nursery:
        nursery.start_soon(post, client)
        await trio.sleep(0.1)
        poller.end("over")
        await wait_all_tasks_blocked()
        assert [reply.json.get("why") for reply in replies] == ["over"]
        assert (await client.post(ONE, WAIT)).json["why"] == "over"


async def test_a_thousand_waiters_cost_a_question_per_interval_and_no_waiter_none(
    autojump_clock: MockClock,
) -> None:
    ledger = Ledger()
    statuses = []

    async def wait(client: Client, number: int) -> None:
        reply = await get(client, receipt(number), prefer="wait=1")
        statuses.append(reply.status)

    async with running(ledger) as (client, _):
        await trio.sleep(60)
        assert not ledger.questions
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(wait, client, number)
        assert max(ledger.questions) == 1000
        assert 1 / POLL_SECONDS / 2 <= len(ledger.questions) <= 1 / POLL_SECONDS + 2
        assert statuses == [202] * 1000
        asked = len(ledger.questions)
        await trio.sleep(60)
        assert len(ledger.questions) == asked


async def test_more_waiters_than_a_question_takes_have_their_turns(
    autojump_clock: MockClock,
) -> None:
    ledger = Ledger()
    last = 3 * MOST_ASKED - 1
    async with running(ledger) as (_, poller):
        places = [Place(TOPIC_ID, 0, n) for n in range(last + 1)]
        waiting = [poller.put([each], once=False) for each in places[:-1]]
        once = poller.put([places[-1]], once=True)
        await trio.sleep(POLL_SECONDS * 3.5)
        assert ledger.questions == [MOST_ASKED] * len(ledger.questions)
        assert once.found == {places[-1]: Outcome(State.WAITING)}
        ledger.known = dict.fromkeys(range(last), APPLIED)
        await trio.sleep(POLL_SECONDS * 3.5)
        assert all(question.done.is_set() for question in waiting)


async def test_waiters_are_bounded(autojump_clock: MockClock) -> None:
    async with running(Ledger()) as (_, poller):
        first = poller.put([Place(TOPIC_ID, 0, n) for n in range(MOST_PLACES)], once=False)
        more = poller.put([Place(TOPIC_ID, 1, 0)], once=False)
        (outcome,) = more.found.values()
        assert outcome.why == "too many records are waited for already"
        poller.take_back(first)
        third = poller.put([Place(TOPIC_ID, 1, 0)], once=False)
        assert not third.found
        poller.take_back(third)


async def test_whoever_is_cancelled_is_asked_for_no_more(autojump_clock: MockClock) -> None:
    ledger = Ledger()
    async with running(ledger) as (client, _):
        with trio.move_on_after(0.5):
            await get(client, receipt(3), prefer="wait=5")
        asked = len(ledger.questions)
        await trio.sleep(10)
        assert len(ledger.questions) <= asked + 1


async def test_a_record_without_a_place_is_not_waited_for(autojump_clock: MockClock) -> None:
    poller = poller_of(Ledger())
    writer = StubWriter(1)
    writer.outcome = lambda *_: -1
    client = make_client(writer, outcomes=Outcomes(lambda _: poller))
    assert (await client.post(ONE, WAIT)).json == {"receipt": None}
    writer.outcome = lambda *_: NotDelivered("away", "")
    assert (await client.post(ONE, WAIT)).status == 503


async def test_the_answers_are_as_the_document_says(autojump_clock: MockClock) -> None:
    known = {0: APPLIED, 1: REFUSED}
    async with running(Ledger(known)) as (client, _):
        document = (await client.request("GET", "/openapi.json")).json
        replies = [await client.post(ONE, WAIT) for _ in range(3)]
        replies.append(await client.post(b'[{"app": "a"}, {"no": 1}]', WAIT))
        told = [await get(client, receipt(n)) for n in range(3)] + [await get(client, "x")]
    post = document["paths"]["/v1/records"]["post"]["responses"]
    ask = document["paths"]["/v1/receipts/{receipt}"]["get"]["responses"]
    for responses, found in ((post, replies), (ask, told)):
        for reply in found:
            response = responses[str(reply.status)]
            schema = response["content"][reply.headers["content-type"]]["schema"]
            whole = {**schema, "components": document["components"]}
            assert jsonschema_rs.is_valid(whole, reply.json), (reply.status, reply.json)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        (b"wait=2", 2),
        (b"respond-async, wait=10", 10),
        (b'WAIT = "3"; x=1', 3),
        (b"wait=0", 0),
        (b"wait=-1", 0),
        (b"wait=2.5", 0),
        (b"await=3", 0),
        (b"wait=999", MOST_SECONDS),
    ],
)
def test_a_preference_is_read_as_rfc_7240_writes_it(prefer: bytes | None, seconds: int) -> None:
    assert wait_of(prefer) == seconds


@given(st.binary(max_size=60))
def test_no_header_breaks_the_reading_of_preferences(prefer: bytes) -> None:
    assert 0 <= wait_of(prefer) <= MOST_SECONDS


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5), max_size=6), st.integers(0, 3)), max_size=12),
    st.dictionaries(st.integers(0, 5), st.integers(0, 3)),
)
def test_each_waiter_is_told_what_became_of_its_own_records(
    requests: list[tuple[set[int], int]], applied_at: dict[int, int]
) -> None:
    """Requests for sets of offsets, each from a time on; records that are applied at times."""

    async def main() -> None:
        ledger = Ledger()
        poller = poller_of(ledger)
        outcomes = Outcomes(lambda _: poller)

        async def ask(offsets: set[int], begin: int) -> None:
            await trio.sleep(begin)
            places = {Place(TOPIC_ID, 0, offset) for offset in offsets}
            found = await outcomes.wait(places, 2)
            assert set(found) == places
            for place, outcome in found.items():
                early = applied_at.get(place.offset, 99) < begin + 1.9
                late = applied_at.get(place.offset, 99) > begin + 2.1
                if early or late:
                    assert outcome.state is (State.APPLIED if early else State.WAITING)

        async def apply(offset: int, at: int) -> None:
            await trio.sleep(at)
            ledger.known[offset] = APPLIED

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            async with trio.open_nursery() as work:
                for offset, at in applied_at.items():
                    work.start_soon(apply, offset, at)
                for offsets, begin in requests:
                    work.start_soon(ask, offsets, begin)
            nursery.cancel_scope.cancel()
        assert not poller._questions

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_who_waits_waits_on_while_a_record_may_be_in_a_lane(
    autojump_clock: MockClock,
) -> None:
    """What is asked once is told with the reason."""
    ledger, replies = Ledger({0: Outcome(State.WAITING, "perhaps")}), list[Reply]()

    async def post(client: Client) -> None:
        replies.append(await client.post(ONE, WAIT))

    async with running(ledger) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(post, client)
        await trio.sleep(2)
        assert (await get(client, receipt(0))).json["why"] == "perhaps"
        assert not replies
        ledger.known[0] = APPLIED
    assert replies[0].status == 200
