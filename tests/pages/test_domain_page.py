"""The page about a domain. Promises: it holds all of the domain; what a domain says is text and never markup; it loads nothing; the
same domain gives the same bytes; its calls were really executed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest

from agentscaler.domain.domain import Domain
from agentscaler.domain.store import domain_folder, load_domain, shipped_domains
from agentscaler.messages import Outcome
from agentscaler.pages.domain_page import DomainFacts, collect, overview, pretty, render_page
from agentscaler.pages.sql import highlight
from agentscaler.tasks.compile import load_written
from agentscaler.world.world import World
from tests.conftest import RunJob
from tests.world.graph_domain import DOMAIN as GRAPH

EVIL = "</title><script>alert('x')</script><img src=https://example.org/x onerror=alert(1)>{{ 7 * 7 }}\x1b[31m"
VOID = {"meta", "br", "img", "input", "hr", "link"}


class Page(HTMLParser):
    """Text, elements with their attributes, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def facts_of(name: str, seed: int = 1) -> DomainFacts:
    file = domain_folder(name) / "tasks.yaml"
    return collect(load_domain(name), load_written(file) if file.is_file() else (), seed)


def hostile() -> Domain:
    """The graph domain with markup in every place where words can stand, table and column names included."""
    data = GRAPH.to_json()
    data |= {"description": EVIL, "instructions": EVIL, "source": EVIL, "licence": EVIL}
    data["policy"] = [{"name": EVIL, "level": "text_only", "text": EVIL}]
    data["invariants"] = [{"name": EVIL, "sql": "SELECT '<script>' FROM boxes"}]
    data["schema_sql"] += '\nCREATE TABLE "<script>" ("<img src=x>" TEXT PRIMARY KEY) STRICT; -- <script>'
    data["seed"]["steps"] = [*data["seed"]["steps"], "INSERT INTO \"<script>\" VALUES ('<script>alert(1)</script>')"]
    tool = data["tools"][0]
    tool["description"] = EVIL
    tool["parameters"]["properties"]["name"] = {"type": "string", "description": EVIL, "enum": [EVIL]}
    tool["require"] = [{"sql": "SELECT '<script>'", "else": EVIL}]
    tool["example"] = {"say": EVIL, "arguments": {EVIL: EVIL}, "result": [EVIL], "reply": EVIL}
    return Domain.model_validate(data)


@pytest.mark.parametrize("name", shipped_domains())
def test_a_page_holds_every_table_tool_rule_and_kind(name: str) -> None:
    facts = facts_of(name)
    page = render_page(facts)
    assert len(page.encode()) < 500_000
    shown = Page(page)
    assert shown.open == []
    for tool in facts.domain.tools:
        assert any(one.get("id") == f"tool-{tool.name}" for one in shown.all("section"))
        assert tool.description in shown.text
    for words in [
        *(t.name for t in facts.tables),
        *(rule.text for rule in facts.domain.policy),
        *(k.kind for k in facts.kinds),
    ]:
        assert words in shown.text
    boxes = [g for g in shown.all("g") if "data-table" in g]
    edges = [g for g in shown.all("g") if "data-child" in g]
    assert (len(boxes), len(edges)) == (len(facts.tables), len(facts.references))


def test_every_link_leads_somewhere_on_the_page_and_nothing_is_loaded() -> None:
    shown = Page(render_page(facts_of("notes")))
    names = {attributes.get("id") for _, attributes in shown.elements}
    for tag, attributes in shown.elements:
        assert "src" not in attributes
        assert "srcset" not in attributes
        if "href" in attributes:
            assert tag == "a"
            assert (attributes["href"] or "").removeprefix("#") in names
    assert not {"link", "iframe", "object", "embed", "img"} & {tag for tag, _ in shown.elements}
    assert not re.search(r"url\(|@import", render_page(facts_of("notes")))


def test_what_a_domain_says_stays_text() -> None:
    facts = collect(hostile())
    shown = Page(render_page(facts))
    assert shown.open == []
    assert len(shown.all("script")) == 1
    assert shown.all("img") == []
    assert not any(key.startswith("on") for _, attributes in shown.elements for key in attributes)
    for places in (shown.text.count("alert('x')"), shown.text.count("{{ 7 * 7 }}")):
        assert places >= 12
    assert "<script>alert(1)</script>" in shown.text
    assert "1 offending row" in shown.text
    assert "\x1b" not in overview(facts)


