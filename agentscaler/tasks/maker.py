"""Makes tasks of one world: who speaks, which wish and which case of it, and what goes into the task that comes of it.

The kinds (`kinds`) say what is done in which order; here is what they share. Nothing is decided by names: what a wish may be is asked of
the database and of the policy's rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agentscaler.canonical import digest
from agentscaler.messages import Outcome
from agentscaler.tasks import intent
from agentscaler.tasks.compile import assemble
from agentscaler.tasks.dials import Dials
from agentscaler.tasks.draft import Draft, Dropped, leaves
from agentscaler.tasks.intent import Style
from agentscaler.tasks.setting import Row, Setting
from agentscaler.tasks.speech import Question, Wish
from agentscaler.tasks.task import Answer, Call, Kind, Task, WrittenTask
from agentscaler.tasks.walk.graph import ToolGraph
from agentscaler.tasks.wording import Request, call_of, fill_arguments
from agentscaler.tasks.words import fill, tidy
from agentscaler.world.program import SPEAKER
from agentscaler.world.world import World

SOURCE = "walk"
INVARIANTS_ASKED = 1  # task a world and writing tool
SPEAKERS_TRIED = 6
CASES_TRIED = 12

Fits = Callable[[Row, Call], bool]


@dataclass
class Maker:
    """Makes tasks of one world."""

    setting: Setting
    graph: ToolGraph
    dials: Dials
    random: Random
    _open: list[Draft] = field(default_factory=list)
    _drawn: Counter[tuple[str, str]] = field(default_factory=Counter)
    _kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _chosen: list[tuple[str, str]] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.setting.world

    def put_away(self, kept: bool) -> None:
        """Close what this draw has opened, and remember which wishes came to something."""
        for draft in self._open:
            draft.environment.close()
        self._open.clear()
        self._drawn.update(self._chosen)
        self._kept.update(self._chosen if kept else ())
        self._chosen.clear()

    def start(self) -> Draft:
        draft = Draft(self.setting, self.graph, self.dials, self.random, self.world.open())
        draft.pool = self._known_of_the_speaker()
        self._open.append(draft)
        return draft

    def turn_to_somebody(self) -> None:
        self.setting.turn_to(self.random.choice(self.setting.people))

    def choose(self, wishes: Sequence[Wish], purpose: str) -> Wish:
        """By weight, and by how often the wish came to something for the same purpose in this world."""
        names = [(purpose, one.name) for one in wishes]
        weights = [
            one.weight * (1 + self._kept[name]) / (1 + self._drawn[name])
            for one, name in zip(wishes, names, strict=True)
        ]
        wish = self.random.choices(wishes, weights)[0]
        self._chosen.append((purpose, wish.name))
        return wish

    def draw_wish(self, wish: Wish, fits: Fits) -> tuple[Wish, Row, Call]:
        """Somebody who has a case of the wish that fits."""
        for _ in range(SPEAKERS_TRIED):
            self.turn_to_somebody()
            if (found := self.draw_case(wish, fits)) is not None:
                return wish, *found
        raise Dropped(f"nobody has a case of {wish.name}")

    def draw_case(self, wish: Wish, fits: Fits) -> tuple[Row, Call] | None:
        cases = self.setting.cases(wish.name, wish.cases)
        chosen = self.random.sample(cases, min(CASES_TRIED, len(cases)))
        if self.random.random() < self.dials.near_misses:
            chosen.sort(key=lambda case: -sum(self._is_near(thing, case) for thing in wish.things.values()))
        for case in chosen:
            call = call_of(wish, case, self.setting.speaker, self.setting)
            if fits(case, call):
                return case, call
        return None

    def _is_near(self, thing: str, case: Row) -> bool:
        row = self.setting.row_of(thing, case)
        return row is not None and self.setting.is_near(thing, row)

    def tries(self, wish: Wish, case: Row, call: Call, forbidden: bool) -> tuple[Outcome, list[str]] | None:
        """How the seeded world answers the wish, and the text_only rules that forbid it. None where rules forbid it and `forbidden` is
        false, or none does and it is true: that is asked first, for asking costs a tenth of the call."""
        tried = self._try(wish, case, call, forbidden)
        if wish.before or tried is not None:
            self.setting.environment.rewind(self.setting.untouched)
        return tried

    def _try(self, wish: Wish, case: Row, call: Call, forbidden: bool) -> tuple[Outcome, list[str]] | None:
        environment = self.setting.environment
        for one in wish.before:
            arguments = fill_arguments(one.arguments, {**self.setting.speaker, **case}, self.setting, one.call)
            result = environment.call("agent", one.call, arguments)
            if result.outcome is not Outcome.OK:
                return result.outcome, []
        if not self.world.program.tools[call.call].validator.is_valid(call.arguments):
            return Outcome.INVALID_CALL, []
        rules = [wish.forbidden_by] if wish.forbidden_by else []
        rules = rules or environment.forbidding(call.call, call.arguments, self.setting.speaker[SPEAKER])
        if bool(rules) is not forbidden:
            return None
        return environment.call("agent", call.call, call.arguments).outcome, rules

    def is_wanted(self, wish: Wish) -> Fits:
        """Done by the database and forbidden by no rule."""

        def fits(case: Row, call: Call) -> bool:
            tried = self.tries(wish, case, call, forbidden=False)
            return tried is not None and tried[0] is Outcome.OK

        return fits

    def introduce(self, draft: Draft) -> str | None:
        """What the speaker says to be known, and the call that finds them by it."""
        person = self.setting.speech.person
        if person is None:
            return None
        finding = self.random.choices(person.known_by, [one.weight for one in person.known_by])[0]
        words = tidy(fill(self.random.choice(finding.says), self.setting.speaker, self.random))
        draft.told += [self.setting.speaker[column] for column in finding.arguments.values()]
        draft.find(finding)
        return words

    def tell(self, draft: Draft, entry: Wish | Question, case: Row, request: Request) -> None:
        """What the words hold is known from here on, and how things may be found by it."""
        draft.told += request.told
        self.fill_pool(draft, entry, case)

    def _known_of_the_speaker(self) -> Row:
        return {name: value for name, value in self.setting.speaker.items() if name != SPEAKER}

    def fill_pool(self, draft: Draft, entry: Wish | Question, case: Row) -> None:
        """What calls may be filled with while this wish is looked after: nothing of the one before."""
        things = self.setting.speech.things
        draft.pool, draft.findings = self._known_of_the_speaker(), []
        for thing in dict.fromkeys(entry.things.values()):
            row = self.setting.row_of(thing, case)
            draft.pool.update(row or {})
            draft.findings += [one for one in things[thing].found_by if one not in draft.findings]
        draft.pool.update(case)

    def carry_out(self, draft: Draft, wish: Wish, case: Row, call: Call) -> None:
        """Look up what is not told, look around, do it."""
        for one in wish.before:
            arguments = fill_arguments(one.arguments, {**self.setting.speaker, **case}, self.setting, one.call)
            before = Call(call=one.call, arguments=arguments)
            draft.look_up(before)
            draft.do(before)
        draft.look_up(call)
        draft.look_around(call)
        if rules := draft.environment.forbidding(call.call, call.arguments, self.setting.speaker[SPEAKER]):
            raise Dropped(f"forbidden by {rules[0]} once the wishes before are done")
        draft.do(call)

    def reason(self, wish: Wish, case: Row, style: Style) -> list[str]:
        """A sentence or none that says why."""
        pool = [*wish.because, *(self.setting.speech.small_talk if not wish.because else ())]
        if not pool or not style.explains:
            return []
        return [tidy(fill(self.random.choice(pool), {**self.setting.speaker, **case}, self.random))]

    def finish(
        self,
        draft: Draft,
        kind: Kind,
        name: str,
        opening: str,
        then: Sequence[str] = (),
        must_tell: Sequence[Answer] = (),
        forbidden: Call | None = None,
    ) -> Task:
        """The task that the draft comes to, its words looked at once more; not yet proven sound. The invariants are queries over the
        whole world (10 to 20 ms on airline) and the tools' promise, not a task's: they are asked after the first of each tool."""
        said = [opening, *then, *(fact.says for fact in draft.facts.values())]
        withheld = [
            value
            for made in draft.made
            for path, value in leaves(made.call.arguments)
            if not _among(value, draft.told) and self.graph.producers(made.call.call, path)
        ]
        if problem := intent.check_intent(said, withheld, self.graph.telling_names):
            raise Dropped(f"words: {problem}")
        content = [kind.value, self.world.seed, opening, *then, [step.model_dump(mode="json") for step in draft.steps]]
        written = WrittenTask(
            id=re.sub("[^a-z0-9_]+", "_", f"{kind.value}_{name}".lower())[:68] + f"_{digest(content)[:10]}",
            kind=kind,
            seed=self.world.seed,
            intent=opening,
            facts=dict(draft.facts),
            then=tuple(then),
            reference=tuple(draft.steps),
            expected_refused=tuple(draft.refused),
            must_tell=tuple(must_tell),
            forbidden=forbidden,
        )
        writes = [made.call.call for made in draft.made if made.result.changed_keys]
        asks = any(self._asked[tool] < INVARIANTS_ASKED for tool in writes)
        self._asked.update(set(writes))
        offences = draft.environment.offences() if asks else []
        calls = [made.call for made in draft.made]
        return assemble(self.world.domain, written, draft.environment.diff(), calls, offences, SOURCE)


def _among(value: Any, told: Sequence[Any]) -> bool:
    return any(
        value == one or (isinstance(value, str) and isinstance(one, str) and value.casefold() == one.casefold())
        for one in told
    )
