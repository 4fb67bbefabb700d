"""Where the value of a SQL expression comes from, and which arguments it compares with which columns.

What is not understood here is worked out from every column beneath it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlglot import exp
from sqlglot.dialects.sqlite import SQLite

from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.scope import Relation, Scope
from agentscaler.tasks.walk.value import ANY, NOTHING, Path, Value, json_of, merge

ARGUMENT = "argument_"  # stands before the names of arguments in what is parsed

_DIALECT = SQLite()
_SAME = (exp.Paren, exp.Alias, exp.Cast, exp.Collate, exp.Lower, exp.Upper, exp.Trim)
_SAME_BY_NAME = frozenset({"ltrim", "rtrim"})
_READ_AS_JSON = frozenset({"json", "canonical_json"})
_ROWS = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)


class Expressions:
    """Of one statement. `touched` are the columns looked at so far; `matched`: argument -> columns that it is compared with for
    equality."""

    def __init__(self, relation: Callable[[exp.Expr, Scope], Relation]):
        self._relation = relation
        self.touched: set[Column] = set()
        self.matched: dict[Path, set[Column]] = {}

    def value(self, node: exp.Expr, scope: Scope) -> Value:
        """Also walks everything beneath, so that no comparison is missed."""
        if isinstance(node, exp.Column):
            return self._look_up(node, scope)
        if isinstance(node, exp.Placeholder):
            return Value(arguments=frozenset({(node.name.removeprefix(ARGUMENT),)}))
        if isinstance(node, _ROWS):
            relation = self._relation(node, scope)
            return relation[0][1] if relation else NOTHING
        if isinstance(node, _SAME):
            return self.value(node.this, scope)
        if isinstance(node, exp.Coalesce):
            return merge([self.value(one, scope) for one in (node.this, *node.expressions)])
        if isinstance(node, exp.If | exp.Case):
            return self._branches(node, scope)
        if isinstance(node, exp.JSONExtract | exp.JSONExtractScalar):
            return self._extract(node, scope)
        if isinstance(node, exp.EQ | exp.NullSafeEQ):
            return self._compare(node, [(node.this, node.expression)], scope)
        if isinstance(node, exp.In):
            return self._membership(node, scope)
        return self._json(node, scope) or self._computed(node, scope)

    def walk(self, nodes: Iterable[Any], scope: Scope) -> None:
        for node in nodes:
            if isinstance(node, exp.Expr):
                self.value(node, scope)

    def row(self, node: exp.Expr, scope: Scope) -> list[Value]:
        """The values of a row, or the one of an expression."""
        while isinstance(node, exp.Paren):
            node = node.this
        if isinstance(node, exp.Tuple):
            return [self.value(one, scope) for one in node.expressions]
        if isinstance(node, _ROWS):
            return [value for _, value in self._relation(node, scope)]
        return [self.value(node, scope)]

    def equate(self, one: Value, other: Value) -> None:
        for here, there in ((one, other), (other, one)):
            for path in sorted(here.arguments):
                self.matched.setdefault(path, set()).update(there.columns)

    def _look_up(self, node: exp.Column, scope: Scope) -> Value:
        found = scope.find(node.name.lower(), node.table.lower()) or NOTHING
        self.touched |= found.touches
        return found

    def _computed(self, node: exp.Expr, scope: Scope, follow: Callable[[], None] | None = None) -> Value:
        before, self.touched = self.touched, set()
        if follow is None:
            self.walk(list(node.iter_expressions()), scope)
        else:
            follow()
        found = frozenset(self.touched)
        self.touched |= before
        return Value(computed=found)

    def _branches(self, node: exp.If | exp.Case, scope: Scope) -> Value:
        """One of the branches, where each of them is plainly something or NULL; else worked out from all."""
        ends: list[exp.Expr | None] = []

        def follow() -> None:
            if isinstance(node, exp.If):
                self.walk([node.this], scope)
                ends.extend((node.args.get("true"), node.args.get("false")))
                return
            ends.append(node.args.get("default"))
            for one in node.args["ifs"]:
                ends.append(one.args.get("true"))
                if node.this is None:
                    self.walk([one.this], scope)
                else:
                    self._compare(one, [(node.this, one.this)], scope)

        conditions = self._computed(node, scope, follow)
        values = [self.value(end, scope) for end in ends if end is not None and not isinstance(end, exp.Null)]
        if values and all(value.is_plain for value in values):
            return merge(values)
        return Value(computed=conditions.computed.union(*(value.touches for value in values)))

    def _extract(self, node: exp.JSONExtract | exp.JSONExtractScalar, scope: Scope) -> Value:
        whole = self.value(node.this, scope)
        keys = None if node.expressions else keys_of(node.expression)
        if keys is None:
            self.walk([node.expression, *node.expressions], scope)
            return Value(computed=whole.touches)
        return lies_in(whole, keys)

    def _compare(self, node: exp.Expr, sides: list[tuple[exp.Expr, exp.Expr]], scope: Scope) -> Value:
        def follow() -> None:
            for left, right in sides:
                for one, other in zip(self.row(left, scope), self.row(right, scope), strict=False):
                    self.equate(one, other)

        return self._computed(node, scope, follow)

    def _membership(self, node: exp.In, scope: Scope) -> Value:
        others = [*node.expressions, node.args.get("query"), node.args.get("field")]
        return self._compare(node, [(node.this, one) for one in others if one is not None], scope)

    def _json(self, node: exp.Expr, scope: Scope) -> Value | None:
        name = node.name.lower() if isinstance(node, exp.Anonymous) else ""
        if name in _SAME_BY_NAME and node.expressions:
            self.walk(node.expressions[1:], scope)
            return self.value(node.expressions[0], scope)
        if name in _READ_AS_JSON and len(node.expressions) == 1:
            return lies_in(self.value(node.expressions[0], scope), ())
        if name == "json_array":
            return json_of({ANY: merge([self.value(one, scope) for one in node.expressions])})
        if isinstance(node, exp.JSONObject):
            return self._object(node, scope)
        if isinstance(node, exp.JSONObjectAgg) and len(node.expressions) == 2:
            self.walk(node.expressions[:1], scope)
            return json_of({ANY: self.value(node.expressions[1], scope)})
        if isinstance(node, exp.JSONArrayAgg):
            return json_of({ANY: self._aggregated(node.this, scope)})
        if isinstance(node, exp.Filter):
            self.walk([node.expression], scope)
            return self.value(node.this, scope)
        return None

    def _object(self, node: exp.JSONObject, scope: Scope) -> Value | None:
        parts: dict[str, Value] = {}
        for pair in node.expressions:
            if not isinstance(pair, exp.JSONKeyValue):
                return None
            if isinstance(pair.this, exp.Literal):
                parts[pair.this.name] = self.value(pair.expression, scope)
            else:
                self.walk([pair.this], scope)
                parts[ANY] = merge([self.value(pair.expression, scope), *([parts[ANY]] if ANY in parts else [])])
        return json_of(parts)

    def _aggregated(self, node: exp.Expr, scope: Scope) -> Value:
        if isinstance(node, exp.Order):
            self.walk(node.expressions, scope)
            node = node.this
        if isinstance(node, exp.Distinct) and len(node.expressions) == 1:
            node = node.expressions[0]
        return self.value(node, scope)


def keys_of(node: exp.Expr) -> Path | None:
    """The keys of a JSON path; None where they are not written out."""
    if isinstance(node, exp.Literal):
        node = _DIALECT.to_json_path(node) or node
    if not isinstance(node, exp.JSONPath):
        return None
    keys: list[str] = []
    for part in node.expressions:
        if isinstance(part, exp.JSONPathKey) and isinstance(part.this, str):
            keys.append(part.this)
        elif isinstance(part, exp.JSONPathSubscript):
            keys.append(ANY)
        elif not isinstance(part, exp.JSONPathRoot):
            return None
    return tuple(keys)


def lies_in(whole: Value, keys: Iterable[str]) -> Value:
    """What lies at these keys of a JSON text; what lies inside a column is worked out from it."""
    found = whole.inside(keys)
    computed = found.computed | whole.columns | whole.computed
    return Value(found.columns - whole.columns, found.arguments, computed, found.parts, found.num_leaves)
