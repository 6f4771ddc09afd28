"""A further kind of denoiser takes one class and one row in the table of families: its adapter samples and trains.

It is a small transformer with one cross-attention in each block, and is thrown away with the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_base import ModelType
from ipadapter_instruct.models.adapter.checkpoint import read_checkpoint, recognise
from ipadapter_instruct.models.adapter.trained_files import write_adapter
from ipadapter_instruct.models.attention_maps.record import watched
from ipadapter_instruct.models.denoisers.adapter_layers import SiteProjections, layer_shapes
from ipadapter_instruct.models.denoisers.cross_attention_patch import CrossAttentionPatch
from ipadapter_instruct.models.denoisers.denoiser import Denoiser, LayersInFile
from ipadapter_instruct.models.denoisers.model_view import DENOISER, Site, layer_size
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.families import FAMILIES, Family, Settings
from ipadapter_instruct.models.guidance.branches import Branches
from ipadapter_instruct.models.guidance.layer_weights import MIDDLE, Layer
from ipadapter_instruct.models.training.accelerator import Accelerator
from ipadapter_instruct.models.training.batch import Batch, Conditioning
from ipadapter_instruct.models.training.frozen_base import FrozenBase, trainable_family
from ipadapter_instruct.models.training.initial_checkpoint import Shape, from_scratch
from ipadapter_instruct.models.training.trainable_adapter import TrainableAdapter
from ipadapter_instruct.models.training.trainer import Trainer
from ipadapter_instruct.models.training.training_arguments import TrainingArguments
from support import small_models
from support.sampling.short_runs import close, same
from torch import Tensor, nn

WIDTH, CONTEXT, HEADS, BLOCKS = 32, 48, 2, 2
WEIGHT = 0.8

TINY = Family(
    name="tiny",
    title="Tiny",
    context_width=CONTEXT,
    denoiser="TinyTransformer",
    negative_reaches_resampler=True,
    published_file="tiny.bin",
    fitting_model="this test's transformer",
    settings=Settings(weight=WEIGHT, cfg=4.0, instruct_guidance=2.0, image_guidance=1.0),
    simple_words=(),
)


def tiny_denoiser() -> Denoiser:
    """All that the pack is told of the new kind."""

    class TinyDenoiser(Denoiser):
        name = TINY.denoiser
        attention = "the blocks' cross-attention"
        clip_type = "STABLE_DIFFUSION"
        replaces = "tiny"
        file_names = {"proj_out_tiny.": "proj_out."}
        own_tensor = "proj_out_tiny.weight"

        def matches(self, model):
            return hasattr(model.denoiser, "tiny_blocks")

        def sites(self, model):
            sizes = [
                (path, layer_size(model.before(f"{path}.to_k"))) for path in model.entries(f"{DENOISER}.tiny_blocks")
            ]
            return [Site(("block", n), width, context, path) for n, (path, (width, context)) in enumerate(sizes)]

        def layers(self, sites):
            return [Layer(number, 0, MIDDLE) for number in range(len(sites))]

        def first_layer(self, model):
            return model.pixels_in

        def read_layers(self, tensors):
            shapes = layer_shapes(tensors, SiteProjections.layers, "0.to_k_ip.weight")
            widths = {number: shape[0] for number, shape in shapes.items()}
            return [LayersInFile(partial(SiteProjections, widths, CONTEXT), tensors, CONTEXT)]

        def site_widths(self, sites):
            return {number: site.width for number, site in enumerate(sites)}

        def new_layers(self, sites, model, generator):
            module = SiteProjections(self.site_widths(sites), CONTEXT)
            for weight in module.parameters():
                nn.init.normal_(weight, std=0.2, generator=generator)
            return [module]

        def patch(self, site, adapters, rows, inner):
            return CrossAttentionPatch(site, adapters, rows, inner)

    return Denoiser._kinds[TinyDenoiser.name]


class TinyBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.to_q, self.to_out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.to_k, self.to_v = nn.Linear(CONTEXT, WIDTH), nn.Linear(CONTEXT, WIDTH)

    def forward(self, x: Tensor, context: Tensor, number: int, options: dict) -> Tensor:
        q, k, v = self.to_q(self.norm(x)), self.to_k(context), self.to_v(context)
        replace = options.get("patches_replace", {}).get("tiny", {}).get(("block", number))
        options = {**options, "n_heads": HEADS, "attn_precision": None}
        out = replace(q, k, v, options) if replace else optimized_attention(q, k, v, HEADS, transformer_options=options)
        return x + self.to_out(out)


class TinyTransformer(nn.Module):
    """Latents [R, 4, h, w] pixel by pixel, which look at the text alone."""

    def __init__(self, dtype=None, device=None, operations=None):
        super().__init__()
        self.dtype = dtype
        self.pixels_in, self.pixels_out = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.tiny_blocks = nn.ModuleList(TinyBlock() for _ in range(BLOCKS))

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **kwargs):
        options = {**(transformer_options or {}), "activations_shape": x.shape}
        rows = self.pixels_in(x.flatten(2).transpose(1, 2)) + timesteps[:, None, None] / 1000
        for number, block in enumerate(self.tiny_blocks):
            rows = block(rows, context, number, options)
        return self.pixels_out(rows).transpose(1, 2).reshape(x.shape)


@dataclass(frozen=True)
class Tiny:
    model: object
    adapter: LoadedAdapter
    embeds: InstructEmbeds


@pytest.fixture(scope="module")
def tiny():
    with torch.inference_mode(False):
        kind = tiny_denoiser()
        FAMILIES.append(TINY)
        config = comfy.supported_models.SD15({"dtype": torch.float32})
        config.unet_config = {"dtype": torch.float32}
        model = comfy.model_base.BaseModel(config, ModelType.EPS, device="cpu", unet_model=TinyTransformer)
        made = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in model.diffusion_model.parameters():
                weight.normal_(0, 0.2, generator=made)
        patcher = comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))
        base = FrozenBase(patcher, trainable_family(patcher))
        tensors = from_scratch(base, Shape(tokens=4, width=64, blocks=1), 0)
    adapter = LoadedAdapter("tiny.safetensors", recognise(tensors))
    tokens = Branches(*(torch.randn(1, 4, CONTEXT, generator=made) for _ in range(4)))
    yield Tiny(patcher, adapter, InstructEmbeds(adapter, "use the style", tokens))
    FAMILIES.remove(TINY)
    del Denoiser._kinds[kind.name]


def latent(model) -> Tensor:
    texts = [[[torch.randn(1, 77, CONTEXT, generator=torch.Generator().manual_seed(n)), {}]] for n in (2, 3)]
    noise = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(5))
    return comfy.sample.sample(model, noise, 3, 4.0, "euler", "normal", *texts, torch.zeros_like(noise), seed=1)


def written_out(tiny: Tiny):
    """The model with equation 5 of arXiv 2308.06721 written out, in ComfyUI's own two branches."""
    model, tokens = tiny.model.clone(), (tiny.embeds.image_tokens.full, tiny.embeds.image_tokens.uncond)

    def attention(layers):
        def replace(q, k, v, options):
            image = torch.cat([tokens[side] for side in options["cond_or_uncond"]])
            keys, values = layers.to_k_ip(image), layers.to_v_ip(image)
            return optimized_attention(q, k, v, HEADS) + WEIGHT * optimized_attention(q, keys, values, HEADS)

        return replace

    for number, layers in enumerate(tiny.adapter.projections.children()):
        model.set_model_patch_replace(attention(layers), "tiny", "block", number)
    return model


