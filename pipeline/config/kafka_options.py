"""Options of kafka-python's consumer in ``[kafka]``, by their own names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kafka import KafkaConsumer
from kafka.net.sasl import SASL_MECHANISMS

from pipeline.config.kinds import Kind, choice
from pipeline.config.mistakes import join, kind_of
from pipeline.config.reading import Reading

DEFAULTS: Mapping[str, Any] = MappingProxyType(KafkaConsumer.DEFAULT_CONFIG)
"""Every option with its default."""

_WATERMARKS = "what it commits is what has been applied"
_DECODED = "records are decoded as [records] says"

OWNED = {
    "auto_commit_interval_ms": _WATERMARKS,
    "client_id": "it is pipeline.name",
    "consumer_timeout_ms": "it polls without end",
    "default_offset_commit_callback": _WATERMARKS,
    "enable_auto_commit": _WATERMARKS,
    "key_deserializer": _DECODED,
    "partition_assignment_strategy": "it is cooperative-sticky",
    "ssl_context": "it is made from the other ssl options",
    "value_deserializer": _DECODED,
}
"""Options that the pipeline sets itself, and why."""

OBJECTS = {"kafka_client", "metric_reporters", "sasl_oauth_token_provider", "selector"}
"""Options that are Python objects: no file can hold them."""


CHOICES: Mapping[str, tuple[str, ...]] = {
    "auto_offset_reset": ("earliest", "latest", "none"),
    "group_protocol": ("classic", "consumer"),
    "isolation_level": ("read_committed", "read_uncommitted"),
    "sasl_mechanism": tuple(sorted(SASL_MECHANISMS)),
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
}
"""Options that take one of a few words. kafka-python takes any other ``security_protocol`` for
PLAINTEXT, without a word: "ssl" would send passwords and records in the clear."""

NAMED = ("sasl_", "ssl_", "security_")
"""Options that begin so are strings if they have no default: names, files, passwords."""


def read_options(reading: Reading, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the options among ``values``; what can't be one is noted as a mistake."""
    options = {}
    for key, value in values.items():
        place = join("kafka", key)
        if key in OWNED:
            reading.wrong(place, f"the pipeline sets this itself ({OWNED[key]})")
        elif key in OBJECTS:
            reading.wrong(place, "takes a Python object, which a file can't hold")
        elif key in DEFAULTS:
            options[key] = reading.value(_kind(key), value, place, DEFAULTS[key])
    return MappingProxyType(options)


def _kind(key: str) -> Kind:
    """Return what an option takes: one of its words, or what its default is.

    Messages don't show the values of options: some are secret.
    """
    if key in CHOICES:
        return choice(*CHOICES[key])
    default = DEFAULTS[key]
    if default is None and key.startswith(NAMED):
        default = ""
    by_type = {
        bool: ("true or false", (bool,)),
        int: ("a whole number", (int,)),
        float: ("a number", (int, float)),
        str: ("a string", (str,)),
        list: ("a list", (list,)),
    }
    anything = ("a string, a number, a list, true or false", (str, int, float, list, bool))
    expects, types = by_type.get(type(default), anything)

    def parse(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError(f"expected {expects}, not {kind_of(value)}")
        return value

    return Kind(expects, parse)
