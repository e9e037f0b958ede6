"""The program itself between stock MCP clients and stock MCP servers.

`bailiwick up` runs with two foreign tool servers as its systems. Some of their tools are classified, the others are
left as they appeared. For every client a person opens a task with a chain, and the client is given nothing but
`bailiwick connect`. What really happened is read from the files, never from what a client was told.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
AGENT = "helper"
WITHIN = 150  # seconds for anything to answer; an overloaded machine is slow, not wrong
WORDS = "the meeting is on Tuesday"

# What the agent could ever be given. More than any task gives it.
CEILING = ["files.read_text_file", "files.write_file", "files.create_directory", "files.directory_tree", "every.echo",
           "every.get-env"]
CLASSIFIED = [
    {"tool": "files.read_text_file", "effect": "read", "args": {"path": {"role": "selector", "required": True}}},
    {"tool": "files.list_directory", "effect": "read", "args": {"path": {"role": "selector", "required": True}}},
    {"tool": "files.write_file", "effect": "update", "reversible": True,
     "args": {"path": {"role": "selector", "required": True}, "content": {"role": "content", "required": True}}},
    {"tool": "files.create_directory", "effect": "create", "reversible": True,
     "args": {"path": {"role": "selector", "required": True}}},
    {"tool": "every.echo", "effect": "read", "args": {"message": {"role": "free", "required": True}}},
]
LISTED = {"files__read_text_file", "files__write_file", "every__echo"}
CHAIN = {
    "reads": "declared",
    "steps": [
        {"id": "look", "agent": AGENT, "act": "call", "tool": "files.read_text_file",
         "args": {"path": {"input": "notes"}}, "max": 20},
        {"id": "say", "agent": AGENT, "act": "call", "tool": "every.echo", "args": {"message": "any"}, "min": 0,
         "max": 20},
        {"id": "write", "agent": AGENT, "act": "call", "tool": "files.write_file",
         "args": {"path": {"input": "report"}, "content": "any"}, "after": ["look"]},
    ],
}


class Product:
    """A node with its own folder, and the commands of the person who runs it."""

    def __init__(self, program, cache, port):
        self.program, self.cache = program, cache
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bailiwick-product-"))
        self.files = self.folder / "files"
        self.files.mkdir()
        self.config = self.folder / "bailiwick.yaml"
        self.config.write_text(json.dumps(self.configuration(port)))  # JSON is YAML
        self.surroundings = {k: v for k, v in os.environ.items() if not k.startswith("BAILIWICK_")}
        with open(cache / "product.log", "w") as log:
            self.node = subprocess.Popen([program, "--config", self.config, "up"], stdin=subprocess.DEVNULL,
                                         stdout=log, stderr=log, cwd=self.folder, env=self.surroundings)
        try:
            self.until_up()
            self.until_classified()
            self.tell("agent", "add", AGENT, *[word for tool in CEILING for word in ("--may", tool)])
        except BaseException:
            self.stop()
            raise

    def configuration(self, port):
        node = shutil.which("node")
        servers = self.cache / "node_modules" / "@modelcontextprotocol"
        script = {name: str(servers / name / "dist" / "index.js") for name in ("server-filesystem", "server-everything")}
        return {
            "version": 1, "listen": f"127.0.0.1:{port}", "data": "./data",
            "systems": {
                "files": {"stdio": {"command": node, "args": [script["server-filesystem"], str(self.files)]}},
                "every": {"stdio": {"command": node, "args": [script["server-everything"], "stdio"]}},
            },
            "tools": CLASSIFIED,
        }

    def tell(self, *words):
        """One command of the operator; gives what it prints, read as JSON."""
        done = subprocess.run([self.program, "--config", self.config, "--json", *words], capture_output=True, text=True,
                              timeout=WITHIN, cwd=self.folder, env=self.surroundings)
        if done.returncode != 0:
            raise AssertionError(f"`bailiwick {' '.join(words[:2])}` exit {done.returncode}: {done.stderr[-800:]}")
        return json.loads(done.stdout)

    def until_up(self):
        """A node writes down where it is as soon as it answers."""
        deadline = time.monotonic() + WITHIN
        while not (self.folder / "data" / "server.url").exists():
            if self.node.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("`bailiwick up` did not come up; see target/interop/product.log")
            time.sleep(0.05)

    def until_classified(self):
        deadline, missing = time.monotonic() + WITHIN, True
        while missing and time.monotonic() < deadline:
            tools = {tool["tool"]: tool for tool in self.tell("tool", "ls")}
            pinned = {name for name, tool in tools.items() if tool["standing"] == "classified" and tool.get("pin")}
            missing = {m["tool"] for m in CLASSIFIED} - pinned or {"every.get-env", "files.directory_tree"} - tools.keys()
            time.sleep(0.1)
        if missing:
            raise SystemExit(f"these tools did not appear: {sorted(missing)}; see target/interop/product.log")

    def open_task(self, name):
        """A task of its own with files of its own."""
        notes, report = self.files / f"{name}-notes.txt", self.files / f"{name}-report.txt"
        notes.write_text(WORDS + "\n")
        report.write_text("nothing yet\n")
        template = self.folder / f"{name}.yaml"
        template.write_text(json.dumps({"agent": AGENT, "chain": CHAIN, "ttl": "10m"}))
        opened = self.tell("task", "open", "--intent", "Write a report from the notes", "--template", str(template),
                           "--var", f"notes={notes}", "--var", f"report={report}")
        return Task(self, opened["task"], notes, report)

    def stop(self):
        self.node.send_signal(signal.SIGTERM)
        try:
            self.node.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.node.kill()
            self.node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Task:
    """An open task, its two files, and the command a client starts as its tool server."""

    def __init__(self, product, task, notes, report):
        self.product, self.id, self.notes, self.report = product, task, notes, report

    def connector(self):
        words = [self.product.program, "--config", self.product.config, "connect", "--agent", AGENT, "--task", self.id]
        return [str(word) for word in words]

    def kill(self):
        self.product.tell("kill", "task", self.id, "--reason", "the person changed their mind")

    def refusals(self):
        return self.product.tell("task", "show", self.id)["summary"]["refusals"]


class Session:
    """A Python client that stays connected and takes one step after another."""

    looks_first = False

    def __init__(self, product, program, script, task, *more):
        command = [program, HERE / script, json.dumps(task.connector()), "-", *more]
        self.errors = open(product.folder / f"session-{task.id}.log", "w+")
        self.client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                       text=True, env=product.surroundings)
        self.tools = set(self.answer()["tools"])

    def answer(self):
        line = self.client.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise AssertionError(f"the client ended: {self.errors.read()[-1200:]}")
        return json.loads(line)

    def call(self, tool, **arguments):
        self.client.stdin.write(json.dumps([tool, arguments]) + "\n")
        self.client.stdin.flush()
        return self.answer()

    def close(self):
        self.client.stdin.close()
        try:
            self.client.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.client.kill()
            self.client.wait()
        self.client.stdout.close()
        self.errors.close()


class Inspector:
    """The inspector's command line: one process, and so one connection, for each step."""

    looks_first = True  # it lists, and does not call what is not there

    def __init__(self, product, program, task):
        self.product = product
        # It would take the connector's options for its own; a file keeps them apart.
        spec = product.folder / f"inspector-{task.id}.json"
        command, *args = task.connector()
        spec.write_text(json.dumps({"mcpServers": {"bailiwick": {"command": command, "args": args}}}))
        self.command = [program, "--cli", "--config", spec, "--server", "bailiwick"]
        self.tools = {tool["name"] for tool in self.ask("tools/list")["tools"]}

    def ask(self, method, *more):
        done = subprocess.run([*self.command, "--method", method, *more], capture_output=True, text=True, timeout=WITHIN,
                              env=self.product.surroundings)
        if "{" not in done.stdout:
            raise Refused(f"exit {done.returncode}: {(done.stderr or done.stdout)[-1200:]}")
        return json.loads(done.stdout[done.stdout.index("{"):])

    def call(self, tool, **arguments):
        words = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
        try:
            result = self.ask("tools/call", "--tool-name", tool, *words)
        except Refused as refused:
            return {"texts": [str(refused)], "error": True, "result": False}
        return {"texts": [item.get("text", item["type"]) for item in result["content"]],
                "error": bool(result.get("isError")), "result": True}

    def close(self):
        pass


