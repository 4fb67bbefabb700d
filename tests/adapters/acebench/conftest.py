"""A tiny ACEBench, written for these tests: a data folder with every category, and a checkout with classes of the benchmark's shape."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.acebench.scores import AGENT, KINDS, MULTI_TURN

HIKE = {
    "name": "trail_find",
    "description": "Finds a trail.",
    "parameters": {
        "type": "dict",
        "properties": {
            "place": {"type": "string", "description": "Where."},
            "length_km": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "when": {"type": "dict", "properties": {"start": {"type": "string"}, "hours": {"type": "number"}}},
            "stops": {"type": "list", "items": {"type": "object", "properties": {"type": {"type": "string"}}}},
        },
        "required": ["place"],
    },
}
BOAT = {
    "name": "Boat.rent",
    "description": "Rents a boat.",
    "arguments": {
        "type": "object",
        "properties": {"code": {"type": "string", "pattern": "^[\\w-\\.]+$"}},
        "required": ["code"],
    },
    "tags": ["water"],
}
PHONE = [
    {
        "name": name,
        "description": "",
        "parameters": {"type": "dict", "properties": properties, "required": list(properties)},
    }
    for name, properties in {
        "turn_on_wifi": {},
        "send_message": {"to": {"type": "string"}, "text": {"type": "string"}},
        "break_down": {},
        "reserve": {"seat": {"type": "integer"}},
    }.items()
]
SENT = {"1": {"to": "Ann", "text": "Hi"}, "2": {"to": "Bo", "text": "At Domino's"}}

BASE_API = """
class BaseApi:
    def __init__(self):
        self.wifi = False

    def _load_scenario(self, scenario, long_context=False):
        self.wifi = scenario.get("wifi", self.wifi)
        self.logged_in = scenario.get("logged_in", True)

    def turn_on_wifi(self):
        self.wifi = True
        return {"status": True}
"""
MESSAGE_API = """
from model_inference.multi_turn.scenariosen.phone_platform.base_api import BaseApi


class MessageApi(BaseApi):
    def __init__(self):
        super().__init__()
        self.inbox = {1: {"to": "Ann", "text": "Hi"}}
        self.secret = "not saved"

    def send_message(self, to, text):
        print("sending")
        if not self.wifi:
            return {"status": False, "message": "no wifi"}
        self.inbox[len(self.inbox) + 1] = {"to": to, "text": text}
        return {"status": True}

    def break_down(self):
        raise RuntimeError("it broke")

    def _hidden(self):
        return "never"
"""
OTHER_API = """
class {name}:
    def __init__(self):
        self.{attribute} = {{}}

    def _load_scenario(self, scenario, long_context=False):
        pass
"""
TRAVEL = """
class Travel:
    def __init__(self):
        self.users, self.reservations = {"user1": {"cash": 5}}, []

    def _load_scenario(self, scenario, long_context=False):
        pass

    def reserve(self, seat):
        self.reservations.append({"seat": seat})
        return f"Reserved {seat}"
"""
PROMPTS = '''
BASE_PROMPT_EN = """It is noon.

