"""bailiwick as a guard of tasks with several agents: a `MultiGuard` with the factory `from_env()`.

Every agent has a key and an identity of its own, every hop a grant and a token of its own. The declaration becomes
the task's permitted action chain: who may take which step, who may hand on to whom, which fields of a payload are
delivered. Everything goes through the public HTTP API, and what is refused is refused there: an agent that presents
another's handle presents that handle's token, with its own key.

| variable | meaning |
|---|---|
| `GUARD_MANIFEST` | the tools; default: the kit's `guardbench/tools.json`, as a package or in `GUARD_KIT` |
| `BAILIWICK_URL`, `BAILIWICK_KEY` | use this server, as the operator with this key, instead of starting one |
| `BAILIWICK_BIN` | the binary to start; default: on the path, else in `target/` |

A server of its own is started with a test clock, which `advance` moves.
"""
from __future__ import annotations

import json
import os
import sys
from importlib import resources
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIBLING = HERE.parent / "agentdojo"
if str(SIBLING) not in sys.path:
    sys.path.insert(0, str(SIBLING))

import bailiwick_convert as convert  # noqa: E402
import bailiwick_keys  # noqa: E402
from bailiwick_client import REPOSITORY, Connection, Holder, Person, Refused, Server, new_person_key  # noqa: E402
from bailiwick_keys import AgentKey  # noqa: E402
from multiguard.interface import ALLOWED, DENIED, NEEDS_APPROVAL, Handoff, MultiGuard, Outcome  # noqa: E402

INTENT_BYTES_MAX = 4000  # the longest intent a task may have
HANDOFFS_EACH = 64  # how often one agent may hand on to the next in one task
PASSED = ("items", "note")  # the fields of a payload that reach the next agent


class Agent:
    """A registered agent: its name here, its id and SPIFFE id there, its key."""

    def __init__(self, name: str, id_: str, spiffe: str, key: AgentKey):
        self.name, self.id, self.spiffe, self.key = name, id_, spiffe, key


class House:
    """One control plane with one organisation in it: its domains, people, tools and agents."""

    def __init__(self):
        url, key = os.environ.get("BAILIWICK_URL"), os.environ.get("BAILIWICK_KEY")
        if not url:
            self.server = Server("--test-clock")
            url, key = self.server.url, self.server.operator_key
        elif not key:
            raise ValueError("BAILIWICK_URL needs BAILIWICK_KEY, an operator's key")
        self.connection = Connection(url)
        self.operator = Person(self.connection, key)
        self.mark = os.urandom(4).hex()  # others may share the server
        self.initiator = self.person("initiator", [])
        self.owner = f"owner-{self.mark}@eval.local"
        self.person("owner", [])
        self.people: dict[str, Person] = {}
        self.suites: set[str] = set()
        self.agents: dict[tuple, Agent] = {}
        self._set_policies()
        if bailiwick_keys.ahead_s:
            self.advance(bailiwick_keys.ahead_s)

    def _set_policies(self):
        """The policies in force, with the file beside the other guard in place of the one of the same name."""
        sources = self.operator.send("GET", "/v1/policies")["policies"]
        for source in sources:
            if source["name"] == "defaults/destruction.cedar":
                source["text"] = (SIBLING / "destruction.cedar").read_text()
        self.operator.send("PUT", "/v1/policies", sources)

    def person(self, name: str, groups: list[str]) -> Person:
        key, kept = new_person_key()
        self.operator.send("POST", "/v1/people", {"id": f"{name}-{self.mark}@eval.local", "groups": groups, "keys": [kept]})
        return Person(self.connection, key)

    def approver(self, name: str) -> Person:
        name = convert.label(name)
        if name not in self.people:
            self.people[name] = self.person(f"approver-{name}", ["approvers"])
        return self.people[name]

    def add_suite(self, suite: str, tools: dict):
        if suite in self.suites:
            return
        directory = self.operator.send("GET", "/v1/directory")
        domains = {d.lower() for d in tools[suite].get("_own_domains", [])} | set(directory["own_domains"])
        self.operator.send("PUT", "/v1/directory", {**directory, "own_domains": sorted(domains)})
        for manifest in convert.manifests(suite, tools):
            self.operator.send("PUT", f"/v1/tools/{manifest['tool']}", {"manifest": manifest})
        self.suites.add(suite)

    def line(self, suite: str, chain: list[str], may: dict[str, frozenset], tools: dict) -> dict[str, Agent]:
        """The agents of a declaration, each with what it may ever use, and may hand on to those after it, as its
        ceiling. The same names with the same tools are the same agents again."""
        out, below = {}, []
        for name in reversed(chain):
            key = (suite, name, may[name], tuple(below))
            if key not in self.agents:
                self.agents[key] = self._register(suite, name, may[name], below, tools)
            out[name] = self.agents[key]
            below = [out[name].id, *below]
        return out

    def _register(self, suite: str, name: str, may: frozenset, below: list[str], tools: dict) -> Agent:
        ceiling = []
        for tool in convert.tool_names(tools[suite]):
            entry = {"tool": f"{convert.label(suite)}.{tool}", "use": tool in may}
            if below:
                entry["delegate"] = {"to": below, "depth": len(below)}
            if entry["use"] or below:
                ceiling.append(entry)
        own, id_ = AgentKey(), f"{convert.label(name)[:24]}-{self.mark}-{len(self.agents)}"
        said = {"id": id_, "owner": self.owner, "class": "eval", "keys": [own.thumbprint], "ceiling": ceiling}
        return Agent(name, id_, self.operator.send("POST", "/v1/agents", said)["spiffe"], own)

    def advance(self, seconds: int) -> bool:
        try:
            self.operator.send("POST", "/v1/test-clock", {"seconds": seconds})
            return True
        except Refused as no:
            if no.status == 404:
                return False
            raise