class Refused(AssertionError):
    """The other side answered with an error instead of a result."""


def words_of(answer):
    return "\n".join(answer["texts"])


def must_work(answer, want):
    assert not answer["error"] and re.search(want, words_of(answer)), f"it did not work: {words_of(answer)[:400]}"


def must_be_refused(answer, want):
    """A result that a model reads, marked as an error, with the reason in it."""
    assert answer["error"], f"it was let through: {words_of(answer)[:400]}"
    assert answer["result"], f"no result but an error of the protocol: {words_of(answer)[:400]}"
    assert re.search(want, words_of(answer)), f"the reason did not arrive: {words_of(answer)[:400]}"


def must_be_out_of_reach(client, answer, want):
    """The same for a tool that is not listed; a client that looks first does not even ask."""
    if client.looks_first:
        assert answer["error"] and "tool_not_found" in words_of(answer), words_of(answer)[-400:]
    else:
        must_be_refused(answer, want)


# ---- the cases, in the order in which a task lives ----------------------------------------------------------------


# proves: X1, Z2
def list_shows_only_what_the_task_could_allow(client, task):
    shown = {tool for tool in client.tools if not tool.startswith("bailiwick__")}
    assert shown == LISTED, f"listed: {sorted(shown)}"


# proves: D3, A40
def an_unclassified_tool_is_not_listed_and_is_refused(client, task):
    for tool, arguments in [("files__directory_tree", {"path": str(task.product.files)}), ("every__get-env", {})]:
        assert tool not in client.tools, f"{tool} is listed"
        answer = client.call(tool, **arguments)
        must_be_out_of_reach(client, answer, "is not a classified tool .*An operator must classify it")
        assert "PATH" not in words_of(answer) and task.notes.name not in words_of(answer), "it ran all the same"


