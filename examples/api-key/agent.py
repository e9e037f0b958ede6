"""An agent that knows nothing of bailiwick: plain requests, no key."""

import json
import sys
import urllib.error
import urllib.request

BASE = sys.argv[1]


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method)
    if data:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def tell(status, answer):
    print(status, "noted" if status == 201 else "refused: " + answer["detail"])


tell(*ask("POST", "/customers/7/notes", {"text": "moved to Lisbon"}))
tell(*ask("DELETE", "/customers/7"))
tell(*ask("GET", "/export"))
tell(*ask("POST", "/customers/7/notes", {"text": "a letter instead of a note. " * 5}))
