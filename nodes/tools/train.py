"""The Train IPAdapter-Instruct node."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...models.files.encoder_files import VIT_H_HIDDEN_STATES, wrong_encoder
from ...models.messages import check_letters
from ...models.training.training_arguments import MIXED_PRECISIONS, NO, TrainingArguments
from ..shared.folders import adapter_path, fitting_encoder, listed_name, stamps_of
from ..shared.output_files import OutputFiles
from ..shared.schema import advanced, schema
from ..shared.sockets import CATEGORY, Adapter, instruct_clip_input
from ..shared.status_text import output_with_text

SCRATCH = "from scratch"
PREVIEW_SIDE = 512
MODEL_FOLDER = "ipadapter"
TRAINING_CACHE = "ipadapter-instruct-training"  # in ComfyUI's temporary folder
TRAINED = OutputFiles(".safetensors", "adapter", "brush strokes", saved=MODEL_FOLDER, save="Train IPAdapter-Instruct")


class IPAdapterInstructTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructTrain",
                display_name="Train IPAdapter-Instruct",
                category=f"{CATEGORY}/tools",
                description="Trains an adapter on what an instruction means, from a few pairs of images.",
                inputs=[
                    io.Model.Input("model", tooltip="The base model. It is frozen: only the adapter is trained."),
                    io.Clip.Input("clip", tooltip="The checkpoint's CLIP. Its CLIP-L reads the instruction."),
                    io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                    io.Image.Input("references", tooltip="The images to take something from, as one batch."),
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
                        "initial_adapter",
                        options=[SCRATCH, *folder_paths.get_filename_list(MODEL_FOLDER)],
                        default=SCRATCH,
                        tooltip="An IPAdapter-Instruct is trained further; a Plus adapter is given layers for texts.",
                    ),
                    io.Int.Input("steps", default=500, min=1, max=1_000_000, tooltip="Changes of the weights."),
                    io.Int.Input(
                        "batch_size", default=4, min=1, max=256, tooltip="Pairs a step. More need more memory."
                    ),
                    io.Float.Input(
                        "learning_rate",
                        default=1e-4,
                        min=1e-8,
                        max=0.1,
                        step=1e-8,
                        round=1e-9,
                        tooltip="1e-4 from scratch, about 1e-5 to train an adapter on one thing more.",
                    ),
                    io.Int.Input("seed", default=0, min=0, max=2**53, tooltip="The same seed trains the same adapter."),
                    io.String.Input(
                        "filename_prefix",
                        default="trained",
                        tooltip="Where in output/ipadapter. A number is added; no file is replaced.",
                    ),
                    io.ClipVision.Input(
                        "clip_vision", optional=True, tooltip="ViT-H. Without one, the file that fits is taken."
                    ),
                    instruct_clip_input("A CLIP with CLIP-L to read the instruction, where clip has none."),
                    advanced(
                        io.Combo.Input(
                            "mixed_precision",
                            options=list(MIXED_PRECISIONS),
                            default=NO,
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
                            tooltip="Steps between images made of the first reference. 0: none.",
                        )
                    ),
                ],
                outputs=[
                    Adapter.Output(display_name="adapter", tooltip="Connect it to Encode Instruct Prompt."),
                    io.Image.Output(display_name="loss_plot", tooltip="The loss of every step, and its running mean."),
                    io.String.Output(display_name="file_name", tooltip="The new file, as the loader lists it."),
                    io.LossMap.Output(display_name="loss_map", tooltip="The losses, for ComfyUI's Plot Loss Graph."),
                ],
                hidden=[io.Hidden.unique_id],
                is_output_node=True,
            ),
            search_aliases=["instruct train", "ip adapter training", "fine-tune", "teach", "finetune"],
        )

    @classmethod
    def validate_inputs(cls, initial_adapter=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, initial_adapter=None, **_):
        """Return the file's stamps: another file under the same name is another start."""
        return stamps_of(MODEL_FOLDER, None if initial_adapter == SCRATCH else initial_adapter)

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
        initial_adapter: str,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        filename_prefix: str,
        clip_vision=None,
        instruct_clip=None,
        mixed_precision: str = NO,
        preview_every: int = 100,
    ) -> io.NodeOutput:
        from ...models.encoding.encode import AdapterWithEncoders
        from ...models.encoding.loaded_adapter import LoadedAdapter
        from ...models.encoding.text_encoder import check_clip
        from ...models.training.dataset import Encoders
        from ...models.training.image_pairs import ImagePairs
        from ...models.training.loss_plot import loss_plot
        from ...models.training.training_setup import TrainingSetup

        check_clip(clip)
        pairs = ImagePairs.of_texts(references, targets, captions, instruction)
        arguments = TrainingArguments(
            steps,
            batch_size,
            learning_rate=learning_rate,
            lr_warmup_steps=min(100, steps // 10),
            mixed_precision=mixed_precision,
            seed=seed,
        )
        check_letters("filename_prefix", filename_prefix)
        path = TRAINED.next_path(filename_prefix, str(Path(folder_paths.get_output_directory(), MODEL_FOLDER)))
        encoder = _encoder_file(clip_vision)
        image_encoder = clip_vision if encoder is None else encoder.load()
        encoders = Encoders(clip, vae, image_encoder, pairs.resolution, instruct_clip)
        setup = TrainingSetup(model, encoders, pairs.pairs(), _initial(initial_adapter), arguments)
        losses = _train(cls, setup, path, preview_every)
        adapter = LoadedAdapter.read(path)
        name, recent = listed_name(MODEL_FOLDER, path), losses[-10:]
        lines = [
            f"{name} ({path.stat().st_size / 1e6:.1f} MB) for {adapter.family.title}",
            f"{len(references)} pairs, {steps} steps, loss {sum(recent) / len(recent):.4f}; at first {losses[0]:.4f}",
            "Refresh the page (R) to choose it in Load IPAdapter-Instruct.",
        ]
        with_encoders = AdapterWithEncoders(adapter, encoder, clip_vision, instruct_clip)
        return output_with_text(cls, lines, with_encoders, loss_plot(losses), name, {"loss": losses})


def _train(node, setup, path: Path, preview_every: int) -> list[float]:
    """Train, and return the losses. The adapter is written in the end, and when the run is stopped in between."""
    from ...models.adapter.write import write_adapter
    from ...models.files.tensor_cache import TensorCache
    from ...models.training.trainer import StepReport
    from ...models.training.validation import preview

    steps, losses = setup.arguments.max_train_steps, []
    bar = comfy.utils.ProgressBar(steps, node_id=node.hidden.unique_id)
    cache = TensorCache(Path(folder_paths.get_temp_directory(), TRAINING_CACHE))
    trainer = setup.trainer(cache, lambda done, count, what: bar.update_absolute(0, steps))

    def after_step(report: StepReport) -> None:
        losses.append(report.loss)
        image = None
        if preview_every and report.step % preview_every == 0 and report.step < steps:
            image = ("JPEG", preview(trainer, setup.encoders, setup.pairs[0], losses), PREVIEW_SIDE)
        bar.update_absolute(report.step, steps, image)
        mm.throw_exception_if_processing_interrupted()

    def save() -> None:
        note = f"in ComfyUI, {trainer.step} steps"
        write_adapter(trainer.trained_weights(), path, note, trainer.instructions)

    trainer.train(after_step, save)
    save()
    return losses


def _initial(name: str):
    from ...models.adapter.checkpoint import read_checkpoint
    from ...models.training.initial_checkpoint import Shape

    return Shape() if name == SCRATCH else read_checkpoint(adapter_path(name))


def _encoder_file(clip_vision):
    """Return the file that fits; None where an encoder is connected. Raises ValueError for another, or without any."""
    from ...models.encoding.image_encoder import check_encoder

    if clip_vision is not None:
        check_encoder(clip_vision, VIT_H_HIDDEN_STATES, "the connected one")
        return None
    encoder = fitting_encoder(VIT_H_HIDDEN_STATES)
    if encoder is None:
        missing = wrong_encoder("no .safetensors file in models/clip_vision is one", VIT_H_HIDDEN_STATES)
        raise ValueError(f"{missing} Or connect one.")
    return encoder
