"""Run a shipped workflow from end to end on a real ComfyUI without a browser.

    make demo FAMILY=sdxl        or, after make setup: PYTHONPATH=tools python -m comfyhost.demo --help

`make demo` alone is `drawn_world.demo`. The workflow is queued as it lies in its file, but smaller, since this is for
the CPU too. Dropped on ComfyUI's page, the picture that is left in output/ opens it.
"""

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ipadapter_instruct.commands.servers.api_prompt import input_definitions, read_workflow, to_prompt
from ipadapter_instruct.commands.servers.client import Client, ClientError, Progress, Run
from ipadapter_instruct.commands.servers.graph import describe
from PIL import Image, UnidentifiedImageError

from comfyhost.install import exit_code, say
from comfyhost.places import REPO_ROOT, Host, ToolError, host
from comfyhost.server import ComfyServer, end_on_terminate
from comfyhost.standins import SUFFIXES, put_in_place, write_photo

SIZE, STEPS = 256, 8  # seconds a step on a processor, where 512 takes half a minute
EMPTY_LATENTS = ("EmptyLatentImage", "EmptySD3LatentImage")
OVERRIDES = {
    "checkpoint": (("CheckpointLoaderSimple",), "ckpt_name"),
    "adapter": (("IPAdapterInstructLoader",), "adapter_name"),
    "instruction": (("IPAdapterInstructEncode",), "instruction"),
    "steps": (("KSampler", "IPAdapterInstructGrid"), "steps"),
    "width": (EMPTY_LATENTS, "width"),
    "height": (EMPTY_LATENTS, "height"),
}
ADVICE = (
    "If the message gives no advice of its own: check the options and the model files. "
    "`make serve` opens the same ComfyUI in a browser, where the workflow is a template of the pack."
)
PARTS = {  # of a run, by types of nodes; what is of none is said as the rest
    "loading": ("CheckpointLoaderSimple", "CLIPLoader", "TripleCLIPLoader", "IPAdapterInstructLoader"),
    "encoding reference and texts": ("IPAdapterInstructEncode",),
    "applying": ("IPAdapterInstructApply",),
    "sampling": ("KSampler",),
    "decoding": ("VAEDecode",),
}
SHEETS = ("IPAdapterInstructGrid", "IPAdapterInstructLabelGrid")  # make pictures of other sizes than the latent's


@dataclass(frozen=True)
class Stage:
    """A demo's setting. workflow: made of what the server says of its nodes. write_picture: what LoadImage gets."""

    comfyui: Host
    workflow: Callable[[Mapping[str, dict]], dict]
    write_picture: Callable[[Path], None] = write_photo


def main(arguments: Sequence[str] | None = None) -> int:
    return reporting(lambda: run_demo(parse(arguments)))


