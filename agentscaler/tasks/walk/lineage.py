"""Follows values through one SQL statement: where its result's columns come from, what its arguments are compared with and stored into.

An abstract run over sqlglot's tree: names are looked up in scopes, views and WITH clauses followed like tables, `json_each(:list)`
yields the argument's items. A statement that cannot be parsed tells nothing. (sqlglot's own `qualify` and `lineage` stop at json_each,
at arguments and inside JSON texts.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from agentscaler.tasks.walk.expressions import ARGUMENT, Expressions, keys_of, lies_in
from agentscaler.tasks.walk.prepared import Column
from agentscaler.tasks.walk.scope import Relation, Scope, joined, renamed
from agentscaler.tasks.walk.value import ANY, NOTHING, Path, Value
from agentscaler.world import guard

MAX_ROUNDS = 4  # of a recursive WITH clause until nothing new flows


def parse(sql: str) -> exp.Expr | None:
    """None where sqlglot does not understand it."""
    masked = guard.masked(sql)
    for match in reversed(
        list(re.finditer(r"[:@$](?=\w)", masked))
    ):  # sqlglot knows `:name` alone, and no keyword as a name
        sql = f"{sql[: match.start()]}:{ARGUMENT}{sql[match.end() :]}"
    if found := re.match(r"\s*REPLACE\b", masked, re.IGNORECASE):
        sql = "INSERT OR REPLACE" + sql[found.end() :]
    try:
        return sqlglot.parse_one(sql, read="sqlite")
    except (SqlglotError, RecursionError):
        return None


class Catalogue:
    """The tables and views of a domain as relations. Names of the schema in their own spelling, looked up in any."""

    def __init__(self, tables: Mapping[str, Iterable[str]], views: Mapping[str, str]):
        self.columns = {
            name.lower(): {column.lower(): column for column in columns} for name, columns in tables.items()
        }
        self.names = {name.lower(): name for name in tables}
        self._views = {name.lower(): sql for name, sql in views.items()}
        self._relations: dict[str, Relation] = {}
        self._conditions: dict[str, frozenset[Column]] = {}

    def relation(self, name: str) -> Relation:
        name = name.lower()
        if name not in self._relations:
            self._relations[name] = ()  # a view that names itself is empty
            if name in self.columns:
                table = self.names[name]
                self._relations[name] = tuple(
                    (low, Value(columns=frozenset({(table, column)}))) for low, column in self.columns[name].items()
                )
            elif name in self._views:
                lineage = Lineage(self)
                self._relations[name] = lineage.view(self._views[name])
                self._conditions[name] = frozenset(lineage.conditions | lineage.decided_by)
        return self._relations[name]

    def conditions(self, name: str) -> frozenset[Column]:
        """Columns that decide which rows a view has."""
        self.relation(name)
        return self._conditions.get(name.lower(), frozenset())


class Lineage:
    """Of one statement. `matched` and `stored`: argument -> columns that it is compared with for equality, and written into.
    `existing` are columns whose written value may stand in the table already (upserts). `result` are the columns of a query,
    `conditions` the columns of tables that decide which rows it has, `decided_by` those of the views that it looks through;
    `given_back` are the places of the result's columns that can hold nothing but an argument (`WHERE booking = :booking`)."""

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue
        self._seen = Expressions(self._relation)
        self.stored: dict[Path, set[Column]] = {}
        self.existing: set[Column] = set()
        self.result: Relation = ()
        self.conditions: set[Column] = set()
        self.decided_by: set[Column] = set()
        self.given_back: set[int] = set()

    @property
    def touched(self) -> set[Column]:
        """All columns of tables that have a share in what the statement does."""
        return self._seen.touched | self.decided_by

    @property
    def matched(self) -> dict[Path, set[Column]]:
        return self._seen.matched

    def follow(self, sql: str) -> bool:
        """False where the statement is not understood."""
        tree = parse(sql)
        try:
            if isinstance(tree, exp.Insert):
                self._insert(tree)
            elif isinstance(tree, exp.Update | exp.Delete):
                self._change(tree)
            elif isinstance(tree, exp.Query | exp.Values):
                self.result = self._relation(tree, Scope())
            else:
                return False
        except RecursionError:
            return False
        return True

    def view(self, sql: str) -> Relation:
        tree = parse(sql)
        if not isinstance(tree, exp.Create) or tree.expression is None:
            return ()
        try:
            relation = self._relation(tree.expression, Scope())
        except RecursionError:
            return ()
        named = tree.this.expressions if isinstance(tree.this, exp.Schema) else ()
        return renamed(relation, (one.name.lower() for one in named))

    # Statements

    def _insert(self, tree: exp.Insert) -> None:
        scope = self._with(tree, Scope())
        target, named = tree.this, []
        if isinstance(target, exp.Schema):
            target, named = target.this, [one.name.lower() for one in target.expressions]
        table = target.name.lower()
        named = named or list(self._catalogue.columns.get(table, {}))
        relation = self._relation(tree.expression, scope) if tree.expression else ()
        written = tuple((name, value) for name, (_, value) in zip(named, relation, strict=False))
        for name, value in written:
            self._store(table, name, value)
        conflict = tree.args.get("conflict")
        if conflict is not None or tree.args.get("alternative"):
            given = conflict.args.get("conflict_keys") or () if conflict is not None else ()
            keys = [one.name.lower() for key in given for one in key.find_all(exp.Column)]
            self.existing |= {column for name in keys or named if (column := self._column(table, name))}
        if conflict is not None:
            inner = Scope(scope)
            inner.add(target.alias_or_name, self._catalogue.relation(table))
            inner.add("excluded", written)
            self._set(table, conflict.expressions, inner)
            self._seen.walk([conflict.args.get("where")], inner)

    def _change(self, tree: exp.Update | exp.Delete) -> None:
        scope = Scope(self._with(tree, Scope()))
        target = tree.this
        if not isinstance(target, exp.Table):
            return
        scope.add(target.alias_or_name, self._catalogue.relation(target.name))
        if source := tree.args.get("from_"):
            self._source(source.this, scope)
        for join in tree.args.get("joins") or ():
            self._join(join, scope)
        if isinstance(tree, exp.Update):
            self._set(target.name.lower(), tree.expressions, scope)
        self._seen.walk([tree.args.get("where")], scope)

    def _set(self, table: str, assignments: Iterable[exp.Expr], scope: Scope) -> None:
        for one in assignments:
            if not isinstance(one, exp.EQ):
                continue
            places = one.this.expressions if isinstance(one.this, exp.Tuple) else [one.this]
            for place, value in zip(places, self._seen.row(one.expression, scope), strict=False):
                self._store(table, place.name.lower(), value)

    def _store(self, table: str, name: str, value: Value) -> None:
        if column := self._column(table, name):
            for path in sorted(value.arguments):
                self.stored.setdefault(path, set()).add(column)

    def _column(self, table: str, name: str) -> Column | None:
        column = self._catalogue.columns.get(table, {}).get(name)
        return None if column is None else (self._catalogue.names[table], column)

    # Queries

    def _relation(self, node: exp.Expr, scope: Scope) -> Relation:
        scope = self._with(node, scope)
        if isinstance(node, exp.Subquery | exp.Paren):
            inner = node.this
            if isinstance(inner, exp.Table) or node.args.get("joins"):
                within = Scope(scope)
                self._source(node, within)
                return tuple(self._star(within, ""))
            return self._relation(inner, scope)
        if isinstance(node, exp.Select):
            return self._select(node, scope)
        if isinstance(node, exp.SetOperation):
            left, conditions, given_back = self._relation(node.left, scope), self.conditions, self.given_back
            right = self._relation(node.right, scope)
            self.conditions |= conditions
            self.given_back &= given_back
            rows = (left,) if isinstance(node, exp.Except) else (left, right)
            self._seen.walk((node.args.get(part) for part in ("limit", "offset")), scope)
            return joined(rows)
        if isinstance(node, exp.Values):
            return joined(
                tuple(
                    (f"column{number}", self._seen.value(item, scope))
                    for number, item in enumerate(row.expressions if isinstance(row, exp.Tuple) else [row], 1)
                )
                for row in node.expressions
            )
        if isinstance(node, exp.Table):
            return self._table(node, scope)
        return ()

    def _with(self, node: exp.Expr, scope: Scope) -> Scope:
        clauses = node.args.get("with_")
        if clauses is None:
            return scope
        scope = Scope(scope)
        for clause in clauses.expressions:
            name, query = clause.alias.lower(), clause.this
            columns = [one.name.lower() for one in clause.args["alias"].args.get("columns") or ()]
            relation: Relation = ()
            if isinstance(query, exp.SetOperation):  # its first part is where a recursion begins
                relation = renamed(self._relation(query.left, scope), columns)
            for _ in range(MAX_ROUNDS):
                scope.clauses[name] = relation
                before, relation = relation, renamed(self._relation(query, scope), columns)
                if relation == before or not isinstance(query, exp.SetOperation):
                    break
            scope.clauses[name] = relation
        return scope

    def _select(self, node: exp.Select, outer: Scope) -> Relation:
        scope = Scope(outer)
        before, self._seen.touched = self._seen.touched, set()
        if source := node.args.get("from_"):
            self._source(source.this, scope)
        for join in node.args.get("joins") or ():
            self._join(join, scope)
        conditions, self._seen.touched = self._seen.touched, set()
        found: list[tuple[str, Value]] = []
        for one in node.expressions:
            if isinstance(one, exp.Star):
                found += self._star(scope, "")
            elif isinstance(one, exp.Column) and isinstance(one.this, exp.Star):
                found += self._star(scope, one.table.lower())
            else:
                found.append((one.alias_or_name.lower(), self._seen.value(one, scope)))
        scope.aliases = {name: value for name, value in found if name}
        shown, self._seen.touched = self._seen.touched, conditions
        for part in ("where", "group", "having", "windows", "order", "limit", "offset", "qualify"):
            given = node.args.get(part)
            self._seen.walk(given if isinstance(given, list) else [given], scope)
        self.conditions = set(self._seen.touched)  # of the outermost query in the end, as `given_back`
        self.given_back = self._given_back(node, scope)
        self._seen.touched |= before | shown
        return tuple(found)

    def _given_back(self, node: exp.Select, scope: Scope) -> set[int]:
        where = node.args.get("where")
        if where is None or node.is_star:
            return set()
        fixed = set()
        for one in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            if isinstance(one, exp.EQ | exp.NullSafeEQ):
                for here, there in ((one.this, one.expression), (one.expression, one.this)):
                    value = self._seen.value(there, scope)
                    if isinstance(here, exp.Column) and value.arguments and not value.columns:
                        fixed.add(scope.source_of(here.name.lower(), here.table.lower()))
        shown = [one.unalias() for one in node.expressions]
        return {
            place
            for place, one in enumerate(shown)
            if isinstance(one, exp.Column) and scope.source_of(one.name.lower(), one.table.lower()) in fixed - {None}
        }

    def _star(self, scope: Scope, table: str) -> Iterator[tuple[str, Value]]:
        for alias, columns, hidden in scope.sources:
            if table in ("", alias):
                for name, value in columns.items():
                    if table or name not in hidden:
                        self._seen.touched |= value.touches
                        yield name, value

    def _source(self, node: exp.Expr, scope: Scope, hidden: Iterable[str] = ()) -> None:
        if (
            isinstance(node, exp.Subquery | exp.Paren)
            and isinstance(node.this, exp.Table | exp.Subquery)
            and not node.alias
        ):
            self._source(node.this, scope, hidden)  # parentheses around a join
        elif isinstance(node, exp.Table):
            scope.add(node.alias_or_name, self._table(node, scope), hidden)
        else:
            outer = scope.parent or Scope()
            query = node.this if isinstance(node, exp.Subquery) else node
            scope.add(node.alias_or_name, self._relation(query, outer), hidden)
        for join in node.args.get("joins") or ():
            self._join(join, scope)

    def _join(self, join: exp.Join, scope: Scope) -> None:
        num_before = len(scope.sources)
        before = {name: value for _, columns, _ in reversed(scope.sources) for name, value in columns.items()}
        using = [one.name.lower() for one in join.args.get("using") or ()]
        self._source(join.this, scope, using)
        if num_before < len(scope.sources):
            alias, columns, hidden = scope.sources[num_before]
            if (join.args.get("method") or "").upper() == "NATURAL":
                using = [name for name in columns if name in before]
                scope.sources[num_before] = (alias, columns, hidden | set(using))
            for name in using:
                self._seen.equate(before.get(name, NOTHING), columns.get(name, NOTHING))
        self._seen.walk([join.args.get("on")], scope)

    def _table(self, node: exp.Table, scope: Scope) -> Relation:
        if isinstance(node.this, exp.Func):
            arguments = node.this.expressions
            if node.this.name.lower() != "json_each" or not arguments:
                self._seen.walk(arguments, scope)
                return ()
            return self._each(arguments, scope)
        name = node.name.lower()
        if not node.db:
            for outer in scope.chain():
                if name in outer.clauses:
                    return outer.clauses[name]
        self.decided_by |= self._catalogue.conditions(name)
        return self._catalogue.relation(name)

    def _each(self, arguments: list[exp.Expr], scope: Scope) -> Relation:
        whole = self._seen.value(arguments[0], scope)
        path = keys_of(arguments[1]) if len(arguments) > 1 else ()
        item = NOTHING if path is None else lies_in(whole, (*path, ANY))
        rest = ("key", "type", "id", "parent", "fullkey", "path", "json", "root")
        return (("value", item), ("atom", item), *((name, NOTHING) for name in rest))
