"""Makes the pictures of dashboard and `pipeline top` in docs/pictures, from a running system.

    python -m tests.pictures [--seconds 120]

It starts a Kafka and a Postgres, two instances, an endpoint and a load of 200 records a second; a proxy
stands between the instances and one of the two databases, and refuses for the picture of a shard that is
away. For the picture of a hot tenant somebody locks the row that most records are for. Everything ends with
it. Needs what tests of real servers need, and Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import attrs
import orjson
from playwright.sync_api import Page, sync_playwright
from rich.console import Console

from pipeline.cli import main as pipeline
from pipeline.local import Servers
from pipeline.local.ports import free_port
from pipeline.local.postgres import psql
from pipeline.local.waiting import wait_until
from pipeline.partitioner import partition_for
from pipeline.top.picture import picture
from tests.support import accounts
from tests.support.browser import chromium
from tests.support.instance import Instance
from tests.support.locked import locked
from tests.support.pipelines import Job
from tests.support.proxy import Proxy
from tests.support.traffic import Load

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
PER_SECOND = 200
PATIENCE = 120.0
TRIES = 20
TENANTS = 20
HOT = 0
"""The key of one record in five (`accounts.changes`)."""
LIMITS = "max_buffered = 800\nmax_batch = 400\nmax_buffered_per_key = 200"
"""So small that the hot key fills its partition, and has a lane, in seconds."""
INGEST = '\n[ingest]\nlisten = "127.0.0.1:{port}"\nstatus = "127.0.0.1:0"\n'


@attrs.frozen
class Running:
    """The system that is pictured."""

    job: Job
    instance: Instance
    proxy: Proxy
    hot_dsn: str
    """Where the row of the hot key is."""

    def state(self) -> dict[str, Any]:
        """What the dashboard says; empty while it does not answer."""
        status, text = self.instance.probe("/api/state")
        found: dict[str, Any] = json.loads(text) if status == 200 else {}
        return found

    def wait_hot(self) -> None:
        """Wait until the hot key has a lane in which records wait."""

        def waiting() -> int:
            return sum(each["waiting"] for each in self.state().get("lanes", ()))

        if not wait_until(lambda: waiting() > 500, PATIENCE):
            sys.exit(f"a lane of the hot key was not reached:\n{self.job.tails()}")

    def wait(self, what: str, *, away: bool) -> None:
        """Wait until all instances are shown, and the shard is as it should be."""

        def reached() -> bool:
            state = self.state()
            troubled = any(each["trouble"] for each in state.get("shards", ()))
            answering = [each["answers"] for each in state.get("instances", ())]
            return answering == [True] * 3 and troubled == away and state["message_lag"] is not None

        if not wait_until(reached, PATIENCE):
            sys.exit(f"{what} was not reached:\n{self.job.tails()}")


@contextmanager
def running() -> Iterator[Running]:
    """Two instances and an endpoint, under load; they end with the block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(Servers.start())
        servers.create_topic("sessions", 6)
        dsns = [servers.create_database(name) for name in ("db0", "db1")]
        for dsn in dsns:
            psql(dsn, accounts.TABLE)
        at = re.search(r":(\d+)/", dsns[0])
        assert at is not None
        proxy = stack.enter_context(Proxy(int(at[1])))
        shards = {"db0": (dsns[0].replace(f":{at[1]}/", f":{proxy.port}/"), "0-2"),
                  "db1": (dsns[1], "3-5")}  # fmt: skip
        job = Job(servers.bootstrap, "sessions", "sessions", directory)
        stack.callback(job.close)
        port = free_port()

        def start(owner: str, command: str = "run") -> Instance:
            job.write_config(
                shards,
                pipeline=f'owner = "{owner}"',
                records='key = "id"\ntenant = "app"',
                limits=LIMITS,
            )
            file = directory / f"{owner}.toml"
            file.write_text(job.config.read_text() + INGEST.format(port=port))
            instance = Instance(file, directory / f"{owner}.log", command)
            job.instances.append(instance)
            return instance

        first = start("web-1")
        if not wait_until(lambda: first.probe("/readyz")[0] == 200, PATIENCE):
            sys.exit(f"not ready:\n{job.tails()}")
        config = ("--config", str(directory / "web-1.toml"))
        pause = ("--partition", "sessions-5", "--reason", "vacuum full")
        pipeline(["pause", "add", *pause, *config])  # which makes the control topic
        start("web-2")
        start("edge-1", "ingest")
        load = map(of_a_tenant, accounts.changes(10**7, 500, 1))
        stack.enter_context(Load(job.bootstrap, "sessions", load, PER_SECOND))
        stack.enter_context(posting(port))
        tenant, _ = of_a_tenant(accounts.change(HOT, 0))
        hot = dsns[0 if partition_for(tenant or b"", 6) < 3 else 1]
        yield Running(job, first, proxy, hot)


