"""A stock client of the generation with sessions (Python package `mcp` 1.x).

Usage: client_v1.py TARGET STEPS — TARGET is a URL or a JSON list with a command; STEPS a JSON list of
[tool, arguments]. Prints one JSON object: the protocol revision, the tools, and each result's text and error flag.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamablehttp_client

HEADERS = {"Authorization": "Test fixture"}


@asynccontextmanager
async def streams(target):
    if target.startswith("http"):
        async with streamablehttp_client(target, headers=HEADERS) as (read, write, _):
            yield read, write
    else:
        command, *args = json.loads(target)
        async with stdio_client(StdioServerParameters(command=command, args=args)) as (read, write):
            yield read, write


async def main(target, steps):
    async with streams(target) as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        tools = await session.list_tools()
        results = []
        for name, arguments in steps:
            result = await session.call_tool(name, arguments)
            texts = [getattr(item, "text", item.type) for item in result.content]
            results.append({"texts": texts, "error": bool(result.isError)})
        await session.send_ping()
    print(json.dumps({"version": hello.protocolVersion, "tools": [t.name for t in tools.tools], "results": results}))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
