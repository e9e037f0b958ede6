"""bailiwick as a guard of the benchmark kit: `--guards bailiwick_guard:from_env`.

Registers what the manifest file states, opens a task per user task, asks for a decision before every call and
reports what came of it, all through the public HTTP API. What the harness's human approves is voted for by a
person who may. Decides nothing itself.

| variable | meaning |
|---|---|
| `GUARD_MANIFEST` | the tools; default: the kit's `guardbench/tools.json` |
| `BAILIWICK_URL`, `BAILIWICK_KEY` | use this server, as the operator with this key, instead of starting one |
| `BAILIWICK_BIN` | the binary to start; default: on the path, else in `target/` |
| `GUARD_TIMES` | append how long decisions took, one JSON line per process |
"""
from __future__ import annotations

import json
import multiprocessing.util
import os
import statistics
import time
from importlib import resources
from pathlib import Path

import bailiwick_convert as convert
from bailiwick_client import Connection, Holder, Person, Refused, Server, new_person_key
from bailiwick_keys import AgentKey
from guardbench.guards import ALLOWED, DENIED, NEEDS_APPROVAL, Guard, Outcome

HERE = Path(__file__).resolve().parent
INTENT_BYTES_MAX = 4000  # the longest intent a task may have


class House:
    """One control plane with one suite's organisation in it: its domains, its people, its agents and tools."""

    def __init__(self):
        self.server = None
        url, key = os.environ.get("BAILIWICK_URL"), os.environ.get("BAILIWICK_KEY")
        if not url:
            self.server = Server()
            url, key = self.server.url, self.server.operator_key
        elif not key:
            raise ValueError("BAILIWICK_URL needs BAILIWICK_KEY, an operator's key")
        self.connection = Connection(url)
        self.operator = Person(self.connection, key)
        self.mark = os.urandom(4).hex()  # several processes may share a server, each with people and agents of its own
        self.initiator = self._person(f"initiator-{self.mark}@agentdojo.local", [])
        self.approver = self._person(f"approver-{self.mark}@agentdojo.local", ["approvers"])
        self.agents: dict[str, tuple[str, str, AgentKey]] = {}
        self._set_policies()

    def _set_policies(self):
        """The policies in force, with the file here that bears the same name in place of theirs."""
        sources = self.operator.send("GET", "/v1/policies")["policies"]
        for source in sources:
            if source["name"] == "defaults/destruction.cedar":
                source["text"] = (HERE / "destruction.cedar").read_text()
                return self.operator.send("PUT", "/v1/policies", sources)
        raise RuntimeError("the server has no policies `defaults/destruction.cedar` to replace")

    def _person(self, name: str, groups: list[str]) -> Person:
        key, kept = new_person_key()
        self.operator.send("POST", "/v1/people", {"id": name, "groups": groups, "keys": [kept]})
        return Person(self.connection, key)

    def agent(self, suite: str, tools: dict) -> tuple[str, str, AgentKey]:
        """The suite's agent: its name, its SPIFFE ID and its key. Registered with its tools when first asked for."""
        if suite not in self.agents:
            directory = self.operator.send("GET", "/v1/directory")
            domains = {d.lower() for d in tools[suite].get("_own_domains", [])} | set(directory["own_domains"])
            self.operator.send("PUT", "/v1/directory", {**directory, "own_domains": sorted(domains)})
            for manifest in convert.manifests(suite, tools):
                self.operator.send("PUT", f"/v1/tools/{manifest['tool']}", {"manifest": manifest})
            key = AgentKey()
            name = f"{convert.label(suite)}-{self.mark}"
            agent = {"id": name, "owner": f"approver-{self.mark}@agentdojo.local", "class": "benchmark", "keys": [key.thumbprint]}
            seen = self.operator.send("POST", "/v1/agents", {**agent, "ceiling": convert.ceiling(suite, tools)})
            self.agents[suite] = (name, seen["spiffe"], key)
        return self.agents[suite]


class Task:
    """One open task, its agent, and the questions that wait."""

    def __init__(self, house: House, suite: str, task: str, holder: Holder):
        self.house, self.suite, self.id, self.holder = house, suite, task, holder
        self.waiting: dict[str, str] = {}


