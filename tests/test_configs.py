"""Every checked-in configuration composes and validates; an unknown key fails."""

from __future__ import annotations

import itertools

import pytest

from cluster.config import RolloutConfig
from cluster.evaluation import EvaluateConfig
from cluster.task_building import BuildTasksConfig
from jobs.bench.__main__ import BENCHES
from jobs.bench.soundness import SoundnessBench
from jobs.bench.tasks import TasksBench
from jobs.bench.world import WorldBench
from jobs.compose import CONF, compose
from jobs.rescore import ResultsConfig
from jobs.reverify import ReverifyConfig
from jobs.show import ShowConfig

NEEDS = {"domain=store": ["domain.path=/somewhere", "domain.name=mine"]}
NEEDS |= {"teacher=vllm": ["teacher.engine.model=org/name"]}
NEEDS |= {"teacher=endpoint": ["teacher.base_urls=[http://127.0.0.1:1/v1]", "teacher.chat.model=m"]}
NEEDS |= {"user=simulated": ["teacher=smollm2"]}


def choices() -> list[str]:
    """Of the groups; experiments have a test of their own (test_experiments.py), benchmarks and authors belong to other jobs."""
    apart = ("experiment", "benchmark", "author")
    groups = [folder for folder in sorted(CONF.iterdir()) if folder.is_dir() and folder.name not in apart]
    return [f"{group.name}={path.stem}" for group in groups for path in sorted(group.glob("*.yaml"))]


@pytest.mark.parametrize("author", sorted(path.stem for path in (CONF / "author").glob("*.yaml")))
def test_every_author_validates(author: str) -> None:
    more = [one.replace("teacher.", "author.") for one in NEEDS.get(f"teacher={author}", [])]
    assert compose("build_tasks", BuildTasksConfig, [f"author={author}", *more]).author.kind in (
        "none",
        "engine",
        "endpoint",
    )


@pytest.mark.parametrize("choice", choices())
def test_every_choice_validates(choice: str) -> None:
    domain = [] if choice.startswith("domain=") else ["domain=notes"]
    config = compose("rollout", RolloutConfig, [*domain, choice, *NEEDS.get(choice, [])])
    assert config.shape()


@pytest.mark.parametrize("teacher", ["smollm2", "reference"])
@pytest.mark.parametrize(("cluster", "tracking"), itertools.product(["auto", "in_process"], ["mlflow", "none"]))
def test_groups_combine(teacher: str, cluster: str, tracking: str) -> None:
    chosen = ["domain=notes", f"teacher={teacher}", f"cluster={cluster}", f"tracking={tracking}"]
    assert compose("rollout", RolloutConfig, chosen).cluster.kind == cluster


def test_other_jobs_validate() -> None:
    assert compose("reverify", ReverifyConfig, ["input=x"]).mode == "verdict"
    assert compose("show", ShowConfig, ["input=x", "rollout=12"]).rollout == "12"
    shown = compose("show", ShowConfig, ["domain=store", "domain.path=/somewhere", "domain.name=mine", "html=x.html"])
    assert shown.domain is not None
    assert (shown.domain.name, shown.html, shown.seed) == ("mine", "x.html", 1)


@pytest.mark.parametrize("benchmark", sorted(path.stem for path in (CONF / "benchmark").glob("*.yaml")))
def test_benchmarks_validate(benchmark: str) -> None:
    config = compose("evaluate", EvaluateConfig, [f"benchmark={benchmark}", "teacher=reference", "trials=4"])
    assert (config.benchmark.name, config.attempts, config.is_benchmark) == (benchmark, 4, True)
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config  # as an output keeps it


def test_building_tasks_validates_and_its_file_says_the_defaults() -> None:
    config = compose("build_tasks", BuildTasksConfig, ["domains=[notes,retail]", "held_out=[retail]"])
    assert (config.domains, config.held_out) == (("notes", "retail"), ("retail",))
    plain = compose("build_tasks", BuildTasksConfig, ["cluster=in_process"])
    assert plain.shape() == BuildTasksConfig().shape()
    assert BuildTasksConfig.model_validate(config.model_dump(mode="json")) == config  # as an output keeps it
    shaping = ["count=7", "seed=1", "dials.mix.write=0.3", "dials.max_calls=9", "held_out=0.5", "surplus=2"]
    digests = {str(compose("build_tasks", BuildTasksConfig, [one]).shape()) for one in ["seed=0", *shaping]}
    assert len(digests) == 1 + len(shaping)


def test_benches_validate() -> None:
    assert compose("bench_world", WorldBench, []).domain.name == "airline"
    assert compose("bench_soundness", SoundnessBench, ["domain=retail"]).minimum is None
    assert compose("bench_tasks", TasksBench, ["tasks=9"]).domains == ("airline", "retail")


def test_no_file_is_left_out() -> None:
    jobs = {path.stem for path in CONF.glob("*.yaml") if not path.stem.startswith("bench_")}
    assert jobs == {"rollout", "reverify", "show", "evaluate", "evaluate_results", "build_tasks"}
    assert compose("evaluate_results", ResultsConfig, ["results=x.json"]).results == "x.json"
    jobs.remove("evaluate_results")  # of the same job
    assert all((CONF.parent / "jobs" / f"{name}.py").is_file() for name in jobs)
    benches = {path.stem.removeprefix("bench_") for path in CONF.glob("bench_*.yaml")}
    assert benches == BENCHES.keys()


@pytest.mark.parametrize(
    "override", ["+limits.max_turn=3", "+nonsense=1", "+teacher.chat.temprature=1", "attempts=0", "verify=maybe"]
)
def test_a_wrong_key_or_value_is_one_line_and_exit_2(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        compose("rollout", RolloutConfig, ["domain=notes", "teacher=smollm2", override])
    assert stop.value.code == 2
    words = capsys.readouterr().err
    assert words.count("\n") == 1
    assert override.lstrip("+").split("=")[0].split(".")[-1] in words


def test_only_what_shapes_the_data_is_in_the_shape() -> None:
    def shape(*overrides: str) -> str:
        return compose("rollout", RolloutConfig, ["domain=notes", "teacher=smollm2", *overrides]).shape_digest()

    base = shape()
    for free in (
        "cluster=local",
        "cluster.concurrency=7",
        "tracking=none",
        "attempts=9",
        "output=/x",
        "teacher.replicas=3",
        "teacher.engine.max_num_seqs=4",
        "quarantine_after=9",
    ):
        assert shape(free) == base, free
    for shaping in (
        "run_seed=1",
        "verify=paper",
        "limits.max_turns=5",
        "tasks_seed=4",
        "solve_rate.easy_after=4",
        "teacher.chat.sampling.temperature=0.9",
    ):
        assert shape(shaping) != base, shaping
