"""What the configuration says of the endpoint, and the files that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.mistakes import ConfigError, Mistake
from pipeline.config.model import Config, IngestConfig
from pipeline.ingest.validation import Check, SchemaError, schema_check
from pipeline.web.tls import Tls, TlsError


def require_ingest(config: Config) -> IngestConfig:
    """Return [ingest].

    Raises:
        ConfigError: there is none.
    """
    if config.ingest is None:
        why = 'missing: pipeline ingest needs it; at least listen = "127.0.0.1:8080"'
        raise ConfigError(config.source, [Mistake("ingest", why)])
    return config.ingest


def read_schema(config: Config, ingest: IngestConfig) -> tuple[Any, Check | None]:
    """Read the schema, if one is named; its path starts at the configuration's folder.

    Raises:
        ConfigError: it can't be used.
    """
    if ingest.schema is None:
        return None, None
    try:
        return schema_check(_beside(config, ingest.schema))
    except SchemaError as error:
        raise ConfigError(config.source, [Mistake("ingest.schema", str(error))]) from error


def read_certificate(config: Config, ingest: IngestConfig) -> Tls | None:
    """Read the certificate, if one is named; the paths start at the configuration's folder.

    Raises:
        ConfigError: it can't be used.
    """
    if ingest.tls_cert is None or ingest.tls_key is None:
        return None
    try:
        return Tls(_beside(config, ingest.tls_cert), _beside(config, ingest.tls_key))
    except TlsError as error:
        raise ConfigError(config.source, [Mistake("ingest.tls_cert", str(error))]) from error


def _beside(config: Config, path: str) -> Path:
    return Path(config.source).parent / Path(path).expanduser()
