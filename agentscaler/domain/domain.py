"""A domain as data: schema, seed recipe, tools, policy. No behaviour beyond checking its own shape.

Everything here is frozen and serialises to JSON and back, so that a domain travels beside the shards it made. A tool is a JSON
Schema signature and a short SQL program; no Python is ever run for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

import apsw
import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from agentscaler.canonical import digest


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _json_only(value: Any) -> Any:
    """YAML knows dates and other values that do not survive JSON: a domain must be the same domain after its round trip."""
    try:
        if orjson.loads(orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATETIME)) == value:
            return value
    except TypeError as error:
        raise ValueError(f"not a JSON value ({error}); put dates in quotes") from None
    raise ValueError("not a JSON value")


class Requirement(_Frozen):
    """A query that must return a row; else the call is refused in these words. `{name}` stands for an argument."""

    sql: str
    otherwise: str = Field(alias="else")


class Example(_Frozen):
    """One good use of a tool, for few-shot prompts of tasks that use *other* tools."""

    say: str
    arguments: dict[str, Any]
    result: Any
    reply: str

    _json = field_validator("arguments", "result")(_json_only)


class Tool(_Frozen):
    """Signature and program. `require`, then `do` (writes), then `returns` (a query with a total ORDER BY), in one transaction."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str = Field(min_length=1)
    actor: Literal["agent", "user"] = "agent"
    parameters: dict[str, Any] = Field(default_factory=dict, validate_default=True)
    require: tuple[Requirement, ...] = ()
    do: tuple[str, ...] = ()
    returns: str | None = None
    one: bool = False  # `returns` yields one object, not a list
    nested: tuple[str, ...] = ()  # result columns that hold JSON text, shown as lists or objects
    example: Example | None = None

    @field_validator("parameters")
    @classmethod
    def _closed_object(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("type", "object") != "object":
            raise ValueError("parameters must be an object schema")
        if not isinstance(value.get("properties", {}), dict):
            raise ValueError("properties must map names to schemas")
        return _json_only({"type": "object", "properties": {}, "additionalProperties": False, **value})

    @model_validator(mode="after")
    def _does_something(self) -> Tool:
        if not self.do and not self.returns:
            raise ValueError(f"tool {self.name} neither writes (do) nor reads (returns)")
        return self

    def schema_for_model(self) -> dict[str, Any]:
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": self.parameters},
        }


class RuleLevel(StrEnum):
    ENFORCED = "enforced"  # CHECK, foreign key, require or trigger: the database refuses
    TEXT_ONLY = "text_only"  # the database would let it happen; the verifier does not


class Forbidden(_Frozen):
    """Where a `text_only` rule forbids a call of one of these tools: a query that returns a row for it. `:name` is an argument, absent
    ones NULL; `:speaker` is the key of the person who speaks, NULL where nobody is known. Asked before the call is made."""

    tools: tuple[str, ...] = Field(min_length=1)
    sql: str


class Rule(_Frozen):
    """`forbids` says of a text_only rule what its text says, as queries: tasks are made by them (what may be asked for, what has to be
    refused); no agent is stopped by them."""

    name: str
    level: RuleLevel
    text: str
    forbids: tuple[Forbidden, ...] = ()

    @model_validator(mode="after")
    def _only_words_forbid(self) -> Rule:
        if self.forbids and self.level is RuleLevel.ENFORCED:
            raise ValueError(
                f"rule {self.name}: forbids is for text_only rules; what is enforced, the database refuses"
            )
        return self


class Columns(_Frozen):
    """Column classes by `table.column`; `table.*` takes the whole table. What is not named is `exact`."""

    exempt: tuple[str, ...] = ()
    semantic: tuple[str, ...] = ()
    json_: tuple[str, ...] = Field(default=(), alias="json")


class Invariant(_Frozen):
    """What holds in the seeded world and after every call: a query whose rows are the offences, none when all is well."""

    name: str
    sql: str


class SeedRecipe(_Frozen):
    """How a world is filled. `steps` are SQL in which `pick(list, key…)` and `rand_int(low, high, key…)`
    draw by seed and key, and `item(list, n)` is a list's n-th entry (NULL past its end)."""

    lists: dict[str, list[Any]] = {}
    steps: tuple[str, ...] = ()

    _json = field_validator("lists")(_json_only)


class Domain(_Frozen):
    """All there is to a domain. `ids` names the tables whose keys `new_id(table)` makes, with the prefix of each."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    description: str
    clock: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    instructions: str
    schema_sql: str
    ids: dict[str, str] = {}
    columns: Columns = Columns()
    policy: tuple[Rule, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    seed: SeedRecipe = SeedRecipe()
    tools: tuple[Tool, ...] = Field(min_length=1)
    source: str = ""
    licence: str = ""

    @field_validator("clock")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
        return value

    @model_validator(mode="after")
    def _tool_names_differ(self) -> Domain:
        names = [tool.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise ValueError(f"tool names repeat: {sorted(name for name in set(names) if names.count(name) > 1)}")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Over the whole domain and SQLite's version: both decide what a call does."""
        content = self.model_dump(
            mode="json", by_alias=True, exclude_defaults=True
        )  # a new optional key changes no old domain
        return digest({"domain": content, "sqlite": apsw.sqlite_lib_version()})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Domain:
        """A copy has its own fingerprint: pydantic would carry the cached one over."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("fingerprint", None)
        return copied

    def to_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)

    def tools_for(self, actor: str) -> tuple[Tool, ...]:
        return tuple(tool for tool in self.tools if tool.actor == actor)

    def system_prompt(self) -> str:
        """What the agent is told before the user speaks: instructions, the date, every rule of the policy."""
        rules = "".join(f"\n- {rule.text}" for rule in self.policy)
        today = self.clock[:10]
        return f"{self.instructions.strip()}\nToday is {today}." + (f"\nRules:{rules}" if rules else "")


def fill_words(words: str, values: dict[str, Any]) -> str:
    """`{name}` becomes the argument of that name, cut to 80 characters; an absent one becomes `(none)`."""

    def one(match: re.Match[str]) -> str:
        value = values.get(match.group(1))
        return "(none)" if value is None else str(value)[:80]

    return re.sub(r"\{(\w+)\}", one, words)
