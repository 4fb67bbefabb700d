"""Environments on τ² worlds: any number of them on one loaded database.

An environment is the list of steps it has taken and the records they changed. To take a step, its records are put into the live
database, the step is run by the package's own code, and what it changed is taken out again (`touched.py`). Where that cannot be, because
a database is not made of dicts of records, or a step changes more than records, the environment gets a copy of its own and takes its steps
again there: slower, the same outcomes.

Invariant: the live database is as it was loaded whenever no step runs. Not thread-safe; a step never waits.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Literal

from pydantic import BaseModel

from agentscaler.adapters.tau2.package import Tau2Domain
from agentscaler.adapters.tau2.touched import Collection, Place, Unwatchable, Watch, watched_database

Step = Callable[[Any], Any]  # takes the package's environment; what it returns holds nothing of the database
Requestor = Literal["assistant", "user"]  # the package's words for who calls
Tried = tuple[Any, Exception | None]
_KITS = (("agent", "tools"), ("user", "user_tools"))


class LiveWorld:
    """One τ² domain, loaded once a process."""

    def __init__(self, domain: Tau2Domain):
        self.domain = domain
        self._environment = domain.environment()
        self.reference_ends: dict[str, Tau2Environment] = {}  # by task, see score.py
        self._loaded_json: dict[Place, str | None] = {}
        self._loaded_places: dict[Place, str] | None = None
        self._watch = Watch()
        self._databases: list[tuple[Any, BaseModel]] = []
        self._collections: dict[tuple[str, str], Collection] = {}
        try:
            self._replace_databases()
            self.is_shared = True
        except Unwatchable:
            self._environment = domain.environment()
            self.is_shared = False

    def _replace_databases(self) -> None:
        for whose, attribute in _KITS:
            kit = getattr(self._environment, attribute)
            if _class_values(kit):
                raise Unwatchable(f"the {whose}'s tools keep values in their class")
            if kit is None or kit.db is None:
                continue
            kit.db = watched_database(self._watch, whose, kit.db, self._collections)
            self._databases.append((kit, kit.db))

    def open(self) -> Tau2Environment:
        return Tau2Environment(self)

    def copy(self) -> Any:
        """A package environment of one's own, as loaded."""
        return isolated(self.domain.environment() if self.is_shared else deepcopy(self._environment))

    def run(self, owned: dict[Place, Any], step: Step) -> tuple[Tried, dict[Place, Any], str]:
        """Run one step on the live database with these records put in. Returns what came of it, the records as they now are, and why
        they are not enough, if so."""
        watch = self._watch
        for (whose, field, key), record in owned.items():
            dict.__setitem__(self._collections[whose, field], key, record)
        watch.on = True
        came = tried(step, self._environment)
        watch.on = False
        after, unusual = self._collect(owned)
        watch.roll_back()
        for kit, database in self._databases:
            kit.db = database
        for collection in self._collections.values():
            collection.roll_back()
        return came, after, unusual

    def _collect(self, owned: dict[Place, Any]) -> tuple[dict[Place, Any], str]:
        watch = self._watch
        for collection in self._collections.values():
            collection.look()
        if any(kit.db is not database for kit, database in self._databases):
            watch.unusual = "the database was replaced"
        places = dict.fromkeys(owned)
        for place in watch.touched:
            if place not in places:
                places[place] = None
        after: dict[Place, Any] = {}
        seen: dict[int, Any] = {}
        for place in _in_order(places, self._collections):
            whose, field, key = place
            after[place] = watch.own(self._collections[whose, field][key], seen)
        return after, watch.unusual

    def misfit(self, requestor: str, name: str, arguments: dict[str, Any], is_tool: bool = True) -> str:
        """Why a call could not even be made: no such tool (or function), or other parameters. Empty where it could."""
        kit = self._environment.tools if requestor == "assistant" else self._environment.user_tools
        if kit is None:
            return f"the {requestor} has no tools"
        function = kit.tools.get(name) if is_tool else getattr(kit, name, None)
        if function is None:
            return f"there is no tool {name} of the {requestor}"
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            return f"{name}: {error}"
        return ""

    def loaded_places(self) -> dict[Place, str]:
        """The whole database as loaded, by record; made once, where environments have databases of their own."""
        if self._loaded_places is None:
            self._loaded_places = places_of(self.domain.environment())
        return self._loaded_places

    def json_of(self, place: Place) -> str | None:
        """A loaded record as the package hashes it; None where there is none."""
        if place not in self._loaded_json:
            whose, field, key = place
            record = self._collections[whose, field].get(key)
            self._loaded_json[place] = None if record is None else json_text(self._watch.copy_of(record))
        return self._loaded_json[place]


def tried(step: Step, environment: Any) -> Tried:
    """The edge to foreign code: a tool of the package may raise anything, and what it raises is its answer."""
    try:
        return step(environment), None
    except Exception as error:  # noqa: BLE001  (see above)
        return None, error


