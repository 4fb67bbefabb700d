"""Published result files, re-scored: the recorded calls of each simulation are replayed, our outcome stands beside the recorded one.

Two formats: τ²-bench's own results (`results.py`) and τ-bench v1's lists of trajectories (`taubench.py`). A simulation disagrees where
DB match, or an environment assertion, differs from what is recorded. Nothing is asked of any model: assertions in words are counted
apart, from the record. Reads the whole file into memory; writes nothing.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agentscaler.adapters.tau2.replay import Cause, Compared
from agentscaler.adapters.tau2.results import rescore_results
from agentscaler.adapters.tau2.taubench import rescore_trajectories
from agentscaler.errors import ConfigError

EXAMPLES = 20  # of each cause

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rescored:
    path: Path
    format: str
    compared: tuple[Compared, ...]

    def summary(self) -> dict[str, Any]:
        """As it goes to `summary.json`. `simulations` are those that can be compared."""
        return {
            "results": str(self.path),
            "format": self.format,
            **_counts(self.compared),
            "by_domain": {
                domain: _counts([one for one in self.compared if one.name.domain == domain])
                for domain in sorted({one.name.domain for one in self.compared})
            },
            "by_cause": _count(one.cause for one in self.compared),
            "not_comparable_by_cause": _count(one.missing for one in self.compared),
            "examples": list(self._examples()),
            "reward": self._reward(),
            "nl": self._nl(),
        }

    def _examples(self) -> Iterator[dict[str, Any]]:
        for cause in Cause:
            for one in [one for one in self.compared if one.cause is cause][:EXAMPLES]:
                yield {
                    "cause": cause.value,
                    "simulation": one.name.simulation,
                    "task": one.name.task,
                    "trial": one.name.trial,
                    "domain": one.name.domain,
                    "recorded": one.recorded,
                    "ours": one.ours,
                    "words": one.words,
                }

    def _reward(self) -> dict[str, Any]:
        """Over the simulations whose reward, in the parts that need no judge model, is both recorded and ours."""
        pairs = [
            (one.recorded_reward, one.our_reward)
            for one in self.compared
            if one.missing is None and one.recorded_reward is not None and one.our_reward is not None
        ]
        return {
            "simulations": len(pairs),
            "recorded_mean": _mean([recorded for recorded, _ in pairs]),
            "ours_mean": _mean([ours for _, ours in pairs]),
            "agree": sum(recorded == ours for recorded, ours in pairs),
        }

    def _nl(self) -> dict[str, Any]:
        rewards = [one.nl for one in self.compared if one.nl is not None]
        return {"simulations_with_nl": len(rewards), "recorded_mean": _mean(rewards)}


def rescore(path: Path, on_progress: Progress = lambda done, total: None) -> Rescored:
    """Raises ConfigError in one line for a file that is missing, damaged, or of another shape. `on_progress(done, total)` is called
    after each simulation."""
    path = Path(path)
    data = _read(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydantic")  # tools take values of the wrong type and dump them
        if isinstance(data, dict) and isinstance(data.get("simulations", []), list) and "info" in data:
            return Rescored(path, "tau2", tuple(rescore_results(path, data, on_progress)))
        if isinstance(data, list) and data and all(isinstance(one, dict) and "traj" in one for one in data):
            return Rescored(path, "tau-bench v1", tuple(rescore_trajectories(path, data, on_progress)))
    raise ConfigError(
        f"results: {path} holds neither τ²-bench results (info, tasks, simulations) nor a list of τ-bench trajectories (traj, reward)"
    )


def _read(path: Path) -> Any:
    file = path / "results.json" if path.is_dir() else path
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"results: there is no file {file}") from None
    except OSError as error:
        raise ConfigError(f"results: {file} cannot be read: {error.strerror}") from None
    if content.startswith(b"version https://git-lfs"):
        raise ConfigError(f"results: {file} is a Git LFS pointer: fetch the file itself with `git lfs pull`")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            return json.loads(content)  # takes NaN and halves of characters, which Python writes and orjson refuses
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"results: {file} is no JSON: {error}") from None


def _counts(compared: Iterable[Compared]) -> dict[str, int]:
    found = list(compared)
    agree = sum(one.agrees for one in found)
    missing = sum(one.missing is not None for one in found)
    return {
        "simulations": len(found) - missing,
        "agree": agree,
        "disagree": len(found) - missing - agree,
        "not_comparable": missing,
    }


def _count(causes: Iterable[Any]) -> dict[str, int]:
    return {cause.value: number for cause, number in Counter(one for one in causes if one is not None).most_common()}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
