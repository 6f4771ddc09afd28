"""Live previews and interrupts, as the page gets them, of a watched model and inside Instruct Grid."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator

import aiohttp
import pytest
from ipadapter_instruct.commands.servers.client import Client, RunInterruptedError
from support.servers.grid_prompts import CELLS, SAMPLER, grid_of

TEXT, PREVIEW_WITH_METADATA = 3, 4
JPEG = b"\xff\xd8"


class Watcher(Client):
    """A client that asks for previews with what they are of, as the page does, and keeps them, and what nodes say.

    previews: for each, what the server says of it, and its picture. words: for each, the node's id, and what it says.
    """

    async def connect(self) -> None:
        await super().connect()
        self.previews: list[tuple[dict, bytes]] = []
        self.words: list[tuple[str, str]] = []
        await self.socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

    async def next_message(self, timeout: float) -> dict:
        """Source: ComfyUI 0.3.75, server.py, `send_image_with_metadata` and `send_progress_text`."""
        try:
            message = await self.socket.receive(timeout)
        except asyncio.TimeoutError:
            return {}
        if message.type is aiohttp.WSMsgType.BINARY:
            kind, length = struct.unpack(">II", message.data[:8])
            if kind == PREVIEW_WITH_METADATA:
                self.previews.append((json.loads(message.data[8 : 8 + length]), message.data[8 + length :]))
            if kind == TEXT:
                self.words.append((message.data[8 : 8 + length].decode(), message.data[8 + length :].decode()))
            return {}
        return message.json()


@pytest.fixture
def watcher(server) -> Iterator[Watcher]:
    with Watcher(server.url) as connected:
        yield connected


def test_every_cell_of_a_grid_shows_a_preview_at_every_step_on_the_grid(watcher, tiny):
    watcher.run(grid_of(tiny, prompt="a previewed pot", steps=3))
    assert len({about["node_id"] for about, _ in watcher.previews}) == len(CELLS)
    assert len(watcher.previews) >= 3 * len(CELLS)
    assert {about["display_node_id"] for about, _ in watcher.previews} == {"grid"}
    assert all(picture.startswith(JPEG) for _, picture in watcher.previews)


def test_a_watched_model_shows_previews(watcher, tiny):
    graph = tiny.with_node("watch", "IPAdapterInstructWatch", model=tiny.inputs(SAMPLER)["model"])
    watcher.run(graph.changed(SAMPLER, model=["watch", 0], seed=77, steps=3))
    assert {about["node_id"] for about, _ in watcher.previews} == {tiny.id(SAMPLER)}
    assert len(watcher.previews) >= 3


def test_words_of_a_node_go_to_the_page_that_asked_for_the_run_and_no_other(server, watcher, tiny):
    encode = tiny.id("IPAdapterInstructEncode")
    with Watcher(server.url) as other:
        for page, task in ((watcher, "face"), (other, "style"), (watcher, "pose")):
            page.run(tiny.changed("IPAdapterInstructEncode", task=task, prompt="a pot that says so"))
        for page, tasks in ((watcher, ["face", "pose"]), (other, ["style"])):
            said = [text.splitlines()[0].strip() for node_id, text in page.words if node_id == encode]
            assert said == [f"instruction: trained on {task}" for task in tasks]


@pytest.mark.long("tests/host/test_broken_runs interrupts a run")
def test_a_grid_is_interrupted_within_a_cell_and_made_in_full_afterwards(watcher, tiny):
    graph = grid_of(tiny, prompt="an interrupted pot", steps=4)
    sampled: list[str] = []

    def interrupt(progress) -> None:
        if f".{SAMPLER}-" in progress.node_id and progress.node_id not in sampled:
            sampled.append(progress.node_id)
            if len(sampled) == 2:
                watcher.post("/interrupt")

    with pytest.raises(RunInterruptedError):
        watcher.run(graph, interrupt)
    assert len(sampled) == 2
    assert len(watcher.run(graph).outputs[tiny.id("SaveImage")]["images"]) == len(CELLS)
