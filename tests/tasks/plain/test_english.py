"""English out of names and descriptions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentscaler.tasks.plain.english import (
    content_words,
    find_noun,
    find_owner,
    label_of,
    listed,
    noun_of,
    plural,
    singular,
    unit_of,
    verb_phrase,
)

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_ABCXYZ0129", min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("assignee_id", "assignee"),
        ("due_on", "due date"),
        ("starts_at", "start time"),
        ("birth_date", "birth date"),
        ("total_cents", "total"),
        ("delay_minutes", "delay"),
        ("num_bags", "number of bags"),
        ("isActive", "active"),
        ("email", "e-mail address"),
        ("qty", "quantity"),
        ("id", "ID"),
    ],
)
def test_a_name_becomes_what_people_call_it(name: str, label: str) -> None:
    assert label_of(name) == label


def test_numbers_know_what_they_count() -> None:
    assert (unit_of("estimate_hours"), unit_of("dose_mg"), unit_of("hours"), unit_of("pieces")) == (
        "hour",
        "mg",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("table", "noun"),
    [
        ("order_lines", "order line"),
        ("categories", "category"),
        ("people", "person"),
        ("addresses", "address"),
        ("statuses", "status"),
        ("boxes", "box"),
        ("news", "news"),
        ("purchaseOrders", "purchase order"),
        ("staff", "staff"),
        ("houses", "house"),
    ],
)
def test_a_table_becomes_one_of_its_rows(table: str, noun: str) -> None:
    assert noun_of(table) == noun


@pytest.mark.parametrize(
    "word", ["category", "box", "day", "person", "address", "branch", "house", "analysis", "child"]
)
def test_plural_and_singular_undo_each_other(word: str) -> None:
    assert singular(plural(word)) == word


@pytest.mark.parametrize(
    ("description", "name", "phrase"),
    [
        ("Move a note to another folder.", "move_note", "move a note to another folder"),
        ("Creates a new task in a project. Titles are short.", "create_task", "create a new task in a project"),
        ("Delete the task by its ID", "delete_task", "delete the task"),
        ("Cancels an order that is still open, returning the money.", "cancel", "cancel an order"),
        ("Update a contact (name, phone) in the system.", "update_contact", "update a contact"),
        (
            "Put a whole booking, all passengers and flights, into another cabin.",
            "x",
            "put a whole booking into another cabin",
        ),
        ("Endpoint for archiving.", "archive_project", "archive a project"),
        ("The invoice is sent.", "invoices_send", "send an invoice"),
        ("", "approve", "approve"),
    ],
)
def test_a_description_becomes_a_request(description: str, name: str, phrase: str) -> None:
    assert verb_phrase(description, name) == phrase


def test_nouns_are_found_where_they_stand_for_a_thing() -> None:
    phrase = "assign an open task to the given user"
    assert find_noun(phrase, "task") == (7, 19)
    assert find_noun(phrase, "user") == (23, 37)
    assert find_noun("add a task label to a task", "task") == (20, 26), "a task label is no task"
    assert find_noun("create a new note", "note", new=True) == (7, 17)
    assert find_owner("change a task's due date to another", "task") == (7, 24, "due date")


def test_listing() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_words_of_one_stem_meet() -> None:
    assert content_words(["create_order"]) & content_words(["Ordering is easy"])
    assert not content_words(["create_order"]) & content_words(["Please create the weather"])


@given(NAMES, st.text(max_size=80))
def test_no_underscore_comes_out(name: str, description: str) -> None:
    assert "_" not in label_of(name) + noun_of(name) + verb_phrase(description, name)
