"""Connections to a server that speaks bytes as a test says. Promises:

1. An answer is whole, however it is framed and cut into packets; one that ends too early is `Broken`, never a short answer.
2. A connection is used again after a whole answer, and only then: not after a timeout, a cancelled request, bytes nobody asked for, or a
   server that says close.
3. The request is one HTTP request with the headers given; over TLS only to a server whose certificate is trusted.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from agentscaler.teachers.connections import Answer, Broken, Connections, NoConnection, NoHttp
from tests.teachers.served import nobody

BODY = b'{"messages":[]}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"


class Speaker:
    """Answers each request with the next of `answers`, piece by piece; hangs up after one marked so."""

    def __init__(self, *answers: Sequence[bytes], hang_up: bool = False):
        self._answers = list(answers)
        self._hang_up = hang_up
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.url = ""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while self._answers:
                self.requests.append(await reader.readuntil(BODY))
                for piece in self._answers.pop(0):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self._hang_up:
                    break
            if not self._hang_up:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def speaking(speaker: Speaker, timeout_s: float = 2.0) -> AsyncIterator[Connections]:
    server = await asyncio.start_server(speaker.talk, "127.0.0.1", 0)
    speaker.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/"
    connections = Connections({"Content-Type": "application/json", "Authorization": "Bearer k"}, timeout_s, 2.0)
    try:
        yield connections
    finally:
        connections.close()
        server.close()


async def ask(connections: Connections, speaker: Speaker) -> Answer:
    return await connections.post(speaker.url, "s-1", BODY)


@pytest.mark.asyncio
async def test_the_request_and_a_connection_used_again() -> None:
    speaker = Speaker([OK], [CHUNKED], [INTERIM], [OK])
    async with speaking(speaker) as connections:
        for _ in range(4):
            assert (await ask(connections, speaker)).body == b"hello"
    assert speaker.num_connections == 1
    head, _, body = speaker.requests[0].partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert set(headers) == {
        f"Host: {speaker.url.split('/')[2]}",
        "Content-Type: application/json",
        "Authorization: Bearer k",
        "X-Session-ID: s-1",
        f"Content-Length: {len(BODY)}",
    }
    assert body == BODY


@given(st.sampled_from([OK, CHUNKED, INTERIM, CLOSED, TO_THE_END]), st.lists(st.integers(1, 120), max_size=4))
@settings(max_examples=40)
def test_an_answer_is_whole_however_it_comes(answer: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(answer)]
    pieces = [answer[a:b] for a, b in pairwise(places) if answer[a:b]]

    async def run() -> Answer:
        speaker = Speaker(pieces, hang_up=answer in (CLOSED, TO_THE_END))
        async with speaking(speaker) as connections:
            return await ask(connections, speaker)

    assert asyncio.run(run()) == Answer(200, b"hello")


@given(st.sampled_from([OK, CHUNKED, CLOSED]), st.integers(0, 200))
@settings(max_examples=40)
def test_an_answer_that_ends_early_is_broken(answer: bytes, size: int) -> None:
    cut = answer[: min(size, len(answer) - 1)]

    async def run() -> None:
        speaker = Speaker([cut] if cut else [], hang_up=True)
        async with speaking(speaker) as connections:
            with pytest.raises(Broken) as caught:
                await ask(connections, speaker)
            assert caught.value.answered is bool(cut)
            assert connections.num_busy == 0

    asyncio.run(run())


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [OK + OK, OK + b"x", CLOSED])
async def test_a_connection_that_did_more_or_less_is_not_used_again(answer: bytes) -> None:
    speaker = Speaker([answer], [OK])
    async with speaking(speaker) as connections:
        for _ in range(2):
            assert (await ask(connections, speaker)).body == b"hello"
            await asyncio.sleep(0.02)
    assert speaker.num_connections == 2


@pytest.mark.asyncio
async def test_a_timeout_and_a_cancelled_request_end_their_connections() -> None:
    speaker = Speaker([OK[:9]], [OK[:9]], [OK])
    async with speaking(speaker, timeout_s=0.1) as connections:
        with pytest.raises(TimeoutError):
            await ask(connections, speaker)
        asked = asyncio.create_task(ask(connections, speaker))
        await asyncio.sleep(0.03)
        assert connections.num_busy == 1
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert connections.num_busy == 0
        assert (await ask(connections, speaker)).body == b"hello"
    assert speaker.num_connections == 3


@pytest.mark.asyncio
async def test_what_is_no_http_and_nobody_there() -> None:
    speaker = Speaker([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"])
    async with speaking(speaker) as connections:
        with pytest.raises(NoHttp):
            await ask(connections, speaker)
        with pytest.raises(NoConnection):
            await connections.post(nobody(), "s", BODY)
        for url in ("nonsense", "ftp://host/v1", "http://host/v 1", "http://"):
            with pytest.raises(ValueError, match="no address"):
                await connections.post(url, "s", BODY)
    with pytest.raises(ValueError, match="control character"):
        await Connections({"Authorization": "Bearer k\n"}, 1.0, 1.0).post(speaker.url, "s", BODY)


@pytest.mark.asyncio
async def test_tls_only_with_a_certificate_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = self_signed("localhost")
    (tmp_path / "server.pem").write_bytes(key + certificate)
    (tmp_path / "trusted.pem").write_bytes(certificate)
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(tmp_path / "server.pem")
    speaker = Speaker([OK], [OK])
    server = await asyncio.start_server(speaker.talk, "127.0.0.1", 0, ssl=secure)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        stranger = Connections({}, 5.0, 5.0)
        with pytest.raises(NoConnection, match="certificate"):
            await stranger.post(url, "s", BODY)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
        friend = Connections({}, 5.0, 5.0)
        assert (await friend.post(url, "s", BODY)).body == b"hello"
        assert (await friend.post(url, "s", BODY)).body == b"hello"
        friend.close()
    assert len(speaker.requests) == 2


def self_signed(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)
