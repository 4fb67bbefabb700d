"""What a simulated engine is: how fast, how large, what it says, and what goes wrong with it.

The defaults of the first part are Llama-3.1-8B in bf16 on one H100 with vLLM:
- `step_base_s`, `step_per_seq_s`, `kv_tokens`: BLIS's fit to vLLM 0.8.4 (5.75 ms, 6.0 us, 29,205 blocks of 16). A single sequence so gets
  a token every 5.8 ms; 6.5 ms were measured with vLLM 0.21 (InferenceBench). Reading 16 GB of weights at 3.35 TB/s takes 4.8 ms.
- `step_per_kv_token_s`: 128 KiB a token (32 layers, 8 KV heads of 128, two bytes, K and V) at 75 % of 3.35 TB/s.
- `prefill_per_token_s`: 2 x 8.03e9 operations at 55 % of the data sheet's 989 TFLOP/s: 33,900 tokens/s. An assumption: BLIS's fit of
  17 us would be 94 % of that peak.
- `max_num_seqs`, `max_num_batched_tokens`: vLLM's own defaults for its server on an H100.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

BLOCK = 16


class Fault(BaseModel):
    """Something that goes wrong on the wire, for the next `count` chat requests, a `share` of them, or all, for `seconds` or for good.

    hang: no answer at all, until the client gives up; with `health` /health hangs too. garbage: 200 and no JSON. close_mid_body: the
    connection is cut in the middle of the body that the headers announced. status: refused with that status.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hang", "garbage", "close_mid_body", "status"]
    status: int = Field(default=500, ge=400, le=599)
    count: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, gt=0, le=1)
    seconds: float | None = Field(default=None, gt=0)
    health: bool = False

    @model_validator(mode="after")
    def _health_hangs(self) -> Fault:
        if self.health and self.kind != "hang":
            raise ValueError("health: only a hang takes /health along")
        return self


class SimConfig(BaseModel):
    """One simulated replica. `SimEngine` reads the first part alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kv_tokens: int = Field(default=467_280, ge=BLOCK)
    max_model_len: int = Field(default=131_072, ge=1)
    max_num_seqs: int = Field(default=1024, ge=1)
    max_num_batched_tokens: int = Field(default=8192, ge=1)
    step_base_s: float = Field(default=5.75e-3, gt=0)
    step_per_seq_s: float = Field(default=6.0e-6, ge=0)
    step_per_kv_token_s: float = Field(default=52e-9, ge=0)
    prefill_per_token_s: float = Field(default=29.5e-6, ge=0)

    time_scale: float = Field(default=1.0, gt=0)  # seconds on the clock for a second of the model

    # A conversation makes calls for this many turns, then speaks; lognormal, rounded.
    turns_median: float = Field(default=8.0, gt=0)
    turns_sigma: float = Field(default=0.7, ge=0)
    min_turns: int = Field(default=1, ge=0)
    max_turns: int = Field(default=60, ge=0)
    output_median: float = Field(default=120.0, gt=0)  # tokens of an answer, reasoning included
    output_sigma: float = Field(default=1.0, ge=0)
    max_output: int = Field(default=4096, ge=1)
    reasoning: bool = True  # say what the length asks for beyond the call or the words; else it is only counted
    seed: int = 0
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _turns_in_order(self) -> SimConfig:
        if self.min_turns > self.max_turns:
            raise ValueError("min_turns: more than max_turns")
        return self
