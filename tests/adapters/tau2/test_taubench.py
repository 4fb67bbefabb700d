"""Files of τ-bench v1, on τ²'s airline and retail worlds.

1. The outcome is the recorded one where the same calls lead to the same ends, by v1's rules, whatever the hashes say.
2. What v1 recorded is read as it graded: the database's verdict, or the outputs'.
3. Calls may be written as text, and come with the same id twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentscaler.adapters.tau2.live import Tau2Environment
from agentscaler.adapters.tau2.replay import shipped_world
from agentscaler.adapters.tau2.rescore import rescore
from agentscaler.adapters.tau2.taubench_tools import call_v1
from agentscaler.errors import ConfigError

Call = tuple[str, dict[str, Any]]

CANCEL: Call = ("cancel_reservation", {"reservation_id": "60RX9E"})
READ: Call = ("get_reservation_details", {"reservation_id": "EUJUY6"})
FLIGHTS = [{"flight_number": "HAT028", "date": "2024-05-21"}, {"flight_number": "HAT277", "date": "2024-05-21"}]
DOWNGRADE: Call = (
    "update_reservation_flights",
    {"reservation_id": "JG7FMM", "cabin": "economy", "flights": FLIGHTS, "payment_id": "credit_card_2929732"},
)
BOOK: Call = (
    "book_reservation",
    {
        "user_id": "mia_li_3668",
        "origin": "JFK",
        "destination": "SEA",
        "flight_type": "one_way",
        "cabin": "economy",
        "flights": [
            {"flight_number": "HAT136", "date": "2024-05-20"},
            {"flight_number": "HAT039", "date": "2024-05-20"},
        ],
        "passengers": [{"first_name": "Mia", "last_name": "Li", "dob": "1990-04-05"}],
        "payment_methods": [
            {"payment_id": "certificate_7504069", "amount": 250},
            {"payment_id": "credit_card_4421486", "amount": 5},
        ],
        "total_baggages": 3,
        "nonfree_baggages": 0,
        "insurance": "no",
    },
)
ORDER = "#W9348897"
CAMERA, NEW_CAMERA, LAMP, NEW_LAMP = "6117189161", "6700049080", "7453605304", "5320792178"


def items(old: list[str], new: list[str]) -> Call:
    arguments = {"order_id": ORDER, "item_ids": old, "new_item_ids": new, "payment_method_id": "credit_card_8853416"}
    return "modify_pending_order_items", arguments


ADDRESS: Call = (
    "modify_pending_order_address",
    {
        "order_id": ORDER,
        "address1": "1 Elm Street",
        "address2": "",
        "city": "Denver",
        "state": "CO",
        "country": "USA",
        "zip": "80298",
    },
)


def opened(domain: str) -> Tau2Environment:
    world = shipped_world(domain)
    assert world is not None
    return world.open()


def spoken(call: Call, id: str = "1", answer: str = "") -> list[dict[str, Any]]:
    function = {"name": call[0], "arguments": json.dumps(call[1])}
    return [
        {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": id, "name": call[0], "content": answer},
    ]


def said(words: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": words}, {"role": "user", "content": "Thanks. ###STOP###"}]


def trajectory(
    messages: list[dict[str, Any]], reference: list[Call], info: Any, reward: float = 0.0, outputs: tuple[str, ...] = ()
) -> dict[str, Any]:
    actions = [{"name": name, "kwargs": arguments} for name, arguments in reference]
    graded = {"reward": reward, "info": info, "actions": actions}
    task = {"user_id": "u", "actions": actions, "instruction": "You are u.", "outputs": list(outputs)}
    system = {"role": "system", "content": "# Policy"}
    return {
        "task_id": 7,
        "reward": reward,
        "info": {"task": task, "source": "user", "reward_info": graded},
        "traj": [system, {"role": "user", "content": "Hello"}, *messages],
        "trial": 2,
    }


def actions_graded(match: float) -> dict[str, Any]:
    return {"r_actions": match, "gt_data_hash": "of other data"}


def summary(folder: Path, trajectories: Any, name: str = "results.json") -> dict[str, Any]:
    file = folder / name
    file.write_text(json.dumps(trajectories))
    return rescore(file).summary()


def counts(given: dict[str, Any]) -> tuple[int, int, int]:
    return given["agree"], given["disagree"], given["not_comparable"]


@pytest.mark.parametrize(
    ("calls", "reference", "match"),
    [
        ([CANCEL], [CANCEL], True),
        ([READ, CANCEL, READ], [CANCEL], True),
        ([], [READ], True),
        ([("think", {"thought": "Hm."}), ("transfer_to_human_agents", {"summary": "s"})], [], True),
        ([], [("transfer_to_human_agents", {"summary": "s"}), ("respond", {"content": "No."})], True),
        ([], [CANCEL], False),
        ([CANCEL, CANCEL], [CANCEL], False),
        ([BOOK], [BOOK], True),
        ([BOOK], [(BOOK[0], {**BOOK[1], "total_baggages": 2})], False),
        ([DOWNGRADE, (DOWNGRADE[0], {**DOWNGRADE[1], "payment_id": "nothing"})], [DOWNGRADE], True),
        ([items([CAMERA, LAMP], [NEW_CAMERA, NEW_LAMP])], [items([CAMERA, LAMP], [NEW_CAMERA, NEW_LAMP])], True),
        ([items([CAMERA], [NEW_CAMERA])], [items([CAMERA, LAMP], [NEW_CAMERA, NEW_LAMP])], False),
        ([items([CAMERA], [NEW_CAMERA]), ADDRESS], [items([CAMERA], [NEW_CAMERA])], True),
        ([ADDRESS], [], False),
    ],
)
def test_outcomes(calls: list[Call], reference: list[Call], match: bool, tmp_path: Path) -> None:
    messages = [message for call in calls for message in spoken(call, id="the same")]
    told = trajectory(messages, reference, actions_graded(float(match)), float(match))
    given = summary(tmp_path, [told], "of airline.json")
    assert given["format"] == "tau-bench v1" and counts(given) == (1, 0, 0)
    assert given["reward"] == {"simulations": 1, "recorded_mean": float(match), "ours_mean": float(match), "agree": 1}
    told["info"]["reward_info"]["info"]["r_actions"] = float(not match)
    other = summary(tmp_path, [told], "of airline.json")
    assert counts(other) == (0, 1, 0) and other["examples"][0]["ours"] == {"db_match": match}
    assert other["examples"][0]["simulation"] == "7/2" and other["examples"][0]["task"] == "7"


def test_rules_of_v1s_own_tools() -> None:
    airline = opened("airline")
    before = airline.take(lambda own: own.tools.db.reservations["JG7FMM"].cabin)
    assert before == "business" and '"cabin": "business"' in call_v1(airline, *DOWNGRADE).words
    assert airline.take(lambda own: own.tools.db.reservations["JG7FMM"].flights[0].price) < 400
    date = ("HAT136", "2024-05-20")
    seats = airline.take(lambda own: dict(own.tools.db.flights[date[0]].dates[date[1]].available_seats))
    assert not call_v1(airline, *BOOK).failed and airline.is_shared
    assert seats == airline.take(lambda own: dict(own.tools.db.flights[date[0]].dates[date[1]].available_seats))

    one, other, same = opened("retail"), opened("retail"), opened("retail")
    assert not call_v1(one, *items([CAMERA, LAMP], [NEW_CAMERA, NEW_LAMP])).failed
    prices = one.take(lambda own: {item.item_id: item.price for item in own.tools.db.orders[ORDER].items})
    assert (prices[NEW_CAMERA], prices[NEW_LAMP]) == (466.75, 135.24)
    assert not call_v1(other, *items([LAMP, CAMERA], [NEW_LAMP, NEW_CAMERA])).failed
    get_items = lambda own: [item.model_dump() for item in own.tools.db.orders[ORDER].items]  # noqa: E731
    assert one.take(get_items) == other.take(get_items)
    assert not call_v1(same, *items([CAMERA], [CAMERA])).failed
    assert call_v1(one, *ADDRESS).failed and call_v1(one, *items([CAMERA], [NEW_CAMERA])).failed


@pytest.mark.parametrize(
    "call",
    [
        items([CAMERA], [NEW_CAMERA, NEW_LAMP]),
        items([CAMERA, CAMERA], [NEW_CAMERA, NEW_CAMERA]),
        items([CAMERA], ["4859937227"]),  # not available
        items([CAMERA], [NEW_LAMP]),  # another product
        ("modify_pending_order_items", {"order_id": ORDER}),
        ("modify_pending_order_items", {**items([CAMERA], [NEW_CAMERA])[1], "payment_method_id": "gift_card_0"}),
        ("modify_pending_order_address", {**ADDRESS[1], "order_id": ["#W1"]}),
    ],
)
def test_what_v1_refuses(call: Call) -> None:
    environment = opened("retail")
    assert call_v1(environment, *call).failed and environment.changes() == {}


OUTPUTS = {"r_outputs": 1.0, "outputs": {"327": True}}
UNSAID = {"r_outputs": 0.0, "outputs": {"327": False}}


@pytest.mark.parametrize(
    ("calls", "words", "info", "reward", "cause"),
    [
        ([CANCEL], "That is 327 dollars.", OUTPUTS, 1.0, None),
        ([CANCEL], "That is 3,27 dollars.", OUTPUTS, 1.0, None),  # v1 takes commas out
        ([], "That is 327 dollars.", OUTPUTS, 0.0, None),
        ([CANCEL], "Done.", UNSAID, 0.0, None),
        ([], "Done.", UNSAID, 0.0, None),  # of its database nothing is known
        ([CANCEL], "That is 327 dollars.", UNSAID, 0.0, "words"),
        ([CANCEL], "That is 327 dollars.", OUTPUTS, 0.0, "grading"),
        ([], "That is 327 dollars.", OUTPUTS, 1.0, "outputs alone graded"),
    ],
)
def test_tasks_with_outputs(
    calls: list[Call], words: str, info: Any, reward: float, cause: str | None, tmp_path: Path
) -> None:
    messages = [message for call in calls for message in spoken(call, answer="{}")] + said(words)
    given = summary(tmp_path, [trajectory(messages, [CANCEL], info, reward, ("327",))])
    assert given["by_cause"] == ({cause: 1} if cause else {}) and counts(given) == (cause is None, cause is not None, 0)
    assert cause or given["reward"]["agree"] == 1


def test_a_file_that_shows_both_graded(tmp_path: Path) -> None:
    unmoved = trajectory(said("327"), [CANCEL], OUTPUTS, 0.0, ("327",))
    rewarded = trajectory(said("327"), [CANCEL], OUTPUTS, 1.0, ("327",))
    assert summary(tmp_path, [unmoved, rewarded])["by_cause"] == {"grading": 1}


def test_what_stands_beside_a_call_is_not_said(tmp_path: Path) -> None:
    call, result = spoken(CANCEL)
    told = trajectory([{**call, "content": "327"}, result, *said("Done.")], [CANCEL], UNSAID, 0.0, ("327",))
    assert counts(summary(tmp_path, [told])) == (1, 0, 0)


def test_only_the_first_call_of_a_message_was_made(tmp_path: Path) -> None:
    call, result = spoken(READ)
    second = spoken(CANCEL)[0]["tool_calls"]
    told = trajectory([{**call, "tool_calls": call["tool_calls"] + second}, result], [READ], actions_graded(1.0), 1.0)
    assert counts(summary(tmp_path, [told])) == (1, 0, 0)
    told["traj"].append({"role": "tool", "content": "{}"})  # both have results: both were made
    assert counts(summary(tmp_path, [told])) == (0, 1, 0)


def test_calls_written_as_text(tmp_path: Path) -> None:
    def written(name: str, arguments: Any) -> dict[str, Any]:
        return {
            "role": "assistant",
            "content": f"Thought:\nWell.\nAction:\n{json.dumps({'name': name, 'arguments': arguments})}",
        }

    messages = [
        written(*CANCEL),
        {"role": "user", "content": 'API output: {"reservation_id": "60RX9E"}'},
        written("respond", {"content": "That is 327."}),
        {"role": "user", "content": "###STOP###"},
    ]
    told = trajectory(messages, [CANCEL], OUTPUTS, 1.0, ("327",))
    told["traj"][0]["content"] = "# Policy\n# Instruction\nThought:\nAction:\n{...}"
    assert counts(summary(tmp_path, [told])) == (1, 0, 0)
    messages[2]["content"] = "Action:\nThat is 328."  # no JSON: said as it stands
    other = summary(tmp_path, [told | {"traj": [told["traj"][0], *messages]}])
    assert other["reward"] == {"simulations": 1, "recorded_mean": 1.0, "ours_mean": 0.0, "agree": 0}


def test_causes(tmp_path: Path) -> None:
    def cause(answer: str) -> dict[str, int]:
        return summary(tmp_path, [trajectory(spoken(CANCEL, answer=answer), [], actions_graded(1.0), 1.0)])["by_cause"]

    assert cause("Error: reservation not found") == {"other database or tools": 1}
    assert cause('{"reservation_id": "60RX9E", "status": "gone"}') == {"other answers": 1}
    assert cause('{"reservation_id": "60RX9E", "status": "cancelled", "insurance": "no"}') == {"grading": 1}
    assert cause('{"reservation_id": "60RX9E", "province": "CA", "flights": [{"price": 169}]}') == {"grading": 1}
    assert cause('{"reservation_id": "60RX9E", "flights": [{"price": 170}]}') == {"other answers": 1}
    thought = spoken(("think", {"thought": "Hm."}))  # τ² has no such tool
    assert summary(tmp_path, [trajectory(thought, [CANCEL], actions_graded(1.0), 1.0)])["by_cause"] == {"grading": 1}
    broken = trajectory([], [("cancel_reservation", {"reservation_id": "NONE"}), CANCEL], actions_graded(1.0), 1.0)
    assert summary(tmp_path, [broken])["by_cause"] == {"reference fails here": 1}


def test_conversations_that_were_not_ended(tmp_path: Path) -> None:
    broken = {"task_id": 0, "reward": 0.0, "info": {"error": "no model", "traceback": "..."}, "traj": [], "trial": 0}
    unended = trajectory(spoken(CANCEL), [CANCEL], {})
    del unended["info"]["reward_info"]
    given = summary(tmp_path, [broken, unended])
    assert counts(given) == (0, 0, 2) and given["not_comparable_by_cause"] == {"no check recorded": 2}


def test_which_world(tmp_path: Path) -> None:
    retail = trajectory([], [items([CAMERA], [NEW_CAMERA])], actions_graded(0.0))
    silent = trajectory([], [], actions_graded(1.0), 1.0)
    prompted = trajectory([], [], actions_graded(1.0), 1.0)
    prompted["traj"][0]["content"] = "# Airline Agent Policy"
    given = summary(tmp_path, [retail, retail, silent, prompted])["by_domain"]
    assert {domain: one["simulations"] for domain, one in given.items()} == {"airline": 1, "retail": 3}
    assert summary(tmp_path, [silent], "gpt-4o-retail.json")["by_domain"]["retail"]["agree"] == 1
    with pytest.raises(ConfigError, match="tells whether it is of airline or retail") as caught:
        summary(tmp_path, [silent])
    assert "\n" not in str(caught.value)
