from typing import Any

ApiVersionsRequest: Any
MetadataRequest: Any