def reporting(run: Callable[[], None]) -> int:
    """Run a command, say what went wrong, and return the exit code."""
    end_on_terminate()
    return exit_code(run, f"\nThe demo failed. {{}}\n{ADVICE}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="comfyhost.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--family", default="sd15", help="sd15, sdxl or sd3: runs workflows/instruct_FAMILY.json")
    parser.add_argument("--workflow", type=Path, help="another workflow file")
    parser.add_argument("--output", type=Path, help="where the picture goes (output/demo-FAMILY.png)")
    parser.add_argument("--checkpoint", help="another file of models/checkpoints")
    parser.add_argument("--adapter", help="another file of models/ipadapter")
    parser.add_argument("--instruction", help='for example "use the pose"')
    parser.add_argument("--steps", type=int, default=STEPS, help=f"sampling steps ({STEPS})")
    parser.add_argument("--size", type=int, default=SIZE, help=f"side of the picture ({SIZE})")
    parser.add_argument("--as-shipped", action="store_true", help="the workflow's own steps and size")
    return parser.parse_args(arguments)


def run_demo(options: argparse.Namespace) -> None:
    begin = time.monotonic()
    path = options.workflow or REPO_ROOT / "workflows" / f"instruct_{options.family}.json"
    workflow = workflow_at(path)
    output = (options.output or REPO_ROOT / "output" / f"demo-{options.family}.png").absolute()
    size = f"{options.size} x {options.size} pixels in {options.steps} steps"
    say(f"Demo: {path.name} on a real ComfyUI, {'as shipped' if options.as_shipped else size}. Picture: {output}")
    if not host().users_own:
        say("The models are stand-ins with random weights, so it will be noise. COMFYUI_PATH=... uses your own.")
    put_in_place(options.family)
    perform(Stage(host(), lambda _: workflow), changes_of(options), output, begin)


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    changes = {name: getattr(options, name) for name in ("checkpoint", "adapter", "instruction")}
    smaller = {"steps": options.steps, "width": options.size, "height": options.size}
    return changes if options.as_shipped else {**changes, **smaller}


def perform(stage: Stage, changes: Mapping[str, Any], output: Path, begin: float) -> None:
    """Run the stage's workflow with these changes on a server of its own; save the picture and report."""
    say("Starting ComfyUI")
    with ComfyServer(stage.comfyui) as server, Client(server.url) as client:
        say(f"It answers after {time.monotonic() - begin:.0f} s")
        workflow = stage.workflow(client.object_info())
        prompt = prepare(workflow, client, changes, stage.write_picture)
        queued = time.monotonic()
        try:
            run = client.run(prompt, ProgressLine(prompt), timeout=900, workflow=workflow)
        except ClientError:
            say(f"\n{server.log_tail()}")  # before the error, which ends with what to do
            raise
        pictures = [image for image in run.images() if image["type"] == "output"]
        if not pictures:
            raise ToolError("The workflow saved no picture. It needs a SaveImage node that is not muted.")
        picture = client.download(pictures[0])
        in_all = time.monotonic() - queued
    check_picture(picture, latent_size(prompt))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(picture)
    report(prompt, run, output, in_all)
    print(f"all together, the server's start included: {time.monotonic() - begin:.1f} s")


def workflow_at(path: Path) -> dict:
    if not path.is_file():
        shipped = sorted(file.name for file in (REPO_ROOT / "workflows").glob("*.json"))
        raise ToolError(f"There is no {path}. Shipped are: {', '.join(shipped) or 'none'}.")
    return read_workflow(path)


def prepare(
    workflow: dict, client: Client, changes: Mapping[str, Any], write_picture: Callable[[Path], None] = write_photo
) -> dict:
    object_info = client.object_info()
    prompt = to_prompt(workflow, object_info)
    override(prompt, changes)
    upload_pictures(prompt, client, write_picture)
    use_present_files(prompt, object_info, workflow)
    return prompt


def override(prompt: dict, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        if value is None:
            continue
        class_types, input_name = OVERRIDES[name]
        nodes = of_type(prompt, *class_types)
        if not nodes:
            raise ToolError(
                f"The {name} cannot be set: the workflow has no {' or '.join(class_types)} node. "
                "Leave the option out, or use --as-shipped."
            )
        for node in nodes.values():  # an instruction counts when the task is "own words"
            node["inputs"] |= {input_name: value, **({"task": "own words"} if name == "instruction" else {})}


def of_type(prompt: dict, *class_types: str) -> dict[str, dict]:
    return {node_id: node for node_id, node in prompt.items() if node["class_type"] in class_types}


def upload_pictures(prompt: dict, client: Client, write_picture: Callable[[Path], None]) -> None:
    """Give every LoadImage node the picture, under the name that the workflow uses."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_picture(picture)
        for node in of_type(prompt, "LoadImage").values():
            node["inputs"]["image"] = client.upload_image(picture, node["inputs"]["image"])


def use_present_files(prompt: dict, object_info: dict, workflow: dict) -> None:
    """Take a model file with another suffix where the named one is not there; without either, say what to get.

    The files are those that the workflow's nodes list in `properties.models`.
    """
    for node in workflow["nodes"]:
        files = {file["name"]: file for file in node.get("properties", {}).get("models", [])}
        inputs = prompt.get(str(node["id"]), {"inputs": {}})["inputs"]
        for name in [name for name, value in inputs.items() if isinstance(value, str) and value in files]:
            file, there = files[inputs[name]], choices(object_info[node["type"]], name)
            stem = PurePosixPath(file["name"]).with_suffix("")
            alike = [one for one in there if one.endswith(SUFFIXES) and PurePosixPath(one).with_suffix("") == stem]
            if file["name"] not in there and not alike:
                raise ToolError(
                    f"{describe(node)} asks for {file['name']}, which is not there (there are: "
                    f"{', '.join(there) or 'none'}). Get {file['url']} and put it under that name into "
                    f"models/{file['directory']}."
                )
            inputs[name] = file["name"] if file["name"] in there else alike[0]


def choices(definition: dict, name: str) -> list[str]:
    return next((options["options"] for one, _, options in input_definitions(definition) if one == name), [])


class ProgressLine:
    """One line on the terminal: the node at work and its steps. Without a terminal, a line for each node."""

    def __init__(self, prompt: dict):
        self.titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
        self.terminal = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        line = self.title(progress.node_id)
        if progress.maximum:
            line += f", step {progress.value:.0f}/{progress.maximum:.0f}"
        if self.terminal:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        elif not progress.maximum or progress.value == progress.maximum:
            say(line)

    def title(self, node_id: str) -> str:
        """A node's title; for one that another node made of itself while it ran, that node's title and its type."""
        maker, *made = node_id.split(".")
        title = self.titles.get(maker, maker)
        return f"{title}: {made[-1].partition('-')[0]}" if made else title


def latent_size(prompt: dict) -> tuple[int, int] | None:
    """The width and height that the prompt asks for; None when it starts from no empty latent, or makes a sheet."""
    latents = () if of_type(prompt, *SHEETS) else of_type(prompt, *EMPTY_LATENTS).values()
    return next(((node["inputs"]["width"], node["inputs"]["height"]) for node in latents), None)


def check_picture(content: bytes, size: tuple[int, int] | None) -> None:
    """Raise ToolError unless this is a picture of that size that shows something."""
    try:
        picture = Image.open(io.BytesIO(content)).convert("RGB")
    except UnidentifiedImageError as error:
        raise ToolError(f"What the server handed out is no picture ({error}). Its log may say why.") from error
    if size and picture.size != tuple(size):
        raise ToolError(f"The picture should be {size[0]} x {size[1]}, but is {picture.size[0]} x {picture.size[1]}.")
    if all(low == high for low, high in picture.getextrema()):
        raise ToolError("The picture is one flat colour: not-a-number values on the way. Check the model files.")


def report(prompt: dict, run: Run, output: Path, seconds: float) -> None:
    """Say where the picture is, what `auto` chose, and what took how much of the seconds from queue to picture."""
    print(file=sys.stderr)
    print(f"picture: {output}")
    for node_id, node in of_type(prompt, "IPAdapterInstructApply").items():
        for line in run.outputs.get(node_id, {}).get("text", []):
            print(f"{node['_meta']['title']}: {line}")
    print(f"from queue to picture: {seconds:.1f} s, of them {parts_of(prompt, run, seconds)}")


def parts_of(prompt: dict, run: Run, seconds: float) -> str:
    """Return the seconds of each part in words, such as "sampling 3.2 s, rest 0.1 s"."""
    spent = {
        what: sum(run.seconds.get(node_id, 0.0) for node_id in of_type(prompt, *class_types))
        for what, class_types in PARTS.items()
    }
    spent["the sheet's cells"] = sum(one for node_id, one in run.seconds.items() if node_id not in prompt)
    spent["rest"] = max(seconds - sum(spent.values()), 0.0)
    return ", ".join(f"{what} {one:.2f} s" for what, one in spent.items() if one)


if __name__ == "__main__":
    sys.exit(main())
