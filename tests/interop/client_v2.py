"""A stock client that speaks both generations (Python package `mcp` 2.x).

Usage: client_v2.py TARGET STEPS MODE — as client_v1.py; MODE is `auto`, `legacy` or a protocol revision.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

HEADERS = {"Authorization": "Test fixture"}


def server(target):
    if target.startswith("http"):
        return streamable_http_client(target, http_client=httpx2.AsyncClient(headers=HEADERS))
    command, *args = json.loads(target)
    return StdioServerParameters(command=command, args=args)


async def main(target, steps, mode):
    async with Client(server(target), mode=mode) as client:
        tools = await client.list_tools()
        results = []
        for name, arguments in steps:
            result = await client.call_tool(name, arguments)
            texts = [getattr(item, "text", item.type) for item in result.content]
            results.append({"texts": texts, "error": bool(result.is_error)})
        version = client.protocol_version
    print(json.dumps({"version": version, "tools": [t.name for t in tools.tools], "results": results}))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
