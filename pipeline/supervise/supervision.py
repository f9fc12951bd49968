"""The service manager of this process, if there is one, and the configuration that it may ask to reload."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import attrs

from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config
from pipeline.errors import one_line
from pipeline.supervise.notifier import Notifier, status
from pipeline.supervise.reload import Apply, Reloading

ANSWER = "reload"
"""The file in the unit's runtime directory that says what came of a reload."""


def _nothing_to_read() -> Config:
    raise ConfigError("the configuration", [Mistake("", "was not read from a file")])


@attrs.frozen
class Supervision:
    """What a command hands to the service that it runs.

    Attributes:
        notifier: the way to the service manager.
        read: reads the configuration again; blocks, and raises `ConfigError`.
        answer: where to write what came of a reload; see `Reloading`.
    """

    notifier: Notifier = attrs.field(factory=Notifier)
    read: Callable[[], Config] = _nothing_to_read
    answer: Path | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str], read: Callable[[], Config] | None) -> Supervision:
        """Read systemd's variables. ``read`` is None if the configuration came from no file."""
        directory = environ.get("RUNTIME_DIRECTORY")
        answer = Path(directory.partition(":")[0]) / ANSWER if directory else None
        return cls(Notifier.of(environ), read or _nothing_to_read, answer)

    def reloading(
        self, config: Config, live: Mapping[str, Apply], unused: Collection[str]
    ) -> Reloading:
        """Return what reloads; see `Reloading`."""
        return Reloading(config, self.read, live, unused, self.answer)


def tell_end(notifier: Notifier) -> None:
    """Tell that the process has done what there was to do. Not a checkpoint."""
    notifier.tell("STOPPING=1", status("stopped: everything that was begun is done"))


def tell_failure(notifier: Notifier, error: BaseException | str) -> None:
    """Tell why the process ends, which stays in its status. Not a checkpoint."""
    text = error if isinstance(error, str) else one_line(error)
    notifier.tell("STOPPING=1", status(text))
