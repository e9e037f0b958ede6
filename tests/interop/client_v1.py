"""A stock client of the generation with sessions (Python package `mcp` 1.x).

Usage: client_v1.py TARGET STEPS — TARGET is a URL or a JSON list with a command; STEPS a JSON list of
[tool, arguments]. Prints one JSON object: the protocol revision, the tools, and each result's text and error flag.
With `-` for STEPS it takes one step per line of standard input, and prints revision and tools first, then one object
for each step; `result` is false where the server answered with an error of the protocol.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

from mcp import ClientSession, McpError, StdioServerParameters
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


async def step(session, name, arguments):
    result = await session.call_tool(name, arguments)
    texts = [getattr(item, "text", item.type) for item in result.content]
    return {"texts": texts, "error": bool(result.isError)}


async def converse(session):
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = {"result": True, **await step(session, *json.loads(line))}
        except McpError as refused:
            answer = {"texts": [str(refused)], "error": True, "result": False}
        print(json.dumps(answer), flush=True)


async def main(target, steps):
    async with streams(target) as (read, write), ClientSession(read, write) as session:
        hello = await session.initialize()
        tools = await session.list_tools()
        hello = {"version": hello.protocolVersion, "tools": [t.name for t in tools.tools]}
        if steps is None:
            print(json.dumps(hello), flush=True)
            return await converse(session)
        results = [await step(session, name, arguments) for name, arguments in steps]
        await session.send_ping()
    print(json.dumps({**hello, "results": results}))


asyncio.run(main(sys.argv[1], None if sys.argv[2] == "-" else json.loads(sys.argv[2])))
