"""A model's weights on this node: fetched once, however many replicas ask for them.

`fetch_once` turns `teacher.engine.model` into what an engine can open. A folder (a shared path) and `smollm2` stay as they are. `org/name`
is fetched by huggingface_hub into its own cache, a URL (`s3://`, `gs://`, `file://`, whatever fsspec knows) into a folder of the node's
cache that is named by the URL. Invariants: one process a node fetches, under a file lock that dies with its holder, the others wait and
then find; a folder under its final name is complete (files are written under a temporary name, and the folder is renamed when the last
one is there), so that a killed fetch leaves nothing that counts, and the next one takes up the files that were whole; what is there is
returned without a look at the network. So a URL means one state of the files: put the model's version into it.

It does not check that the files are a model, nor that they fit into memory (`cluster/engine.py` does), and it removes nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock, Timeout

from agentscaler.errors import ConfigError
from cluster.smollm2 import cache_root

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)
KEY = "teacher.engine.model"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.+")
_ORG_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SAY_WE_WAIT_S = 2.0


def fetch_once(model: str, cache: str | None = None) -> str:
    """What the engine is given as its model; `cache` is a folder of this node (default: the user's caches)."""
    if model == "smollm2" or Path(model).expanduser().is_dir():
        return model
    if _URL.fullmatch(model):
        return _from_url(model, Path(cache).expanduser() if cache else cache_root() / "weights")
    if model.startswith(("/", ".", "~")):
        raise ConfigError(f"{KEY}={model}: no such model folder on this node")
    if not _ORG_NAME.fullmatch(model):
        raise ConfigError(f"{KEY}={model}: neither a model folder, nor org/name, nor a URL")
    return _from_hub(model, Path(cache).expanduser() if cache else None)


# -- a URL


def _from_url(url: str, cache: Path) -> str:
    name = re.sub(r"[^\w.-]+", "-", PurePosixPath(url).name)[:60].strip(".-") or "model"
    target = cache / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:16]}"
    if target.is_dir():
        return str(target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f"{target.name}.lock"), url):
            if not target.is_dir():  # else another process fetched it while we waited
                partial = target.with_name(f"{target.name}.partial")
                _copy(url, partial)
                partial.rename(target)
    except _failures() as error:
        raise ConfigError(f"{KEY}={_shown(url)}: cannot be fetched to {cache}: {_line(error)}") from None
    return str(target)


def _copy(url: str, folder: Path) -> None:
    """Every file below the URL. A file that an earlier, killed copy finished is not read again."""
    from fsspec.core import url_to_fs

    system: AbstractFileSystem
    system, root = url_to_fs(url)
    found = cast("dict[str, Any]", system.find(root, detail=True))
    files = {
        name.removeprefix(root).strip("/"): entry["size"]
        for name, entry in found.items()
        if entry["type"] == "file" and not name.endswith("/")  # object stores may hold an empty "folder/"
    }
    if not files or "" in files:
        raise FileNotFoundError("no such folder, or nothing in it")
    total_gib = sum(size or 0 for size in files.values()) / 1024**3
    log.info("fetching %s: %d files, %.1f GiB", _shown(url), len(files), total_gib)
    for name, size in sorted(files.items()):
        target = folder / name
        if not target.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"a file that would lie outside of the folder: {name}")
        if target.is_file() and target.stat().st_size == size:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.unfinished")
        system.get_file(f"{root.rstrip('/')}/{name}", str(unfinished))
        if size is not None and unfinished.stat().st_size != size:
            raise OSError(f"{name} came with {unfinished.stat().st_size} of {size} bytes")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.rename(target)
    for unfinished in folder.rglob("*.unfinished"):
        unfinished.unlink()


# -- the Hugging Face hub


def _from_hub(name: str, cache: Path | None) -> str:
    """The hub's own cache, so that what is there already (a shared HF_HOME, an earlier job) is not fetched again."""
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(f"{KEY}={name}: needs huggingface_hub, which comes with the extras `cpu` and `gpu`") from None
    folder = cache or Path(constants.HF_HUB_CACHE)
    try:
        try:
            return snapshot_download(name, cache_dir=folder, local_files_only=True)
        except LocalEntryNotFoundError:  # nothing, or not all of it
            pass
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"agentscaler--{name.replace('/', '--')}.lock", name):
            try:  # another process may have fetched it while we waited
                return snapshot_download(name, cache_dir=folder, local_files_only=True)
            except LocalEntryNotFoundError:
                log.info("fetching %s from the hub", name)
                return snapshot_download(name, cache_dir=folder)
    except _failures() as error:
        raise ConfigError(f"{KEY}={name}: cannot be fetched from the hub: {_line(error)}") from None


# -- what both need


def _locked(path: Path, what: str) -> FileLock:
    """A lock of the kernel's: it goes with the process that holds it, however that ends."""
    lock = FileLock(str(path))
    try:
        lock.acquire(timeout=_SAY_WE_WAIT_S)
    except Timeout:
        log.info("%s is being fetched by another process of this node: waiting", _shown(what))
        lock.acquire()
    return lock


def _failures() -> tuple[type[BaseException], ...]:
    """What the stores raise when they or the network fail us. Anything else is our bug and is not caught here."""
    kinds: list[type[BaseException]] = [OSError, ValueError, ImportError]
    for module, names in (
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
        ("google.auth.exceptions", ("GoogleAuthError",)),
        ("gcsfs.retry", ("HttpError",)),
        ("azure.core.exceptions", ("AzureError",)),
        ("aiohttp", ("ClientError",)),
        ("httpx2", ("HTTPError",)),
        ("httpx", ("HTTPError",)),
    ):
        kinds += _loaded(module, names)
    return tuple(kinds)


def _loaded(module: str, names: tuple[str, ...]) -> list[type[BaseException]]:
    """Of a module that was never imported nothing can have been raised."""
    found = sys.modules.get(module)
    return [getattr(found, name) for name in names if hasattr(found, name)]


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _shown(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)
