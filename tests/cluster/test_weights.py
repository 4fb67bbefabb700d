"""Weights, fetched once a node:

1. What is on the node already (a folder, smollm2) stays as it is; what cannot be a model is one line that names the key.
2. Several processes at once: one fetches, each file is read once, all get the same complete folder.
3. A fetch that is killed leaves nothing that counts; the next one goes on and reads the whole files no second time.
4. What is there is returned although its source is gone.
5. The same from an S3 server and from a hub, over their real protocols.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from agentscaler.errors import ConfigError
from cluster.weights import fetch_once
from tests.conftest import ROOT

FILES = {
    "config.json": b"{}",
    "model-1.safetensors": b"a" * 4000,
    "model-2.safetensors": b"b" * 5000,
    "sub/x.json": b"[]",
}

# A process of its own, as a TeacherServer is. `slow://` reads a folder of this machine, notes each file in $READ_LOG, and takes its time.
FETCH = """
import os, sys, time
import fsspec
from fsspec.implementations.local import LocalFileSystem

class SlowFileSystem(LocalFileSystem):
    protocol = "slow"

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(path.removeprefix("slow://"))

    def get_file(self, source, target, **options):
        with open(os.environ["READ_LOG"], "a") as log:
            log.write(os.path.basename(source) + "\\n")
        with open(target, "wb") as half:
            half.write(b"half")
        time.sleep(float(os.environ["PAUSE_S"]))
        super().get_file(source, target, **options)

