"""The Train IPAdapter-Instruct node."""

from pathlib import Path

import comfy.model_management as mm
import comfy.utils
import folder_paths
from comfy_api.latest import io

from ...models.files.encoder_files import VIT_H_HIDDEN_STATES
from ...models.messages import check_letters
from ...models.training.training_arguments import MIXED_PRECISIONS, NO, TrainingArguments
from ..shared.folders import adapter_path, fitting_encoder, listed_name, stamps_of
from ..shared.output_files import OutputFiles
from ..shared.pair_folders import pair_folder, pair_folders, stamp_of_pairs
from ..shared.schema import CATEGORY, Adapter, Schema, advanced, instruct_clip_input
from ..shared.status_text import output_with_text

SCRATCH = "from scratch"
CONNECTED = "connected images"
PREVIEW_SIDE = 512
MODEL_FOLDER = "ipadapter"
TRAINING_CACHE = "ipadapter-instruct-training"  # in ComfyUI's temporary folder
TRAINED = OutputFiles(".safetensors", "adapter", "brush strokes", saved=MODEL_FOLDER, save="Train IPAdapter-Instruct")


class IPAdapterInstructTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructTrain",
            category=f"{CATEGORY}/tools",
            inputs=[
                io.Model.Input("model"),
                io.Clip.Input("clip"),
                io.Vae.Input("vae"),
                io.String.Input("instruction", default="use the brush strokes", multiline=True),
                io.String.Input("captions", default="", multiline=True),
                io.Combo.Input(
                    "initial_adapter", options=[SCRATCH, *folder_paths.get_filename_list(MODEL_FOLDER)], default=SCRATCH
                ),
                io.Int.Input("steps", default=500, min=1, max=1_000_000),
                io.Int.Input("batch_size", default=4, min=1, max=256),
                io.Float.Input("learning_rate", default=1e-4, min=1e-8, max=0.1, step=1e-8, round=1e-9),
                io.Int.Input("seed", default=0, min=0, max=2**53),
                io.String.Input("filename_prefix", default="trained"),
                io.Image.Input("references", optional=True),
                io.Image.Input("targets", optional=True),
                io.ClipVision.Input("clip_vision", optional=True),
                instruct_clip_input(),
                advanced(io.Combo.Input("mixed_precision", options=list(MIXED_PRECISIONS), default=NO, optional=True)),
                advanced(io.Int.Input("preview_every", default=100, min=0, max=1_000_000, optional=True)),
                io.Combo.Input("pairs", options=[CONNECTED, *pair_folders()], default=CONNECTED, optional=True),
            ],
            outputs=[
                Adapter.Output(display_name="adapter"),
                io.Image.Output(display_name="loss_plot"),
                io.String.Output(display_name="file_name"),
                io.LossMap.Output(display_name="loss_map"),
            ],
            is_output_node=True,
            search_aliases=["instruct train", "ip adapter training", "fine-tune", "teach", "finetune"],
        )

    @classmethod
    def validate_inputs(cls, initial_adapter=None, pairs=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, initial_adapter=None, pairs=CONNECTED, **_):
        """Return the files' stamps: another file under the same name is another start, as are other pairs."""
        return stamps_of(MODEL_FOLDER, None if initial_adapter == SCRATCH else initial_adapter), stamp_of_pairs(pairs)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        instruction: str,
        captions: str,
        initial_adapter: str,
        steps: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        filename_prefix: str,
        references=None,
        targets=None,
        clip_vision=None,
        instruct_clip=None,
        mixed_precision: str = NO,
        preview_every: int = 100,
        pairs: str = CONNECTED,
    ) -> io.NodeOutput:
        from ...models.adapter.checkpoint import read_checkpoint
        from ...models.encoding.encode import AdapterWithEncoders, chosen_encoder
        from ...models.encoding.loaded_adapter import LoadedAdapter
        from ...models.encoding.text_encoder import check_clip
        from ...models.training.dataset import Encoders
        from ...models.training.initial_checkpoint import Shape
        from ...models.training.loss_plot import loss_plot
        from ...models.training.trainer import TrainingSetup

        check_clip(clip)
        trained_on, resolution = _pairs_and_resolution(pairs, references, targets, captions, instruction)
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
        encoder = None if clip_vision is not None else fitting_encoder(VIT_H_HIDDEN_STATES)
        image_encoder = chosen_encoder(encoder, clip_vision, VIT_H_HIDDEN_STATES)
        encoders = Encoders(clip, vae, image_encoder, resolution, instruct_clip)
        initial = Shape() if initial_adapter == SCRATCH else read_checkpoint(adapter_path(initial_adapter))
        setup = TrainingSetup(model, encoders, trained_on, initial, arguments)
        losses = _train(cls, setup, path, preview_every)
        adapter = LoadedAdapter.read(path)
        name, recent = listed_name(MODEL_FOLDER, path), losses[-10:]
        lines = [
            f"{name} ({path.stat().st_size / 1e6:.1f} MB) for {adapter.family.title}",
            f"{len(trained_on)} pairs, {steps} steps, loss {sum(recent) / len(recent):.4f}; at first {losses[0]:.4f}",
            "Refresh the page (R) to choose it in Load IPAdapter-Instruct.",
        ]
        with_encoders = AdapterWithEncoders(adapter, encoder, clip_vision, instruct_clip)
        return output_with_text(cls, lines, with_encoders, loss_plot(losses), name, {"loss": losses})


def _pairs_and_resolution(folder: str, references, targets, captions: str, instruction: str):
    """Return the pairs of a folder, or of the images that are connected, and the height and width to train at.

    Raises ValueError where there is neither or both.
    """
    from ...models.training.image_pairs import image_pairs, resolution_of
    from ...models.training.pairs import read_pairs

    if folder == CONNECTED:
        if references is None or targets is None:
            raise ValueError(
                "References and targets were expected, or a folder in pairs; there are none. Connect two batches of "
                "images, or choose a folder that cli.py pairs wrote."
            )
        return image_pairs(references, targets, captions, instruction), resolution_of(targets)
    if references is not None or targets is not None:
        raise ValueError(
            f"Images or a folder were expected; both are there. Disconnect references and targets, or choose "
            f"{CONNECTED} in pairs."
        )
    found = read_pairs(pair_folder(folder))
    return found, resolution_of(found[0].target()[None])


def _train(node, setup, path: Path, preview_every: int) -> list[float]:
    """Train, and return the losses. The adapter is written in the end, and when the run is stopped in between."""
    from ...models.files.tensor_cache import TensorCache
    from ...models.training.validation import preview

    steps, losses = setup.arguments.max_train_steps, []
    bar = comfy.utils.ProgressBar(steps, node_id=node.hidden.unique_id)
    cache = TensorCache(Path(folder_paths.get_temp_directory(), TRAINING_CACHE))
    trainer = setup.trainer(cache, lambda done, count, what: bar.update_absolute(0, steps))

    def after_step(report) -> None:
        losses.append(report.loss)
        image = None
        if preview_every and report.step % preview_every == 0 and report.step < steps:
            image = ("JPEG", preview(trainer, setup.encoders, setup.pairs[0], losses), PREVIEW_SIDE)
        bar.update_absolute(report.step, steps, image)
        mm.throw_exception_if_processing_interrupted()

    trainer.train(after_step, lambda: trainer.write(path, "in ComfyUI"))
    trainer.write(path, "in ComfyUI")
    return losses
