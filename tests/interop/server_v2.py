"""A stock tool server that speaks both generations (Python package `mcp` 2.x).

Usage: server_v2.py [PORT] — on standard streams, or over streamable HTTP on loopback.
"""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("new")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("as asked")


if len(sys.argv) > 1:
    server.run(transport="streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
else:
    server.run()
