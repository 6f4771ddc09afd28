"""The routes by which the page asks for tasks and for the family of an adapter file, and commands for its digest."""

import asyncio
import dataclasses
import logging

from aiohttp import web
from server import PromptServer

from ...models.families import FAMILIES
from ...models.files.published_files import sha256_of
from ...models.guidance.tasks import TASKS, recommended
from .folders import adapter_path

log = logging.getLogger(__name__)

TASKS_ROUTE = "/ipadapter_instruct/tasks"
FAMILY_ROUTE = "/ipadapter_instruct/family"
DIGEST_ROUTE = "/ipadapter_instruct/digest"


def add_routes() -> None:
    """Serve the routes. Without a server, as where nodes are only listed, there is nothing to do."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get(TASKS_ROUTE)(get_tasks)
        server.routes.get(FAMILY_ROUTE)(get_family)
        server.routes.get(DIGEST_ROUTE)(get_digest)


async def get_tasks(_: web.Request) -> web.Response:
    """Answer the families by name, and the tasks in their order with what is recommended for each family."""
    tasks = [
        {
            "name": task.name,
            "instruction": task.instruction,
            "keywords": task.keywords,
            "families": {family.name: dataclasses.asdict(recommended(family, task)) for family in task.families},
        }
        for task in TASKS
    ]
    return web.json_response({"families": {family.name: family.title for family in FAMILIES}, "tasks": tasks})


async def get_family(request: web.Request) -> web.Response:
    """Answer what the file named by `adapter` is.

    {"family": name, "takes_instruction": bool, "instructions": those that this pack trained it on}; null, null and none
    for no adapter.
    """
    from ...models.adapter.checkpoint import look_at

    name = request.query.get("adapter", "")
    try:
        found = await asyncio.to_thread(lambda: look_at(adapter_path(name)))
    except (ValueError, OSError) as error:
        log.debug("IPAdapter-Instruct: no family for %s: %s", name, error)
        return web.json_response({"family": None, "takes_instruction": None, "instructions": []})
    answer = {"family": found.family.name, "takes_instruction": found.kind.takes_instruction}
    return web.json_response({**answer, "instructions": found.instructions})


async def get_digest(request: web.Request) -> web.Response:
    """Answer the SHA-256 of the file named by `adapter`, which is read for it; null for no file."""
    try:
        digest = await asyncio.to_thread(lambda: sha256_of(adapter_path(request.query.get("adapter", ""))))
    except (ValueError, OSError) as error:
        log.debug("IPAdapter-Instruct: no digest: %s", error)
        digest = None
    return web.json_response({"sha256": digest})
