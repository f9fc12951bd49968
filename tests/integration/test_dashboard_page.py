"""The dashboard in a real browser, of a real pipeline over real servers."""

from __future__ import annotations

import re
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from pipeline.local.ports import free_port
from tests.support import accounts
from tests.support.browser import Watched, watched
from tests.support.in_process import Commands
from tests.support.instance import PATIENCE, Instance
from tests.support.pipelines import Job, account_database
from tests.support.proxy import Proxy
from tests.support.servers import DatabaseFactory

__all__ = ["watched"]

pytestmark = pytest.mark.real

PHONE = 360
"""Pixels."""

INGEST = """
[ingest]
listen = "127.0.0.1:{port}"
status = "127.0.0.1:0"
"""


def test_a_shard_that_goes_is_seen_on_the_page_until_it_is_back(
    job: Job, database: DatabaseFactory, watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    expect.set_options(timeout=PATIENCE * 1000)
    near, far = account_database(database), account_database(database)
    at = re.search(r":(\d+)/", near)
    assert at is not None
    port, page = free_port(), watched.page
    with Proxy(int(at[1])) as proxy:
        through = near.replace(f":{at[1]}/", f":{proxy.port}/")
        job.write_config({"db0": (through, "0-2"), "db1": (far, "3-5")}, records='key = "id"')
        job.config.write_text(job.config.read_text() + INGEST.format(port=port))
        instance = job.start()
        why = "<b onclick=alert(1)>vacuum</b>"
        command = ("pause", "add", "--partition", f"{job.topic}-5", "--reason", why)
        Commands(job, capsys).run(*command)  # which also makes the control topic
        endpoint = Instance(job.config, job.directory / "ingest.log", "ingest")
        job.instances.append(endpoint)
        job.wait_until(lambda: instance.probe("/readyz")[0] == 200 == endpoint.probe("/readyz")[0])
        _, record = accounts.change(7, 1)
        job.wait_until(lambda: accepted(port, record or b""), "the endpoint takes a record")

        watched.open(instance.url)
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#wrong")).to_have_text("nothing")
        expect(page.locator("#partitions tr")).to_have_count(6)
        expect(page.locator("#instances tr")).to_have_count(2)
        expect(page.locator("#ingest")).to_contain_text("none")
        expect(page.locator("#note")).to_be_hidden()
        shards = page.locator("#partitions td:nth-child(3)")
        expect(shards).to_have_text(["db0"] * 3 + ["db1"] * 3)
        expect(page.locator("#visible-figure")).to_be_visible(timeout=20_000)

        proxy.refuse()
        job.produce([accounts.change(1, 2)], partition=0)  # somebody has to want the shard
        expect(page.locator("#wrong")).to_contain_text("shard db0 is away")
        expect(page).to_have_title(re.compile(r"^\(1\) "))
        expect(page.get_by_role("row", name=re.compile("^db0 away"))).to_be_visible()
        expect(page.get_by_role("row", name=re.compile("^db1 works"))).to_be_visible()
        expect(page.locator("#partitions tr.bad")).to_have_count(3)
        proxy.accept()
        expect(page.locator("#wrong")).to_have_text("nothing")
        expect(page.locator("#partitions tr.bad")).to_have_count(0)

        expect(page.get_by_role("region", name="Pauses")).to_contain_text(why)
        assert page.locator("#pauses b").count() == 0, "a reason became code"
        works_for_everybody(watched)
    assert (watched.errors, watched.elsewhere) == ([], [])
    assert endpoint.stop() == instance.stop() == 0


def accepted(port: int, record: bytes) -> bool:
    """Whether the endpoint takes a record."""
    at = f"http://127.0.0.1:{port}/v1/records"
    headers = {"Content-Type": "application/json"}
    try:
        with urlopen(Request(at, record, headers), timeout=5) as answer:
            return int(answer.status) == 202
    except OSError:
        return False


def works_for_everybody(watched: Watched) -> None:
    """Keyboard, screen reader, phone, dark."""
    page = watched.page
    for name in ("Shards", "Partitions", "Instances"):
        expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()
    for name in ("Records per second", "Message lag", "Time lag", "Accepted to visible"):
        chart = page.get_by_role("img", name=re.compile(f"^{name}, the last 5 minutes: highest"))
        expect(chart).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
    page.get_by_text("Live tasks of the instance").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#tasks")).to_contain_text("pipeline.service.run")

    page.set_viewport_size({"width": PHONE, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    background = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == "rgb(22, 24, 28)"
