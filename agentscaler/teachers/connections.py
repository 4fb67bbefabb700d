"""Requests over aiohttp's connection pool, with each way to fail an exception of its own.

Owns the client session. Invariants: one whole request and one whole answer at a time on a connection; what ends a request early (timeout,
cancellation, a broken answer) closes its connection. It knows nothing of chat, retries or routing.

The pool has no limit: admission bounds what is in flight, and a second queue here would hide the wait from it. Names are resolved by aiohttp;
idle connections are closed before uvicorn does it after 5 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

_IDLE_S = 4.0


class NoConnection(Exception):
    """The server takes no connection."""


class Broken(Exception):
    """The connection ended before the answer did. `answered`: some of it had come."""

    def __init__(self, words: str, answered: bool):
        super().__init__(words)
        self.answered = answered


class NoHttp(Exception):
    """What came back is no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None


class Connections:
    """To any number of servers. Belongs to the event loop that first uses it."""

    def __init__(self, headers: Mapping[str, str], timeout_s: float, connect_s: float):
        self._headers = dict(headers)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_s)
        self._urls: dict[str, URL] = {}
        self._client: aiohttp.ClientSession | None = None
        self._num_busy = 0

    @property
    def num_busy(self) -> int:
        return self._num_busy

    async def post(self, url: str, session: str, body: bytes) -> Answer:
        """Raises NoConnection, Broken, NoHttp, TimeoutError, or ValueError where `url` is no address."""
        address = self._urls.get(url)
        if address is None:
            address = self._urls[url] = _address(url)
        if self._client is None:
            self._client = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                auto_decompress=False,
            )
        answered = False
        self._num_busy += 1
        try:
            async with self._client.post(
                address, data=body, headers={"X-Session-ID": session}, allow_redirects=False
            ) as response:
                answered = True
                return Answer(response.status, await response.read(), response.headers.get("Retry-After"))
        except aiohttp.ConnectionTimeoutError as error:  # before TimeoutError, which it is too
            raise NoConnection(f"{url} takes no connection for {self._timeout.sock_connect:g} s") from error
        except TimeoutError:
            raise
        except aiohttp.ClientConnectorError as error:
            raise NoConnection(f"{url}: {error}") from error
        except aiohttp.ClientResponseError as error:
            raise NoHttp(error.message[:200]) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(str(error) or type(error).__name__, answered) from error
        finally:
            self._num_busy -= 1

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _address(url: str) -> URL:
    address = URL(f"{url.rstrip('/')}/chat/completions")
    if address.scheme not in ("http", "https") or not address.host:
        raise ValueError(f"{url} is no address of a server")
    return address
