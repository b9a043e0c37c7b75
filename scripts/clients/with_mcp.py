"""The Python SDK's client: with_mcp.py NAME ERA SLEEPER stdio COMMAND... | http URL."""

import asyncio
import logging
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import Implementation

import python_checks


class Calls:
    def __init__(self, client, sleeper):
        self.client, self.sleeper = client, sleeper

    async def tools(self):
        return {tool.name for tool in (await self.client.list_tools()).tools}

    async def call(self, tool, arguments, timeout=None, progress=None):
        options = {"read_timeout_seconds": timeout, "progress_callback": progress}
        result = await self.client.call_tool(tool, arguments, **options)
        return result.is_error, result.structured_content


async def main():
    name, era, sleeper, transport, *target = sys.argv[1:]
    logging.disable(logging.WARNING)
    with open(os.devnull, "w") as nowhere:
        server = target[0]
        if transport == "stdio":
            server = stdio_client(StdioServerParameters(command=target[0], args=target[1:]), errlog=nowhere)
        info = Implementation(name=name, version="1")
        async with Client(server, mode=era, client_info=info, read_timeout_seconds=40) as client:
            await python_checks.run(Calls(client, sleeper))


asyncio.run(main())