class Bailiwick(Guard):
    name = "bailiwick"

    def __init__(self, tools: dict):
        self.tools = tools
        self.houses: dict[tuple, House] = {}
        self.times: list[float] = []
        self._owner = os.getpid()
        if os.environ.get("GUARD_TIMES"):
            multiprocessing.util.Finalize(self, self._write_times, exitpriority=20)

    def open_task(self, user_prompt, suite, task_id, declaration=None):
        house = self._house(suite)
        agent, spiffe, key = house.agent(suite, self.tools)
        body = {"intent": clipped(user_prompt), "agent": agent}
        if declaration is not None:
            body["chain"] = convert.chain(suite, agent, declaration, self.tools, user_prompt)
        opened = house.initiator.send("POST", "/v1/tasks", body)
        return Task(house, suite, opened["task"], Holder(house.connection, key, spiffe, opened["grant"]))

    def call(self, handle, tool, args, execute, approved=False):
        act = json.dumps([tool, args], sort_keys=True, default=str)
        ask = {"tool": f"{convert.label(handle.suite)}.{tool}", "args": args}
        try:
            if approved:
                approval = handle.waiting.pop(act)
                handle.house.approver.send("POST", f"/v1/approvals/{approval}/votes", {"vote": "approve"})
                ask["approval"] = approval
            answer = self._decide(handle, ask)
        except Refused as no:
            return Outcome(DENIED, reason=f"{no.code}: {no.reason}")
        if answer["effect"] == "ask":
            handle.waiting[act] = answer["approval"]
            return Outcome(NEEDS_APPROVAL, reason=answer["text"])
        if answer["effect"] != "allow":
            return Outcome(DENIED, reason=answer.get("text", "refused"))
        result, error = execute()
        self._report(handle, answer["decision"], result, error)
        return Outcome(ALLOWED, result, error)

    def close_task(self, handle):
        handle.house.initiator.send("POST", f"/v1/tasks/{handle.id}/end", {"cause": "completed"})

    def _house(self, suite: str) -> House:
        """Suites with the same own domains share a control plane: one directory is one organisation."""
        own = tuple(sorted(self.tools[suite].get("_own_domains", [])))
        if os.environ.get("BAILIWICK_URL"):
            own = ()
        if own not in self.houses:
            self.houses[own] = House()
        return self.houses[own]

    def _decide(self, handle: Task, ask: dict) -> dict:
        handle.holder.token()  # not part of a decision
        begun = time.perf_counter()
        try:
            return handle.holder.send("/v1/decisions", ask)
        except Refused as no:
            if "effect" in no.body:  # refused at the door, with a decision that says so
                return no.body
            raise
        finally:
            self.times.append(time.perf_counter() - begun)

    def _report(self, handle: Task, decision: str, result, error):
        path = f"/v1/decisions/{decision}/outcome"
        if error is not None:
            return handle.holder.send(path, {"status": "failed", "note": str(error)[:500]})
        try:
            handle.holder.send(path, {"status": "done", "result": result})
        except Refused as no:
            if no.status not in (400, 413, 422):
                raise
            # What cannot be read strictly explains nothing, but it happened.
            handle.holder.send(path, {"status": "done"})

    def _write_times(self):
        if os.getpid() == self._owner and self.times:
            ms = sorted(1000 * t for t in self.times)
            at = lambda share: round(ms[min(len(ms) - 1, int(share * len(ms)))], 3)
            line = {"decisions": len(ms), "mean_ms": round(statistics.fmean(ms), 3), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "load": os.getloadavg()}
            with open(os.environ["GUARD_TIMES"], "a") as out:
                out.write(json.dumps(line) + "\n")


def clipped(prompt: str) -> str:
    """As much of the prompt as an intent may have; what is cut off explains no value."""
    return prompt.encode()[:INTENT_BYTES_MAX].decode(errors="ignore")


def from_env() -> Bailiwick:
    path = os.environ.get("GUARD_MANIFEST")
    if path:
        with open(path) as file:
            return Bailiwick(json.load(file))
    return Bailiwick(json.loads(resources.files("guardbench").joinpath("tools.json").read_text()))
