"""The service manager of this process, if there is one, and the configuration that it may ask to reload."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config
from pipeline.errors import one_line
from pipeline.supervise.notifier import Notifier, status
from pipeline.supervise.reload import Apply, Reloading


def _nothing_to_read() -> Config:
    raise ConfigError("the configuration", [Mistake("", "was not read from a file")])


@attrs.frozen
class Supervision:
    """What a command hands to the service that it runs.

    Attributes:
        notifier: the way to the service manager.
        read: reads the configuration again; blocks, and raises `ConfigError`.
    """

    notifier: Notifier = attrs.field(factory=Notifier)
    read: Callable[[], Config] = _nothing_to_read

    def reloading(self, config: Config, live: Mapping[str, Apply]) -> Reloading:
        """Return what reloads; see `Reloading`."""
        return Reloading(config, self.read, live)


def tell_failure(notifier: Notifier, error: BaseException | str) -> None:
    """Tell why the process ends, which stays in its status. Not a checkpoint."""
    text = error if isinstance(error, str) else one_line(error)
    notifier.tell("STOPPING=1", status(text))
