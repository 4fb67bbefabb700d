"""Domains come in whole or not at all: whatever is wrong is one line that names the file and the key."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from agentscaler.domain.store import (
    DOMAINS_SCHEMA,
    SHIPPED,
    domain_folder,
    load_domain,
    parse_domain,
    read_domains,
    read_yaml,
    shipped_domains,
    write_domains,
)
from agentscaler.errors import ConfigError, DomainError, ShardError
from agentscaler.world.program import compile_domain
from agentscaler.world.world import World
from tests.world.tiny_domain import tiny


@pytest.fixture
def store(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED / "notes", tmp_path / "notes")
    return tmp_path


def split(store: Path) -> Path:
    """The domain with its tools and its recipe in files of their own, some lists drawn."""
    folder = store / "notes"
    data = read_yaml(folder / "domain.yaml")
    seed = data.pop("seed")
    seed["lists"].pop("people")
    seed["values"] = {"people": {"draw": "person.full_name", "count": 6}}
    for name, part in (("tools", data.pop("tools")), ("seed", seed), ("domain", data)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(part, allow_unicode=True))
    (folder / "values.json").write_text('{"people": ["A", "B", "C"]}')
    return folder


def test_tools_and_recipe_may_lie_in_files_of_their_own(store: Path) -> None:
    split(store)
    domain = load_domain("notes", str(store))
    assert domain.tools == load_domain("notes").tools
    assert domain.seed.lists["people"] == ["A", "B", "C"]
    assert World.build(domain, 1).digest != World.build(load_domain("notes"), 1).digest


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("values.json", "{}", "its lists are not those"),
        ("values.json", "{", "not valid JSON"),
        ("seed.yaml", "[]", "must be a mapping"),
        ("tools.yaml", "[{}]", "tools.0.name"),
    ],
)
def test_wrong_files_beside_are_named(store: Path, file: str, text: str, words: str) -> None:
    (split(store) / file).write_text(text)
    assert words in refusal(store)


def test_what_stands_twice_is_refused(store: Path) -> None:
    (store / "notes" / "seed.yaml").write_text("steps: []")
    assert "seed: stands in seed.yaml already" in refusal(store)


def refusal(store: Path) -> str:
    with pytest.raises(DomainError) as caught:
        load_domain("notes", str(store))
    words = str(caught.value)
    assert "\n" not in words and str(store / "notes") in words
    return words


def edit(store: Path, **changes: Any) -> None:
    file = store / "notes" / "domain.yaml"
    data = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**data, **changes}))


@pytest.mark.parametrize("name", shipped_domains())
def test_shipped_domains_load_and_survive_json(name: str) -> None:
    domain = load_domain(name)
    assert domain.name == name
    again = parse_domain(domain.to_json(), "again")
    assert again == domain and again.fingerprint == domain.fingerprint
    assert compile_domain(again) is compile_domain(domain)


def test_a_users_domain_is_the_shipped_one_where_files_are_equal(store: Path) -> None:
    assert load_domain("notes", str(store)).fingerprint == load_domain("notes").fingerprint


def test_unknown_domain_lists_what_there_is(store: Path) -> None:
    with pytest.raises(DomainError, match=r"^domain=nots: no such domain in the shipped ones \(.*notes.*\)$"):
        domain_folder("nots")
    with pytest.raises(DomainError, match=r"^domain=nots: no such domain in .* \(notes\)$"):
        load_domain("nots", str(store))
    with pytest.raises(DomainError, match=r"\(none\)$"):
        load_domain("notes", str(store / "nowhere"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "line 1"),
        ("name: notes\n\tclock: 1", "line 2"),
        ("name: notes\nname: others", "line 2: not valid YAML: the key name stands twice"),
        ("tools:\n- {name: a, name: b}", "line 2: not valid YAML: the key name stands twice"),
        ("- a list", "must be a mapping"),
        ("", "must be a mapping"),
        ("name: !!python/object:os.system {}", "not valid YAML"),
        ("x: &a [*a, *b]", "not valid YAML"),
    ],
)
def test_broken_yaml(store: Path, text: str, words: str) -> None:
    (store / "notes" / "domain.yaml").write_text(text)
    assert words in refusal(store)


def test_files_that_are_missing_or_no_text(store: Path) -> None:
    (store / "notes" / "schema.sql").write_bytes(b"CREATE \xff")
    assert "schema.sql: not UTF-8 text" in refusal(store)
    (store / "notes" / "schema.sql").unlink()
    assert refusal(store).endswith("schema.sql: missing")
    (store / "notes" / "domain.yaml").write_bytes(b"\xff\xfe\x00")
    assert "domain.yaml" in refusal(store)
    with pytest.raises(DomainError, match=r"nowhere\.yaml: No such file or directory"):
        read_yaml(store / "nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"name": "My Notes"}, "name: String should match"),
        ({"clock": "yesterday"}, "clock: "),
        ({"clock": "2026-13-45T09:00:00Z"}, "clock: "),
        ({"tools": []}, "tools: "),
        (
            {"tools": [{"name": "a", "description": "a"}]},
            "tools.0: Value error, tool a neither writes (do) nor reads (returns)",
        ),
        ({"tools": [{"name": "a", "description": "a", "returns": "SELECT 1", "colour": 1}]}, "tools.0.colour"),
        ({"tools": [{"name": "a", "description": "a", "returns": "SELECT 1"}] * 2}, "tool names repeat: ['a']"),
        (
            {"tools": [{"name": "a", "description": "a", "returns": "x", "parameters": {"type": "array"}}]},
            "tools.0.parameters",
        ),
        (
            {"tools": [{"name": "a", "description": "a", "returns": "x", "parameters": {"properties": None}}]},
            "tools.0.parameters",
        ),
        ({"policy": [{"name": "a", "level": "strict", "text": "b"}]}, "policy.0.level"),
        ({"schema_sql": "CREATE TABLE"}, "schema_sql: belongs into schema.sql"),
        (
            {"seed": {"lists": {"days": [date(2026, 3, 2)]}}},
            "seed.lists: Value error, not a JSON value",
        ),
    ],
)
def test_wrong_keys_are_named(store: Path, changes: dict[str, Any], words: str) -> None:
    edit(store, **changes)
    assert words in refusal(store)


def test_a_broken_schema_or_recipe_names_the_domain_and_place() -> None:
    for domain, words in [
        (tiny(also="CREATE TABLE x (a"), "tiny: schema.sql: incomplete input"),
        (tiny(seed={"steps": ["INSERT INTO nowhere VALUES (1)"]}), "tiny: seed step 1: SQLError"),
    ]:
        with pytest.raises(DomainError) as caught:
            World.build(domain, 1)
        assert "\n" not in str(caught.value) and str(caught.value).split(": ")[:2] == words.split(": ")[:2]


def test_domains_parquet_round_trip(tmp_path: Path) -> None:
    domains = [load_domain("notes"), tiny()]
    path = tmp_path / "domains.parquet"
    write_domains(domains, path)
    assert read_domains(path) == {domain.fingerprint: domain for domain in domains}
    assert [file.name for file in tmp_path.iterdir()] == ["domains.parquet"]
    write_domains(domains[:1], path)
    assert len(read_domains(path)) == 1


def test_a_corrupt_domains_file_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "domains.parquet"
    write_domains([tiny()], path)
    whole = path.read_bytes()

    def refused(content: bytes | None) -> str:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_domains(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return type(caught.value).__name__

    for content in (None, b"", b"PAR1", whole[: len(whole) // 2], whole[:-8] + b"\0" * 8, b"not parquet at all" * 100):
        assert refused(content) == ShardError.__name__


def test_flipped_bytes_are_never_another_domain(tmp_path: Path) -> None:
    path, random = tmp_path / "domains.parquet", Random(1)
    write_domains([tiny()], path)
    whole = path.read_bytes()
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(random.choice([1, 5, 50])):
            content[random.randrange(len(content))] = random.randrange(256)
        path.write_bytes(content)
        try:
            assert read_domains(path) in ({}, {tiny().fingerprint: tiny()})
        except ConfigError as error:
            assert "\n" not in str(error)


def test_rows_that_were_edited_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "domains.parquet"
    write_domains([tiny()], path)
    row = pq.read_table(path).to_pylist()[0]

    def rewrite(schema: pa.Schema = DOMAINS_SCHEMA, **changes: Any) -> str:
        pq.write_table(pa.Table.from_pylist([{**row, **changes}], schema), path)
        with pytest.raises(ConfigError) as caught:
            read_domains(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        return str(caught.value)

    assert "has fingerprint" in rewrite(domain=row["domain"].replace("2026-03-02", "2026-03-03"))
    assert "has fingerprint" in rewrite(fingerprint="0" * 32)
    assert "not valid JSON" in rewrite(domain="{")
    assert "not valid JSON" in rewrite(domain=None)
    assert "description: Field required" in rewrite(domain='{"name": "x"}')
    assert "domain" in rewrite(domain="[]")
    assert "not a readable domains file" in rewrite(pa.schema([("name", pa.string())]))
