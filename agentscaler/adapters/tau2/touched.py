"""Which records of a database a call touched, found by watching the objects themselves.

A τ² database is a pydantic model whose big parts are dicts of records. Loading one takes 0.1 to 0.3 s and dumping it 0.05, while a call
touches one to three records. So one live database serves every environment of a process (`live.py`), and this file tells what a call
changed of it and undoes that.

Every record of the live database, and every list, dict and model inside it, is of a class made here, which behaves as the one it stands
for and writes down how to undo each change. What calls make anew, and an environment's own records, are plain and are not watched.

Not seen: `object.__setattr__`, writes to a `__dict__`, and what a tool kit keeps outside its database.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import date, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel

Place = tuple[str, str, str]  # whose database (agent or user), the collection, the record's key
_MISSING = object()


class Unwatchable(Exception):
    """A database holds something that cannot be watched."""


class Watch:
    """What has happened to one live database since the last `roll_back`. One call at a time; `on` while it runs."""

    def __init__(self) -> None:
        self.on = False
        self.touched: dict[Place, None] = {}
        self.unusual = ""  # why this call's changes cannot be carried as records
        self._undo: list[Callable[[], object]] = []

    def note(self, place: Place, undo: Callable[[], object]) -> None:
        self._undo.append(undo)
        if place[1]:
            self.touched[place] = None
        else:
            self.unusual = "a field of the database itself was changed"

    def roll_back(self) -> None:
        self.on = False
        while self._undo:
            self._undo.pop()()
        self.touched.clear()
        self.unusual = ""

    def place_of(self, value: Any) -> Place | None:
        """Of a watched value; None for a plain one."""
        if isinstance(value, WatchedDict | WatchedList):
            return value.place
        return _PLACES[id(value)][1] if type(value) in _PLAIN else None

    def watched(self, value: Any, place: Place) -> Any:
        """The same value, of watched classes throughout. Raises Unwatchable."""
        if isinstance(value, BaseModel):
            fields = {name: self.watched(item, place) for name, item in value.__dict__.items()}
            return _watched_model(value, fields, self, place)
        if type(value) is dict:
            return _placed(WatchedDict({key: self.watched(item, place) for key, item in value.items()}), self, place)
        if type(value) is list:
            return _placed(WatchedList([self.watched(item, place) for item in value]), self, place)
        if type(value) is tuple:
            return tuple(self.watched(item, place) for item in value)
        if value is None or isinstance(value, str | int | float | date | datetime | Enum):
            return value
        raise Unwatchable(f"{'.'.join(place)} holds a {type(value).__name__}")

    def own(self, value: Any, seen: dict[int, Any]) -> Any:
        """The value with copies in place of all watched parts of touched records. Plain parts are kept, and so are watched ones of records
        that nothing has touched (an order may hold the very options of a product): where two records share a part, they go on sharing it,
        in the copies too. `seen` is one call's."""
        if id(value) in seen:
            return seen[id(value)]
        place = self.place_of(value)
        if place is not None:
            return self._copied(value, seen) if place in self.touched else value
        if isinstance(value, BaseModel):
            seen[id(value)] = value
            fields: Any = value.__dict__
            for name, item in fields.items():
                fields[name] = self.own(item, seen)
        elif isinstance(value, dict):
            seen[id(value)] = value
            for key, item in value.items():
                value[key] = self.own(item, seen)
        elif isinstance(value, list):
            seen[id(value)] = value
            value[:] = [self.own(item, seen) for item in value]
        elif type(value) is tuple:
            return tuple(self.own(item, seen) for item in value)
        return value

    def _copied(self, value: Any, seen: dict[int, Any]) -> Any:
        copy: Any
        if isinstance(value, WatchedDict):
            copy = seen[id(value)] = {}
            copy.update((key, self.own(item, seen)) for key, item in value.items())
        elif isinstance(value, WatchedList):
            copy = seen[id(value)] = []
            copy.extend(self.own(item, seen) for item in value)
        else:
            copy = seen[id(value)] = _model(_PLAIN[type(value)], {}, value.model_fields_set)
            copy.__dict__.update((name, self.own(item, seen)) for name, item in value.__dict__.items())
        return copy

    def copy_of(self, value: Any) -> Any:
        """A plain copy of a watched value."""
        place = self.place_of(value)
        if place is not None:
            self.touched[place] = None
        try:
            return self.own(value, {})
        finally:
            self.touched.clear()


def watched_database(
    watch: Watch, whose: str, database: BaseModel, collections: dict[tuple[str, str], Collection]
) -> BaseModel:
    """The database with every record watched; its collections are added to `collections`. Raises Unwatchable."""
    fields: dict[str, Any] = {}
    for name, records in database.__dict__.items():
        if type(records) is not dict or not all(isinstance(record, BaseModel) for record in records.values()):
            raise Unwatchable(f"{name} is no dict of records")
        made = {key: watch.watched(record, (whose, name, key)) for key, record in records.items()}
        collection = Collection(made)
        collection.whose, collection.field, collection.watch = whose, name, watch
        collection.loaded, collection.before = made, None
        collections[whose, name] = fields[name] = collection
    return _watched_model(database, fields, watch, (whose, "", ""))


