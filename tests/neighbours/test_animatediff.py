"""Animations through AnimateDiff-Evolved: its context windows, without and with a motion model.

Expected are the oracle's results with the same nodes, or laws. `order` is where AnimateDiff's node stands to Apply.
"""

import pytest
import torch
from support import small_models
from support.golden_cases import golden_case
from support.other_nodes.other_packs import module_of, nodes_of, outputs_of
from support.other_nodes.with_other_node import CHAINS, applied_with, orders
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import OracleForm, PackForm, Scene
from support.sampling.short_runs import close, noise, same, sample

NAME = "ComfyUI-AnimateDiff-Evolved"
FRAMES, SIZE = 5, (8, 12)
WIDTHS = (32, 64, 128, 128)  # of the small UNet's levels


def options(node: str, **inputs):
    return outputs_of(nodes_of(NAME)[f"ADE_{node}ContextOptions"], **inputs)[0]


CONTEXTS = {
    "static": lambda: options("StandardStatic", context_length=3, context_overlap=1),
    "uniform": lambda: options("StandardUniform", context_length=3, context_stride=2, context_overlap=1),
    "looped": lambda: options("LoopedUniform", context_length=3, context_stride=1, context_overlap=1, closed_loop=True),
    "relative": lambda: options("StandardStatic", context_length=4, context_overlap=2, fuse_method="relative"),
    "batched": lambda: options("Batched", context_length=2),
    "one after another": lambda: options(
        "Batched", context_length=2, start_percent=0.5, prev_context=CONTEXTS["static"]()
    ),
    "all at once": lambda: None,
}


@pytest.fixture(params=CONTEXTS)
def context(request):
    return CONTEXTS[request.param]()


@pytest.fixture(scope="module")
def animation(bare):
    return noise(bare, FRAMES, *SIZE)


def in_windows(model, context, motion_models=None):
    node = nodes_of(NAME)["ADE_UseEvolvedSampling"]
    return outputs_of(node, model, "use existing", motion_models, context)[0]


def motion_models(model):
    """A motion model of the third version, as narrow as the small UNet and of random weights, for this model."""
    nodes = nodes_of(NAME)
    ade = module_of(NAME, "animatediff.motion_module_ad")
    attentions = (f"down_blocks.3.attention_blocks.{number}.pos_encoder.pe" for number in (0, 1))
    named = {name: torch.zeros(1, 32, 1) for name in (*attentions, "up_blocks.3")}
    info = ade.AnimateDiffInfo(type(model.model).__name__, "AnimateDiff", "v3", "small")
    with torch.device("meta"):
        motion = ade.AnimateDiffModel(named, info)  # of the published widths
    blocks = {
        "down": [ade.MotionModule(width, block_type="down", block_idx=n) for n, width in enumerate(WIDTHS)],
        "up": [ade.MotionModule(width, block_type="up", block_idx=n) for n, width in enumerate(reversed(WIDTHS))],
    }
    motion.down_blocks, motion.up_blocks = (torch.nn.ModuleList(blocks[side]) for side in ("down", "up"))
    made = torch.Generator().manual_seed(6)
    for weight in motion.parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=made) + (weight.ndim == 1)
    patcher = module_of(NAME, "animatediff.model_injection").create_MotionModelPatcher(
        motion.eval(), torch.device("cpu"), torch.device("cpu")
    )
    return outputs_of(nodes["ADE_ApplyAnimateDiffModelSimple"], patcher)[0]


def scene_of_frames(guidance: str) -> Scene:
    """Every frame with a reference of its own."""
    scene = Scene(links=CHAINS[guidance])
    scene.tokens = [t.map(lambda own: torch.cat([own.roll(n, dims=-1) for n in range(FRAMES)])) for t in scene.tokens]
    return scene


def sampled(form, model=None) -> torch.Tensor:
    return ksampler(form, model, batch=FRAMES, size=SIZE)


def agree(scene: Scene, other, order: str) -> torch.Tensor:
    prepare, change = orders(other, order)
    pack, oracle = PackForm(scene, prepare), OracleForm(scene, prepare)
    found, expected = (sampled(form, change(form.model)) for form in (pack, oracle))
    close(found, expected)
    return found


def test_every_frame_keeps_its_own_reference(context, order):
    scene = scene_of_frames("three-way")
    found = agree(scene, lambda model: in_windows(model, context), order)
    close(found, sampled(PackForm(scene)))


@pytest.mark.parametrize("guidance", CHAINS)
@pytest.mark.parametrize("windows", ["static", "all at once"])
def test_a_motion_model_is_as_without_the_adapter(order, guidance, windows):
    def moving(model):
        return in_windows(model, CONTEXTS[windows](), motion_models(model))

    scene = scene_of_frames(guidance)
    found = agree(scene, moving, order)
    assert not torch.allclose(found, sampled(PackForm(scene)), atol=0.05)


def test_every_frame_keeps_its_own_mask_and_weight(context, order, bare, embeds, animation):
    masks = torch.zeros(FRAMES, *SIZE)
    for number, mask in enumerate(masks):
        mask[:, 2 * number : 2 * number + 4] = 1
    own = {"guidance": "simple", "batch_factors": (0.4, 0.6, 0.8, 1.0, 1.2)}
    expected = sample(small_models.applied(bare, embeds, masks, **own), animation)
    model = applied_with(lambda m: in_windows(m, context), order, bare, embeds, masks, **own)
    close(sample(model, animation), expected)


def test_weight_0_leaves_windows_and_motion_as_they_are(order, bare, embeds, animation):
    def moving(model):
        return in_windows(model, CONTEXTS["static"](), motion_models(model))

    model = applied_with(moving, order, bare, embeds, weight=0.0, guidance="three-way")
    same(sample(model, animation), sample(moving(bare), animation))


def test_the_small_unet_is_as_wide_as_the_small_motion_model():
    config = golden_case("sd15").config["unet_config"]
    assert tuple(config["model_channels"] * level for level in config["channel_mult"]) == WIDTHS
