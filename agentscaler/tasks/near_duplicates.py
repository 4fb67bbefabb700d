"""Texts in nearly the same words, found exactly: those whose shingles (three words in a row) have a Jaccard index of at least a
threshold with an earlier text's.

By prefix filtering, not by MinHash: two sets so alike share one of their few rarest shingles, so an index of those alone names every
candidate, and each is then compared in full. `datasketch` was tried: as it looks pairs up (128 permutations, LSH for a threshold of
0.9) it finds a third of those that lie at the threshold, and its import brings scipy along (2 s).
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b

WORDS_A_SHINGLE = 3
_EPSILON = 1e-9  # 0.9 * 70 is a little more than 63

Shingles = array
"""Of one text: 32-bit digests, each once. All that is kept of it. Two shingles are taken for one once in four thousand million pairs."""


def shingles_of(text: str) -> Shingles:
    """Letter case, punctuation and white space aside. A text of fewer words is one shingle."""
    words = re.findall(r"\w+", text.casefold())
    last = max(1, len(words) - WORDS_A_SHINGLE + 1)
    found = {" ".join(words[start : start + WORDS_A_SHINGLE]) for start in range(last)}
    return array("I", {int.from_bytes(blake2b(one.encode(), digest_size=4).digest()) for one in found})


def near_duplicates(texts: Sequence[Shingles], threshold: float) -> Iterator[int]:
    """Places of the texts that are like an earlier one which is not itself dropped. 0 < threshold <= 1. What is added at the end
    changes nothing before it."""
    often = Counter(one for text in texts for one in text)
    kept_by_rarest: dict[int, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        # At least threshold * size of either set is in both, so the rarest few cannot all be missing from the other.
        length = len(text) - math.ceil(threshold * len(text) - _EPSILON) + 1
        prefix = sorted(text, key=lambda one: (often[one], one))[:length]
        candidates = {other for one in prefix for other in kept_by_rarest.get(one, ())}
        own = set(text)
        if any(_alike(own, texts[other], threshold) for other in candidates):
            yield place
            continue
        for one in prefix:
            kept_by_rarest[one].append(place)


def _alike(one: set[int], other: Shingles, threshold: float) -> bool:
    if not threshold * len(one) - _EPSILON <= len(other) <= len(one) / threshold + _EPSILON:
        return False
    shared = len(one.intersection(other))
    return shared >= threshold * (len(one) + len(other) - shared) - _EPSILON
