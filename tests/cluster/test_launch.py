"""The files of cluster/launch, each by its own schema or tool; and that each check refuses a broken copy.

1. KubeRay: the fields of ray.io/v1, every pod template by Kubernetes' own schemas (strict), the scaling by Ray's autoscaler.
2. Ray's launcher: Ray's own reading and schema; the AWS part by botocore's description of RunInstances.
3. Slurm: bash, shellcheck, the options of sbatch. Container files: hadolint, and what they copy is there.
4. Grafana: the foundation SDK reads all of it, every query is PromQL, every metric is exported by us or by the vLLM installed here.
5. Every command that any of them (or their README) names is one that jobs.rollout takes, with an output that stays.
6. `head`: waits for nodes, and drains a job that cleans up at SIGTERM.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from click import ClickException
from pydantic import BaseModel, ConfigDict, ValidationError

from agentscaler.errors import ConfigError
from cluster.config import RolloutConfig
from cluster.gauges import FIGURES, exported_name
from cluster.launch import dashboard
from jobs.compose import compose, output_folder
from tests.conftest import ROOT, RayHead

LAUNCH = ROOT / "cluster" / "launch"
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "ray_io_v1.json").read_text())
KUBERNETES = "1.33"
Complaints = list[str]


def read(name: str) -> str:
    return (LAUNCH / name).read_text()


def tool(name: str, *arguments: str, text: str) -> Complaints:
    """A program that came with a package of this environment, on a copy of the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text(text)
        program = Path(sys.executable).with_name(name)
        done = subprocess.run(
            [program if program.exists() else name, *arguments, path],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    return [] if done.returncode == 0 else [done.stdout + done.stderr]


# -- KubeRay


def check_kuberay(text: str) -> Complaints:
    document = yaml.safe_load(text)
    found = [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]
    if found:
        return found
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    templates = [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]
    for template in templates:
        found += check_kubernetes({"apiVersion": "v1", "kind": "PodTemplate", "template": template})
    scaler = {
        "template": {"spec": {"containers": [{"name": "x", "resources": spec["autoscalerOptions"]["resources"]}]}}
    }
    found += check_kubernetes({"apiVersion": "v1", "kind": "PodTemplate", **scaler})
    return found or check_scaling(spec)


def check_kubernetes(document: dict[str, Any]) -> Complaints:
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [error.message]
    return []


def check_scaling(spec: dict[str, Any]) -> Complaints:
    """Ray's autoscaler reads the resource as it does beside a head in Kubernetes."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    try:
        config = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    except (ValueError, jsonschema.ValidationError) as error:
        return [str(error)]
    types = config["available_node_types"]
    head, gpu = types["headgroup"], types["gpu"]
    found = [] if head["resources"]["CPU"] == 0 and "GPU" not in head["resources"] else ["the head gets work of others"]
    if not (gpu["resources"].get("GPU", 0) > 0 and 0 <= gpu["min_workers"] <= gpu["max_workers"] > 0):
        found.append(f"no GPU workers to scale: {gpu}")
    return found


def test_kuberay_files() -> None:
    assert check_kuberay(read("kuberay/raycluster.yaml")) == []
    assert check_kuberay(read("kuberay/rayjob.yaml")) == []
    assert check_kubernetes(yaml.safe_load(read("kuberay/shared.yaml"))) == []
    cluster, job = (yaml.safe_load(read(f"kuberay/{name}.yaml"))["spec"] for name in ("raycluster", "rayjob"))
    assert job["rayClusterSpec"] == cluster


def test_kuberay_has_the_version_token_volume_and_drain_that_it_needs() -> None:
    import ray

    claim = yaml.safe_load(read("kuberay/shared.yaml"))
    spec = yaml.safe_load(read("kuberay/raycluster.yaml"))["spec"]
    assert spec["rayVersion"] == ray.__version__
    assert spec["authOptions"]["mode"] == "token" and spec["authOptions"]["secretName"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        ]
        assert claims == [claim["metadata"]["name"]]
        mounts = [mount["name"] for mount in pod["containers"][0]["volumeMounts"]]
        assert sorted(mounts) == sorted(volume["name"] for volume in pod["volumes"])
        before_stop = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        assert pod["terminationGracePeriodSeconds"] >= float(before_stop[-1]) + 30
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    waits = {entry["name"]: entry["value"] for entry in head["env"]}
    assert float(waits["RAY_JOB_STOP_WAIT_TIME_S"]) < float(head["lifecycle"]["preStop"]["exec"]["command"][-1])


# -- Ray's launcher


def check_launcher(text: str) -> Complaints:
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        config = prepare_config(yaml.safe_load(text))
        validate_config(config)
    except (ValueError, KeyError, TypeError, ClickException, jsonschema.ValidationError) as error:
        return [str(error)]
    if config["provider"]["type"] != "aws":
        return []
    return [words for kind in config["available_node_types"].values() for words in check_aws(kind["node_config"])]


def check_aws(node: dict[str, Any]) -> Complaints:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")
    shape: Any = model.operation_model("RunInstances").input_shape
    known = [name for name in node if name not in shape.members]
    report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, shape)
    return [f"no such parameter: {name}" for name in known] + (
        [report.generate_report()] if report.has_errors() else []
    )


@pytest.mark.parametrize("name", ["ray_cluster.yaml", "ray_onprem.yaml"])
def test_launcher_files(name: str) -> None:
    assert check_launcher(read(name)) == []


# -- Slurm

_NUMBER, _TIME = r"\d+", r"(\d+-)?\d+(:\d+){0,2}"
SBATCH = {
    "job-name": r"\S+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": _NUMBER,
    "cpus-per-task": _NUMBER,
    "gpus-per-node": r"([a-z]\w*:)?\d+",
    "mem": r"\d+[KMGT]?",
    "exclusive": "",
    "time": _TIME,
    "signal": r"(R?B?:)?([A-Z]+\d?|\d+)(@\d+)?",
    "requeue": "",
    "open-mode": r"append|truncate",
    "output": r"\S+",
    "error": r"\S+",
    "partition": r"\S+",
    "account": r"\S+",
    "qos": r"\S+",
    "constraint": r"\S+",
}


def check_slurm(text: str) -> Complaints:
    found = tool("bash", "-n", text=text) + tool("shellcheck", "--enable=quote-safe-variables", text=text)
    for line in re.findall(r"^#SBATCH\s+(.*)$", text, re.MULTILINE):
        name, _, value = line.removeprefix("--").partition("=")
        if name not in SBATCH or not re.fullmatch(SBATCH[name], value):
            found.append(f"#SBATCH {line}")
    code = text.split("set -euo pipefail")
    if len(code) != 2 or "#SBATCH" in code[1]:
        found.append("#SBATCH lines count only before the first command")
    return found


def test_slurm_script() -> None:
    text = read("slurm.sbatch")
    assert check_slurm(text) == []
    assert check_slurm(text + "\n#SBATCH --nodes=2\n")


# -- container files


def check_container(text: str) -> Complaints:
    found = tool("hadolint", "--no-color", text=text)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    copied = [part for line in lines if line.startswith("COPY ") for part in line.split()[1:-1]]
    found += [f"COPY of what is not there: {part}" for part in copied if not (ROOT / part).exists()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    found += [f"not copied: {name}" for name in {*packages, "conf", "pyproject.toml"} - set(copied)]
    extras = re.findall(r"'\.\[(\w+)\]'", text)
    found += [f"no such extra: {extra}" for extra in extras if extra not in project["project"]["optional-dependencies"]]
    users = [line for line in lines if line.startswith("USER ")]
    if not extras or users[-1:] != ["USER 1000"]:
        found.append("no extra is installed, or it runs as root")
    return found


@pytest.mark.parametrize("name", ["Containerfile.cpu", "Containerfile.gpu"])
def test_container_files(name: str) -> None:
    assert check_container(read(name)) == []
    wanted = name.removeprefix("Containerfile.")
    assert f"'.[{wanted}]'" in read(name)


# -- Prometheus and Grafana


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Files(_Strict):
    files: list[str]


class _Kubernetes(_Strict):
    role: str


class _Relabel(_Strict):
    source_labels: list[str]
    regex: str = "(.*)"
    action: str = "replace"
    target_label: str | None = None


class _Scrape(_Strict):
    job_name: str
    file_sd_configs: list[_Files] = []
    kubernetes_sd_configs: list[_Kubernetes] = []
    relabel_configs: list[_Relabel] = []


class _Global(_Strict):
    scrape_interval: str
    evaluation_interval: str


class _Prometheus(_Strict):
    """As much of Prometheus' configuration as the file uses. (`promtool check config` is not to be had from a Python package.)"""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    scrape_configs: list[_Scrape]


def check_prometheus(text: str) -> Complaints:
    document = yaml.safe_load(text)
    try:
        _Global.model_validate(document.pop("global"))
        jobs = _Prometheus.model_validate(document).scrape_configs
    except ValidationError as error:
        return [str(error)]
    found = [f"{job.job_name}: no targets" for job in jobs if not job.file_sd_configs + job.kubernetes_sd_configs]
    for job in jobs:
        # Prometheus' own rule: a star in the last part of the path alone.
        found += [
            file
            for part in job.file_sd_configs
            for file in part.files
            if not re.fullmatch(r"[^*]*(\*[^*/]*)?\.(json|ya?ml)", file)
        ]
    return found


def test_prometheus_file() -> None:
    assert check_prometheus(read("prometheus.yaml")) == []


def known_metrics() -> set[str]:
    """Ours, and those that the vLLM installed here defines (read as text: importing vLLM takes seconds)."""
    names = {exported_name(name) for name in FIGURES}
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.submodule_search_locations
    source = (Path(spec.submodule_search_locations[0]) / "v1" / "metrics" / "loggers.py").read_text()
    for kind, name in re.findall(r'self\._(counter|gauge|histogram)_cls\(\s*name="(vllm:\w+)"', source):
        names |= {
            "gauge": {name},
            "counter": {f"{name}_total"},
            "histogram": {f"{name}_bucket", f"{name}_sum", f"{name}_count"},
        }[kind]
    assert len(names) > len(FIGURES) + 20
    return names


def metrics_of(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.VectorSelector) and node.name:
        yield node.name
    for part in ("lhs", "rhs", "expr", "args", "param", "vector_selector"):
        inner = getattr(node, part, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None and not isinstance(one, str):
                yield from metrics_of(one)


def check_grafana(text: str) -> Complaints:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    document = json.loads(text)
    register_default_plugins()
    found = [
        f"not of Grafana's schema: {path}"
        for path in lost(document, json.loads(JSONEncoder().encode(Dashboard.from_json(document))))
    ]
    known = known_metrics()
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    queries = [target.get("expr", "") for panel in panels for target in panel["targets"]]
    for query in queries:
        try:
            tree = promql_parser.parse(query.replace("$__rate_interval", "5m"))
        except ValueError as error:
            found.append(f"{query}: {error}")
            continue
        names = list(metrics_of(tree))
        found += [f"{query}: nobody exports {name}" for name in names if name not in known] or (
            [] if names else [f"{query}: no metric"]
        )
    for variable in document["templating"]["list"]:
        asked = re.fullmatch(r"label_values\(([\w:]+), (\w+)\)", variable["query"])
        if variable["type"] == "query" and (not asked or asked[1] not in known):
            found.append(f"variable {variable['name']}: {variable['query']}")
    return found


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """What a reading by the SDK dropped or changed; what it added are defaults."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from lost(value, kept.get(key), f"{path}/{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for at, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}/{at}")
    elif given != kept:
        yield path


def test_grafana_dashboard() -> None:
    assert read("grafana.json") == dashboard.text(), "draw it again: python -m cluster.launch.dashboard"
    assert check_grafana(read("grafana.json")) == []


def test_the_dashboard_shows_every_figure_worth_a_look() -> None:
    text = read("grafana.json")
    assert [name for name in FIGURES if exported_name(name) not in text] == ["prompt_tokens"]


# -- each check refuses a broken copy


@pytest.mark.parametrize(
    ("check", "name", "old", "new"),
    [
        (check_kuberay, "kuberay/raycluster.yaml", "workerGroupSpecs:", "workerGroupSpec:"),
        (check_kuberay, "kuberay/raycluster.yaml", "maxReplicas: 8", "maxReplica: 8"),
        (check_kuberay, "kuberay/raycluster.yaml", "mode: token", "mode: tokens"),
        (check_kuberay, "kuberay/raycluster.yaml", 'num-cpus: "0"', "num-cpus: 0"),
        (check_kuberay, "kuberay/raycluster.yaml", "containerPort: 6379", "containerport: 6379"),
        (check_kuberay, "kuberay/raycluster.yaml", "terminationGracePeriodSeconds: 180", "terminationGracePeriod: 180"),
        (check_kuberay, "kuberay/raycluster.yaml", 'limits: {cpu: "1", memory: 1Gi}', 'limit: {cpu: "1", memory: 1Gi}'),
        (check_kuberay, "kuberay/raycluster.yaml", "minReplicas: 1", "minReplicas: 9"),
        (check_kuberay, "kuberay/rayjob.yaml", "shutdownAfterJobFinishes: true", "shutdownAfterJobFinishes: false"),
        (check_kuberay, "kuberay/rayjob.yaml", "submissionMode: K8sJobMode", "submissionMode: K8sMode"),
        (check_kuberay, "kuberay/rayjob.yaml", "  entrypoint:", "  entryPoint:"),
        (check_launcher, "ray_cluster.yaml", "idle_timeout_minutes", "idle_timeout_minute"),
        (check_launcher, "ray_cluster.yaml", "resources: {CPU: 192, GPU: 8}", "resource: {CPU: 192, GPU: 8}"),
        (check_launcher, "ray_cluster.yaml", "InstanceType: p5", "InstanceTyp: p5"),
        (check_launcher, "ray_cluster.yaml", "Ebs: {VolumeSize: 1000", "Ebs: {VolumeSize: big"),
        (check_launcher, "ray_cluster.yaml", "head_node_type: head", "head_node_type: boss"),
        (check_launcher, "ray_onprem.yaml", "ssh_user", "ssh_usr"),
        (check_launcher, "ray_onprem.yaml", "head_ip: 10.0.0.10", "headip: 10.0.0.10"),
        (check_slurm, "slurm.sbatch", "--gpus-per-node=8", "--gpu-per-node=8"),
        (check_slurm, "slurm.sbatch", "--time=24:00:00", "--time=one-day"),
        (check_slurm, "slurm.sbatch", "  local left", "  local left; rm -r $HOME_FOLDER/*"),
        (check_slurm, "slurm.sbatch", "\nfi\n", "\n"),
        (check_container, "Containerfile.cpu", "uv==0.13.9", "uv"),
        (check_container, "Containerfile.cpu", "COPY conf conf", "COPY config conf"),
        (check_container, "Containerfile.cpu", "WORKDIR ", "WORKDIRR "),
        (check_container, "Containerfile.gpu", "3.11.14-slim-bookworm", "latest"),
        (check_container, "Containerfile.gpu", "USER 1000", "USER root"),
        (check_container, "Containerfile.gpu", "'.[gpu]'", "'.[cuda]'"),
        (check_prometheus, "prometheus.yaml", "job_name: engines", "jobname: engines"),
        (check_prometheus, "prometheus.yaml", "/shared/prometheus/*.json", "/shared/*/prometheus.json"),
        (check_grafana, "grafana.json", '"legendFormat"', '"legendFromat"'),
        (check_grafana, "grafana.json", '"gridPos"', '"gridPosition"'),
        (
            check_grafana,
            "grafana.json",
            "sum by (run) (rate(ray_agentscaler_rollouts_void_total",
            "sum by (run) (rat(ray_agentscaler_rollouts_void_total",
        ),
        (check_grafana, "grafana.json", "ray_agentscaler_commit_lag", "ray_agentscaler_comit_lag"),
        (check_grafana, "grafana.json", "vllm:generation_tokens_total", "vllm:generation_tokens"),
    ],
)
def test_a_broken_copy_is_refused(check: Callable[[str], Complaints], name: str, old: str, new: str) -> None:
    text = read(name)
    assert old in text
    assert check(text.replace(old, new)) != []


# -- the commands


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line for jobs.rollout in the folder, comments and README included."""
    for path in sorted(p for p in LAUNCH.rglob("*") if p.is_file() and p.suffix not in {".py", ".json", ".pyc"}):
        if path.name == "rayjob.yaml":  # its command is a folded line of YAML: below
            continue
        text = re.sub(r"\s*\\\n[#\s]*", " ", path.read_text())
        for line in text.splitlines():
            if match := re.search(r"(?:-m jobs\.rollout|launch/slurm\.sbatch) (\w+=[^`]*)", line):
                yield path.name, shlex.split(match[1])
    yield "rayjob.yaml", shlex.split(yaml.safe_load(read("kuberay/rayjob.yaml"))["spec"]["entrypoint"])[3:]


def test_every_command_is_one_that_the_job_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(commands())
    assert {name for name, _ in found} >= {
        "raycluster.yaml",
        "rayjob.yaml",
        "ray_cluster.yaml",
        "ray_onprem.yaml",
        "slurm.sbatch",
    }
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")  # as inside a Ray job
    for name, arguments in found:
        config = compose("rollout", RolloutConfig, arguments)
        assert str(output_folder("rollout", config.output, config.output_root)).startswith("/shared/runs/"), name
    with pytest.raises(ConfigError, match="output_root"):
        output_folder("rollout", "first", None)


def test_nothing_secret_and_no_address_of_anybody() -> None:
    for path in LAUNCH.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text()
            assert not re.search(r"(?i)(api[_-]?key|password|AKIA[0-9A-Z]{16}|hf_[A-Za-z]{20,})", text), path
            assert not re.search(r"[0-9a-f]{64}", text), path


# -- head


def run_head(ray_head: RayHead, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster.launch.head", *arguments],
        cwd=ROOT,
        env=ray_head.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


CLEANS_UP = """
import signal, sys, time
def end(*_):
    time.sleep(1)
    open(sys.argv[1], "a").write("committed")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[1], "w").write("started ")
time.sleep(300)
"""


@pytest.mark.slow
def test_head_waits_for_nodes_and_drains_jobs(ray_head: RayHead, tmp_path: Path) -> None:
    from ray.job_submission import JobStatus, JobSubmissionClient

    up = run_head(ray_head, "wait", "--address", ray_head.dashboard, "--nodes", "1", "--timeout-s", "90")
    assert up.returncode == 0, up.stderr
    short = run_head(ray_head, "wait", "--address", ray_head.dashboard, "--nodes", "2", "--timeout-s", "1")
    assert short.returncode == 1 and "gave up waiting: 1 of 2 nodes" in short.stderr
    gone = run_head(ray_head, "drain", "--address", "http://127.0.0.1:9", "--timeout-s", "5")
    assert gone.returncode == 1 and "cannot drain" in gone.stderr

    script, log = tmp_path / "job.py", tmp_path / "log"
    script.write_text(CLEANS_UP)
    client = JobSubmissionClient(ray_head.dashboard)
    job = client.submit_job(entrypoint=shlex.join([sys.executable, str(script), str(log)]))
    while not log.exists() or log.read_text() != "started ":
        assert not client.get_job_status(job).is_terminal()
    drained = run_head(ray_head, "drain", "--address", ray_head.dashboard, "--timeout-s", "60")
    assert drained.returncode == 0, drained.stderr
    assert log.read_text() == "started committed"
    assert client.get_job_status(job) == JobStatus.STOPPED
    assert run_head(ray_head, "drain", "--address", ray_head.dashboard).returncode == 0, "nothing runs any more"