fsspec.register_implementation("slow", SlowFileSystem)
from cluster.weights import fetch_once
print(fetch_once(sys.argv[1], sys.argv[2]))
"""


def write_model(folder: Path) -> Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def holds_model(folder: str) -> bool:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()} == FILES


def start(model: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, model, str(cache)],
        cwd=ROOT,
        env={**os.environ, "READ_LOG": str(cache.parent / "read.log"), "PAUSE_S": "0.3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    return out.strip().splitlines()[-1]


def files_read(tmp_path: Path) -> Counter[str]:
    log = tmp_path / "read.log"
    return Counter(log.read_text().split()) if log.exists() else Counter()


def wait_for_reads(tmp_path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while files_read(tmp_path).total() < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_here_stays_as_it_is(tmp_path: Path) -> None:
    folder = str(write_model(tmp_path / "qwen"))
    assert fetch_once(folder) == folder
    assert fetch_once("smollm2", str(tmp_path / "cache")) == "smollm2"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("/no/such/folder", "no such model folder"),
        ("qwen3", "neither a model folder, nor org/name, nor a URL"),
        ("nosuchscheme://bucket/model", "cannot be fetched"),
        ("file:///no/such/folder", "cannot be fetched"),
        ("https://user:secret@127.0.0.1:9/model", r"https://\*\*\*@127"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_key(model: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        fetch_once(model, str(tmp_path / "cache"))
    assert str(raised.value).startswith("teacher.engine.model=")
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)
    assert not [path for path in (tmp_path / "cache").glob("*") if path.is_dir()]


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_model(tmp_path / "source")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match=r"teacher\.engine\.model=file://.*cannot be fetched to"):
        fetch_once(f"file://{tmp_path}/source", str(tmp_path / "cache"))


def test_a_url_is_one_place_and_two_urls_are_two(tmp_path: Path) -> None:
    write_model(tmp_path / "source" / "v1")
    write_model(tmp_path / "source" / "v2")
    cache = str(tmp_path / "cache")
    first = fetch_once(f"file://{tmp_path}/source/v1", cache)
    assert holds_model(first)
    assert fetch_once(f"file://{tmp_path}/source/v1/", cache) == first
    assert fetch_once(f"file://{tmp_path}/source/v2", cache) != first


def test_many_processes_fetch_once(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    processes = [start(f"slow://{source}", tmp_path / "cache") for _ in range(5)]
    folders = {finish(process) for process in processes}
    assert len(folders) == 1 and holds_model(folders.pop())
    assert files_read(tmp_path) == {Path(name).name: 1 for name in FILES}


def test_a_killed_fetch_leaves_nothing_that_counts_and_the_next_goes_on(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    url, cache = f"slow://{source}", tmp_path / "cache"
    killed = start(url, cache, PAUSE_S="1.0")
    wait_for_reads(tmp_path, 1)
    waiter = start(url, cache)  # it takes over when the first is gone
    wait_for_reads(tmp_path, 3)  # two files whole, the third half
    at_kill = files_read(tmp_path)  # before: once it is gone the other reads on at once
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    assert [path.name for path in cache.iterdir() if path.is_dir() and not path.name.endswith(".partial")] == []
    folder = finish(waiter)
    assert holds_model(folder)
    again = files_read(tmp_path)
    assert at_kill.total() == 3
    assert sorted(again.values()) == [1, 1, 1, 2], "only the file that was half is read again"
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [Path(folder).name]


def test_what_is_there_needs_no_source(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source")
    folder = fetch_once(f"file://{source}", str(tmp_path / "cache"))
    source.rename(tmp_path / "elsewhere")
    assert fetch_once(f"file://{source}", str(tmp_path / "cache")) == folder


@pytest.mark.slow
def test_from_an_s3_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        import s3fs

        store = s3fs.S3FileSystem()
        store.mkdir("weights")
        for name, content in {**FILES, "empty/": b""}.items():
            store.pipe_file(f"weights/qwen3/v1/{name}", content)
        processes = [start("s3://weights/qwen3/v1", tmp_path / "cache") for _ in range(3)]
        folders = {finish(process) for process in processes}
        assert len(folders) == 1 and holds_model(folders.pop())
        with pytest.raises(ConfigError, match=r"teacher\.engine\.model=s3://weights/none: cannot be fetched"):
            fetch_once("s3://weights/none", str(tmp_path / "cache"))
    finally:
        server.stop()


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as a snapshot needs."""

    protocol_version = "HTTP/1.1"
    sha = "0123456789abcdef0123456789abcdef01234567"
    served: ClassVar[Counter[str]] = Counter()

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if not path.startswith(("/api/models/org/small", "/org/small")):
            self._answer(404, b"{}", X_Error_Code="RepoNotFound")
        elif path.startswith("/api/models/org/small/tree/"):
            rows = [
                {"type": "file", "path": n, "size": len(c), "oid": f"{i:040x}"}
                for i, (n, c) in enumerate(FILES.items())
            ]
            self._answer(200, json.dumps(rows).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/"):
            info = {"id": "org/small", "sha": self.sha, "siblings": [{"rfilename": name} for name in FILES]}
            self._answer(200, json.dumps(info).encode(), Content_Type="application/json")
        else:
            name = path.removeprefix(f"/org/small/resolve/{self.sha}/")
            if self.command == "GET":
                self.served[name] += 1
                time.sleep(0.2)
            number = list(FILES).index(name)
            self._answer(200, FILES[name], ETag=f'"{number:040x}"', X_Repo_Commit=self.sha)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    _Hub.served.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_from_a_hub(hub: str, tmp_path: Path) -> None:
    environment = {
        "HF_ENDPOINT": hub,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    processes = [start("org/small", tmp_path / "cache", **environment) for _ in range(4)]
    folders = {finish(process) for process in processes}
    assert len(folders) == 1
    folder = folders.pop()
    assert {name: (Path(folder) / name).read_bytes() for name in FILES} == FILES
    assert _Hub.served == dict.fromkeys(FILES, 1)
    gone = {**environment, "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert finish(start("org/small", tmp_path / "cache", **gone)) == folder, "what is there needs no hub"
    missing = start("org/none", tmp_path / "cache", **environment)
    _, err = missing.communicate(timeout=180)
    last = err.strip().splitlines()[-1]
    assert missing.returncode == 1
    assert last.startswith(
        "agentscaler.errors.ConfigError: teacher.engine.model=org/none: cannot be fetched from the hub"
    )
