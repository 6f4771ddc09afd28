"""The pack's own sources, by their paths from the repository's root."""

from __future__ import annotations

from comfyhost.places import REPO_ROOT

SOURCES = sorted(
    path.relative_to(REPO_ROOT).as_posix()
    for path in (
        *(REPO_ROOT / "__init__.py", REPO_ROOT / "cli.py", *REPO_ROOT.glob("commands/**/*.py")),
        *(*REPO_ROOT.glob("models/**/*.py"), *REPO_ROOT.glob("nodes/**/*.py")),
    )
)


def read(path: str) -> str:
    return (REPO_ROOT / path).read_text(encoding="utf-8")
