"""Files of an output, in a local folder or on an object store: what the rest of this package needs of either, and no more.

Invariants: a file under its final name is complete, and durable when the call returns (locally: temporary name, fsync, link or rename,
fsync of the folder; on a store: one put, which shows whole or not at all). `create_exclusive` never replaces anything. A listing is
fresh, never fsspec's memory of an earlier one. Whatever a store's driver raises reaches the caller as OSError.

It does not know what the files mean. Of remote paths only those that `folder` made are expected, and what is joined to them.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from upath import UPath

from agentscaler.errors import ConfigError

AnyPath = Path | UPath
Data = bytes | pa.Buffer

TRIES = 5
_DRIVER_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)


def folder(text: str, key: str = "output") -> AnyPath:
    """A local path as pathlib's, `s3://bucket/run` and the like as a UPath. ConfigError, naming `key`, where no driver knows it.

    An S3-compatible store that is not AWS's: its address goes into AWS_ENDPOINT_URL (or AWS_ENDPOINT_URL_S3, or
    FSSPEC_S3_ENDPOINT_URL, which fsspec reads once, when it is imported); keys into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    All processes of a job need them.
    """
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return Path(text)
    if text.startswith(("file://", "local://")):
        return Path("/" + text.partition("://")[2].lstrip("/"))
    try:
        path = UPath(text, use_listings_cache=False)
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{key}={text}: {_words(error)}") from None
    return path


def is_local(path: AnyPath) -> bool:
    return isinstance(path, Path)


def read_bytes(path: AnyPath) -> bytes:
    if isinstance(path, Path):
        return path.read_bytes()
    with _driver_errors_as_os_errors():
        return bytes(path.fs.cat_file(path.path))  # type: ignore[arg-type]  # fsspec's types allow text


def read_many(place: AnyPath, names: Sequence[str]) -> list[bytes | None]:
    """Small files of one folder, None for one that is not there. A store is asked for many at a time."""
    if isinstance(place, Path):
        return [_read_or_none(f"{place}/{name}") for name in names]
    if not names:
        return []
    with _driver_errors_as_os_errors():
        found = place.fs.cat_ranges([(place / name).path for name in names], None, None, on_error="return")
        for answer in found:
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
    return [None if isinstance(answer, Exception) else answer for answer in found]


def _read_or_none(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as source:
            return source.read()
    except FileNotFoundError:
        return None


def list_files(place: AnyPath) -> dict[str, int]:
    """Name and size of every file in it, sorted by name; nothing where it does not exist."""
    try:
        if isinstance(place, Path):
            with os.scandir(place) as entries:
                found = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        else:
            with _driver_errors_as_os_errors():
                place.fs.invalidate_cache(place.path)
                rows = place.fs.ls(place.path, detail=True)
            found = {row["name"].rpartition("/")[2]: row["size"] for row in rows if row["type"] == "file"}
            found.pop("", None)  # the marker that some tools put for a folder
    except FileNotFoundError:
        return {}
    return dict(sorted(found.items()))


def remove(path: AnyPath) -> None:
    """It may be gone already."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return
    with _driver_errors_as_os_errors(), suppress(FileNotFoundError):
        path.fs.rm_file(path.path)


@contextmanager
def input_file(path: AnyPath) -> Iterator[Any]:
    """What pyarrow reads from, by ranges: of a shard on a store only the wanted columns travel."""
    if isinstance(path, Path):
        with pa.OSFile(str(path), "rb") as source:
            yield source
        return
    with _driver_errors_as_os_errors():
        if path.protocol == "memory":  # all who open such a file share one position
            yield pa.BufferReader(path.fs.cat_file(path.path))
            return
        with path.fs.open(path.path, "rb", cache_type="none") as source:
            yield source


def write_bytes_atomic(path: AnyPath, data: Data) -> None:
    """Replaces what is there, whole."""
    if not isinstance(path, Path):
        with _driver_errors_as_os_errors():
            path.fs.pipe_file(path.path, bytes(data))
        return
    for trial in range(1, TRIES + 1):
        temporary = _write_temporary(path, data)
        try:
            os.replace(temporary, path)
        except FileNotFoundError:  # a driver that has just started took it for what a dead one left
            if trial == TRIES:
                raise
            continue
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
        return


