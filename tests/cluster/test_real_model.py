"""What a real model, served by vLLM in a Ray actor, does: one turn, and a job; and that it ends with the
actor. In one file, so that one engine serves it all."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psutil
import pytest

from agentscaler.domain.store import load_domain
from agentscaler.messages import Message
from agentscaler.rollout.scenes import open_scene
from agentscaler.shards.files import read_rollouts
from agentscaler.tasks.compile import compile_shipped
from agentscaler.teachers.endpoint import EndpointTeacher
from agentscaler.teachers.http import ChatEndpoint, EndpointConfig
from cluster.config import RolloutConfig
from jobs.compose import compose
from tests.conftest import RayHead, RunJob
from tests.jobs.test_rollout import summary_of


@pytest.mark.engine
@pytest.mark.asyncio
async def test_real_turn(smollm2_url: str) -> None:
    chat = compose("rollout", RolloutConfig, ["domain=notes", "teacher=smollm2"]).teacher.chat
    assert chat is not None
    domain, task = load_domain("notes"), compile_shipped("notes")[0]
    teacher = EndpointTeacher(chat, ChatEndpoint(EndpointConfig(base_urls=(smollm2_url,))))
    agent = teacher.start(open_scene(task, domain), 1, "test")
    try:
        opening = [Message("system", domain.system_prompt()), Message("user", task.written.intent)]
        turn = await agent.reply(opening)
    finally:
        agent.close()
        await teacher.close()
    (call,) = turn.tool_calls
    schemas = {tool.name: tool.schema_for_model()["function"]["parameters"] for tool in domain.tools_for("agent")}
    assert (
        set(schemas[call.name].get("required", []))
        <= json.loads(call.arguments).keys()
        <= schemas[call.name]["properties"].keys()
    )
    assert turn.token_ids and turn.usage is not None and turn.usage.completion_tokens == len(turn.token_ids)
    assert turn.latency_s is not None and not turn.prefix_break


@pytest.mark.slow
@pytest.mark.engine
def test_a_real_model_on_ray(run_job: RunJob, ray_head: RayHead, smollm2_url: str, tmp_path: Path) -> None:
    output = tmp_path / "o"
    served = ["teacher=smollm2", "teacher.kind=endpoint", f"teacher.base_urls=[{smollm2_url}]"]
    run = run_job("rollout", *served, "tasks_sample=5", f"output={output}", environment=ray_head.environment)
    summary = summary_of(run)
    assert summary["void"] == 0
    assert summary["accepted"] + summary["rejected"] == 5
    assert summary["tokens_per_s"] > 0
    for rollout in read_rollouts(output):
        turns = [message for message in rollout.messages if message.role == "assistant"]
        assert all(turn.token_ids and turn.usage and turn.usage.prompt_tokens > 0 for turn in turns)
    for mode in ("verdict", "replay"):
        again = run_job("reverify", f"input={output}", f"mode={mode}", f"output={tmp_path / mode}")
        assert json.loads(Path(again.stdout.strip()).read_text())["changed"] == 0


@pytest.mark.slow
@pytest.mark.engine
def test_a_benchmark_with_a_model_as_agent_and_as_user(
    run_job: RunJob, ray_head: RayHead, smollm2_url: str, tmp_path: Path
) -> None:
    output = tmp_path / "o"
    served = ["teacher=smollm2", "teacher.kind=endpoint", f"teacher.base_urls=[{smollm2_url}]", "user=simulated"]
    asked = ["benchmark=tau2", "domains=[mock]", "tasks_sample=1", "trials=1", "limits.max_steps=6", "export=true"]
    run = run_job("evaluate", *asked, *served, f"output={output}", environment=ray_head.environment)
    assert run.returncode == 0, run.stderr[-3000:]
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["planned"], summary["finished"], summary["void"], summary["faults"]) == (1, 1, 0, {})
    assert summary["tokens"]["teacher"]["completion_tokens"] > 0 < summary["tokens"]["user"]["completion_tokens"]
    for rollout in read_rollouts(output):
        assert rollout.benchmark and rollout.messages[1].content == "Hi! How can I help you today?"
        assert rollout.messages[2].role == "user" and rollout.messages[2].usage is not None
    again = run_job("evaluate", f"results={output / 'results' / 'mock.json'}", f"output={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    found = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert found["disagree"] == 0 and found["simulations"] + found["not_comparable"] == 1


def command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed, or nobody has waited for it
        return " ".join(process.cmdline())
    return ""


@pytest.mark.slow
@pytest.mark.engine
def test_the_server_dies_with_its_owner(smollm2_url: str) -> None:
    """The last one: it leaves no engine to the others."""
    below = psutil.Process().children(recursive=True)  # of the cluster that this process started, and of no other
    (owner,) = (one for one in below if command_of(one).startswith("ray::TeacherServer"))
    tree = owner.children(recursive=True)
    assert any("EngineCore" in command_of(one) for one in tree)
    owner.kill()
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert not alive, "the server outlived its owner"
