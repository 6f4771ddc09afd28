"""The errors of ComfyUI's page, and which of them it makes by itself, found by opening it without the pack.

Everything else is a finding: any error, and any warning that comes from the pack's own scripts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from comfyhost.places import PACK_FOLDER


@dataclass(frozen=True)
class PageError:
    """A line of the console, or an exception that nothing caught, and the address it is about."""

    text: str
    url: str = ""

    def __str__(self) -> str:
        return f"{self.text} [{self.url}]"


HOSTS_OWN = {
    r"404 .*/(api/userdata/)?user\.css": "the user has no style sheet of their own",
    r"404 .*/api/userdata\?dir=(workflows|subgraphs)": "a new user has no such folder yet",
    r"404 .*/api/userdata/comfy\.templates\.json": "a new user has no such file yet",
    r"404 .*/favicon\.ico": "the page has its icon elsewhere",
    r"404 .*/api/jobs": "1.58.1 asks for the jobs, which ComfyUI 0.3.75 does not have",
    r"Failed to fetch (jobs|queue): .*\b404\b|Error fetching jobs: .*\b404\b": "the same, in the page's words",
    r"404 .*/extensions/[^/]+/docs/\w+/[\w-]+\.md": "help is asked for in the user's language first",
    r"Error fetching file size: TypeError: Failed to fetch": "1.32.9 asks Hugging Face, which is another site",
    r"violates the (following|document's) Content Security Policy": "--disable-api-nodes forbids other sites",
    r"Refused to connect because it violates": "the same",
    r"net::ERR_NAME_NOT_RESOLVED": "the browser of the tests knows no other sites",
    r"Cannot read properties of undefined .*\s+at onChange": "1.32.9 applies a setting before the graph is there",
    r"cleanup event listeners for graph that was never set up": "1.32.9's small map, when a subgraph is opened",
    r"getCanvas: canvas is null[\s\S]+handleProgressText": "any node's words reach 1.32.9 before its canvas is there",
    r"ComfyApp graph accessed before initialization": "1.49.6 looks for the graph before it makes it",
    r"Missing Link ID when unpacking": "1.49.6 unpacks a subgraph of which an input has no link",
}


PACKS_SCRIPT = re.compile(rf"/extensions/{PACK_FOLDER}/[\w.-]+\.js")
COMPLAINTS = ("warning", "error", "assert")


def is_hosts_own(error: PageError) -> bool:
    """Whether the page makes this error without the pack too."""
    if PACKS_SCRIPT.search(error.text):
        return False
    return any(re.search(pattern, f"{error.text} {error.url}") for pattern in HOSTS_OWN)


def packs_own(call: dict) -> PageError | None:
    """The warning or error that the pack's scripts gave cause for, if this console call is one.

    `call` is an event Runtime.consoleAPICalled of Chromium's DevTools protocol. It has the stack, which tells who
    called: a warning is as a rule written by the page, about what somebody else does.
    """
    frames = call.get("stackTrace", {}).get("callFrames", [])
    script = next((frame["url"] for frame in frames if PACKS_SCRIPT.search(frame["url"])), None)
    if call["type"] not in COMPLAINTS or script is None:
        return None
    said = (str(argument.get("value", argument.get("description"))) for argument in call["args"])
    return PageError(f"{call['type']} of the console: {' '.join(said)}", script)
