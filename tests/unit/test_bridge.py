"""The bridge to asyncio: what goes wrong there and belongs to no transaction."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
import trio.testing

from pipeline.postgres.connections.bridge import cross, open_bridge


async def test_an_error_that_nobody_awaited_does_not_end_the_program(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncpg leaves such a future behind when a server dies while a connection is made."""

    async def forget() -> None:
        asyncio.get_running_loop().create_future().set_exception(ConnectionError("gone"))
        gc.collect()

    with caplog.at_level(logging.WARNING):
        async with open_bridge():
            await cross(forget)
            await trio.testing.wait_all_tasks_blocked()
            assert await cross(answer) == 1, "the bridge still works"
    assert "gone" in caplog.text


async def answer() -> int:
    return 1
