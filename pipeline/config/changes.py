"""What is different between two configurations, by the keys of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from pipeline.config.mistakes import join
from pipeline.config.model import ColumnConfig, Config, ShardConfig

_UNSEEN = {"source"}
"""Fields that stand in no file."""


def changed_keys(before: Config, after: Config) -> list[str]:
    """Return the dotted keys whose values differ, such as ``shards[db0].connections``.

    An address that is taken from a file is looked up again at each connection anyhow: that it has
    changed there counts as no change.
    """
    return list(dict.fromkeys(_changed(before, after, "")))


def _changed(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if type(before) is not type(after):
        yield path
    elif attrs.has(type(before)):
        yield from _changed_fields(before, after, path)
    elif isinstance(before, Mapping):
        for key in sorted({*before, *after}):
            if before.get(key, attrs.NOTHING) != after.get(key, attrs.NOTHING):
                yield join(path, key)
    elif _named(before) and _named(after):
        yield from _changed_items(before, after, path)
    else:
        yield path


def _changed_fields(before: Any, after: Any, path: str) -> Iterator[str]:
    for field in attrs.fields(type(before)):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if isinstance(before, ShardConfig) and field.name in ("dsn", "written"):
            if before.written is None or after.written is None or before.written != after.written:
                yield from _changed(old, new, join(path, "dsn"))
        elif field.name not in _UNSEEN:
            key = field.metadata.get("key") or field.name
            # The options of [kafka] stand in the table itself.
            inner = path if (path, field.name) == ("kafka", "options") else join(path, key)
            yield from _changed(old, new, inner)


def _named(items: Any) -> bool:
    return isinstance(items, tuple) and all(
        isinstance(item, ShardConfig | ColumnConfig) for item in items
    )


def _changed_items(before: Any, after: Any, path: str) -> Iterator[str]:
    """Shards and columns are compared by name; another order of the same ones is a change."""
    old, new = ({item.name: item for item in items} for items in (before, after))
    for name in dict.fromkeys([*old, *new]):
        place = f"{path}[{name}]" if path == "shards" else join(path, name)
        if name in old and name in new:
            yield from _changed(old[name], new[name], place)
        else:
            yield place
    if list(old) != list(new) and set(old) == set(new):
        yield path