def isolated(environment: Any) -> Any:
    """Values that a tool kit's class holds become the kit's own. Telecom's user tools keep one VPN record in their class and write to it:
    in the package every later conversation of the process sees that."""
    for _, attribute in _KITS:
        kit = getattr(environment, attribute)
        for name, value in _class_values(kit):
            setattr(kit, name, deepcopy(value))
    return environment


def _class_values(kit: Any) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for cls in reversed(type(kit).__mro__)
        for name, value in vars(cls).items()
        if isinstance(value, BaseModel | dict | list | set) and not name.startswith("__")
    ]


def places_of(environment: Any) -> dict[Place, str]:
    """Every record of a package environment: an entry of a field that is a dict or a list, or the field itself."""
    found: dict[Place, str] = {}
    for whose, attribute in _KITS:
        kit = getattr(environment, attribute)
        if kit is None or kit.db is None:
            continue
        for field, value in kit.db.model_dump().items():
            entries = (
                value.items()
                if isinstance(value, dict)
                else enumerate(value)
                if isinstance(value, list)
                else [("", value)]
            )
            found |= {(whose, field, str(key)): json_text(entry) for key, entry in entries}
    return found


def json_text(record: Any) -> str:
    """As the package writes it before it hashes (tau2/utils/utils.py, get_dict_hash): equal texts, equal hashes."""
    value = record.model_dump() if isinstance(record, BaseModel) else record
    return json.dumps(value, sort_keys=True, default=str)


def _in_order(places: dict[Place, None], collections: dict[tuple[str, str], Collection]) -> list[Place]:
    """New keys in the order in which they stand; those that are gone left out."""
    return [
        (whose, field, key)
        for (whose, field), collection in collections.items()
        for key in _keys_in_order(collection, {k for w, f, k in places if (w, f) == (whose, field)})
    ]


def _keys_in_order(collection: Collection, keys: set[str]) -> list[str]:
    if not keys:
        return []
    old = [key for key in keys if key in collection.loaded and key in collection]
    new = keys - set(old)
    return old + ([key for key in collection if key in new] if new else [])


class Tau2Environment:
    """The state of one conversation. Steps run by the package's own code, on what this environment has changed so far."""

    def __init__(self, world: LiveWorld):
        self._world = world
        self._owned: dict[Place, Any] = {}
        self._steps: list[Step] = []
        self._own: Any = None if world.is_shared else world.copy()

    @property
    def is_shared(self) -> bool:
        return self._own is None

    def call(self, requestor: Requestor, tool: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """One tool call of the agent (`assistant`) or the user, with sync: the words of its result, and whether they tell of an error."""
        from tau2.data_model.message import ToolCall

        def step(own: Any) -> tuple[str, bool]:
            call = ToolCall(id="call", name=tool, arguments=deepcopy(arguments), requestor=requestor)
            answer = own.get_response(call)
            return answer.content, answer.error

        return self.take(step)

    def take(self, step: Step) -> Any:
        """Run a step. What it raises is raised; the changes it made before that are kept, as in the package."""
        result, error = self.tried(step)
        if error is not None:
            raise error
        return result

    def tried(self, step: Step) -> Tried:
        """Run a step: its result, or what it raised."""
        if self._own is not None:
            return tried(step, self._own)
        (result, error), after, unusual = self._world.run(self._owned, step)
        if unusual:
            self._move_out()
            return tried(step, self._own)
        self._owned = after
        self._steps.append(step)
        return result, error

    def _move_out(self) -> None:
        self._own, self._owned = self._world.copy(), {}
        for step in self._steps:
            tried(step, self._own)

    def same_end(self, other: Tau2Environment) -> bool:
        """Whether both databases are equal, as the package's hashes would say."""
        if self._own is None and other._own is None:
            return self.changes() == other.changes()
        return self._hashes() == other._hashes()

    def changes(self) -> dict[Place, str]:
        """Records that differ from the loaded ones, as JSON text; `null` where one is gone."""
        if self._own is not None:
            loaded = self._world.loaded_places()
            now = places_of(self._own)
            gone = {place: "null" for place in loaded if place not in now}
            return {place: text for place, text in now.items() if loaded.get(place) != text} | gone
        found = {place: json_text(record) for place, record in self._owned.items()}
        return {place: text for place, text in found.items() if text != self._world.json_of(place)}

    def before(self, place: Place) -> str | None:
        """The record as it was loaded, as JSON text."""
        return self._world.json_of(place) if self._own is None else self._world.loaded_places().get(place)

    def _hashes(self) -> tuple[str | None, str | None]:
        if self._own is None:
            self._move_out()
        own: Any = self._own
        return own.get_db_hash(), own.get_user_db_hash()
