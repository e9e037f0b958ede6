"""The benchmark's words in bailiwick's words: tool manifests, agents and permitted action chains.

Pure functions over plain data, no network. Nothing here knows a task, a suite or a tool by name: what they give
depends on the manifest file and on the declaration alone. Where a declaration says something that a chain cannot
say exactly, the chain is the stricter of the two.
"""
from __future__ import annotations

import re
import sys

try:
    import re._parser as regex  # Python 3.11 and later
except ImportError:
    import sre_parse as regex

EFFECTS = {"read": "read", "write": "update", "egress": "egress", "destroy": "delete"}
ROLES = {"target", "selector", "content", "data", "secret", "free"}
HOLE_MAX = 120  # a template's hole is 1 to 120 characters on one line
ASCII_LOWER = str.maketrans({chr(c): chr(c + 32) for c in range(ord("A"), ord("Z") + 1)})


def label(name: str) -> str:
    """A name that bailiwick accepts for a system or an agent: a-z, 0-9, `-` and `_`."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return plain[:48] or "suite"


def tool_names(suite: dict) -> list[str]:
    return [name for name in suite if not name.startswith("_")]


# --- what an operator states once -----------------------------------------------------------


def manifest(suite: str, tool: str, spec: dict, kinds: dict) -> dict:
    """One tool. The file lists no arguments for reads: they stay open to any, since a read steers nothing. It does
    not say what can be undone: a change of one's own things can, one that reaches somebody else cannot be relied on
    to. A call that fails has changed nothing: the kit counts an effect only when the tool ran without an error."""
    effect = EFFECTS.get(spec.get("effect"), "delete")  # unknown: the strictest
    roles = {name: role if role in ROLES else "target" for name, role in spec.get("args", {}).items()}
    records = record_kinds(kinds)
    of = record_of(tool, effect, spec.get("result"), records)
    out = {
        "tool": f"{label(suite)}.{tool}",
        "effect": effect,
        "reversible": effect == "read" or (effect == "update" and "target" not in roles.values()),
        "atomic": True,
        "args": {name: argument(name, role, records) for name, role in roles.items()},
        "result": [typed(rule(r), of) for r in kinds.get(spec.get("result"), [])],
        "reported_by_caller": True,  # the guard holds the agents' keys, makes the calls and reports what came of them
    }
    if effect == "read":
        out["open_args"] = True
    return out


def record_kinds(kinds: dict) -> list[str]:
    """The result kinds that are records: they have an id."""
    return [kind for kind, rules in kinds.items() if any(is_id(r) for r in rules)]


def is_id(rule: dict) -> bool:
    return rule["path"] in ("id", "id_") and rule["trust"] == "exact"


def record_of(tool: str, effect: str, result: str | None, records: list[str]) -> str | None:
    """The type of the records in a tool's result: the result's kind; for an effect, what its name says that it makes
    (`create_file` gives a `created`, which is a file)."""
    if result not in records:
        return None
    named = [kind for kind in records if kind in tool and effect != "read"]
    return named[0] if len(named) == 1 else result


def argument(name: str, role: str, records: list[str]) -> dict:
    """An argument: `file_id` is the id of a file, on its own or inside of one that selects things."""
    out = {"role": role}
    if name.endswith("_id") and name[:-3] in records:
        out["type"] = f"record:{name[:-3]}"
    elif role == "selector":
        out["members"] = {f"{kind}_id": f"record:{kind}" for kind in records}
    return out


def typed(rule: dict, of: str | None) -> dict:
    return {**rule, "type": f"record:{of}", "assigned": True} if of is not None and is_id(rule) else rule


def rule(given: dict) -> dict:
    """A rule about one field of a result."""
    out = {"path": given["path"], "trust": given["trust"]}
    if "when" in given:
        when = dict(given["when"])
        out["when"] = {"field": when.pop("field")}
        if when.pop("domain", None) == "own":
            out["when"]["own_domain"] = True
        for key in ("in", "not"):
            if key in when:
                out["when"][key] = when.pop(key)
        if when:
            raise ValueError(f"a condition of a result rule is not understood: {sorted(when)}")
    return out


def manifests(suite: str, tools: dict) -> list[dict]:
    kinds = tools.get("_result_kinds", {})
    return [manifest(suite, name, tools[suite][name], kinds) for name in tool_names(tools[suite])]


def ceiling(suite: str, tools: dict) -> list[dict]:
    """What the suite's agent could ever be given: each tool by its own name."""
    return [{"tool": f"{label(suite)}.{name}"} for name in tool_names(tools[suite])]


