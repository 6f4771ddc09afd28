"""The words that a node shows after it ran."""

import logging
from typing import TYPE_CHECKING

from comfy_api.latest import io
from server import PromptServer

from ...models.guidance.tasks import describe_instruction

if TYPE_CHECKING:
    from ...models.encoding.loaded_adapter import LoadedAdapter

log = logging.getLogger(__name__)

LINE_BREAK = "  \n"  # in Markdown, too, for which Vue nodes take it
NO_TAGS = str.maketrans("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")  # the page of 1.32 takes them for HTML


def output_with_text(node: type[io.ComfyNode], lines: list[str], *outputs) -> io.NodeOutput:
    """Return the node's outputs, and show `lines` on the node, in the log and in the prompt's history.

    The node must ask for the hidden unique_id. Only the page that asked for the run gets the words: on another one,
    nodes with the same ids may be other nodes.
    """
    log.info("IPAdapter-Instruct: %s", "; ".join(lines))
    shown = tuple(line.translate(NO_TAGS) for line in lines)
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None and node.hidden.unique_id is not None:
        server.send_progress_text(LINE_BREAK.join(shown), node.hidden.unique_id, server.client_id)
    return io.NodeOutput(*outputs, ui={"text": shown})


def describe_reading(adapter: "LoadedAdapter", instruction: str, negative_instruction: str = "") -> list[str]:
    """Return lines for the user: what an instruction means to an adapter."""
    if adapter.kind.takes_instruction:
        return [describe_instruction(adapter.family, instruction, adapter.instructions)]
    what = "instruction and negative_instruction" if negative_instruction else "instruction"
    return [f"{what}: ignored; {adapter.name} is {adapter.kind}, which takes none"]
