"""Where domains come from: a folder (shipped or a user's), or rows of `domains.parquet` beside a task file.

A folder holds `domain.yaml` and `schema.sql`, and usually `tasks.yaml`. What is long may lie beside `domain.yaml`: `tools.yaml` (the
list of tools), `seed.yaml` (the seed recipe) and `values.json` (lists drawn for that recipe, see `values`). Anything wrong is one
`DomainError` naming file and key.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from agentscaler.benchmark import AnyDomain, BenchmarkDomain
from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError, ShardError
from agentscaler.shards.storage import AnyPath, input_file, replacing

SHIPPED = Path(__file__).parent.parent / "domains"
VALUES_FILE = "values.json"
DOMAINS_SCHEMA = pa.schema([("name", pa.string()), ("fingerprint", pa.string()), ("domain", pa.string())])


def shipped_domains() -> list[str]:
    return sorted(path.parent.name for path in SHIPPED.glob("*/domain.yaml"))


def domain_folder(name: str, path: str | None = None) -> Path:
    """The folder of a shipped domain, or of `name` inside the store `path`."""
    root = SHIPPED if path is None else Path(path)
    folder = root / name
    if not (folder / "domain.yaml").is_file():
        have = sorted(p.parent.name for p in root.glob("*/domain.yaml"))
        raise DomainError(
            f"domain={name}: no such domain in {'the shipped ones' if path is None else root} ({', '.join(have) or 'none'})"
        )
    return folder


def load_domain(name: str, path: str | None = None) -> Domain:
    return _load_folder(domain_folder(name, path))


@cache
def _load_folder(folder: Path) -> Domain:
    file, schema = folder / "domain.yaml", folder / "schema.sql"
    data = read_yaml(file)
    if not isinstance(data, dict):
        raise DomainError(f"{file}: must be a mapping of keys to values")
    if "schema_sql" in data:
        raise DomainError(f"{file}: schema_sql: belongs into schema.sql")
    if not schema.is_file():
        raise DomainError(f"{schema}: missing")
    beside = {key: folder / f"{key}.yaml" for key in ("tools", "seed") if (folder / f"{key}.yaml").is_file()}
    for key, part in beside.items():
        if key in data:
            raise DomainError(f"{file}: {key}: stands in {part.name} already")
    parts = {key: _read_seed(folder) if key == "seed" else read_yaml(part) for key, part in beside.items()}
    return parse_domain({**data, **parts, "schema_sql": _read_text(schema)}, str(file))


def _read_seed(folder: Path) -> dict[str, Any]:
    """`seed.yaml` with the lists of `values.json` put in; how those were drawn is no part of the domain."""
    recipe, drawn = read_seed_file(folder), folder / VALUES_FILE
    wanted = recipe.pop("values", {})
    lists = recipe.get("lists") or {}
    if not wanted:
        return recipe
    try:
        values = orjson.loads(_read_text(drawn))
    except orjson.JSONDecodeError as error:
        raise DomainError(f"{drawn}: not valid JSON: {error}") from None
    if not isinstance(values, dict) or values.keys() != wanted.keys():
        raise DomainError(
            f"{drawn}: its lists are not those of seed.yaml: values; draw them again (AGENTS.md: add a world)"
        )
    if twice := sorted(values.keys() & lists.keys()):
        raise DomainError(f"{folder / 'seed.yaml'}: the list {twice[0]} stands in lists and in values")
    return {**recipe, "lists": {**lists, **values}}


def read_seed_file(folder: Path) -> dict[str, Any]:
    """`seed.yaml` as it stands: `lists`, `steps`, and `values`, which says how the lists of `values.json` are drawn."""
    recipe = read_yaml(folder / "seed.yaml")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("values", {}), dict):
        raise DomainError(f"{folder / 'seed.yaml'}: must be a mapping with lists, values, steps")
    return dict(recipe)


def parse_domain(data: Any, where: str) -> Domain:
    try:
        return Domain.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DomainError(f"{where}: {key + ': ' if key else ''}{_one_line(first['msg'])}") from None


def read_yaml(path: Path) -> Any:
    """YAML of a file. Errors are one line with file and line."""
    try:
        return yaml.load(_read_text(path), _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise DomainError(f"{path}:{line} not valid YAML: {_one_line(error.problem or error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DomainError(f"{path}: not valid YAML: {_one_line(error)}") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} stands twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DomainError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DomainError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None


def _one_line(words: object) -> str:
    return " ".join(str(words).split())


def write_domains(domains: Sequence[AnyDomain], path: AnyPath) -> None:
    """One row a domain. Written before any rollout, so that a folder can be verified again by itself."""
    rows = [
        {"name": d.name, "fingerprint": d.fingerprint, "domain": orjson.dumps(d.to_json()).decode()} for d in domains
    ]
    with replacing(path) as sink:
        pq.write_table(pa.Table.from_pylist(rows, DOMAINS_SCHEMA), sink)


def read_domains(path: AnyPath) -> dict[str, AnyDomain]:
    """Domains by fingerprint. A row whose fingerprint no longer comes out the same (another SQLite, an edited row) is an error."""
    try:
        with input_file(path) as source:
            rows = pq.read_table(source, columns=DOMAINS_SCHEMA.names).to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ShardError(f"{path}: not a readable domains file: {_one_line(error)[:200]}") from None
    found: dict[str, AnyDomain] = {}
    for row in rows:
        where = f"{path} ({row['name']})"
        try:
            data = orjson.loads(row["domain"])
        except orjson.JSONDecodeError as error:
            raise ShardError(f"{where}: domain: not valid JSON: {error}") from None
        domain = BenchmarkDomain.model_validate(data) if "benchmark" in data else parse_domain(data, where)
        if domain.fingerprint != row["fingerprint"]:
            raise DomainError(
                f"{path}: domain {row['name']} has fingerprint {domain.fingerprint[:8]}, the file says {row['fingerprint'][:8]}"
            )
        found[domain.fingerprint] = domain
    return found
