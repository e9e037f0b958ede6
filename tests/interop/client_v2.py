"""A stock client that speaks both generations (Python package `mcp` 2.x).

Usage: client_v2.py TARGET STEPS MODE — as client_v1.py; MODE is `auto`, `legacy` or a protocol revision.
"""

import asyncio
import json
import sys

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

HEADERS = {"Authorization": "Test fixture"}


def server(target):
    if target.startswith("http"):
        return streamable_http_client(target, http_client=httpx2.AsyncClient(headers=HEADERS))
    command, *args = json.loads(target)
    return StdioServerParameters(command=command, args=args)


async def step(client, name, arguments):
    result = await client.call_tool(name, arguments)
    texts = [getattr(item, "text", item.type) for item in result.content]
    return {"texts": texts, "error": bool(result.is_error)}


async def converse(client):
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = {"result": True, **await step(client, *json.loads(line))}
        except MCPError as refused:
            answer = {"texts": [str(refused)], "error": True, "result": False}
        print(json.dumps(answer), flush=True)


async def main(target, steps, mode):
    async with Client(server(target), mode=mode) as client:
        tools = await client.list_tools()
        hello = {"version": client.protocol_version, "tools": [t.name for t in tools.tools]}
        if steps is None:
            print(json.dumps(hello), flush=True)
            return await converse(client)
        results = [await step(client, name, arguments) for name, arguments in steps]
    print(json.dumps({**hello, "results": results}))


asyncio.run(main(sys.argv[1], None if sys.argv[2] == "-" else json.loads(sys.argv[2]), sys.argv[3]))