def is_fetch(spec: dict, kinds: dict) -> bool:
    """Something sent out only to get foreign content back: nothing else in the world depends on it."""
    return spec.get("effect") == "egress" and kinds.get(spec.get("result")) == []


# --- what a person declares per task --------------------------------------------------------


def chain(suite: str, agent: str, declaration: dict, tools: dict, prompt: str) -> dict:
    """The declared steps as a permitted action chain: effects once each, in the declared order, with no argument
    that the step does not name; reads at any time. A fetch may be left out, as its content may not be needed."""
    kinds, steps, before = tools.get("_result_kinds", {}), [], []
    for place, step in enumerate(declaration["steps"]):
        spec = tools[suite].get(step["tool"], {})
        if spec.get("effect") == "read":
            continue
        name = f"step-{place}"
        steps.append({
            "id": name,
            "agent": agent,
            "act": "call",
            "tool": f"{label(suite)}.{step['tool']}",
            "args": {k: constraint(v, prompt) for k, v in step["args"].items()},
            "after": list(before),
            "min": 0 if is_fetch(spec, kinds) else 1,
            "max": 1,
        })
        before.append(name)
    return {"steps": steps, "reads": "open"}


def constraint(declared: dict | None, prompt: str = ""):
    """What an argument may be. `None` is not fixed by the prompt: anything, and then its origin decides."""
    if declared is None:
        return "any"
    if "oneof" in declared:
        values = {"spelled": spellings(declared["oneof"], prompt)}
        return {"each": {"item": values, "max": declared["count"]}} if "count" in declared else values
    if "match" in declared:
        return template(declared["match"])
    raise ValueError(f"a declared argument is not understood: {sorted(declared)}")


LINK = re.compile(r"www\.[a-z0-9.-]+(?:[/?#].*)?|(?:[a-z0-9-]+\.)+[a-z]{2,}/.*", re.ASCII)


def spellings(values: list[str], prompt: str) -> list[str]:
    """The declared values are lower-cased as text, bailiwick lower-cases ASCII only: beyond ASCII, the spelling
    that stands in the prompt is declared as well. A link without its scheme is the same link with one, and callers
    write both."""
    out = set(values)
    out |= {scheme + value for value in values if LINK.fullmatch(value) for scheme in ("http://", "https://")}
    for value in values:
        if not value.isascii():
            out |= {found.translate(ASCII_LOWER) for found in re.findall(re.escape(value), prompt, re.IGNORECASE)}
    return sorted(out)


def template(pattern: str):
    """A regular expression as text with holes. What is no such thing admits nothing, and says so."""
    pieces, shortest = [""], None
    try:
        parsed = regex.parse(pattern)
        for op, given in parsed:
            if op is regex.LITERAL:
                pieces[-1] += chr(given)
            elif op in (regex.MAX_REPEAT, regex.MIN_REPEAT) and any_on_one_line(given[2]):
                least, most = given[0], given[1]
                if least > 1:
                    raise ValueError("a hole that must be longer than one character")
                shortest = min(HOLE_MAX if most is regex.MAXREPEAT else most, shortest or HOLE_MAX)
                pieces.append("")
            else:
                raise ValueError(f"{op}")
    except (re.error, ValueError) as why:
        print(f"bailiwick: the pattern {pattern!r} cannot be a template ({why}): it admits nothing", file=sys.stderr)
        return "never"
    if len(pieces) == 1:
        return {"exact": pieces[0]}
    if shortest < HOLE_MAX:  # stricter: no hole may then be longer than the shortest one allows
        longest = sum(map(len, pieces)) + shortest
        return {"all_of": [{"template": pieces}, {"length": longest}]}
    return {"template": pieces}


def any_on_one_line(items) -> bool:
    """`.` or `[^\\n]`."""
    items = list(items)
    if len(items) != 1:
        return False
    op, given = items[0]
    return op is regex.ANY or (op is regex.NOT_LITERAL and given == ord("\n"))
