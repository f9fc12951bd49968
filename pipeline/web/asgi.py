"""The types of ASGI 3: an application, and the two functions that it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSION = {"version": "3.0", "spec_version": "2.4"}
"""Since 2.4 ``send`` raises OSError when the client has gone."""


class ClientGoneError(OSError):
    """The client has gone, or was cut off: nobody reads what the application sends."""


class AppError(RuntimeError):
    """The application does not keep to ASGI; the message says how."""
