"""IPAdapter-Instruct's commands. Run them with the python that runs ComfyUI, in ComfyUI's folder.

    python custom_nodes/ipadapter-instruct/cli.py download sd15
    python custom_nodes/ipadapter-instruct/cli.py COMMAND --help

The second line tells more of a command.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import types
from pathlib import Path

PACKAGE = "ipadapter_instruct"
COMMANDS = ("download", "convert", "pairs", "train", "evaluate", "instructions")  # modules and folders in commands/
STOPPED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command that `arguments` name. Return its exit code, or 1 with a message on stderr."""
    load_pack()
    wanted = parser().parse_args(arguments)
    try:
        return wanted.run(wanted)
    except ModuleNotFoundError as error:
        return failed(f"{sys.executable} has no {error.name}. Run this command with the python that runs ComfyUI.")
    except (ValueError, OSError, ArithmeticError) as error:
        return failed(error)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return STOPPED


def load_pack() -> None:
    """Register the pack as a package of a fixed name, without running its __init__, which is for ComfyUI alone.

    Its folder may have any name, and some pythons (ComfyUI's portable one for Windows) don't put it on sys.path.
    """
    if PACKAGE not in sys.modules:
        package = types.ModuleType(PACKAGE)
        package.__path__ = [str(Path(__file__).absolute().parent)]
        sys.modules[PACKAGE] = package


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="cli.py", description=__doc__, formatter_class=Help)
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{PACKAGE}.commands.{name}")
        summary = module.__doc__.partition("\n")[0]
        one = commands.add_parser(name, help=summary, description=module.__doc__, formatter_class=Help)
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    return made


class Help(argparse.RawDescriptionHelpFormatter):
    """Show descriptions as they are written, defaults that are numbers or names, and values by what they are."""

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return {int: "N", float: "X"}.get(action.type, "PATH")

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_default = type(action.default) in (int, float, str) and action.default != argparse.SUPPRESS
        return f"{action.help} (default: %(default)s)" if says_default else action.help


def failed(message: object) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
