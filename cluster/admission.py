"""How many rollouts may be in flight: additive increase, multiplicative decrease, by the engines' own figures.

One `Admission` a fleet; the job takes the least of them, so that teacher and user fleet are coupled: a rollout waits for one or the other,
and more of them than the tighter fleet carries would only queue there.

Rule, at most once every `PERIOD_S` (after prime-rl's: grow below 60 % KV-cache use, shrink above 80 %):
  shrink by a fifth  where an engine preempted since the last look, the fullest KV cache is above 80 %, or requests queue for more than a
                     third of those that run;
  hold               where figures are stale, requests queue for more than a tenth of those that run, KV use is above 60 %, or the present
                     limit is not used;
  grow               else: doubling until the first sign of being full, then by two rollouts a replica.
After a shrink nothing grows for `COOL_S`: what was admitted before is still in the engines.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.engine_metrics import EngineFigures

GROW_BELOW, SHRINK_ABOVE = 0.6, 0.8
SHRINK = 0.8
STEP_A_REPLICA = 2
QUEUE_SHARE, LONG_QUEUE_SHARE = 0.1, 0.33
PERIOD_S, COOL_S, STALE_S = 2.0, 10.0, 5.0


class Admission:
    """The limit of one fleet. `start` is where it begins, for each replica; `fixed` (over all replicas) turns the rule off."""

    def __init__(self, start: int, fixed: int | None = None):
        self._start, self._fixed = start, fixed
        self._replicas = 0
        self._limit = 0.0
        self._doubling = True
        self._looked = self._shrunk = float("-inf")
        self._preemptions: dict[str, int] = {}
        self.why = "start"

    @property
    def limit(self) -> int:
        return self._fixed if self._fixed is not None else max(1, int(self._limit))

    def update(self, now: float, ready: int, figures: Mapping[str, EngineFigures], in_flight: int) -> int:
        """`figures` by replica, of those that gave any; `ready` replicas live. The new limit."""
        if self._fixed is not None:
            self.why = "fixed"
            return self._fixed
        if ready != self._replicas:  # what a replica carries does not change with their number
            self._limit = self._start * ready if not self._replicas else self._limit * ready / self._replicas
            self._replicas = ready
        if now - self._looked < PERIOD_S or not ready:
            return self.limit
        self._looked = now
        fresh = {name: one for name, one in figures.items() if now - one.at <= STALE_S}
        preempted = any(one.preemptions > self._preemptions.get(name, one.preemptions) for name, one in fresh.items())
        self._preemptions |= {name: one.preemptions for name, one in fresh.items()}
        fullest = max((one.kv_use for one in fresh.values()), default=0.0)
        running, waiting = sum(f.running for f in fresh.values()), sum(f.waiting for f in fresh.values())
        long_queue = waiting > LONG_QUEUE_SHARE * running + 1
        if preempted or fullest > SHRINK_ABOVE or long_queue:
            self.why = "preempted" if preempted else "KV cache full" if fullest > SHRINK_ABOVE else "requests queue"
            self._doubling = False
            if now - self._shrunk >= COOL_S / 2:
                self._limit, self._shrunk = max(float(ready), self._limit * SHRINK), now
            return self.limit
        if len(fresh) < ready:
            self.why = "figures missing or stale"
        elif waiting > QUEUE_SHARE * running + 1:
            self.why, self._doubling = "requests queue", False
        elif fullest > GROW_BELOW:
            self.why, self._doubling = "KV cache in its band", False
        elif in_flight < 0.9 * self.limit:
            self.why = "limit not used"
        elif now - self._shrunk < COOL_S:
            self.why = "cooling"
        else:
            self.why = "growing"
            self._limit = self._limit * 2 if self._doubling else self._limit + STEP_A_REPLICA * ready
        return self.limit