def test_the_same_bytes_twice() -> None:
    assert render_page(facts_of("notes")) == render_page(facts_of("notes"))
    assert render_page(facts_of("notes")) != render_page(facts_of("notes", seed=2))
    assert render_page(collect(GRAPH)) == render_page(collect(GRAPH))


@pytest.mark.parametrize("name", shipped_domains())
def test_five_varied_calls_that_come_out_the_same_when_executed_again(name: str) -> None:
    facts = facts_of(name)
    assert len(facts.calls) == 5
    assert len({call.tool for call in facts.calls}) >= 4
    shapes = {call.shape for call in facts.calls}
    assert "read" in shapes
    assert shapes & {"insert", "update", "delete"}
    check_again(facts)


def test_a_recovery_task_shows_a_refusal_and_without_tasks_calls_are_drawn() -> None:
    assert {call.shape for call in facts_of("notes").calls} == {"read", "insert", "update", "delete", "refused"}
    drawn = collect(load_domain("notes"))
    assert [call.result.outcome for call in drawn.calls] == [Outcome.OK] * 5
    assert len({call.tool for call in drawn.calls}) == 5
    check_again(drawn)


def check_again(facts: DomainFacts) -> None:
    for call in facts.calls:
        assert call.result.outcome is Outcome.OK or not call.result.changed_keys
        if not call.before:
            environment = World.build(facts.domain, facts.seed).open()
            assert environment.call("agent", call.tool, call.arguments) == call.result
            assert environment.close() == call.diff


def test_calls_before_a_call_are_executed_too() -> None:
    domain = load_domain("notes")
    tasks = [task for task in load_written(domain_folder("notes") / "tasks.yaml") if task.id == "copy_gifts_and_share"]
    calls = collect(domain, tasks, seed=2).calls
    share = next(call for call in calls if call.tool == "share_note" and call.task)
    assert share.before == ("read_note", "create_note")
    assert share.earlier_writes
    assert sorted(share.diff) == ["notes", "shares"]


def test_the_facts_are_those_of_the_world() -> None:
    facts = facts_of("notes")
    move = next(one for one in facts.tools if one.tool.name == "move_note")
    assert move.is_write
    assert move.reads == {"folders": ("name",), "notes": ("folder", "locked", "title")}
    assert move.writes == {"notes": ("folder", "updated_at")}
    assert next((p.name, p.required, p.limits) for p in move.parameters) == ("note", True, ("length ≤\u00a080",))
    assert {t.name: t.num_rows for t in facts.tables}["notes"] == 25
    boxes = next(table for table in collect(GRAPH).tables if table.name == "marks")
    assert [(c.name, c.key, c.foreign, c.marks) for c in boxes.columns][-1] == ("wide", False, False, ("generated",))


def test_overview_names_tables_tools_and_rules() -> None:
    words = overview(facts_of("notes"))
    for part in ("note_tags", "33 rows", "move_note", "write", "confidential", "text_only", "2 enforced"):
        assert part in words


def test_json_is_cut() -> None:
    value = [{"name": "x" * 60, "tags": ["a", "b"], "number": n} for n in range(40)]
    lines = pretty(orjson.dumps(value).decode()).splitlines()
    assert lines[-1].startswith("… ")
    assert len(lines) <= 30
    assert orjson.loads(pretty(value[:2])) == value[:2]


def test_sql_is_highlighted_and_escaped() -> None:
    assert highlight("SELECT '<b>' -- a < b") == (
        '<i class="k">SELECT</i> <i class="s">&#39;&lt;b&gt;&#39;</i> <i class="c">-- a &lt; b</i>'
    )


def test_show_writes_the_page_and_says_where(run_job: RunJob, tmp_path: Path) -> None:
    run = run_job("show", "domain=notes", f"html={tmp_path / 'notes.html'}", "seed=2")
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == str(tmp_path / "notes.html")
    assert (tmp_path / "notes.html").read_text() == render_page(facts_of("notes", seed=2))
    assert "move_note" in run_job("show", "domain=notes").stdout
