"""Forwards the connections of a listening socket to an address, until its standard input ends.

Usage: ``python forwarder.py DESCRIPTOR HOST PORT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

CONNECT_S = 10


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Send on what arrives, until its end."""
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


async def main(listener: socket.socket, host: str, port: int) -> None:
    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
        except (OSError, TimeoutError):
            writer.transport.abort()
            return
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    async with await asyncio.start_server(forward, sock=listener):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3])))
