"""The special category: what an answer in words must hold (ACEBench, eval_main.py, special_eval).

The benchmark tells the agent which sentence to say, and looks for its fixed part and for the names or values that belong in it, wherever
they stand in the words. A call is no answer here, whatever is said beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = "Missing necessary parameters"
INCORRECT = "There is incorrect value"
BEYOND = "the limitations of the function"

Truth = Mapping[str, Sequence[str]] | str
"""By kind: the missing parameters by tool, the wrong values by parameter, or the sentence itself."""


def check_words(kind: str, words: str, truth: Truth) -> list[str]:
    """Reasons, empty where the words point out what they must."""
    if "irrelevant" in kind or isinstance(truth, str):
        return [] if BEYOND in words else [f"did not say “{BEYOND}”"]
    reasons = []
    phrase = MISSING if "incomplete" in kind else INCORRECT
    if phrase not in words:
        return [f"did not say “{phrase}”"]
    for name, values in truth.items():
        if phrase == MISSING and name not in words:
            reasons.append(f"did not name the tool {name}")
        what = f"the missing {{}} of {name}" if phrase == MISSING else f"the wrong {{}} of {name}"
        reasons += [f"did not name {what.format(value)}" for value in values if str(value) not in words]
    return reasons


def right_words(kind: str, truth: Truth) -> str:
    """The benchmark's own answer, in the sentences it asks for."""
    if isinstance(truth, str):
        return truth
    if "incomplete" in kind:
        return " ".join(f"{MISSING} ({_listed(values)}) for the api ({name})." for name, values in truth.items())
    return " ".join(
        f"{INCORRECT} ({_listed(values)}) for the parameters ({name}) in the conversation history."
        for name, values in truth.items()
    )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