Function Calls:
Write a call as [ApiName(key1='value1')], always!
Be kind."""
TRAVEL_PROMPT_EN = "Two flights may be booked at once, in the format [ApiName(key1='value1', ...), ApiName(key1='value1', ...)]. Be brief."
SYSTEM_PROMPT_BASE_EN = "You are a user. Instruction: {instruction} Say finish conversation at the end."
SYSTEM_PROMPT_TRAVEL_EN = "You travel. Instruction: {instruction}"
'''


def normal(name: str, question: str, truth: Any, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    task = {"id": name, "question": question, "function": [HIKE, BOAT], "time": "Today is Monday.", **more}
    return task, {"id": name, "ground_truth": truth}


def tasks_of(kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    asks, truth = "user: A trail in Bern, 5 km.\n", {"trail_find": {"place": "Bern", "length_km": 5}}
    if kind in MULTI_TURN:
        past = "user: A trail.\nsystem: Where?\nuser: Bern\nsystem: [trail_find(place='Bern')]\nsystem: Found it.\nuser: Another,\nin Chur"
        return [
            normal(f"{kind}_0_0", asks, truth),
            normal(f"{kind}_0_1", past, {"trail_find": {"place": "Chur"}}),
            normal(f"{kind}_1_0", asks, truth),
        ]
    if kind == "special_incomplete":
        return [normal(f"{kind}_0", "user: A trail, please.", {"trail_find": ["place", "tags"]})]
    if kind == "special_error_param":
        return [normal(f"{kind}_0", "user: A trail in B3rn.", {"place": ["B3rn"]})]
    if kind == "special_irrelevant":
        return [
            normal(f"{kind}_0", "user: Sing.", "Due to the limitations of the function, I cannot solve this problem.")
        ]
    if kind == "normal_preference":
        return [normal(f"{kind}_0", asks, truth, profile="{'home': 'Bern'}")]
    if kind == "normal_single_turn_parallel_function":
        two = {"trail_find_1": {"place": "Bern"}, "trail_find_2": {"place": "Chur"}, "Boat.rent": {"code": "B-7"}}
        return [normal(f"{kind}_0", asks, two)]
    if kind == "normal_atom_bool":
        return [normal(f"{kind}_0", asks, [truth, {"trail_find": {"place": "Berne"}}])]
    return [normal(f"{kind}_0", asks, truth)]


def agent_tasks(kind: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The first is reached, the second as it is written is not (the apostrophe), the third is not at all."""
    base = {"BaseApi": {"wifi": True, "logged_in": True}}
    way = ["[turn_on_wifi()]", "[send_message(to='Bo', text='At Domino's')]"]
    plain = {"1": SENT["1"], "2": {"to": "Bo", "text": "Hello"}}
    cases = [
        ([base, {"MessageApi": {"inbox": plain}}], [way, [way[0], "[send_message(to='Bo', text='Hello')]"]]),
        ([base, {"MessageApi": {"inbox": SENT}}], way),
        ([base, {"MessageApi": {"inbox": SENT}}], way[1:]),
    ]
    found = [
        (
            {
                "id": f"{kind}_{number}",
                "question": "Tell Bo that you are at Domino's.",
                "initial_config": {"BaseApi": {"wifi": False}},
                "function": PHONE,
                "involved_classes": ["BaseApi", "MessageApi"],
            },
            {"id": f"{kind}_{number}", "ground_truth": truth, "mile_stone": stones},
        )
        for number, (truth, stones) in enumerate(cases)
    ]
    truth = [{"Travel": {"users": {"user1": {"cash": 5}}, "reservations": [{"seat": 3}]}}]
    travel = {**found[0][0], "id": f"{kind}_3", "initial_config": {}, "involved_classes": ["Travel"]}
    return [*found, (travel, {"id": f"{kind}_3", "ground_truth": truth, "mile_stone": ["[reserve(seat=3)]"]})]


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "data_all" / "data_en"
    (folder / "possible_answer").mkdir(parents=True)
    for kind in KINDS:
        both = agent_tasks(kind) if kind in AGENT else tasks_of(kind)
        for part, rows in (("", [task for task, _ in both]), ("possible_answer/", [answer for _, answer in both])):
            (folder / f"{part}data_{kind}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def checkout(data_folder: Path) -> Path:
    """With the data in it, as in the repository."""
    root = data_folder.parents[1]
    for tree in ("multi_step", "multi_turn"):
        scenarios = root / "model_inference" / tree / "scenariosen"
        (scenarios / "phone_platform").mkdir(parents=True)
        for file, source in {
            "phone_platform/base_api": BASE_API,
            "phone_platform/message": MESSAGE_API,
            "phone_platform/reminder": OTHER_API.format(name="ReminderApi", attribute="reminder_list"),
            "phone_platform/food_services": OTHER_API.format(name="FoodPlatform", attribute="orders"),
            "travel": TRAVEL,
        }.items():
            (scenarios / f"{file}.py").write_text(source)
    (root / "model_inference" / "prompt_en.py").write_text(PROMPTS)
    return root


@pytest.fixture
def real_data() -> str:
    """The benchmark's own data."""
    folder = os.environ.get("AGENTSCALER_ACEBENCH")
    if not folder:
        pytest.skip(
            "AGENTSCALER_ACEBENCH names no folder with ACEBench's data (github.com/chenchen0103/ACEBench, data_all/data_en)"
        )
    return folder
