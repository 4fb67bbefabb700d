"""The world of one BFCL rollout: instances of the package's classes, of its own, and calls on them.

Invariant: nothing that a call changes can be seen by another environment. The package's classes share data of their modules in long
contexts (credit cards, bookings), so an environment is a deep copy of instances that were loaded once and are never called; and they
share the lists that are defaults of parameters, so each call gets its own.

A call's answer is the text that the package would give to a model, except for three things that it leaves to chance or to the machine:
sets are written in order, functions of Python itself cannot be reached, and numbers that would take minutes to write are refused.
Nor does it have a slip of the package, which changes arguments such as `see here (now)` while it puts its instances' names into the text.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass
from decimal import localcontext
from functools import cache
from typing import Any

from agentscaler.adapters.bfcl.calls import Call
from agentscaler.adapters.bfcl.package import bfcl
from agentscaler.benchmark import BenchmarkTask
from agentscaler.messages import Outcome

ERROR = "Error during execution: "
FORBIDDEN = frozenset({"kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run"})  # the package's own list
MAX_DIGITS = 4300  # past this Python itself refuses to write an integer
TOO_MANY_DIGITS = (  # what Python says, and so the package: it computes the power, and then cannot write it
    f"Exceeds the limit ({MAX_DIGITS} digits) for integer string conversion; "
    "use sys.set_int_max_str_digits() to increase the limit"
)
MAX_PRECISION = 5000
MAX_SCENARIOS = 1024  # kept loaded
_WORDS_IN_A_SET = re.compile(r"\{('[^']*'(?:, '[^']*')*)\}")
_JOINED = "Invalid fields for update: "


@dataclass(frozen=True, slots=True)
class Answer:
    outcome: Outcome
    text: str


class BfclEnvironment:
    def __init__(self, instances: dict[str, Any]):
        self.instances = instances
        self._methods = {
            name: getattr(instance, name) for instance in instances.values() for name in functions_of(type(instance))
        }

    def call(self, call: Call) -> Answer:
        last_name = call.name.split(".")[1] if "." in call.name else call.name
        if last_name in FORBIDDEN:
            return Answer(Outcome.REFUSED, f"{ERROR}Function call {last_name} is not allowed.")
        method = self._methods.get(call.name)
        if method is None:
            return Answer(Outcome.INVALID_CALL, f"{ERROR}name '{call.name.split('.')[0]}' is not defined")
        if call.fault:
            return Answer(Outcome.INVALID_CALL, f"{ERROR}{call.fault}")
        if reason := _too_big(call):
            return Answer(Outcome.REFUSED, ERROR + reason)
        given, fits = _own_arguments(type(method.__self__), call)
        try:
            with localcontext():  # MathAPI sets the precision of the whole thread
                value = method(*deepcopy(call.positional), **given)
            text = as_text(value)
        except Exception as error:  # noqa: BLE001  the edge to foreign code: whatever a function raises is its answer
            return Answer(Outcome.REFUSED if fits else Outcome.INVALID_CALL, f"{ERROR}{error}")
        return Answer(Outcome.REFUSED if _is_error(value) else Outcome.OK, text)

    def state(self) -> dict[str, dict[str, Any]]:
        """Public attributes by class, as they are: not copied."""
        return {
            name: {key: value for key, value in vars(instance).items() if not key.startswith("_")}
            for name, instance in self.instances.items()
        }


_scenarios: OrderedDict[str, dict[str, Any]] = OrderedDict()


def open_environment(task: BenchmarkTask) -> BfclEnvironment:
    """As the task begins. Loading takes as long as copying, and copying is what sets the environments apart."""
    loaded = _scenarios.get(task.task_digest)
    if loaded is None:
        loaded = _scenarios[task.task_digest] = _load(task.data)
        if len(_scenarios) > MAX_SCENARIOS:
            _scenarios.popitem(last=False)
    _scenarios.move_to_end(task.task_digest)
    return BfclEnvironment(deepcopy(loaded))


def fault_of_beginning(task: BenchmarkTask) -> str:
    """Why the classes cannot load a task's data; empty where they can."""
    try:
        open_environment(task)
    except Exception as error:  # noqa: BLE001  foreign code again: what it raises is the report
        return f"its beginning: {type(error).__name__}: {error}"
    return ""


def _load(data: dict[str, Any]) -> dict[str, Any]:
    package = bfcl()
    instances = {}
    for name in data["involved_classes"]:
        instance = instances[name] = package.classes[name]()
        if name not in package.stateless:
            config = deepcopy(data["initial_config"].get(name, {}))
            instance._load_scenario(config, long_context=is_long_context(data))
    return instances


def is_long_context(data: dict[str, Any]) -> bool:
    return "long_context" in data["id"].rsplit("_", 1)[0]


@cache
def functions_of(cls: type) -> tuple[str, ...]:
    """What of a class can be called: its public functions, described to the agent or not."""
    return tuple(name for name, _ in inspect.getmembers(cls, inspect.isfunction) if not name.startswith("_"))


@cache
def signature_of(cls: type, function: str) -> inspect.Signature:
    """Without self."""
    whole = inspect.signature(getattr(cls, function))
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return str(value)
    error = value.get("error")
    if isinstance(error, str):
        value = {**value, "error": _in_order(error)}
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _in_order(error: str) -> str:
    """TravelAPI and TicketAPI write sets into their errors, in an order that differs between two processes."""
    if error.startswith(_JOINED):
        return _JOINED + ", ".join(sorted(error.removeprefix(_JOINED).split(", ")))
    return _WORDS_IN_A_SET.sub(lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", error)


def _is_error(value: Any) -> bool:
    """Functions tell errors in a dict; some of TradingBot's wrap that into a list, or write one themselves."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        return bool(value.get("error"))
    return isinstance(value, str) and value.startswith("Error:")


def _own_arguments(cls: type, call: Call) -> tuple[dict[str, Any], bool]:
    """The arguments, and whether the function takes such. They are copies, defaults included: TwitterAPI keeps the lists it is given in its
    tweets and extends them later, and its defaults are lists too, one for all tweets of a process."""
    given = deepcopy(dict(call.arguments))
    try:
        bound = signature_of(cls, call.name).bind(*call.positional, **given)
    except TypeError:
        return given, False
    for name, default in _shared_defaults(cls, call.name).items():
        if name not in bound.arguments:
            given[name] = deepcopy(default)
    return given, True


@cache
def _shared_defaults(cls: type, function: str) -> dict[str, Any]:
    """As they were when first asked for."""
    parameters = signature_of(cls, function).parameters.items()
    return {name: deepcopy(p.default) for name, p in parameters if isinstance(p.default, list | dict | set)}


def _too_big(call: Call) -> str:
    """MathAPI takes powers of whole numbers and roots of any precision; what an agent writes there must not hold up a worker."""
    given = call.arguments
    precision, base, exponent = given.get("precision"), given.get("base"), given.get("exponent")
    if call.name in ("logarithm", "square_root") and isinstance(precision, int) and precision > MAX_PRECISION:
        return f"precision must be at most {MAX_PRECISION}"
    if (
        call.name == "power"
        and isinstance(base, int)
        and isinstance(exponent, int)
        and abs(base) > 1
        and exponent * math.log10(abs(base)) > MAX_DIGITS + 1
    ):
        return TOO_MANY_DIGITS
    return ""
