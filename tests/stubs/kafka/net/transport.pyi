import ssl
from collections.abc import Mapping
from typing import Any

class KafkaSSLTransport:
    DEFAULT_CONFIG: Mapping[str, Any]
    @staticmethod
    def _build_ssl_context(config: Mapping[str, Any]) -> ssl.SSLContext: ...