def write_text(path: AnyPath, text: str) -> None:
    """A small file, replaced whole."""
    write_bytes_atomic(path, text.encode())


def create_exclusive(path: AnyPath, data: Data) -> bool:
    """True if it was made, False if it was there. After an error it may be there or not: read it."""
    return _link_new(path, data) if isinstance(path, Path) else _put_new(path, bytes(data))


def _link_new(path: Path, data: Data) -> bool:
    for trial in range(1, TRIES + 1):
        if path.exists():
            return False
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if trial == TRIES:
                raise
            continue
        finally:
            temporary.unlink(missing_ok=True)
        break
    flush_folder(path.parent)
    return True


def _put_new(path: UPath, data: bytes) -> bool:
    for trial in range(1, TRIES + 1):
        try:
            with _driver_errors_as_os_errors():
                path.fs.pipe_file(path.path, data, mode="create")
            return True
        except FileExistsError:
            return False
        except OSError as error:
            status = _http_status(error)
            if (
                status == 412
            ):  # some stores do not say which condition failed, and s3fs then calls it an OSError like others
                return False
            if status != 409 or trial == TRIES:  # 409: another create of the same name is under way
                raise
            time.sleep(0.05 * 2**trial)
    raise AssertionError("the last trial returns or raises")


def _http_status(error: BaseException) -> int | None:
    response = getattr(error.__cause__, "response", None)
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None


@contextmanager
def replacing(path: AnyPath) -> Iterator[IO[bytes]]:
    """A big file, written as a stream, that takes its name at the end of the block. An exception in the block leaves nothing."""
    if not isinstance(path, Path):
        with (
            tempfile.NamedTemporaryFile() as sink
        ):  # a stream into the store would be kept, cut off, when the block fails
            yield sink
            sink.flush()
            with _driver_errors_as_os_errors():
                path.fs.put_file(sink.name, path.path)
        return
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def probe(output: AnyPath) -> None:
    """Shows that a file there can be made, and not made a second time. ConfigError naming `output=` otherwise."""
    path = output / f"probe-{secrets.token_hex(4)}.tmp"
    try:
        try:
            made = create_exclusive(path, b"first")
            again = create_exclusive(path, b"second")
            kept = read_bytes(path)
        finally:
            with suppress(OSError):
                remove(path)
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written: {words_of(error)}") from None
    except (TypeError, NotImplementedError) as error:  # a driver whose put knows no mode
        raise ConfigError(f"output={output}: cannot be written: {_words(error)}") from None
    if not made or again or kept != b"first":
        raise ConfigError(
            f"output={output}: this store makes an existing file a second time (no if-none-match); the manifest needs one that refuses"
        )


def make_folder(place: Path) -> None:
    """With its parents, each durable in its own parent: an entry of a folder that a crash takes away would be lost with it."""
    if place.is_dir():
        return
    make_folder(place.parent)
    place.mkdir(exist_ok=True)
    flush_folder(place.parent)


def flush_folder(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def words_of(error: OSError) -> str:
    """The reason in one line, without the path that the caller names."""
    return error.strerror or _words(error)


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def _write_temporary(path: Path, data: Data) -> Path:
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with open(temporary, "xb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
    except BaseException:  # a full disk among them
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextmanager
def _driver_errors_as_os_errors() -> Iterator[None]:
    """A driver translates what the store answers; that the store is not reached, or has no keys, comes as its own kind."""
    try:
        yield
    except _loaded_driver_errors() as error:
        raise OSError(f"{type(error).__name__}: {_words(error)}") from error


def _loaded_driver_errors() -> tuple[type[Exception], ...]:
    return tuple(
        getattr(sys.modules[module], name) for module, name in _DRIVER_ERRORS if hasattr(sys.modules.get(module), name)
    )