class WatchedDict(dict[Any, Any]):
    """Inside a record. A copy is plain."""

    __slots__ = ("place", "watch")
    place: Place
    watch: Watch

    def note(self) -> None:
        if self.watch.on:
            before = dict(self)
            self.watch.note(self.place, lambda: (dict.clear(self), dict.update(self, before)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)


class WatchedList(list[Any]):
    """Inside a record. A copy is plain."""

    __slots__ = ("place", "watch")
    place: Place
    watch: Watch

    def note(self) -> None:
        if self.watch.on:
            before = list(self)
            self.watch.note(self.place, lambda: list.__setitem__(self, slice(None), before))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


class Collection(dict[str, Any]):
    """The records of one field of the database, by key. To take away one that was loaded is unusual: put back, it would stand last."""

    __slots__ = ("before", "field", "loaded", "watch", "whose")
    whose: str
    field: str
    loaded: dict[str, Any]  # as they are between calls
    before: dict[str, Any] | None  # this call, where it has changed anything
    watch: Watch

    def note(self) -> None:
        if self.watch.on and self.before is None:
            self.before = dict(self)

    def look(self) -> None:
        """After a call, before anything is undone: note the keys that differ."""
        before = self.before
        if before is None:
            return
        for key in (*before, *self):
            if before.get(key, _MISSING) is not self.get(key, _MISSING):
                self.watch.touched[(self.whose, self.field, key)] = None
                if key in self.loaded and key not in self:
                    self.watch.unusual = f"a record of {self.field} was taken away"

    def roll_back(self) -> None:
        self.before = None
        if self.keys() != self.loaded.keys() or any(self[key] is not record for key, record in self.loaded.items()):
            dict.clear(self)
            dict.update(self, self.loaded)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)


_DICT_CHANGES = ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update")
_LIST_CHANGES = (
    "__setitem__",
    "__delitem__",
    "__iadd__",
    "__imul__",
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "remove",
)
_LIST_CHANGES += ("reverse", "sort")


def _note_changes(cls: type, base: type, names: tuple[str, ...]) -> None:
    def noting(plain: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **named: Any) -> Any:
            self.note()
            return plain(self, *args, **named)

        return method

    for name in names:
        setattr(cls, name, noting(getattr(base, name)))


_note_changes(WatchedDict, dict, _DICT_CHANGES)
_note_changes(Collection, dict, _DICT_CHANGES)
_note_changes(WatchedList, list, _LIST_CHANGES)


def _placed(value: Any, watch: Watch, place: Place) -> Any:
    value.watch, value.place = watch, place
    return value


def _model(cls: type[BaseModel], fields: dict[str, Any], fields_set: set[str]) -> Any:
    model = cls.__new__(cls)
    object.__setattr__(model, "__dict__", fields)
    object.__setattr__(model, "__pydantic_fields_set__", set(fields_set))
    object.__setattr__(model, "__pydantic_extra__", None)
    object.__setattr__(model, "__pydantic_private__", None)
    return model


_PLACES: dict[int, tuple[Watch, Place]] = {}  # of watched models, by id: a live database is kept for good
_KEPT: list[Any] = []
_CLASSES: dict[type[BaseModel], type[BaseModel]] = {}
_PLAIN: dict[type, type[BaseModel]] = {}


def _watched_class(cls: type[BaseModel]) -> type[BaseModel]:
    if cls not in _CLASSES:
        if cls.model_config.get("extra") == "allow" or cls.__private_attributes__:
            raise Unwatchable(f"{cls.__name__} keeps more than its fields")
        body = {
            "__setattr__": lambda self, name, value: (_note_field(self, name), cls.__setattr__(self, name, value))[1],
            "__delattr__": lambda self, name: (_note_field(self, name), cls.__delattr__(self, name))[1],
            "__eq__": _equal,
            "__hash__": cls.__hash__,
            "__copy__": lambda self: _model(cls, dict(self.__dict__), self.model_fields_set),
            "__deepcopy__": lambda self, memo: _model(cls, deepcopy(dict(self.__dict__), memo), self.model_fields_set),
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
        }
        metaclass: Any = type(cls)
        made = metaclass(cls.__name__, (cls,), body)
        _CLASSES[cls], _PLAIN[made] = made, cls
    return _CLASSES[cls]


def _watched_model(plain: BaseModel, fields: dict[str, Any], watch: Watch, place: Place) -> Any:
    made = _model(_watched_class(type(plain)), fields, plain.model_fields_set)
    _PLACES[id(made)] = (watch, place)
    _KEPT.append(made)
    return made


def _equal(one: Any, other: Any) -> Any:
    """As pydantic compares two of one class."""
    plain = (_PLAIN.get(type(one), type(one)), _PLAIN.get(type(other), type(other)))
    return one.__dict__ == other.__dict__ if plain[0] is plain[1] else NotImplemented


def _note_field(model: Any, name: str) -> None:
    watch, place = _PLACES[id(model)]
    if not watch.on:
        return
    before = model.__dict__.get(name, _MISSING)
    fields_set = set(model.model_fields_set)

    def undo() -> None:
        if before is _MISSING:
            model.__dict__.pop(name, None)
        else:
            model.__dict__[name] = before
        object.__setattr__(model, "__pydantic_fields_set__", fields_set)

    watch.note(place, undo)
