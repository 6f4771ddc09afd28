"""The client on a server that is no ComfyUI: nothing but the server that is named is ever called."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web
from ipadapter_instruct.commands.servers.client import Client, ClientError


async def socket(request: web.Request) -> web.WebSocketResponse:
    made = web.WebSocketResponse()
    await made.prepare(request)
    await made.send_json({"type": "status", "data": {}})
    async for _ in made:
        pass
    return made


class Elsewhere:
    """A server at `url` that sends those who ask it for a list or a picture to `other`, and counts who came there."""

    def __init__(self):
        self.visits = 0
        self.loop = asyncio.new_event_loop()

    async def start(self) -> None:
        self.other = await self.serve(web.get("/{any:.*}", self.visited))
        routes = web.get("/ws", socket), web.get("/object_info", self.away), web.get("/queue", self.page)
        self.url = await self.serve(*routes)

    async def serve(self, *routes: web.RouteDef) -> str:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def visited(self, request: web.Request) -> web.Response:
        self.visits += 1
        return web.json_response({})

    async def away(self, request: web.Request) -> web.Response:
        raise web.HTTPFound(f"{self.other}/object_info")

    async def page(self, request: web.Request) -> web.Response:
        return web.Response(text="<html>a page for people</html>")


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere()
    server.loop.run_until_complete(server.start())
    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    thread.join(5)


def test_a_server_that_sends_one_elsewhere_is_not_followed(elsewhere):
    with Client(elsewhere.url) as client, pytest.raises(ClientError, match="GET /object_info with 302"):
        client.object_info()
    assert elsewhere.visits == 0


def test_an_answer_that_is_no_json_is_said_to_be_no_comfyuis(elsewhere):
    with (
        Client(elsewhere.url) as client,
        pytest.raises(ClientError, match="to be a ComfyUI.*a page for people"),
    ):
        client.do(client.request("GET", "/queue"))


def test_a_proxy_that_the_environment_names_is_not_asked(elsewhere, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", elsewhere.other)
    monkeypatch.setenv("http_proxy", elsewhere.other)
    with Client(elsewhere.url) as client, pytest.raises(ClientError):
        client.do(client.request("GET", "/queue"))
    assert elsewhere.visits == 0
