"""Asks an application without a socket."""

from __future__ import annotations

import asyncio
import threading

import httpx


class LocalClient:
    """Asks an ASGI application without a socket, from a thread that has no event loop."""

    def __init__(self, app, headers):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://local", headers=headers, timeout=60
        )

    def request(self, method, path, **more):
        async def ask():
            content = more.pop("content", None)
            if content is not None and not isinstance(content, bytes):
                # In pieces, without a length beforehand.
                more["content"] = pieces(content)
            elif content is not None:
                more["content"] = content
            return await self._http.request(method, path, **more)

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(60)

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, **more):
        return self.request("POST", path, **more)

    def close(self):
        asyncio.run_coroutine_threadsafe(self._http.aclose(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


async def pieces(chunks):
    for chunk in chunks:
        yield chunk
