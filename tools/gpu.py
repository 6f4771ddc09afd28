"""Whether the pack is right on a graphics card, how fast and how small it is, and what a training step costs.

    python tools/gpu.py --comfyui PATH                        all parts, in under 8 minutes on a large card
    python tools/gpu.py --comfyui PATH --parts right.fp16,fast    some of them
    python tools/gpu.py --comfyui PATH --rehearse             all of it on the CPU with small models
    python tools/gpu.py --comfyui PATH --bundle gpu.tar.xz    pack what a bare machine needs beside torch

It needs torch with CUDA, a ComfyUI folder with its requirements, and pytest; no network and no model files. Results go
to output/gpu.json, and as rows for docs/measurements.md to output/gpu.md. It ends with 1 when anything failed; a target
that was missed is said, as is what was left out. IPAdapter Plus takes part where --incumbent names its folder.
"""

import argparse
import json
import os
import platform
import runpy
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from timeit import default_timer

import torch
from comfyhost.places import REPO_ROOT, TOOLS, ToolError, host
from gpu_parts import bundle
from gpu_parts.parts import NAMES, SHARES, WAYS, chosen

SECONDS = 440
GRACE = 20  # seconds that a part may take beyond its time, to end by itself
LEAST = 15  # seconds that are worth a start
CORES = 4  # for each process of those that are run side by side
TOLD = ("figure", "skipped", "error")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", help="the folder of ComfyUI; without it COMFYUI_PATH's, or that of `make setup`")
    parser.add_argument("--parts", default=",".join(SHARES), help=f"some of right, {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with small models")
    parser.add_argument("--incumbent", type=Path, help="a folder with a checkout of ComfyUI_IPAdapter_plus")
    parser.add_argument("--output", type=Path, default=REPO_ROOT / "output", help="the folder of the results")
    parser.add_argument("--bundle", type=Path, help="write an archive of what is needed beside torch, and end")
    args = parser.parse_args(argv)
    if args.comfyui:
        os.environ["COMFYUI_PATH"] = args.comfyui
    try:
        comfyui, parts = host().comfyui, chosen(args.parts)
        os.environ["COMFYUI_PATH"] = str(comfyui)  # for parts, which run in another folder
        if args.bundle:
            print(bundle.write(args.bundle, comfyui))
            return 0
        check_machine(args.rehearse)
    except (ToolError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    begin, about = default_timer(), about_the_machine(args.rehearse, comfyui)
    results = list(run_all(args, parts))
    write(args, {**about, "seconds": f"{default_timer() - begin:.0f}"}, results)
    return 1 if any("error" in result for result in results) else 0


def check_machine(rehearse: bool) -> None:
    """Raises ToolError for a machine that cannot run the parts."""
    if missing := bundle.missing():
        raise ToolError(
            f"Some packages were expected beside torch; {', '.join(missing)} cannot be found. Install them, or bring "
            "them from a machine that has them: --bundle packs them."
        )
    if not (rehearse or torch.cuda.is_available()):
        raise ToolError(
            f"A graphics card was expected; torch {torch.__version__} finds none. Run this where torch finds one, or "
            "add --rehearse to try all of it on the CPU with small models."
        )


def run_all(args: argparse.Namespace, parts: list[str]) -> Iterator[dict]:
    """Run the parts, each group within its share of what time is left, and yield the results as they come."""
    end, groups = default_timer() + args.seconds, list(dict.fromkeys(name.partition(".")[0] for name in parts))
    for number, group in enumerate(groups):
        share = SHARES[group] / sum(SHARES[name] for name in groups[number:])
        run_one = partial(run_part, args, default_timer() + share * (end - default_timer()))
        side_by_side = max(1, (os.cpu_count() or 1) // CORES) if group == "right" else 1
        with ThreadPoolExecutor(side_by_side) as threads:
            for results in threads.map(run_one, [name for name in parts if name.partition(".")[0] == group]):
                for result in results:
                    print(line(result), flush=True)
                    yield result


def run_part(args: argparse.Namespace, end: float, part: str) -> list[dict]:
    """Run one part in a process of its own; return its results, and what stopped it."""
    way, seconds = WAYS.get(part.partition(".")[2]), end - default_timer()
    why_not = way.why_not(args.rehearse, host().comfyui) if way else ""
    if why_not or seconds < LEAST:
        return [{"part": part, "what": part, "skipped": why_not or f"{max(seconds, 0):.0f} seconds were left for it"}]
    path, log = (args.output / "gpu" / f"{part}.{kind}" for kind in ("jsonl", "log"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "gpu_parts", part, "--results", str(path.resolve()), "--seconds", str(seconds)]
    command += ["--rehearse"] if args.rehearse else []
    command += ["--incumbent", str(args.incumbent.resolve())] if args.incumbent else []
    stopped = wait(command, log, seconds + GRACE)
    results = [json.loads(one) for one in path.read_text(encoding="utf-8").splitlines()]
    if stopped:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        results.append({"part": part, "what": part, "error": " ".join([stopped, *last])})
    return results


def wait(command: list[str], log: Path, seconds: float) -> str:
    """Run a command with its output in a file; return in words why it did not end well, or nothing."""
    try:
        with log.open("wb") as output:
            code = subprocess.run(command, cwd=TOOLS, stdout=output, stderr=output, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return f"It was stopped after {seconds:.0f} seconds."
    return f"It ended with {code}." if code else ""


def write(args: argparse.Namespace, about: dict[str, str], results: list[dict]) -> None:
    """Write all results as JSON, and as Markdown what docs/measurements.md has room for."""
    rows = [f"| {one['what']} | `make gpu` | {one['figure']} |" for one in results if "figure" in one]
    page = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    page += ["| what | by | figure |", "|---|---|---|", *rows]
    for kind, title in (("skipped", "Left out"), ("error", "Failed")):
        page += [f"\n{title}:\n", *own] if (own := [line(one) for one in results if kind in one]) else []
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "gpu.json").write_text(json.dumps({"about": about, "results": results}, indent=1), encoding="utf-8")
    (args.output / "gpu.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"{page[0]}\nwritten to {args.output / 'gpu.json'} and gpu.md")


def about_the_machine(rehearse: bool, comfyui: Path) -> dict[str, str]:
    if rehearse:
        machine = {"rehearsed on": "the CPU, with small models: these are no figures of a card"}
    else:
        card = torch.cuda.get_device_properties(0)
        machine = {"card": f"{card.name}, {card.total_memory / 2**30:.0f} GB, {card.major}.{card.minor}"}
    version = runpy.run_path(str(comfyui / "comfyui_version.py"))["__version__"]
    return {**machine, "torch": torch.__version__, "python": platform.python_version(), "ComfyUI": version}


def line(result: dict) -> str:
    [(kind, words)] = [(kind, result[kind]) for kind in TOLD if kind in result]
    return f"- {result['what']}: {'' if kind == 'figure' else f'{kind}: '}{words}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
