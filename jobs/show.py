"""Show a person one rollout (dialogue, calls, verdict, state difference), or one domain (schema, policy, tools, real calls).

python -m jobs.show input=runs/rollout/first                 lists the rollouts
python -m jobs.show input=runs/rollout/first rollout=3f04    prints the one whose id begins so
python -m jobs.show domain=notes                             prints an overview of the domain
python -m jobs.show domain=notes html=notes.html             writes its page, to be opened in a browser
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from agentscaler.domain.store import domain_folder, load_domain
from agentscaler.errors import ConfigError
from agentscaler.pages.domain_page import collect, overview, render_page
from agentscaler.shards.files import read_chosen, read_rollouts, read_tasks, shard_paths
from agentscaler.shards.render import render_rollout
from agentscaler.shards.storage import folder, write_text
from agentscaler.tasks.compile import load_written
from agentscaler.tasks.task import Task
from cluster.config import DomainChoice
from cluster.plan import TASKS_FILE
from jobs.compose import compose, refuse


class ShowConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    domain: DomainChoice | None = None
    input: str | None = None
    rollout: str | None = None
    html: str | None = None
    seed: int = 1

    @model_validator(mode="after")
    def _one_thing_is_shown(self) -> ShowConfig:
        if (self.input is None) == (self.domain is None):
            raise ValueError("give one of input=<rollouts> and domain=<name>" + (", not both" if self.input else ""))
        if self.rollout is not None and self.input is None:
            raise ValueError("rollout: needs input=, the folder it is in")
        if self.html is not None and self.domain is None:
            raise ValueError("html: needs domain=, a page is written about a domain")
        return self


def main(arguments: list[str]) -> int:
    config = compose("show", ShowConfig, arguments)
    try:
        if config.domain is not None:
            show_domain(config.domain, config.seed, config.html)
        elif config.input is not None:
            show_rollouts(config.input, config.rollout)
    except ConfigError as error:
        refuse(str(error))
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    return 0


def show_domain(choice: DomainChoice, seed: int, html: str | None) -> None:
    """An overview on stdout, or a page whose path is the last line."""
    if html is not None and Path(html).is_dir():
        raise ConfigError(f"html={html}: is a folder, not a file")
    domain = load_domain(choice.name, choice.path)
    file = domain_folder(choice.name, choice.path) / "tasks.yaml"
    facts = collect(domain, load_written(file) if file.is_file() else (), seed)
    if html is None:
        print(overview(facts))
        return
    try:
        write_text(Path(html), render_page(facts))
    except OSError as error:
        raise ConfigError(f"html={html}: {error.strerror}") from None
    print(Path(html).absolute())


def show_rollouts(place: str, wanted: str | None) -> None:
    """A line a rollout, or the one wanted in full."""
    source = folder(place, "input")
    if not source.exists() or not shard_paths(source):
        raise ConfigError(f"input={place}: holds no shards")
    if wanted is None:
        for rollout in read_rollouts(source):
            verdict = rollout.verdict
            stage = f" ({verdict.stage.value}: {verdict.reasons[0][:60]})" if verdict.stage else ""
            end = verdict.outcome.value + stage
            print(f"{rollout.rollout_id[:12]}  {rollout.task_id:40}  {rollout.kind:18}  {end}")
        return
    found = list(read_chosen(source, lambda name: name.startswith(wanted)))
    if len(found) != 1:
        raise ConfigError(f"rollout={wanted}: {len(found) or 'no'} rollouts begin so")
    file = source / TASKS_FILE
    own = read_tasks(file) if file.is_file() else []
    tasks = {task.task_digest: task for task in own if isinstance(task, Task)}
    print(render_rollout(found[0], tasks.get(found[0].task_digest), colour=sys.stdout.isatty()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
