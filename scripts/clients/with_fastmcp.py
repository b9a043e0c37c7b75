"""FastMCP's client: with_fastmcp.py NAME ERA SLEEPER stdio COMMAND... | http URL."""

import asyncio
import logging
import os
import sys
from pathlib import Path

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from mcp.types import Implementation

import python_checks


class Calls:
    def __init__(self, client, sleeper):
        self.client, self.sleeper = client, sleeper

    async def tools(self):
        return {tool.name for tool in await self.client.list_tools()}

    async def call(self, tool, arguments, timeout=None, progress=None):
        options = {"timeout": timeout, "progress_handler": progress, "raise_on_error": False}
        result = await self.client.call_tool(tool, arguments, **options)
        return result.is_error, result.structured_content


async def main():
    name, era, sleeper, transport, *target = sys.argv[1:]
    logging.disable(logging.WARNING)
    server = target[0]
    if transport == "stdio":
        server = StdioTransport(target[0], target[1:], log_file=Path(os.devnull))
    async with Client(server, mode=era, client_info=Implementation(name=name, version="1")) as client:
        await python_checks.run(Calls(client, sleeper))


asyncio.run(main())
