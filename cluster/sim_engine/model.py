"""A vLLM engine as a queueing model in virtual time: what one replica does with the requests it is given, and when each is done.

Owns `Request` and `SimEngine`; how fast it is says `config.SimConfig`. The caller owns the clock: it hands requests in at rising times
(`submit`) and asks for what is done (`advance`); `next_event` says when asking is worth while. One event is one prompt step, or a whole
stretch of decode steps in which nothing joins and nothing ends, so the cost is a few events a request, however long its answer.

The form is that of published engines and simulators. Continuous batching, blocks of 16 tokens, preemption by recomputing and
first-come-first-served waiting are vLLM's (Kwon et al., "PagedAttention", SOSP 2023, section 4; scheduler of vLLM V1). Prompts are cut
to a token budget a step that running requests share (Agrawal et al., "Sarathi-Serve", OSDI 2024). A step's time is linear in its
prompt tokens and its sequences, as in Vidur (MLSys 2024) and the blackbox model of BLIS (inference-sim), plus the bytes of KV cache that
attention reads.

What it leaves out: attention's quadratic part in long prompts, CPU time between steps, speculative decoding, and that an answer's
tokens may be cut up otherwise when it comes back in the next prompt. Invariants: pinned KV tokens never exceed `kv_tokens`; what is pinned
is the sum over running requests; with nothing running nothing is pinned.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from cluster.sim_engine.config import BLOCK, SimConfig


@dataclass(slots=True, eq=False)
class Request:
    """A prompt is a chain of texts, each a key and a length. Of two texts with the same key one is the beginning of the other; a key
    stands for everything before it too. The answer becomes the text `answer_key`, which may be the last text, longer."""

    chain: tuple[tuple[int, int], ...]
    output_tokens: int
    answer_key: int
    prompt_tokens: int = 0
    submitted_s: float = 0.0
    cached_tokens: int = 0
    first_token_s: float = 0.0
    preemptions: int = 0
    _made: int = field(
        default=0, repr=False
    )  # tokens of the answer, as of the last time it joined or left the decoding
    _to_prefill: int = field(default=0, repr=False)
    _joined_step: int = field(default=-1, repr=False)  # the engine's step at which it began to decode; -1: it does not
    _started: bool = field(default=False, repr=False)
    _aborted: bool = field(default=False, repr=False)


@dataclass(slots=True)
class _Text:
    tokens: int = 0
    users: int = 0


class TooLong(ValueError):
    """Prompt and answer do not fit into the model's length, or into the KV cache alone."""


