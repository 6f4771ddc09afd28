"""Write docs/nodes.md: every node in one line, from its English words and the groups in nodes/__init__.py.

PYTHONPATH=tools python -m shipped.node_index
"""

import json
import re

from comfyhost.install import say
from comfyhost.places import REPO_ROOT

PAGE = REPO_ROOT / "docs" / "nodes.md"
GROUP = re.compile(r"^    # (\w+): (.+)$")
NODE = re.compile(r"^    \w+\.(IPAdapterInstruct\w+),$")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    say(f"Wrote {PAGE}.")


def page() -> str:
    """Return the page's text; what stands above the first group remains as it is."""
    words = json.loads((REPO_ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    lines = [PAGE.read_text(encoding="utf-8").partition("\n## ")[0]]
    for line in (REPO_ROOT / "nodes" / "__init__.py").read_text(encoding="utf-8").splitlines():
        if group := GROUP.match(line):
            lines.append(f"\n## {group[1].capitalize()}\n\n{group[2][0].upper()}{group[2][1:]}.\n\n")
        elif node := NODE.match(line):
            told = words[node[1]]
            lines.append(f"- [{told['display_name']}](../js/docs/{node[1]}.md): {told['description']}\n")
    return "".join(lines)


if __name__ == "__main__":
    main()
