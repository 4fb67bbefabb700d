"""Argument matching: whether calls are those of an answer, by the rules of the benchmark's checker (ACEBench, model_eval/checker.py).

Those rules: as many calls as the answer has, of the same tools, in any order; every required parameter there, none that the answer does
not name; types as described; texts contained in, not equal to, what was given, without spaces, case and `,./-_*^`; lists in order. An
optional parameter of the answer may be left out, and one of several answers is enough.

As published, one call may stand for two of the answer's. And a number, a truth value, and a value whose answer is of another type than
described (a text for a list, say) is asked for its type alone, never its value. `Match.unchecked` names those that differ, so that a
reader of the record sees them; they change no verdict, because a score by stricter rules could be compared with no published one.

Three differences, all in the agent's favour. White space never counts: the published code cuts all of it out of the model's text before
reading the calls, then looks for texts that have it, inside lists inside objects. Two answers that, published, nothing meets, not even
they themselves, are met by what they say: an empty list or object (normal_single_turn_parallel_function_42), and texts where the tool
describes a list of objects (normal_preference_40).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentscaler.adapters.acebench.call_text import Call

Answer = Mapping[str, Mapping[str, Any]]
"""Calls by tool name; a tool that is called more than once has a number behind its name: `name_1`, `name_2`."""

_TYPES: Mapping[str, type] = {
    "string": str,
    "any": str,
    "integer": int,
    "int": int,
    "number": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "list": list,
    "list(string)": list,
    "list(enum)": list,
    "objectArray": list,
    "object": dict,
    "dict": dict,
}
_WITH_INNER = frozenset({"array", "tuple", "list(string)", "list(enum)", "object", "objectArray"})
_IGNORED = re.compile(r"[\s,./\-_*^]")


@dataclass(frozen=True, slots=True)
class Match:
    """`reasons`: why the calls are not the answer's, empty where they are. `unchecked`: values that differ all the same."""

    reasons: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def match_calls(
    functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], answers: Answer | Sequence[Answer]
) -> Match:
    """`functions` as in the benchmark's data; the reasons are those against the first of several answers."""
    alternatives = [answers] if isinstance(answers, Mapping) else list(answers)
    try:
        matches = [_match(functions, calls, answer) for answer in alternatives]
    except RecursionError:
        return Match(("arguments inside arguments, without end",))
    for match in matches:
        if not match.reasons:
            return match
    return matches[0] if matches else Match(("the answer is empty",))


