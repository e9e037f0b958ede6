"""The public HTTP API of bailiwick, as far as the guard needs it, and a server of its own to talk to."""
from __future__ import annotations

import atexit
import ctypes
import hashlib
import http.client
import json
import multiprocessing.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import bailiwick_keys
from bailiwick_keys import AgentKey, base64url

REPOSITORY = Path(__file__).resolve().parents[2]
PORTS = range(20000, 32000)  # below the ports that systems give to outgoing connections
START_WITHIN_S = 60


class Refused(Exception):
    """The server refused: status, stable code, reason."""

    def __init__(self, status: int, body: dict):
        self.status, self.body = status, body
        self.code = body.get("code") or body.get("error") or "unknown"
        self.reason = body.get("detail") or body.get("error_description") or body.get("title") or ""
        super().__init__(f"{status} {self.code}: {self.reason}")


class Connection:
    """One kept-alive connection. A request that found it closed by the server is sent once more; it was not read."""

    def __init__(self, base: str):
        self.base = base.rstrip("/")
        url = urllib.parse.urlsplit(self.base)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._open = lambda: kind(url.hostname, url.port, timeout=60)
        self._held = None

    def send(self, method: str, path: str, body: bytes | None, headers: dict) -> dict | list | None:
        fresh = self._held is None
        if fresh:
            self._held = self._open()
        try:
            self._held.request(method, path, body, headers)
            answer = self._held.getresponse()
            text = answer.read()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._held.close()
            self._held = None
            if fresh:
                raise
            return self.send(method, path, body, headers)
        except OSError:
            self._held = None
            raise
        value = json.loads(text) if text else None
        if answer.status >= 400:
            raise Refused(answer.status, value if isinstance(value, dict) else {})
        return value


class Person:
    """Somebody who signs in with a key."""

    def __init__(self, connection: Connection, key: str):
        self.connection, self.key = connection, key

    def send(self, method: str, path: str, body=None):
        headers = {"Authorization": f"Bearer {self.key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self.connection.send(method, path, None if body is None else json.dumps(body).encode(), headers)


def new_person_key() -> tuple[str, str]:
    """A key, and what the server keeps of it."""
    key = "bwk_" + base64url(os.urandom(32))
    return key, hashlib.sha256(key.encode()).hexdigest()


class Holder:
    """An agent inside one task: fetches its token, proves its key with every request."""

    def __init__(self, connection: Connection, key: AgentKey, spiffe: str, grant: str):
        self.connection, self.key, self.spiffe, self.grant = connection, key, spiffe, grant
        self._token, self._until = "", 0

    def token(self) -> str:
        if bailiwick_keys.now_s() >= self._until:
            url = self.connection.base + "/oauth/token"
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self.key.assertion(self.spiffe, url),
                "grant": self.grant,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded", "DPoP": self.key.proof("POST", url)}
            got = self.connection.send("POST", "/oauth/token", urllib.parse.urlencode(form).encode(), headers)
            self._token = got["access_token"]
            self._until = bailiwick_keys.now_s() + got["expires_in"] - 10
        return self._token

    def send(self, path: str, body: dict, token: str | None = None):
        """`token`: one that was fetched by somebody else, presented with this holder's key."""
        token = token or self.token()
        headers = {
            "Authorization": f"DPoP {token}",
            "DPoP": self.key.proof("POST", self.connection.base + path, token),
            "Content-Type": "application/json",
        }
        return self.connection.send("POST", path, json.dumps(body).encode(), headers)


# --- a server of one's own ------------------------------------------------------------------


def find_binary() -> str:
    """BAILIWICK_BIN, else `bailiwick` on the path, else what was built in this repository."""
    named = os.environ.get("BAILIWICK_BIN")
    built = [REPOSITORY / "target" / kind / "bailiwick" for kind in ("release", "debug")]
    for place in [named, shutil.which("bailiwick"), *built]:
        if place and os.access(place, os.X_OK):
            return str(place)
    raise FileNotFoundError(
        "no `bailiwick` on the path nor in target/release or target/debug: run `cargo build --release`, or set BAILIWICK_BIN or BAILIWICK_URL"
    )


def free_port() -> int:
    start = int.from_bytes(os.urandom(2), "big")
    for n in range(len(PORTS)):
        port = PORTS[(start + n) % len(PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")


def ends_with_its_parent():
    """On Linux, a server does not outlive the process that started it, however that one ends."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        pass


class Server:
    """`bailiwick up` in a temporary folder. Stopped, and the folder removed, when this process ends."""

    def __init__(self, *options: str):
        self.folder = Path(tempfile.mkdtemp(prefix="bailiwick-eval-"))
        self._owner = os.getpid()
        data, log = self.folder / "data", self.folder / "log"
        for _ in range(5):  # somebody else may take the port in between
            command = [find_binary(), "up", "--listen", f"127.0.0.1:{free_port()}", "--data", str(data), *options]
            environment = {k: v for k, v in os.environ.items() if not k.startswith("BAILIWICK_")}
            with open(log, "ab") as out:
                self._process = subprocess.Popen(
                    command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=ends_with_its_parent
                )
            self.url = self._wait_for(data / "server.url")
            if self.url:
                break
        else:
            raise RuntimeError(f"the server does not start:\n{log.read_text(errors='replace')[-2000:]}")
        operator = (data / "keys" / "operator").read_text().strip()
        self.operator_key = (data / "keys" / "people" / f"{operator}.key").read_text().strip()
        atexit.register(self.stop)
        # Worker processes of a pool end without `atexit`.
        multiprocessing.util.Finalize(self, self.stop, exitpriority=10)

    def _wait_for(self, url_file: Path) -> str | None:
        deadline = time.monotonic() + START_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if url_file.exists() and (url := url_file.read_text().strip()):
                return url
            time.sleep(0.02)
        if self._process.poll() is None:
            self._process.kill()
        return None

    def stop(self):
        if os.getpid() != self._owner or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            print("bailiwick: the server did not stop within 15 s and was killed", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