def test_its_adapter_acts_as_the_formula_says_and_is_nothing_at_weight_0(tiny):
    found = latent(small_models.applied(tiny.model, tiny.embeds, weight=WEIGHT, guidance="simple"))
    close(found, latent(written_out(tiny)), 1e-5)
    bare = latent(tiny.model)
    assert not torch.allclose(found, bare, atol=0.01)
    same(latent(small_models.applied(tiny.model, tiny.embeds, weight=0.0)), bare)


def test_guidance_windows_masks_and_maps_work_there_too(tiny):
    halves = small_models.applied(tiny.model, tiny.embeds, end_percent=0.5, guidance="three-way")
    halves = small_models.applied(halves, tiny.embeds, start_percent=0.501, guidance="three-way")
    whole = small_models.applied(tiny.model, tiny.embeds, guidance="three-way")
    close(latent(halves), latent(whole))
    mask = torch.zeros(1, 8, 12)
    mask[..., :6] = 1
    masked, unmasked = (
        latent(small_models.applied(tiny.model, tiny.embeds, where, guidance="simple")) for where in (mask, None)
    )
    close(masked[..., :6], unmasked[..., :6])  # pixels do not look at each other
    close(masked[..., 6:], latent(tiny.model)[..., 6:])
    model, watch = watched(whole)
    latent(model)
    assert watch.mean().shape == (1, 1, 8, 12) and len(watch.over_blocks()) == BLOCKS


def test_a_model_of_another_kind_is_told_apart(tiny):
    with pytest.raises(ValueError, match="This adapter is for Tiny.*is not Tiny's TinyTransformer"):
        small_models.applied(small_models.small_model("sd15"), tiny.embeds)


class Examples:
    """Always the same examples."""

    def __init__(self):
        made = torch.Generator().manual_seed(7)
        hidden_states, text = torch.randn(2, 5, 1280, generator=made), torch.randn(2, 77, 768, generator=made)
        given = Conditioning(hidden_states, text, text, torch.randn(2, 77, CONTEXT, generator=made), None)
        self.given = Batch(torch.randn(2, 4, 8, 12, generator=made), given)
        self.unconditional = Conditioning(
            *(part[:1] * 0 if part is not None else None for part in vars(given).values())
        )

    def batch(self, count: int, generator: torch.Generator) -> Batch:
        return self.given


def test_its_adapter_is_trained_and_is_known_by_its_file(tiny, tmp_path):
    with torch.inference_mode(False):
        base = FrozenBase(tiny.model, TINY)
        start = recognise(from_scratch(base, Shape(tokens=4, width=64, blocks=1), 0))
        never = dict.fromkeys(("t_drop_rate", "i_drop_rate", "ti_drop_rate", "lr_warmup_steps", "ema_decay"), 0)
        arguments = TrainingArguments(max_train_steps=30, batch_size=2, learning_rate=1e-2, **never)
        trainer = Trainer(TrainableAdapter(start), base, Examples(), arguments, Accelerator())
        before = {name: weight.clone() for name, weight in tiny.model.model.state_dict().items()}
        losses = [report.loss for report in trainer.steps()]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.model.model.state_dict().items())
    path = tmp_path / "trained.safetensors"
    write_adapter(trainer.trained_weights(), path, "a test")
    assert read_checkpoint(path).family is TINY
    assert "image_proj.proj_out_tiny.weight" in trainer.trained_weights()
