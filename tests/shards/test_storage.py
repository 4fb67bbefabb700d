"""Files, local and on a store. Promises:

1. A path's text says where it lies; one that no driver knows is a ConfigError naming the key.
2. What is written atomically replaces what was there; what is created exclusively never does, also when many try at once.
3. A write that fails leaves neither a file nor a temporary one, and a temporary file that somebody sweeps away is written again.
4. A listing shows what others made a moment ago.
5. The probe refuses a store that makes a file twice, and a folder that cannot be written.
"""

from __future__ import annotations

import os
import resource
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from agentscaler.errors import ConfigError
from agentscaler.shards.storage import (
    AnyPath,
    create_exclusive,
    folder,
    input_file,
    is_local,
    list_files,
    probe,
    read_bytes,
    read_many,
    remove,
    replacing,
    write_bytes_atomic,
    write_text,
)
from tests.shards.stores import s3_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket() as found:
        yield found


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> AnyPath:
    """An output folder that does not exist yet."""
    if request.param == "local":
        return tmp_path / "run"
    root = "memory://" if request.param == "memory" else f"{request.getfixturevalue('bucket')}/"
    return folder(f"{root}{secrets.token_hex(4)}/run")


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """A disk that is nearly full, as far as a process can make one: longer files are refused after their first bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_text_says_where_it_lies(tmp_path: Path) -> None:
    assert folder("runs/a") == Path("runs/a") and folder("file:///tmp/a") == Path("/tmp/a")
    assert is_local(folder(str(tmp_path))) and not is_local(folder("memory://a/b"))
    assert str(folder("s3://bucket/run") / "shards" / "a.parquet") == "s3://bucket/run/shards/a.parquet"
    for text in ("nope://a/b", "gs://a/b"):  # no such protocol; a driver that is not installed
        with pytest.raises(ConfigError, match=f"^input={text}: .+") as caught:
            folder(text, "input")
        assert "\n" not in str(caught.value)


def test_written_replaced_listed_removed(place: AnyPath) -> None:
    assert list_files(place / "shards") == {}
    write_text(place / "shards" / "b", "first")
    write_bytes_atomic(place / "shards" / "b", b"second")
    write_bytes_atomic(place / "shards" / "a", b"")
    write_text(place / "shards" / "inner" / "c", "c")
    assert list_files(place / "shards") == {"a": 0, "b": 6}
    assert read_many(place / "shards", ["b", "none", "a"]) == [b"second", None, b""]
    with input_file(place / "shards" / "b") as source:
        assert source.read() == b"second"
    remove(place / "shards" / "a")
    remove(place / "shards" / "a")
    assert list_files(place / "shards") == {"b": 6}
    with pytest.raises(FileNotFoundError):
        read_bytes(place / "shards" / "a")


def test_a_listing_is_fresh(place: AnyPath) -> None:
    other = folder(str(place))
    for number in range(3):
        write_text(other / "manifest" / f"{number}", "x")
        assert len(list_files(place / "manifest")) == number + 1
    remove(other / "manifest" / "1")
    assert list(list_files(place / "manifest")) == ["0", "2"]


def test_created_once(place: AnyPath) -> None:
    path = place / "manifest" / "1.json"
    assert create_exclusive(path, b"first")
    assert not create_exclusive(path, b"second") and read_bytes(path) == b"first"
    assert list_files(place / "manifest") == {"1.json": 5}
    probe(place)
    assert list_files(place) == {}


def test_of_many_that_create_one_does(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            path = tmp_path / "m" / str(number)
            made = list(pool.map(partial(create_exclusive, path), [str(i).encode() for i in range(8)]))
            assert sum(made) == 1 and path.read_bytes() == str(made.index(True)).encode()
    assert len(list((tmp_path / "m").iterdir())) == 20


def test_a_stream_takes_its_name_at_the_end(place: AnyPath) -> None:
    path = place / "tasks.parquet"
    with replacing(path) as sink:
        sink.write(b"one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as sink:
        sink.write(b"two")
        _ = 1 / 0
    assert read_bytes(path) == b"one" and list_files(place) == {"tasks.parquet": 3}


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with largest_file(1000):
        for write in (write_bytes_atomic, create_exclusive):
            with pytest.raises(OSError, match="File too large"):
                write(tmp_path / "a", bytes(5000))
        with pytest.raises(OSError, match="File too large"), replacing(tmp_path / "a") as sink:
            sink.write(bytes(5000))
    assert list(tmp_path.iterdir()) == []
    write_bytes_atomic(tmp_path / "a", bytes(5000))


def test_a_swept_temporary_file_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another driver that starts takes our temporary files for those of a dead one."""
    swept: list[Path] = []
    for name in ("replace", "link"):
        real = getattr(os, name)

        def sweep_first(source: Path, target: Path, real: Any = real) -> None:
            if len(swept) % 2 == 0:
                source.unlink()
            swept.append(source)
            real(source, target)

        monkeypatch.setattr(os, name, sweep_first)
    write_bytes_atomic(tmp_path / "a", b"a")
    assert create_exclusive(tmp_path / "b", b"b")
    assert len(set(swept)) == 4 and list_files(tmp_path) == {"a": 1, "b": 1}


class Careless(MemoryFileSystem):
    """A store that knows no exclusive creation and says nothing of it."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, **kwargs)


class Terse(MemoryFileSystem):
    """A store that answers 409 while another create is under way, and 412 without saying which condition failed."""

    protocol = "terse"
    busy = 2

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        status = 409 if Terse.busy else 412 if self.exists(path) else 200
        Terse.busy = max(0, Terse.busy - 1)
        if status != 200:
            raise OSError(22, "no") from ClientError({"ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[arg-type]
        super().pipe_file(path, value, mode, **kwargs)


@pytest.mark.filterwarnings("ignore:UPath 'terse'")
def test_terse_answers_are_understood() -> None:
    fsspec.register_implementation("terse", Terse, clobber=True)
    path = folder("terse://a") / "1.json"
    assert create_exclusive(path, b"first") and Terse.busy == 0
    assert not create_exclusive(path, b"second") and read_bytes(path) == b"first"


@pytest.mark.filterwarnings("ignore:UPath 'careless'")
def test_the_probe_refuses_a_store_that_creates_twice() -> None:
    fsspec.register_implementation("careless", Careless, clobber=True)
    with pytest.raises(
        ConfigError, match=r"^output=careless://.*/run: this store makes an existing file a second time"
    ):
        probe(folder("careless://a/run"))


def test_the_probe_refuses_what_cannot_be_written(tmp_path: Path, bucket: str) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "run", folder("s3://no-such-bucket/run")):
        with pytest.raises(ConfigError, match="cannot be written: ") as caught:
            probe(output)
        assert str(caught.value).startswith(f"output={output}: ") and "\n" not in str(caught.value)


def test_a_store_that_is_not_reached_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "endpoint_url": "http://127.0.0.1:9",
        "key": "a",
        "secret": "b",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    path = UPath("s3://bucket/run", use_listings_cache=False, **options)
    monkeypatch.setattr(type(path.fs), "retries", 1)
    with pytest.raises(OSError, match="EndpointConnectionError"):
        read_bytes(path / "a")
    with pytest.raises(ConfigError, match=r"^output=s3://bucket/run: cannot be written"):
        probe(path)
