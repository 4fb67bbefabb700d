"""From a command line to a validated configuration: the only place that knows Hydra.

`compose` returns the frozen model, or ends the process with exit code 2 and one line on stderr that names the key.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from agentscaler.errors import ConfigError
from agentscaler.shards.storage import AnyPath, folder

CONF = Path(__file__).parent.parent / "conf"
Model = TypeVar("Model", bound=BaseModel)


def compose(job: str, model: type[Model], arguments: list[str]) -> Model:
    """Hydra overrides in, a validated model out. `--help` prints what there is."""
    if any(argument in ("--help", "-h") for argument in arguments):
        print(help_text(job))
        raise SystemExit(0)
    try:
        return model.model_validate(to_plain(compose_tree(job, arguments)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        given = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
        refuse(f"{key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}{given}")
    except (HydraException, OmegaConfBaseException) as error:
        refuse(_hydra_words(error))


def compose_tree(job: str, arguments: list[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose(job, overrides=arguments)


def to_plain(tree: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(tree, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def help_text(job: str) -> str:
    """The groups with their choices, then every key with its default and comment."""
    command = {"evaluate_results": "evaluate results=<file>"}.get(job, re.sub("^bench_", "bench ", job))
    lines = [f"python -m jobs.{command} group=choice key=value …", "", "Groups:"]
    defaults = (CONF / f"{job}.yaml").read_text()
    for group in sorted(path for path in CONF.iterdir() if path.is_dir() and f"- {path.name}:" in defaults):
        choices = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        lines.append(f"  {group.name}={choices}".replace("=", " = ", 1))
    if job == "rollout":
        recipes = ", ".join(sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
        lines.append(f"  +experiment = {recipes}")
    return "\n".join(
        [
            *lines,
            "",
            f"Keys (conf/{job}.yaml; those of a choice stand in conf/<group>/<choice>.yaml):",
            "",
            defaults.strip(),
        ]
    )


def refuse(words: str) -> NoReturn:
    """Wrong input: one line, exit code 2."""
    print(f"error: {' '.join(str(words).split())}", file=sys.stderr)
    raise SystemExit(2)


def output_folder(job: str, output: str | None, output_root: str | None) -> AnyPath:
    """Where a job writes: a folder, or an object store's (s3://…). Inside a Ray job a relative path would land in Ray's temporary copy
    of the project: refused."""
    text = output or f"runs/{job}/{time.strftime('%Y%m%d-%H%M%S')}"
    if "://" in text:
        return folder(text)
    chosen = Path(text)
    if chosen.is_absolute():
        return chosen
    if output_root is not None:
        return folder(output_root) / text if "://" in output_root else Path(output_root).absolute() / chosen
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise ConfigError(
            f"output={chosen}: relative inside a Ray job; give output_root=<a folder that stays> or an absolute path"
        )
    return chosen.absolute()


def tracking_uri(uri: str | None, output_root: str | None) -> str:
    """The embedded store lies beside the outputs, where those are files."""
    local_root = output_root if output_root and "://" not in output_root else None
    return uri or f"sqlite:///{Path(local_root or '.').absolute() / ('mlflow.db' if local_root else 'runs/mlflow.db')}"


def redacted_yaml(model: BaseModel) -> str:
    """The resolved configuration; what could be a secret is not written out."""
    return OmegaConf.to_yaml(OmegaConf.create(redact(model.model_dump(mode="json", exclude_none=False))))


def redact(value: Any, key: str = "") -> Any:
    secret = any(word in key.lower() for word in ("password", "secret", "token_value", "api_key", "authorization"))
    if secret and not key.endswith("_env") and value is not None:
        return "<redacted>"
    if isinstance(value, dict):
        return {name: redact(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    return value


def _hydra_words(error: Exception) -> str:
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(words[:2])
    if "Could not override" in text and "full_key" not in text:
        return text.replace("\n", " ")
    return text[:400]