class SimEngine:
    def __init__(self, config: SimConfig):
        self.config = config
        self._texts: dict[int, _Text] = {}
        self._idle: OrderedDict[int, _Text] = OrderedDict()  # cached and in nobody's use, the next to go first
        self._idle_tokens = self._pinned = 0
        self._waiting: deque[Request] = deque()
        self._running: dict[Request, None] = {}  # in the order they were let in
        self._prefilling: dict[Request, int] = {}  # tokens of the prompt that the present step computes
        self._ends: list[tuple[int, int, Request]] = []  # step at which a decoding request ends; stale ones are skipped
        self._decoding = 0
        self._context = 0  # tokens of all decoding requests
        self._step = self._serial = self._steps = 0
        self._start = 0.0
        self._end: float | None = None
        self._first = self._rise = 0.0  # a stretch's k-th step takes first + rise * k
        self._doomed: list[Request] = []
        self._busy_since: float | None = None
        self._busy_s = 0.0
        self.preemptions = self.prompt_tokens = self.queried_tokens = self.hit_tokens = self.generated_tokens = 0
        self.finished = 0

    # What the caller asks

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        return self._pinned / self.config.kv_tokens

    def next_event(self) -> float | None:
        """When something may be done; None while it has nothing to do."""
        return self._end

    def busy_s(self, now: float) -> float:
        """Seconds up to now in which it had any request."""
        return self._busy_s + (now - self._busy_since if self._busy_since is not None else 0.0)

    def submit(self, now: float, request: Request) -> None:
        """Hand a request in. `advance(now)` comes first. Raises TooLong."""
        request.prompt_tokens = sum(tokens for _, tokens in request.chain)
        longest = min(self.config.max_model_len, self.config.kv_tokens)
        if request.prompt_tokens + request.output_tokens > longest:
            raise TooLong(
                f"maximum context length is {longest} tokens, requested {request.prompt_tokens + request.output_tokens}"
            )
        request.submitted_s = now
        self._waiting.append(request)
        if self._end is None:
            self._busy_since = now
            self._plan(now)
        elif (
            len(self._waiting) == 1
        ):  # else the first in the queue is waiting for room: nothing to gain before something ends
            self._cut_short(now)

    def advance(self, now: float) -> list[Request]:
        """What is done by now, in order."""
        done: list[Request] = []
        while self._end is not None and self._end <= now:
            self._complete(done)
        return done

    def abort(self, now: float, request: Request) -> None:
        """Forget a request (its client went away). `advance(now)` comes first; what is done already stays done."""
        if request in self._running:
            if not request._aborted:
                request._aborted = True
                self._doomed.append(request)
                self._cut_short(now)
        elif request in self._waiting:
            self._waiting.remove(request)

    # Steps

    def _cut_short(self, now: float) -> None:
        """End the present stretch with the step that is under way."""
        if self._steps <= 1:
            return
        passed = now - self._start
        first, rise = self._first, self._rise
        if rise > 0:  # first * k + rise * k (k - 1) / 2 >= passed
            half = first - rise / 2
            steps = math.ceil((math.sqrt(half * half + 2 * rise * passed) - half) / rise - 1e-9)
        else:
            steps = math.ceil(passed / first - 1e-9)
        steps = max(1, steps)
        if steps < self._steps:
            self._steps = steps
            self._end = max(now, self._start + first * steps + rise * steps * (steps - 1) / 2)

    def _complete(self, done: list[Request]) -> None:
        """The planned steps are over."""
        assert self._end is not None
        now, steps = self._end, self._steps
        self._step += steps
        grown = self._decoding * steps
        self._context += grown
        self._pinned += grown
        self.generated_tokens += grown
        for request, chunk in self._prefilling.items():
            request._to_prefill -= chunk
            if request._to_prefill == 0:
                self._join(now, request)
        if self._prefilling:
            self._prefilling = {r: 0 for r in self._prefilling if r._to_prefill}
        ends, step = self._ends, self._step
        while ends and ends[0][0] <= step:
            at, _, request = heapq.heappop(ends)
            if request._joined_step >= 0 and request._joined_step + request.output_tokens - request._made == at:
                self._leave(request)
                self._release(request, keep=True)
                if not request._aborted:
                    self.finished += 1
                    done.append(request)
        for request in self._doomed:
            if request in self._running:
                self._prefilling.pop(request, None)
                self._leave(request)
                self._release(request, keep=True)
        self._doomed.clear()
        self._plan(now)

    def _join(self, now: float, request: Request) -> None:
        """The prompt is computed, and the first token with it."""
        if not request._started:
            request._started, request.first_token_s = True, now
        request._made += 1
        request._joined_step = self._step
        self.generated_tokens += 1
        self._pinned += 1
        self._decoding += 1
        self._context += request.prompt_tokens + request._made
        self._serial += 1
        heapq.heappush(self._ends, (self._step + request.output_tokens - request._made, self._serial, request))

    def _leave(self, request: Request) -> None:
        if request._joined_step >= 0:
            request._made += self._step - request._joined_step
            request._joined_step = -1
            self._decoding -= 1
            self._context -= request.prompt_tokens + request._made

    def _plan(self, now: float) -> None:
        """What the engine does next."""
        config = self.config
        crowded = False
        while (
            self._pinned + self._decoding > config.kv_tokens
        ):  # no room for another token each: the last to come goes back
            self._preempt()
            crowded = True
        budget = config.max_num_batched_tokens - self._decoding
        prefill = 0
        for request in self._prefilling:
            chunk = max(0, min(budget - prefill, request._to_prefill))
            self._prefilling[request] = chunk
            prefill += chunk
        while self._waiting and not crowded and prefill < budget and len(self._running) < config.max_num_seqs:
            request = self._waiting[0]
            if not self._pin(request):
                break
            self._waiting.popleft()
            chunk = min(budget - prefill, request._to_prefill)
            self._prefilling[request] = chunk
            prefill += chunk
        if self._pinned + self._idle_tokens > config.kv_tokens:
            self._evict()
        num = self._decoding
        sequences = num + len(self._prefilling)
        if not sequences:
            if self._waiting:  # the only one that ran went back; alone it has room
                self._plan(now)
                return
            self._end = None
            if self._busy_since is not None:
                self._busy_s += now - self._busy_since
                self._busy_since = None
            return
        first = config.step_base_s + config.step_per_seq_s * sequences + config.step_per_kv_token_s * self._context
        self._start, self._first, self._rise = now, first, config.step_per_kv_token_s * num
        if self._prefilling:
            self._steps = 1
            self._end = now + first + config.prefill_per_token_s * prefill
            return
        ends = self._ends
        while ends[0][2]._joined_step < 0:  # preempted or aborted
            heapq.heappop(ends)
        steps = min(ends[0][0] - self._step, (config.kv_tokens - self._pinned) // num)
        self._steps = steps = max(1, steps)
        self._end = now + first * steps + self._rise * steps * (steps - 1) / 2

    # The KV cache

    def _pin(self, request: Request) -> bool:
        """Let the first in the queue in, if its prompt finds room."""
        texts = self._texts
        matched = needed = thawed = 0
        whole = True
        for key, tokens in request.chain:
            text = texts.get(key)
            if text is None:
                needed += tokens
                whole = False
                continue
            if text.users == 0:
                thawed += min(text.tokens, tokens)
            if whole:
                matched += min(text.tokens, tokens)
                whole = text.tokens >= tokens
            if text.tokens < tokens:
                needed += tokens - text.tokens
        # Tokens of the answer made before a preemption are computed again with the prompt.
        if self._pinned + thawed + needed + request._made + 1 > self.config.kv_tokens:
            return False
        for key, tokens in request.chain:
            text = texts.get(key)
            if text is None:
                text = texts[key] = _Text()
            elif text.users == 0:
                del self._idle[key]
                self._idle_tokens -= text.tokens
                text.tokens = min(text.tokens, tokens)  # the rest belongs to a longer prompt that nobody asks for now
                self._pinned += text.tokens
            if text.tokens < tokens:
                self._pinned += tokens - text.tokens
                text.tokens = tokens
            text.users += 1
        self._pinned += request._made
        total = request.prompt_tokens + request._made
        hit = (
            min(matched, total - 1) // BLOCK * BLOCK
        )  # whole blocks; the last token is always computed, for its successor
        request._to_prefill = total - hit
        if not request._started and request.preemptions == 0:
            request.cached_tokens = hit
            self.queried_tokens += request.prompt_tokens
            self.hit_tokens += hit
            self.prompt_tokens += request.prompt_tokens
        self._running[request] = None
        return True

    def _release(self, request: Request, keep: bool) -> None:
        """Give the request's cache free; it stays cached until the room is needed, the end of the chain going first."""
        del self._running[request]
        self._pinned -= request._made
        if keep and request._made:
            self._remember_answer(request)
        for key, _ in reversed(request.chain):
            text = self._texts[key]
            text.users -= 1
            if text.users == 0:
                self._pinned -= text.tokens
                self._idle_tokens += text.tokens
                self._idle[key] = text
        if self._pinned + self._idle_tokens > self.config.kv_tokens:
            self._evict()

    def _remember_answer(self, request: Request) -> None:
        last, tokens = request.chain[-1]
        key = request.answer_key
        length = request._made + (tokens if key == last else 0)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = _Text()
            self._idle[key] = text
        if text.tokens < length:
            if text.users:
                self._pinned += length - text.tokens
            else:
                self._idle_tokens += length - text.tokens
            text.tokens = length

    def _preempt(self) -> None:
        request = next(reversed(self._running))
        self._prefilling.pop(request, None)
        self._leave(request)
        self._release(request, keep=False)
        request.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(request)

    def _evict(self) -> None:
        room = max(0, self.config.kv_tokens - self._pinned)
        while self._idle_tokens > room:
            key, text = next(iter(self._idle.items()))
            blocks = -(-(self._idle_tokens - room) // BLOCK)
            lost = min(text.tokens, blocks * BLOCK)
            text.tokens -= lost
            self._idle_tokens -= lost
            if text.tokens == 0:
                del self._idle[key]
                del self._texts[key]
