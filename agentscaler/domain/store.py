"""Where domains come from: a folder (shipped or a user's), or rows of `domains.parquet` beside a task file.

A folder holds `domain.yaml` and `schema.sql`, and usually `tasks.yaml`. Anything wrong is one `DomainError` naming the file and key.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from agentscaler.domain.domain import Domain
from agentscaler.errors import DomainError, ShardError

SHIPPED = Path(__file__).parent.parent / "domains"
DOMAINS_SCHEMA = pa.schema([("name", pa.string()), ("fingerprint", pa.string()), ("domain", pa.string())])


def shipped_domains() -> list[str]:
    return sorted(path.parent.name for path in SHIPPED.glob("*/domain.yaml"))


def domain_folder(name: str, path: str | None = None) -> Path:
    """The folder of a shipped domain, or of `name` inside the store `path`."""
    root = SHIPPED if path is None else Path(path)
    folder = root / name
    if not (folder / "domain.yaml").is_file():
        have = sorted(p.parent.name for p in root.glob("*/domain.yaml"))
        raise DomainError(f"domain={name}: no such domain in {'the shipped ones' if path is None else root} ({', '.join(have) or 'none'})")
    return folder


def load_domain(name: str, path: str | None = None) -> Domain:
    return _load_folder(domain_folder(name, path))


@cache
def _load_folder(folder: Path) -> Domain:
    data = read_yaml(folder / "domain.yaml")
    schema = folder / "schema.sql"
    if not schema.is_file():
        raise DomainError(f"{schema}: missing")
    return parse_domain({**data, "schema_sql": schema.read_text()}, str(folder / "domain.yaml"))


def parse_domain(data: dict[str, Any], where: str) -> Domain:
    try:
        return Domain.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise DomainError(f"{where}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def read_yaml(path: Path) -> Any:
    """YAML of a file. Errors are one line with file and line."""
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise DomainError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise DomainError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', error)}") from None


def write_domains(domains: list[Domain], path: Path) -> None:
    """One row a domain. Written before any rollout, so that a folder can be verified again by itself."""
    rows = [{"name": d.name, "fingerprint": d.fingerprint, "domain": orjson.dumps(d.to_json()).decode()} for d in domains]
    pq.write_table(pa.Table.from_pylist(rows, DOMAINS_SCHEMA), path)


def read_domains(path: Path) -> dict[str, Domain]:
    """Domains by fingerprint. A row whose fingerprint no longer comes out the same (another SQLite, an edited row) is an error."""
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable domains file: {str(error).splitlines()[0]}") from None
    found: dict[str, Domain] = {}
    for row in rows:
        domain = parse_domain(orjson.loads(row["domain"]), f"{path} ({row['name']})")
        if domain.fingerprint != row["fingerprint"]:
            raise DomainError(f"{path}: domain {row['name']} has fingerprint {domain.fingerprint[:8]}, the file says {row['fingerprint'][:8]}")
        found[domain.fingerprint] = domain
    return found
