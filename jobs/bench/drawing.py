"""Where a bench leaves its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path("runs/bench")


def save(figure: Figure, name: str) -> str:
    """`runs/bench/<name>.png`; the path as the bench's key `figure` gives it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=120, bbox_inches="tight")
    return str(path)
