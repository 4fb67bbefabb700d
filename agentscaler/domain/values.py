"""Realistic values for seed recipes, drawn once with mimesis and kept beside the domain.

A recipe's world must not change with the version of a package, so values are data: `python -m agentscaler.domain.values <folder>`
draws what `seed.yaml` names under `values` and writes `values.json`; loading a domain only reads that file. Each entry says which
mimesis provider and how many distinct values: `streets: {draw: address.street_name, count: 200}`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentscaler.domain.store import VALUES_FILE, read_seed_file
from agentscaler.errors import DomainError

MAX_DRAWS_PER_VALUE = 50


class Drawing(BaseModel):
    """`draw` is `provider.method` of mimesis, `options` its keyword arguments. Values are distinct, in the order of drawing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draw: str = Field(pattern=r"^[a-z_]+\.[a-z_]+$")
    count: int = Field(ge=1, le=10_000)
    locale: str = "en"
    options: dict[str, Any] = {}


def draw_values(drawings: dict[str, Any]) -> dict[str, list[str]]:
    """Lists by name. The same names and entries give the same values. Raises DomainError naming the list."""
    return {name: _draw(name, entry) for name, entry in drawings.items()}


def _draw(name: str, entry: Any) -> list[str]:
    from mimesis import Generic  # 0.2 s, and wanted only here
    from mimesis.locales import Locale

    try:
        drawing = Drawing.model_validate(entry)
        provider, method = drawing.draw.split(".")
        make = getattr(getattr(Generic(Locale(drawing.locale), seed=name), provider), method)
    except ValidationError as error:
        raise DomainError(f"values.{name}: {error.errors()[0]['msg']}") from None
    except (AttributeError, ValueError) as error:
        raise DomainError(f"values.{name}: {error}") from None
    found: dict[str, None] = {}
    for _ in range(drawing.count * MAX_DRAWS_PER_VALUE):
        found.setdefault(str(make(**drawing.options)))
        if len(found) == drawing.count:
            return list(found)
    raise DomainError(f"values.{name}: {drawing.draw} has only {len(found)} distinct values, not {drawing.count}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agentscaler.domain.values", description=__doc__)
    parser.add_argument("folder", type=Path, help="the domain's folder, with seed.yaml")
    folder = parser.parse_args().folder
    values = draw_values(read_seed_file(folder).get("values", {}))
    lines = [f"  {orjson.dumps(name).decode()}: {orjson.dumps(values[name]).decode()}" for name in values]
    (folder / VALUES_FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
