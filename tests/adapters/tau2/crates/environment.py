"""A domain in τ²'s shape whose tools do to a database all that Python can: what shipped ones never do, too."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from tau2.data_model.tasks import Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.environment.toolkit import ToolKitBase, ToolType, is_tool


class Label(BaseModel):
    text: str
    tags: list[str] = []


class Crate(BaseModel):
    name: str
    labels: dict[str, Label] = {}
    counts: list[int] = []
    pair: tuple[str, Label] | None = None
    closed: bool = False


class Place(BaseModel):
    crates: list[str] = []


class CratesDB(DB):
    crates: dict[str, Crate]
    places: dict[str, Place]


class CratesTools(ToolKitBase):
    db: CratesDB

    @is_tool(ToolType.READ)
    def show(self) -> dict[str, Any]:
        return {"crates": list(self.db.crates.values()), "order": list(self.db.crates), "places": self.db.places}

    @is_tool(ToolType.WRITE)
    def add(self, key: str, place: str) -> Crate:
        crate = Crate(name=key, labels={"a": Label(text=key)}, pair=(key, Label(text="pair")))
        self.db.crates[key] = crate
        self.db.places[place].crates.append(key)
        return crate

    @is_tool(ToolType.WRITE)
    def count(self, key: str, number: int) -> list[int]:
        self.db.crates[key].counts.append(number)
        self.db.crates[key].counts.sort()
        return self.db.crates[key].counts

    @is_tool(ToolType.WRITE)
    def label(self, key: str, label: str, text: str) -> Label:
        labels = self.db.crates[key].labels
        labels.setdefault(label, Label(text="new")).text = text
        labels[label].tags += [text]
        return labels[label]

    @is_tool(ToolType.WRITE)
    def unlabel(self, key: str, label: str) -> str:
        return self.db.crates[key].labels.pop(label).text

    @is_tool(ToolType.WRITE)
    def share(self, key: str, other: str) -> Crate:
        """Both hold one and the same label from here on."""
        self.db.crates[key].labels["shared"] = next(iter(self.db.crates[other].labels.values()))
        return self.db.crates[key]

    @is_tool(ToolType.WRITE)
    def close_all(self, closed: bool) -> int:
        for crate in self.db.crates.values():
            crate.closed = closed
        return len(self.db.crates)

    @is_tool(ToolType.WRITE)
    def halfway(self, key: str, number: int) -> str:
        """Writes, then fails."""
        self.db.crates[key].counts[:] = [number]
        raise ValueError("broken in the middle")

    @is_tool(ToolType.WRITE)
    def clone(self, key: str, new: str) -> bool:
        self.db.crates[new] = deepcopy(self.db.crates[key])
        self.db.crates[new].counts.reverse()
        return self.db.crates[new] == self.db.crates[key] and self.db.crates[key] == self.db.crates[new]

    @is_tool(ToolType.WRITE)
    def drop(self, key: str) -> int:
        del self.db.crates[key]
        return len(self.db.crates)

    @is_tool(ToolType.WRITE)
    def swap_places(self) -> str:
        """Sets a field of the database itself."""
        self.db.places = dict(reversed(self.db.places.items()))
        return "done"

    def is_closed(self, key: str) -> bool:
        return self.db.crates[key].closed


def get_environment(solo_mode: bool = False) -> Environment:
    crates = {
        key: Crate(name=key, labels={"a": Label(text="x", tags=["t"])}, counts=[3, 1], pair=("p", Label(text="q")))
        for key in ("c1", "c2", "c3")
    }
    places = {"left": Place(crates=["c1"]), "right": Place(crates=["c2", "c3"])}
    return Environment("crates", "Be kind.", CratesTools(CratesDB(crates=crates, places=places)))


def get_tasks(split: str | None = "base") -> list[Task]:
    criteria = {
        "actions": [{"action_id": "1", "name": "count", "arguments": {"key": "c1", "number": 7}}],
        "communicate_info": ["1000"],
        "env_assertions": [
            {"env_type": "assistant", "func_name": "is_closed", "arguments": {"key": "c1"}, "assert_value": False}
        ],
        "reward_basis": ["DB", "COMMUNICATE", "ENV_ASSERTION"],
    }
    return [
        Task.model_validate({"id": "one", "user_scenario": {"instructions": "Count."}, "evaluation_criteria": criteria})
    ]
