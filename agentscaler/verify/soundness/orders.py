"""Two good ends: what a person asks for in one breath may be done in another order, and must come to the same end.

A *block* is a write with those before it that are steps towards it: it changes every row that they changed, and others (articles put
into a cart, then ordered). What is a step goes first, plainly. Each block is tried before each earlier one that no word to the person
lies between, and so are single writes that follow one another. Where every call then goes as it went in the reference, and no rule in
words forbids one, that way is as good.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from agentscaler.tasks.task import Call
from agentscaler.verify.soundness.rehearsal import Rehearsal

Block = tuple[int, ...]
"""Numbers of writes in the reference (from 0), in order."""


def swaps(rehearsal: Rehearsal) -> list[tuple[Block, Block]]:
    """Pairs of which the second is to be tried first, going from the reference's end to its start."""
    found: set[tuple[Block, Block]] = set()
    for breath in _breaths(rehearsal):
        singles: list[Block] = [(number,) for number in breath]
        found |= {(one, two) for one, two in pairwise(singles) if not _is_step(rehearsal, one[0], two[0])}
        found |= set(combinations(_blocks(rehearsal, breath), 2))
    return sorted(found, reverse=True)


def other_end(rehearsal: Rehearsal, one: Block, two: Block) -> list[str]:
    """In words, where the second block, with the reads that it needs, can be done before the first and that ends differently."""
    needed = rehearsal.needed_by(two)
    if needed & set(one):
        return []
    stretch = [n for n in range(one[0], two[-1] + 1) if rehearsal.bears(n)]
    first = [n for n in stretch if n in needed or n in two]
    order = first + [n for n in stretch if n not in first] + list(range(two[-1] + 1, len(rehearsal.calls)))
    steps = [(n, rehearsal.calls[n]) for n in order]
    if rehearsal.ends_alike(one[0], steps):
        return []
    outcomes = [result.outcome for result in rehearsal.play(one[0], steps).results[one[0] :]]
    if outcomes != [rehearsal.results[n].outcome for n in order] or rehearsal.is_forbidden(one[0], steps):
        return []
    return [f"doing call {one[-1] + 1} after call {two[-1] + 1} is as good and ends differently"]


def _breaths(rehearsal: Rehearsal) -> Iterator[list[int]]:
    """Writes with no word to the person between them: what it asks for only once it was answered cannot be done before."""
    number, breath = 0, []
    for step in rehearsal.task.written.reference:
        if not isinstance(step, Call):
            yield breath
            breath = []
            continue
        if number in rehearsal.writes:
            breath.append(number)
        number += 1
    yield breath


def _blocks(rehearsal: Rehearsal, breath: list[int]) -> list[Block]:
    blocks: list[Block] = []
    for number in breath:
        block: Block = (number,)
        while blocks and all(_is_step(rehearsal, step, number) for step in blocks[-1]):
            block = blocks.pop() + block
        blocks.append(block)
    return blocks


def _is_step(rehearsal: Rehearsal, one: int, two: int) -> bool:
    return set(rehearsal.results[one].changed_keys) < set(rehearsal.results[two].changed_keys)
