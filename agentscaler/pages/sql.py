"""SQL for reading: indentation taken off, words of the language told from names. Everything is escaped."""

from __future__ import annotations

import re
import textwrap

from markupsafe import Markup

_KEYWORDS = """
    abort add after all alter and as asc autoincrement before begin between by cascade case check collate column
    conflict constraint create cross current default deferrable deferred delete desc distinct do drop each else end
    escape except excluded exists filter following for foreign from full generated group having if immediate in index
    indexed initially inner insert instead intersect into is isnull join key left limit natural new no not nothing
    notnull null nulls of offset old on or order outer over partition preceding primary raise range recursive
    references rename replace restrict returning right row rows select set stored strict table then to trigger
    unbounded union unique update using values view when where window with without rowid text integer real blob any
"""
_WORDS = frozenset(_KEYWORDS.split())
_TOKEN = re.compile(
    r"(?P<c>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<s>'(?:[^']|'')*')|(?P<p>[:@$]\w+)|(?P<n>\b\d+(?:\.\d+)?\b)|(?P<w>[A-Za-z_]\w*)"
    r'|"(?:[^"]|"")*"',
    re.DOTALL,
)


def highlight(sql: str) -> Markup:
    """Comments, strings, parameters, numbers and keywords as `<i class=…>` of one letter."""
    text = textwrap.dedent(sql.expandtabs(4)).strip()
    parts, end = [], 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "w":
            kind = "k" if match[0].lower() in _WORDS else None
        if kind:
            parts += [Markup.escape(text[end : match.start()]), Markup('<i class="{}">{}</i>').format(kind, match[0])]
            end = match.end()
    return Markup("").join([*parts, text[end:]])
