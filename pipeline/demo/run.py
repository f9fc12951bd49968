"""The whole demo: servers, stage, story, verdict, and the logs if it went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pipeline.demo.display import Display, open_display
from pipeline.demo.play import Settings, play
from pipeline.demo.stage import DemoStage, keep_logs, open_stage
from pipeline.demo.verdict import DemoVerdict
from pipeline.errors import PipelineError
from pipeline.local import LocalError, Servers
from pipeline.observe.logging import configure_logging
from pipeline.runtime import interrupt

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Play the demo, print the verdict, and return the command's exit code.

    Raises:
        PipelineError: the demo could not be played to its end; the message says where the logs are.
        KeyboardInterrupt: Ctrl-C; everything has been cleaned up.
    """
    with open_display() as display:
        display.say("starting Kafka and PostgreSQL on this machine")
        with _servers() as servers, _staged(servers) as stage:
            display.say("both are up; two databases, a topic of 6 partitions")
            verdict = _play(stage, settings, display)
            display.freeze()
            display.console.print("\n" + verdict.text(), soft_wrap=True, markup=False)
            if not verdict.good:
                print(f"\nThe logs are in {keep_logs(servers.directory)}")
    return 0 if verdict.good else 1


@contextmanager
def _servers() -> Iterator[Servers]:
    try:
        with Servers.start() as servers, (servers.directory / "demo.log").open("w") as stream:
            configure_logging("info", stream=stream)
            try:
                yield servers
            finally:
                configure_logging("error")
    except LocalError as error:
        raise PipelineError(str(error)) from error


@contextmanager
def _staged(servers: Servers) -> Iterator[DemoStage]:
    stage = open_stage(servers)
    try:
        yield stage
    finally:
        stage.close()


def _play(stage: DemoStage, settings: Settings, display: Display) -> DemoVerdict:
    """Return the verdict. An error on the way is raised together with where the logs are kept."""
    try:
        return interrupt.run(partial(play, stage, settings, display))
    except (Exception, BaseExceptionGroup) as error:
        display.freeze()
        log.exception("the demo failed")
        kept = PipelineError(f"the logs are in {keep_logs(stage.servers.directory)}")
        raise BaseExceptionGroup("the demo failed", [error, kept]) from None