# proves: T2, D4
def a_step_before_its_turn_is_refused_and_writes_nothing(client, task):
    must_be_refused(client.call("files__write_file", path=str(task.report), content="too early"),
                    "step `write` must wait for step `look`")
    assert task.report.read_text() == "nothing yet\n"


# proves: X1, X4
def allowed_calls_reach_both_servers_and_really_read(client, task):
    must_work(client.call("files__read_text_file", path=str(task.notes)), WORDS)
    must_work(client.call("every__echo", message="near"), "near")


# proves: T3, T4, D1
def the_same_tool_on_another_file_is_refused_and_recorded(client, task):
    other, before = task.product.files / "other.txt", task.refusals()
    other.write_text("a secret of somebody else\n")
    answer = client.call("files__read_text_file", path=str(other))
    must_be_refused(answer, "argument `path` is not what step `look` declares")
    assert "somebody else" not in words_of(answer)
    must_be_refused(client.call("files__write_file", path=str(other), content="overwritten"),
                    "argument `path` is not what step `write` declares")
    assert other.read_text() == "a secret of somebody else\n"
    assert task.refusals() == before + 2, "the refusals are not in the record"


# proves: T3
def a_tool_of_the_ceiling_that_the_chain_does_not_name_is_refused(client, task):
    new = task.product.files / "new"
    must_be_out_of_reach(client, client.call("files__create_directory", path=str(new)), "not among what was granted")
    assert not new.exists(), "it ran all the same"


# proves: D6
def what_nobody_has_described_is_refused_with_a_next_step(client, task):
    must_be_out_of_reach(client, client.call("nosuch__tool", path="x"), "An operator must classify it")
    unknown = client.call("files__read_text_file", path=str(task.notes), head="1")
    must_be_refused(unknown, "no declared argument `head` .*Call it with the arguments")


# proves: X1, T2
def the_declared_write_really_writes_and_only_once(client, task):
    must_work(client.call("files__write_file", path=str(task.report), content="Tuesday it is"), "(?i)wrote")
    assert task.report.read_text() == "Tuesday it is"
    must_be_refused(client.call("files__write_file", path=str(task.report), content="again"),
                    "step `write` has been taken 1 of 1 times")
    assert task.report.read_text() == "Tuesday it is"


