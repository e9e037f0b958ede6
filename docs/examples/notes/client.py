"""An MCP client as anybody would write one: starts its tool server, says hello, calls one tool, prints what it reads.

usage: client.py TOOL ARGUMENTS -- COMMAND...
"""

import json
import subprocess
import sys

tool, arguments, command = sys.argv[1], json.loads(sys.argv[2]), sys.argv[sys.argv.index("--") + 1 :]
server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def send(message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()


def ask(number, method, params):
    send({"id": number, "method": method, "params": params})
    answer = json.loads(server.stdout.readline())
    if "error" in answer:
        sys.exit(f"error: {answer['error']['message']}")
    return answer["result"]


me = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "client", "version": "1"}}
ask(1, "initialize", me)
send({"method": "notifications/initialized"})
result = ask(2, "tools/call", {"name": tool, "arguments": arguments})
for part in result["content"]:
    print(part["text"])
server.stdin.close()
server.wait()
