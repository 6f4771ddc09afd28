"""The Train IPAdapter-Instruct node."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io
from PIL import Image

from ...models.messages import check_letters, shown
from ...models.training.recipe import ARITHMETICS
from ..shared.folders import adapter_path, paths_in, stamps_of
from ..shared.schema import advanced, schema
from ..shared.sockets import CATEGORY, Adapter, instruct_clip_input
from ..shared.status_text import output_with_text

SCRATCH = "from scratch"
PREVIEW_SIDE = 512
STATES = "ipadapter-instruct-states"  # in ComfyUI's temporary folder


class IPAdapterInstructTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructTrain",
                display_name="Train IPAdapter-Instruct",
                category=f"{CATEGORY}/tools",
                description="Teaches an adapter what an instruction means, from a few pairs of pictures.",
                inputs=[
                    io.Model.Input("model", tooltip="The base model. It stays as it is: only the adapter learns."),
                    io.Clip.Input("clip", tooltip="The checkpoint's CLIP. Its CLIP-L reads the instruction."),
                    io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                    io.Image.Input("references", tooltip="The pictures to take something from, as one batch."),
                    io.Image.Input("targets", tooltip="What should come out of each, in the same order, as one batch."),
                    io.String.Input(
                        "instruction",
                        default="use the brush strokes",
                        multiline=True,
                        tooltip="What is taken from the reference. A single line is said in other words, too.",
                    ),
                    io.String.Input(
                        "captions",
                        default="",
                        multiline=True,
                        tooltip="What the targets show, without what is taken: a line for each, or one for all.",
                    ),
                    io.Combo.Input(
                        "start",
                        options=[SCRATCH, *folder_paths.get_filename_list("ipadapter")],
                        default=SCRATCH,
                        tooltip="An IPAdapter-Instruct goes on learning; a Plus adapter learns to read instructions.",
                    ),
                    io.Int.Input("steps", default=500, min=1, max=1_000_000, tooltip="Changes of the weights."),
                    io.Int.Input("batch", default=4, min=1, max=256, tooltip="Pairs a step. More need more memory."),
                    io.Float.Input(
                        "rate",
                        default=1e-4,
                        min=1e-8,
                        max=0.1,
                        step=1e-8,
                        round=1e-9,
                        tooltip="Learning rate. 1e-4 from scratch, about 1e-5 to teach an adapter one thing more.",
                    ),
                    io.Int.Input("seed", default=0, min=0, max=2**53, tooltip="The same seed learns the same."),
                    io.String.Input(
                        "filename_prefix",
                        default="taught",
                        tooltip="Of the file in output/ipadapter. A number is added; no file is replaced.",
                    ),
                    io.ClipVision.Input(
                        "clip_vision", optional=True, tooltip="ViT-H. Without one, the file that fits is taken."
                    ),
                    advanced(
                        io.Combo.Input(
                            "arithmetic",
                            options=list(ARITHMETICS),
                            default=ARITHMETICS[0],
                            optional=True,
                            tooltip="bf16 is quicker and takes less memory on cards that have it.",
                        )
                    ),
                    advanced(
                        io.Int.Input(
                            "preview_every",
                            default=100,
                            min=0,
                            max=1_000_000,
                            optional=True,
                            tooltip="Steps between pictures made of the first reference. 0: none.",
                        )
                    ),
                    instruct_clip_input("A CLIP with CLIP-L to read the instruction, where clip has none."),
                ],
                outputs=[
                    Adapter.Output(display_name="adapter", tooltip="Connect it to Encode Instruct Prompt."),
                    io.Image.Output(display_name="loss_plot", tooltip="The loss of every step, and its running mean."),
                    io.String.Output(display_name="file_name", tooltip="The new file, as the loader lists it."),
                ],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            ),
            search_aliases=["instruct train", "ip adapter training", "fine-tune", "teach", "finetune"],
        )

    @classmethod
    def validate_inputs(cls, start=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, start=None, **_):
        """Return the file's stamps: another file under the same name is another start."""
        return stamps_of("ipadapter", None if start == SCRATCH else start)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        references,
        targets,
        instruction: str,
        captions: str,
        start: str,
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        filename_prefix: str,
        clip_vision=None,
        arithmetic: str = ARITHMETICS[0],
        preview_every: int = 100,
        instruct_clip=None,
    ) -> io.NodeOutput:
        from ...models.encoding.text_encoder import check_clip
        from ...models.training.dataset import Encoders
        from ...models.training.loss_plot import loss_plot
        from ...models.training.recipe import Recipe
        from ...models.training.small_dataset import SmallSet, SmallTeaching, captions_of, lines_of

        check_clip(clip)
        small_set = SmallSet(references, targets, tuple(captions_of(captions)), lines_of(instruction))
        recipe = Recipe(steps, batch, rate=rate, warm_up=min(100, steps // 10), arithmetic=arithmetic, seed=seed)
        target = _next_file(filename_prefix)
        encoder = _image_encoder(clip_vision)
        clip_vision = clip_vision if encoder is None else encoder.load()
        encoders = Encoders(clip, vae, clip_vision, small_set.size, instruct_clip)
        run = SmallTeaching(model, encoders, small_set, _start(start), recipe)
        losses = _taught(cls, run, recipe, target, preview_every)
        adapter = _adapter(target, encoder)
        recent = sum(losses[-10:]) / len(losses[-10:])
        lines = [
            f"{target.name} ({target.stat().st_size / 1e6:.1f} MB) for {run.base.family.title}",
            f"{len(references)} pairs, {steps} steps, loss {recent:.4f}; at first {losses[0]:.4f}",
            "Refresh the page (R) to choose it in Load IPAdapter-Instruct.",
        ]
        return output_with_text(cls, lines, adapter, loss_plot(losses), target.name)


def _taught(node, run, recipe, target: Path, preview_every: int) -> list[float]:
    """Teach, and return the losses. The adapter is written in the end, and when the run is stopped in between."""
    from ...models.training.loss_plot import loss_plot
    from ...models.training.trainer import TeachingError
    from ...models.training.validation import fitted

    bar = comfy.utils.ProgressBar(recipe.steps, node_id=node.hidden.unique_id)
    states = Path(folder_paths.get_temp_directory()) / STATES
    losses: list[float] = []

    def encoding(done: int, count: int, what: str) -> None:
        bar.update_absolute(0, recipe.steps)

    try:
        for report in run.run(states, encoding):
            losses.append(report.loss)
            preview = None
            if preview_every and report.step % preview_every == 0 and report.step < recipe.steps:
                plot = loss_plot(losses)[0]
                sample = fitted(run.sample(), (plot.shape[0], plot.shape[1]))
                preview = _preview(torch.cat([sample, plot], 1))
            bar.update_absolute(report.step, recipe.steps, preview)
            mm.throw_exception_if_processing_interrupted()
    except (TeachingError, mm.InterruptProcessingException):
        if losses:
            _write(run, target)
        raise
    _write(run, target)
    return losses


def _write(run, target: Path) -> None:
    from ...models.adapter.write import write_adapter

    note = f"taught in ComfyUI, {run.teaching.step} steps"
    write_adapter(run.teaching.averaged(), target, note, run.teaching.instructions)


def _preview(picture: torch.Tensor) -> tuple:
    return "JPEG", Image.fromarray((picture * 255).round().to(torch.uint8).cpu().numpy()), PREVIEW_SIDE


def _start(name: str):
    from ...models.adapter.checkpoint import read_checkpoint
    from ...models.training.initial_checkpoint import Shape

    return Shape() if name == SCRATCH else read_checkpoint(adapter_path(name))


def _image_encoder(clip_vision):
    """Return the file in models/clip_vision that fits; None where a connected encoder does. Raises ValueError."""
    from ...models.encoding.image_encoder import EncoderFile, check_encoder
    from ...models.files.encoder_files import EncoderNeed, find_encoder, wrong_encoder
    from ...models.training.initial_checkpoint import IMAGE_WIDTH

    need = EncoderNeed(IMAGE_WIDTH, pooled=False)
    if clip_vision is not None:
        check_encoder(clip_vision, need, "the connected one")
        return None
    paths = paths_in("clip_vision")
    found = find_encoder(paths.items(), need)
    if found is None:
        raise ValueError(f"{wrong_encoder('no .safetensors file in models/clip_vision is one', need)} Or connect one.")
    return EncoderFile(found, paths[found])


def _adapter(path: Path, encoder):
    from ...models.encoding.encode import AdapterWithEncoders
    from ...models.encoding.loaded_adapter import LoadedAdapter

    return AdapterWithEncoders(LoadedAdapter.read(path), encoder)


def _next_file(prefix: str) -> Path:
    """Return the next name of this prefix in output/ipadapter. Raises ValueError for a prefix that is no file name."""
    check_letters("filename_prefix", prefix)
    name = prefix.strip()
    if not name.strip(".") or os.path.basename(name) != name or "\\" in name or "\0" in name:
        raise ValueError(
            f"filename_prefix was expected to be a file's name without a folder; it is {shown(prefix)}. Write one, "
            "such as taught."
        )
    folder = Path(folder_paths.get_output_directory()) / "ipadapter"
    numbers = range(1, 100_000)
    return next(path for n in numbers if not (path := folder / f"{name}_{n:05d}.safetensors").exists())
