"""A small MCP server over stdio that answers as a file says: `answers_server.py KIND STATE`.

KIND is `book` (one tool, `contact.get`, whose next answer is STATE: a JSON-RPC result, or a whole line under `raw`) or
`post` (mail; STATE lists what was sent).
"""
import json
import os
import sys

KIND, STATE = sys.argv[1], sys.argv[2]
TEXT = {"type": "string"}


def load():
    with open(STATE) as file:
        return json.load(file)


def tool(name, *args):
    return {"name": name, "description": name, "inputSchema": {"type": "object", "properties": {a: TEXT for a in args}}}


def line(message):
    if KIND == "book":
        state = load()
        if "huge" in state:
            state = {"content": [{"type": "text", "text": "x" * state["huge"]}]}
        if "raw" in state:
            return state["raw"].replace("$ID", json.dumps(message["id"]))
        result = state
    else:
        state = load()
        state.append(message["params"]["arguments"])
        with open(STATE + ".new", "w") as file:
            json.dump(state, file)
        os.replace(STATE + ".new", STATE)
        result = {"content": [{"type": "text", "text": "sent"}]}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})


for text in sys.stdin:
    message = json.loads(text)
    if "id" not in message:
        continue
    method, answer = message["method"], {"jsonrpc": "2.0", "id": message["id"]}
    if method == "tools/call":
        print(line(message), flush=True)
        continue
    if method == "initialize":
        answer["result"] = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": KIND, "version": "1"}}
    elif method == "tools/list":
        tools = [tool("contact.get", "name")] if KIND == "book" else [tool("mail.send", "to", "body")]
        answer["result"] = {"tools": tools}
    elif method == "ping":
        answer["result"] = {}
    else:
        answer["error"] = {"code": -32601, "message": "unknown"}
    print(json.dumps(answer), flush=True)
