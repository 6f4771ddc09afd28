"""Write docs/nodes.md: every node in one line, from its English words and the groups in nodes/__init__.py.

PYTHONPATH=tools python -m shipped.node_index
"""

from __future__ import annotations

import json
import re

from comfyhost.install import say
from comfyhost.places import REPO_ROOT

PAGE = REPO_ROOT / "docs" / "nodes.md"
GROUP = re.compile(r"^    # (\w+): (.+)$")
NODE = re.compile(r"^    \w+\.(IPAdapterInstruct\w+),$")
HEAD = """# The nodes

All are under *IPAdapter-Instruct* in the list of nodes. Each input has a tooltip, and each node a help page: select
the node and press *i*, or follow a link below. Names and tooltips are in English, Korean, Chinese and Japanese. After a
run, the nodes say what was made of their inputs:

![Encode and Apply after a run](encode_and_apply.jpg)

This page is written by `make workflows`, from the words that the nodes show.
"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    say(f"Wrote {PAGE}.")


def page() -> str:
    """Return the page's text."""
    words = json.loads((REPO_ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    lines = [HEAD]
    for line in (REPO_ROOT / "nodes" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if group := GROUP.match(line):
            lines.append(f"\n## {group[1].capitalize()}\n\n{group[2][0].upper()}{group[2][1:]}.\n\n")
        elif node := NODE.match(line):
            told = words[node[1]]
            lines.append(f"- [{told['display_name']}](../js/docs/{node[1]}.md): {told['description']}\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