class Task:
    """One open task: its agents, its chain, and the grants in it."""

    def __init__(self, house: House, suite: str, declaration: dict, tools: dict, agent: str):
        self.house, self.suite = house, suite
        self.chain = list(declaration.get("chain") or [agent])
        listed = declaration.get("agents") or {}
        every = frozenset(convert.tool_names(tools[suite]))
        self.may = {name: frozenset(listed[name].get("tools", [])) if name in listed else frozenset() for name in self.chain}
        if not listed:
            self.may[agent] = every
        self.ttl_s = int(declaration.get("ttl_s") or 3600)
        self.agents = house.line(suite, self.chain, self.may, tools)
        self.strangers: dict[str, Agent] = {}
        self.steps = [s for s in declaration["steps"] if tools[suite].get(s["tool"], {}).get("effect") != "read"]
        self.id = ""

    def tool(self, name: str) -> str:
        return f"{convert.label(self.suite)}.{name}"

    def who(self, name: str) -> Agent:
        """The authenticated caller. Somebody whom the task does not know has a key, and nothing else."""
        if name in self.agents:
            return self.agents[name]
        if name not in self.strangers:
            id_ = f"{convert.label(name)[:24]}-{self.house.mark}-stranger"
            self.strangers[name] = Agent(name, id_, f"spiffe://bailiwick.internal/agent/{id_}", AgentKey())
        return self.strangers[name]

    def taker(self, tool: str) -> str | None:
        """The agent that takes a step: the first in the line that may use its tool."""
        return next((name for name in self.chain if tool in self.may[name]), None)

    def declared_chain(self, declaration: dict, tools: dict, prompt: str) -> dict:
        """The declared effects in their order, each by the agent that may take it, and the handoffs between."""
        out = convert.chain(self.suite, "unset", declaration, tools, prompt)
        taken, steps = set(), []
        for step in out["steps"]:
            name = self.taker(step["tool"].split(".", 1)[1])
            if name is not None:
                taken.add(step["id"])
                steps.append({**step, "agent": self.agents[name].id, "after": [s for s in step["after"] if s in taken]})
        for giver, taker in zip(self.chain, self.chain[1:]):
            steps.append({
                "id": f"hand-on-{len(steps)}", "agent": self.agents[giver].id, "act": "hand_off", "to": self.agents[taker].id,
                "pass": list(PASSED), "min": 0, "max": HANDOFFS_EACH,
            })
        return {"steps": steps, "reads": "open"}

    def root_capabilities(self, root: str, prompt: str) -> list[dict]:
        """What the first agent holds: its own tools for use, those of the agents after it to hand on. An effect is
        held once per declared step, with that step's arguments."""
        out, after = [], self.chain[self.chain.index(root) + 1:]
        effects = {s["tool"] for s in self.steps}
        for tool in sorted(set().union(*self.may.values())):
            to = [n for n in after if any(tool in self.may[m] for m in after[after.index(n):])]
            if tool not in self.may[root] and not to:
                continue
            entry = {"tool": self.tool(tool), "use": tool in self.may[root]}
            if to:
                entry["delegate"] = {"to": [self.agents[n].id for n in to], "depth": len(to)}
            forms = [self.constraints(s["args"], prompt) for s in self.steps if s["tool"] == tool] if tool in effects else [{}]
            for args in forms:
                entry_with = {**entry, "args": args} if args else entry
                if entry_with not in out:
                    out.append(entry_with)
        return out

    @staticmethod
    def constraints(args: dict, prompt: str = "") -> dict:
        out = {name: convert.constraint(said, prompt) for name, said in args.items()}
        return {name: said for name, said in out.items() if said != "any"}