# proves: R5, INV2, Z3
def after_a_kill_the_next_call_is_refused(client, task):
    must_work(client.call("files__read_text_file", path=str(task.notes)), WORDS)
    task.kill()
    answer = client.call("files__read_text_file", path=str(task.notes))
    assert WORDS not in words_of(answer), "it was let through"
    if client.looks_first:  # a new connection, for which no token is minted any more
        assert answer["error"] and "the task is over" in words_of(answer), words_of(answer)[-400:]
    else:
        must_be_refused(answer, "the task is over: the person changed their mind")


STORY = [
    list_shows_only_what_the_task_could_allow,
    an_unclassified_tool_is_not_listed_and_is_refused,
    a_step_before_its_turn_is_refused_and_writes_nothing,
    allowed_calls_reach_both_servers_and_really_read,
    the_same_tool_on_another_file_is_refused_and_recorded,
    a_tool_of_the_ceiling_that_the_chain_does_not_name_is_refused,
    what_nobody_has_described_is_refused_with_a_next_step,
    the_declared_write_really_writes_and_only_once,
    after_a_kill_the_next_call_is_refused,
]


def cases(product):
    """Every client lives through the whole story, each in a task of its own."""
    cache = product.cache
    python = {name: cache / name / "bin" / "python" for name in ("py1", "py2")}
    clients = {
        "mcp 1.x": lambda task: Session(product, python["py1"], "client_v1.py", task),
        "mcp 2.x (auto)": lambda task: Session(product, python["py2"], "client_v2.py", task, "auto"),
        "mcp 2.x (legacy)": lambda task: Session(product, python["py2"], "client_v2.py", task, "legacy"),
        "inspector": lambda task: Inspector(product, cache / "node_modules" / ".bin" / "inspector", task),
    }
    for name, connect in clients.items():
        story = Story(product, re.sub(r"\W+", "-", name), connect)
        for case in STORY:
            yield f"product, {name}: {case.__name__.replace('_', ' ')}", lambda s=story, c=case: s.live(c)
        story.end()
    for case in (a_stranger_with_another_key_gets_nothing, without_a_token_the_gateway_says_nothing):
        yield f"product: {case.__name__.replace('_', ' ')}", lambda c=case: c(product)


class Story:
    """One client in one task; begun with the first case and ended after the last."""

    def __init__(self, product, name, connect):
        self.product, self.name, self.connect, self.client, self.task = product, name, connect, None, None

    def live(self, case):
        if self.client is None:
            self.task = self.product.open_task(self.name)
            self.client = self.connect(self.task)
        case(self.client, self.task)

    def end(self):
        if self.client is not None:
            with contextlib.suppress(OSError):
                self.client.close()


# proves: I1
def a_stranger_with_another_key_gets_nothing(product):
    task = product.open_task("stranger")
    product.tell("agent", "add", "stranger")
    key = product.folder / "data" / "keys" / "agents" / "stranger.p8"
    assert key.exists()
    own, other = (greeted(product, task.connector() + more) for more in ([], ["--key", str(key)]))
    assert '"files__read_text_file"' in own, own[-800:]
    assert "files__" not in other and "does not prove a registered agent" in other, other[-800:]


def greeted(product, command):
    """What a connector says to a client that introduces itself, waits for the answer, and lists the tools."""
    hello, ready, listing = GREETING.splitlines(keepends=True)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=product.surroundings) as client:
        client.stdin.write(hello)
        client.stdin.flush()
        first = client.stdout.readline()
        rest, _ = client.communicate(ready + listing, timeout=WITHIN)
    return first + rest


# proves: X1
def without_a_token_the_gateway_says_nothing(product):
    url = (product.folder / "data" / "server.url").read_text().strip() + "/mcp"
    request = urllib.request.Request(url, GREETING.splitlines()[2].encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            raise AssertionError(f"it was let in without a word: {answer.read(400)}")
    except urllib.error.HTTPError as refused:
        words = refused.read().decode()
        assert refused.code == 401 and "files__" not in words, f"{refused.code} {words[:400]}"


GREETING = "".join(json.dumps(message) + "\n" for message in [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize",
     "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "stranger", "version": "1"}}},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}},
])
