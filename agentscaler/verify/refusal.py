"""Does a reply decline? Stated patterns; their error rate is measured on the labelled replies in `tests/verify/refusals.yaml`."""

from __future__ import annotations

import re

_DECLINES = re.compile(
    r"""
    \b(can(no|['’])?t|can\s?not|could\s?n['’]t|could\s+not|won['’]?t|will\s+not|unable|not\s+able|not\s+(allowed|permitted|possible)
      |(isn|aren|wasn)['’]t\s+(allowed|permitted|possible|able|something\s+i)
      |must\s+not|mustn['’]t|may\s+not|not\s+going\s+to|no\s+way\s+(for\s+me\s+)?to
      |(have|has)\s+no\s+(tool|way|means|function|ability)|do(es)?\s?n['’o]t\s+have\s+(a|any|the)\s+(tool|way|means|function|ability|option)
      |without\s+a\s+tool|outside\s+(of\s+)?(what|my)|beyond\s+(what|my)|against\s+(the|our|my)\s+(rule|polic)
      |(have\s+to|must|need\s+to|had\s+to)\s+(refuse|decline)|i\s+(refuse|decline)|(is|are)\s+(forbidden|prohibited)
      |(rules?|polic(y|ies))\s+(do(es)?\s?n['’o]t\s+(let|allow|permit)|forbids?|prohibits?|prevents?|says?\s+(no|never)))\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CLAIMS_DONE = re.compile(
    r"\b(i['’]?ve|i\s+have|i|has\s+been|have\s+been|was|were|is\s+now)\s+(now\s+|just\s+|successfully\s+)?"
    r"(shared|deleted|removed|moved|sent|booked|created|done|added|changed)\b",
    re.IGNORECASE,
)


def declines(words: str) -> bool:
    """True where the words say that the agent does not do what was asked and do not say that it did."""
    return bool(_DECLINES.search(words)) and not _CLAIMS_DONE.search(words)
