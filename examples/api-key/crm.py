"""A customer system with one key for everything, as many are."""

import http.server
import json
import os
import sys

KEY = os.environ["CRM_KEY"]
CUSTOMER = {"id": 7, "name": "Ann Smith", "ssn": "078-05-1120", "card": "4111 1111 1111 1111"}


class Crm(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text, kind="application/json"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            return self.answer(401, "who are you?\n", "text/plain")
        asked = f"{self.command} {self.path}"
        if asked == "GET /v2/customers/7":
            return self.answer(200, json.dumps(CUSTOMER))
        if asked == "POST /v2/customers/7/notes":
            return self.answer(201, json.dumps({"note": json.loads(body)["text"]}))
        if asked == "DELETE /v2/customers/7":
            return self.answer(200, json.dumps({"gone": 7}))
        if asked == "GET /v2/echo":
            return self.answer(200, str(self.headers), "text/plain")
        return self.answer(404, "{}")

    do_GET = do_POST = do_PUT = do_DELETE = handle_any


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Crm).serve_forever()