def of_a_tenant(message: accounts.Message) -> accounts.Message:
    """The same message, as its tenant's producer sends it."""
    value = orjson.loads(message[1] or b"")
    tenant = f"app-{value['id'] % TENANTS + 1}"
    return tenant.encode(), orjson.dumps({**value, "app": tenant})


@contextmanager
def posting(port: int) -> Iterator[None]:
    """Some records a second to the endpoint, until the block ends."""
    ended = Event()

    def post() -> None:
        for number in count():
            if ended.wait(0.05):
                return
            _, value = of_a_tenant(accounts.change(number % 500, number))
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request(
                    "POST", "/v1/records", value, {"Content-Type": "application/json"}
                )
                connection.getresponse().read()
            except OSError:
                ended.wait(0.5)
            finally:
                connection.close()

    thread = Thread(target=post, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def draw(system: Running, page: Page, seconds: float) -> None:
    """Make every picture, one after another."""
    page.goto(system.instance.url)
    system.wait("a calm system", away=False)
    time.sleep(seconds)  # the charts want some history
    shoot(page, "calm")
    system.wait("a calm system", away=False)
    terminal(system.state(), "top")
    page.emulate_media(color_scheme="dark")
    shoot(page, "dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    shoot(page, "narrow", whole=False)
    page.set_viewport_size({"width": 1200, "height": 900})
    system.proxy.refuse()
    time.sleep(seconds / 4)
    shoot(page, "shard-away")
    system.wait("a shard that is away", away=True)
    terminal(system.state(), "top-shard-away")
    system.proxy.accept()
    system.wait("a shard that is back", away=False)
    with locked(system.hot_dsn, f"select 1 from accounts where id = {HOT} for update"):
        system.wait_hot()
        shoot(page, "hot-tenant")


def shoot(page: Page, name: str, *, whole: bool = True) -> None:
    """One picture, when the page has drawn its charts anew."""
    for _ in range(TRIES):
        page.wait_for_timeout(6000)
        if "is not answering" not in page.locator("#wrong").inner_text():
            break  # on a machine that does much else, an instance may take too long
    page.screenshot(path=PICTURES / f"dashboard-{name}.png", full_page=whole)
    print(f"dashboard-{name}.png")


def terminal(state: dict[str, Any], name: str) -> None:
    """`pipeline top` as a picture, with rich's own means, and without a font from elsewhere."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(picture(state))
    text = console.export_svg(title="pipeline top", font_aspect_ratio=0.61)
    text = re.sub(r"@font-face \{.*?\}", "", text, flags=re.DOTALL)
    text = "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
    (PICTURES / f"{name}.svg").write_text(text + "\n")
    print(f"{name}.svg")


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="of load before the first one")
    seconds = parser.parse_args().seconds
    path = chromium()
    if path is None:
        sys.exit("no Chromium here: install Debian's package chromium")
    PICTURES.mkdir(exist_ok=True)
    with running() as system, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=False)
        page = browser.new_page(viewport={"width": 1200, "height": 900}, locale="en-GB")
        draw(system, page, seconds)
        browser.close()


if __name__ == "__main__":
    main()