def tool_of(functions: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The function that a name of an answer stands for: that of the very name, else without its number."""
    by_name = {function["name"]: function for function in functions}
    return by_name.get(name) or by_name.get(re.sub(r"_\d+$", "", name))


def parameters_of(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """Some of the benchmark's functions call them `arguments`."""
    return function.get("parameters") or function.get("arguments") or {}


def _match(functions: Sequence[Mapping[str, Any]], calls: Sequence[Call], answer: Answer) -> Match:
    if len(calls) != len(answer):
        return Match((f"the answer has {len(answer)} calls, not {len(calls)}",))
    wanted = []
    for name, arguments in answer.items():
        function = tool_of(functions, name)
        if function is None:
            return Match((f"the answer calls {name}, which the task does not offer",))
        wanted.append((function, arguments))
    expected, made = Counter(function["name"] for function, _ in wanted), Counter(name for name, _ in calls)
    if expected != made:
        return Match((f"the answer calls {_counted(expected)}, not {_counted(made)}",))
    unchecked: list[str] = []
    for function, arguments in wanted:
        tried = [_match_call(function, given, arguments) for name, given in calls if name == function["name"]]
        found = [one for one in tried if not one.reasons]
        if not found:
            return Match(tried[-1].reasons)
        unchecked += min((one.unchecked for one in found), key=len)
    return Match(unchecked=tuple(unchecked))


def _counted(names: Counter[str]) -> str:
    return ", ".join(name if number == 1 else f"{name} ({number} times)" for name, number in sorted(names.items()))


def _match_call(function: Mapping[str, Any], given: Mapping[str, Any], answer: Mapping[str, Any]) -> Match:
    name, parameters = function["name"], parameters_of(function)
    if not given or not answer:
        return Match() if not given and not answer else Match((f"{name}: arguments {given or 'missing'}",))
    described = parameters.get("properties", {})
    for required in parameters.get("required", ()):
        if required not in given:
            return Match((f"{name}: {required} is missing",))
    unchecked = []
    for key, value in given.items():
        if key not in described or key not in answer:
            return Match((f"{name}: {key} is one too many",))
        right, compared = _match_value(described[key], value, answer[key])
        if not right:
            return Match((f"{name}: {key} is {_short(value)}, not {_short(answer[key])}",))
        if not compared and value != answer[key]:
            unchecked.append(
                f"{name}: {key} is {_short(value)}, not {_short(answer[key])}: the benchmark does not check it"
            )
    return Match(unchecked=tuple(unchecked))


def _short(value: Any) -> str:
    return repr(value)[:120]


def _match_value(schema: Mapping[str, Any], value: Any, answer: Any) -> tuple[bool, bool]:
    """Whether the value is right, and whether it was compared at all."""
    expected, inner = _expected_types(schema)
    if schema.get("type") == "float" and type(value) is int:
        value = float(value)
    right, by_type_alone = _match_type(value, answer, expected, inner)
    if not right or by_type_alone:
        return right, False
    if expected is dict:
        return _same_object(value, answer), True
    if expected is list and inner is dict and any(isinstance(item, dict) for item in answer):
        same_length = len(value) == len(answer)
        return same_length and all(map(_same_object, value, answer)), True
    if expected is str:
        return plain(answer) in plain(value), True
    if expected is list:
        return [plain(item) for item in value] == [plain(item) for item in answer], True
    return True, False


def _expected_types(schema: Mapping[str, Any]) -> tuple[type | None, type | None]:
    """Of the value, and of what is in it where the checker looks inside."""
    name = schema.get("type")
    expected = _TYPES.get(name) if isinstance(name, str) else None
    if name not in _WITH_INNER:
        return expected, None
    items = schema.get("items")
    inner = items.get("type") if isinstance(items, Mapping) else ("string" if "string" in str(name) else "dict")
    return expected, _TYPES.get(inner) if isinstance(inner, str) else None


def _match_type(value: Any, answer: Any, expected: type | None, inner: type | None) -> tuple[bool, bool]:
    """Whether the type is right, and whether that is all there is to ask: so where the answer itself is of another type."""
    value = _as_truth(value)
    is_empty = isinstance(answer, list | dict) and not answer
    right = True
    if type(value) is expected:
        if inner is None or is_empty or _match_inner(value, answer, inner):
            return True, not is_empty and answer != "" and type(answer) is not expected
        right = False
    if answer != "" and (type(value) is type(answer) or answer == value):
        return right, True
    return False, False


def _match_inner(value: Any, answer: Any, inner: type) -> bool:
    """Only lists inside lists are looked into."""
    items = answer if isinstance(answer, list | dict | str) else ()
    return any(not isinstance(item, list) or all(_match_type(v, item, inner, None)[0] for v in value) for item in items)


def _same_object(value: Any, answer: Any) -> bool:
    """The same keys, and in each value the text of the answer's."""
    if not isinstance(value, dict) or not isinstance(answer, dict) or value.keys() != answer.keys():
        return False
    for key, wanted in answer.items():
        given = _as_truth(value[key])
        if isinstance(wanted, dict):
            if not _same_object(given, wanted):
                return False
        elif _as_text(wanted) not in _as_text(given):
            return False
    return True


def _as_truth(value: Any) -> Any:
    """The words `true` and `false` are truth values."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _as_text(value: Any) -> str:
    return plain(value) if isinstance(value, str) else str(_without_space(value))


def _without_space(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"\s", "", value)
    if isinstance(value, dict):
        return {_without_space(key): _without_space(item) for key, item in value.items()}
    return [_without_space(item) for item in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """A text as the checker compares it; anything else as it is."""
    return _IGNORED.sub("", value).lower().replace("'", '"') if isinstance(value, str) else value
