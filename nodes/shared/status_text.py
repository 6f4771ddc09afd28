"""The words that a node shows after it ran."""

from __future__ import annotations

import logging

from comfy_api.latest import io
from server import PromptServer

log = logging.getLogger(__name__)


def output_with_text(node: type[io.ComfyNode], lines: list[str], *outputs) -> io.NodeOutput:
    """Return the node's outputs, and show `lines` on the node, in the log and in the prompt's history.

    The node must ask for the hidden unique_id.
    """
    log.info("IPAdapter-Instruct: %s", "; ".join(lines))
    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden.unique_id is not None:
        server.send_progress_text("\n".join(lines), node.hidden.unique_id)
    return io.NodeOutput(*outputs, ui={"text": tuple(lines)})