class Handle:
    """One agent's grant in one task."""

    def __init__(self, task: Task, name: str, grant: str, granted: dict, prompt: str):
        self.task, self.name, self.granted, self.prompt = task, name, granted, prompt
        agent = task.agents[name]
        self.holder = Holder(task.house.connection, agent.key, agent.spiffe, grant)

    def send(self, agent: str, path: str, body: dict):
        """As `agent`: with its own key, whoever's token this is."""
        if agent == self.name:
            return self.holder.send(path, body)
        try:
            stolen = self.holder.token()
        except Refused:
            stolen = "none"
        who = self.task.who(agent)
        thief = Holder(self.holder.connection, who.key, who.spiffe, self.holder.grant)
        return thief.send(path, body, token=stolen)


class Bailiwick(MultiGuard):
    name = "bailiwick"

    def __init__(self, tools: dict):
        self.tools = tools
        self.houses: dict[tuple, House] = {}
        self.questions: dict[str, Handle] = {}

    def open_task(self, prompt, suite, task_id, declaration, agent):
        task = Task(self._house(suite), suite, declaration, self.tools, agent)
        body = {
            "intent": prompt.encode()[:INTENT_BYTES_MAX].decode(errors="ignore"),
            "agent": task.agents[agent].id,
            "chain": task.declared_chain(declaration, self.tools, prompt),
            "capabilities": task.root_capabilities(agent, prompt),
            "ttl_s": task.ttl_s,
            "depth": max(len(task.chain) - 1, 0),
        }
        opened = task.house.initiator.send("POST", "/v1/tasks", body)
        task.id = opened["task"]
        granted = {"use": sorted(task.may[agent]), "ttl_s": task.ttl_s, "depth": body["depth"]}
        return Handle(task, agent, opened["grant"], granted, prompt)

    def handoff(self, handle, from_agent, to_agent, grant, payload):
        task = handle.task
        body = {
            "to": task.who(to_agent).id,
            "capabilities": self._asked(handle, to_agent, grant, grant.get("args") or {}),
            "depth": int(grant.get("depth") or 0),
            "payload": {name: payload[name] for name in payload},
        }
        ttl_s = grant.get("ttl_s")
        if ttl_s is not None and int(ttl_s) < handle.granted["ttl_s"]:
            body["ttl_s"] = max(int(ttl_s), 0)  # asking for at least as long as the parent has is: as long as it has
        if not body["capabilities"]:
            return Handoff(reason="nothing was asked for")
        try:
            made = self._hand_off(handle, from_agent, body)
            if made["effect"] != "allow" and "argument" in made.get("reason", ""):
                # A tool with several declared steps cannot be asked for in one form that lies in all of them:
                # ask again without a form, and get those that were declared.
                steps = [s["tool"] for s in task.steps]
                several = {t: a for t, a in (grant.get("args") or {}).items() if steps.count(t) < 2}
                if several != (grant.get("args") or {}):
                    made = self._hand_off(handle, from_agent, {**body, "capabilities": self._asked(handle, to_agent, grant, several)})
        except Refused as no:
            return Handoff(reason=f"{no.code}: {no.reason}")
        if made["effect"] != "allow":
            return Handoff(reason=made.get("text", "refused"))
        granted = self._granted(handle, made, grant, body)
        child = Handle(task, to_agent, made["grant"], granted, handle.prompt)
        delivered = {"items": made["delivered"].get("items", []), "note": made["delivered"].get("note", "")}
        return Handoff(handle=child, payload=delivered, granted=granted)

    def call(self, handle, agent, tool, args, execute, approval=None):
        ask = {"tool": handle.task.tool(tool), "args": args}
        if approval is not None:
            ask["approval"] = str(approval)
        try:
            answer = self._decide(handle, agent, ask)
        except Refused as no:
            return Outcome(DENIED, reason=f"{no.code}: {no.reason}")
        if answer["effect"] == "ask":
            self.questions[answer["approval"]] = handle
            return Outcome(NEEDS_APPROVAL, reason=answer["text"], request=answer["approval"])
        if answer["effect"] != "allow":
            return Outcome(DENIED, reason=answer.get("text", "refused"))
        result, error = execute()
        self._report(handle, agent, answer["decision"], result, error)
        return Outcome(ALLOWED, result, error)

    def approve(self, request, approver, yes):
        handle = self.questions.get(request)
        if handle is None or approver in handle.task.agents:  # an agent has no key that people sign in with
            return None
        vote = {"vote": "approve"} if yes else {"vote": "deny", "reason": "no"}
        try:
            handle.task.house.approver(str(approver)).send("POST", f"/v1/approvals/{request}/votes", vote)
        except Refused:
            return None
        return request if yes else None

    def close(self, handle):
        task = handle.task
        try:
            task.house.initiator.send("POST", f"/v1/tasks/{task.id}/end", {"cause": "completed"})
        except Refused as no:
            if no.status != 409:  # over already: its window closed, or it froze and was ended
                raise

    def advance(self, seconds):
        """Moves the clocks of all servers, and with them the time at which agents sign."""
        houses = list(self.houses.values()) or [self._house(next(iter(self.tools)))]
        if not all([house.advance(int(seconds)) for house in houses]):
            return False
        bailiwick_keys.ahead_s += int(seconds)
        return True

    def _house(self, suite: str) -> House:
        """Suites with the same own domains share a control plane: one directory is one organisation."""
        own = () if os.environ.get("BAILIWICK_URL") else tuple(sorted(self.tools.get(suite, {}).get("_own_domains", [])))
        if own not in self.houses:
            self.houses[own] = House()
        self.houses[own].add_suite(suite, self.tools)
        return self.houses[own]

    @staticmethod
    def _asked(handle: Handle, to_agent: str, grant: dict, args: dict) -> list[dict]:
        """The grant request as capabilities, one per tool."""
        task, out = handle.task, []
        use, delegate = list(grant.get("use") or []), list(grant.get("delegate") or [])
        after = task.chain[task.chain.index(to_agent) + 1:] if to_agent in task.chain else []
        for tool in dict.fromkeys(use + delegate):
            asked = {"tool": task.tool(tool), "use": tool in use}
            said = task.constraints(args.get(tool) or {}, handle.prompt)
            if said:
                asked["args"] = said
            if tool in delegate:
                to = [task.agents[name].id for name in after] or [task.who(to_agent).id]
                asked["delegate"] = {"to": to, "depth": max(int(grant.get("depth") or 0), 1)}
            out.append(asked)
        return out

    @staticmethod
    def _hand_off(handle: Handle, agent: str, body: dict) -> dict:
        try:
            return handle.send(agent, "/v1/handoffs", body)
        except Refused as no:
            if "effect" in no.body:
                return no.body
            raise

    @staticmethod
    def _granted(handle: Handle, made: dict, grant: dict, body: dict) -> dict:
        """What the child holds, as the server granted it, in the words of the request."""
        short = lambda c: c["tool"].split(".", 1)[1]
        held = made["capabilities"]
        depth = max((c["delegate"]["depth"] for c in held if c.get("delegate")), default=0)
        args = {}
        for step in handle.task.steps:
            if any(short(c) == step["tool"] for c in held):
                args.setdefault(step["tool"], dict(step["args"]))
        for tool, said in (grant.get("args") or {}).items():
            if any(short(c) == tool for c in held) and [s["tool"] for s in handle.task.steps].count(tool) < 2:
                args[tool] = {**args.get(tool, {}), **{k: v for k, v in said.items() if v is not None}}
        return {
            "use": sorted({short(c) for c in held if c.get("use", True)}),
            "delegate": sorted({short(c) for c in held if c.get("delegate")}),
            "args": args,
            "ttl_s": body.get("ttl_s", handle.granted["ttl_s"]),
            "depth": depth,
        }

    @staticmethod
    def _decide(handle: Handle, agent: str, ask: dict) -> dict:
        try:
            return handle.send(agent, "/v1/decisions", ask)
        except Refused as no:
            if "effect" in no.body:  # refused at the door, with a decision that says so
                return no.body
            raise

    @staticmethod
    def _report(handle: Handle, agent: str, decision: str, result, error):
        path = f"/v1/decisions/{decision}/outcome"
        failed = {"status": "failed", "note": str(error)[:500]}
        try:
            handle.send(agent, path, failed if error is not None else {"status": "done", "result": result})
        except Refused as no:
            if no.status not in (400, 413, 422):
                return  # the task ended meanwhile: what came of the call stays unknown, and explains nothing
            handle.send(agent, path, {"status": "done"})


def manifest() -> dict:
    """The tools, as an operator states them."""
    if named := os.environ.get("GUARD_MANIFEST"):
        return json.loads(Path(named).read_text())
    try:
        return json.loads(resources.files("guardbench").joinpath("tools.json").read_text())
    except ModuleNotFoundError:
        kit = Path(os.environ.get("GUARD_KIT") or REPOSITORY.parent / "shared" / "eval" / "agentdojo")
        return json.loads((kit / "guardbench" / "tools.json").read_text())


def from_env() -> Bailiwick:
    return Bailiwick(manifest())
