"""A configuration that is read again while the process runs: what can change, changes at once.

All or nothing: if the file has a mistake, or if something was changed that needs a restart, the
process goes on as before, and each reason is told by the key's name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import attrs
import trio

from pipeline.config.changes import changed_keys
from pipeline.config.mistakes import ConfigError
from pipeline.config.model import Config
from pipeline.contracts.log_events import event
from pipeline.observe.logging import configure_logging

log = logging.getLogger(__name__)

LEVEL = "log.level"
"""What every process can change."""

Apply = Callable[[Config], None]


@attrs.define
class Reloading:
    """Reads a configuration again and puts what can change into effect.

    Attributes:
        config: the one in effect.
        read: reads the file; blocks, and raises `ConfigError`.
        live: the keys that can change while the process runs, and what puts them into effect. It is
            called whether a key was changed or not, since what a key names (a certificate) may have
            changed; it may raise `ConfigError` before it changes anything. The level of the log can
            always change.
        unused: the sections of the file that this process has no use for: whatever changes there.
        answer: the file that is written when a reload is over, for whoever asked for it: why nothing
            was changed; empty if it worked. None: nobody waits for it.
    """

    config: Config
    read: Callable[[], Config]
    live: Mapping[str, Apply]
    unused: Collection[str] = ()
    answer: Path | None = None

    async def __call__(self) -> str:
        """Reload; return why nothing was changed, on one line, or "" if it worked.

        A checkpoint; cancelled, nothing is changed.
        """
        refused = await self._reload()
        if self.answer is not None:
            try:
                write_whole(self.answer, f"{refused}\n" if refused else "")
            except OSError as error:
                log.warning("whoever asked to reload can't be answered: %s", error)
        return refused

    async def _reload(self) -> str:
        try:
            config = await trio.to_thread.run_sync(self.read)
        except ConfigError as error:
            return _refused(error)
        changed = [key for key in changed_keys(self.config, config) if self._is_used(key)]
        fixed = [key for key in changed if not self._is_live(key)]
        if fixed:
            why = f"a restart is needed to change {', '.join(fixed)}"
            facts = event("not-reloaded", reason=why)
            log.error("the configuration is as before: %s", why, extra=facts)
            return why
        try:
            for apply in dict.fromkeys(self.live.values()):
                apply(config)
            if config.log != self.config.log:
                configure_logging(config.log.level.upper(), config.log.format)
        except ConfigError as error:
            return _refused(error)
        self.config = config
        what = ", ".join(changed) or "nothing was changed in the file"
        log.warning("reloaded: %s", what, extra=event("reloaded", reason=what))
        return ""

    def _is_used(self, key: str) -> bool:
        return key.partition(".")[0].partition("[")[0] not in self.unused

    def _is_live(self, key: str) -> bool:
        return key == LEVEL or key in self.live


def write_whole(path: Path, text: str) -> None:
    """Write a file so that whoever sees it sees all of it."""
    partial = path.with_name(f".{path.name}")
    partial.write_text(text)
    partial.rename(path)


def _refused(error: ConfigError) -> str:
    """Log every mistake; return the first on one line."""
    more = f" (and {len(error.mistakes) - 1} more)" if len(error.mistakes) > 1 else ""
    first = error.mistakes[0]
    why = f"{first.key}: {first.message}{more}" if first.key else f"{first.message}{more}"
    facts = event("not-reloaded", reason=why)
    log.error("the configuration is as before: %s", error, extra=facts)
    return why
