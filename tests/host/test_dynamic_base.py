"""Training on a model whose memory ComfyUI manages dynamically: the base is taken without it, or refused in words."""

from __future__ import annotations

import comfy.sd
import pytest
import torch
from comfyhost.checkpoints import checkpoint
from comfyhost.standins import StandIn, write_stand_ins
from ipadapter_instruct.models.training.frozen_base import FrozenBase, trainable_family
from support import small_models, small_training
from support.devices import dynamic_vram
from support.sampling.short_runs import close, same

pytestmark = dynamic_vram.needs_dynamic_vram
KEY = "diffusion_model.out.2.weight"


@pytest.fixture(autouse=True)
def dynamic_vram_is_on(monkeypatch):
    dynamic_vram.switch_on(monkeypatch)


def dynamic_model(family: str):
    return dynamic_vram.dynamic(small_models.small_model(family), lambda: small_models.small_model(family))


def base_of(model, family: str) -> FrozenBase:
    return FrozenBase(model, small_models.FAMILIES[family].family)


def losses_and_gradients(base: FrozenBase, family: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The losses of a batch, and the gradients of every part of the adapter."""
    with base.loaded():
        generator, adapter = torch.Generator().manual_seed(1), small_training.trainable_adapter(family)
        batch = small_training.GoldenDataset(family).batch(2, generator)
        noise = torch.randn(batch.latents.shape, generator=generator)
        losses = base.losses(adapter, batch, noise, base.noise_levels(torch.tensor([0.3, 0.8])))
        losses.sum().backward()
    return losses.detach(), [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("family", small_models.FAMILIES)
def test_losses_and_gradients_are_those_of_the_plain_base(family):
    model = dynamic_model(family)
    plain = small_training.frozen_base(family)
    found, expected = (losses_and_gradients(base, family) for base in (base_of(model, family), plain))
    same(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        same(one, other)
    assert model.is_dynamic() and not base_of(model, family).patcher.is_dynamic()


def test_nothing_of_the_dynamic_model_is_touched():
    model = dynamic_model("sd15")
    before = {name: (weight, weight.clone()) for name, weight in model.model.named_parameters()}
    losses_and_gradients(base_of(model, "sd15"), "sd15")
    for name, weight in model.model.named_parameters():
        own, value = before[name]
        assert weight is own
        same(weight, value)


def test_loras_of_the_dynamic_model_act_on_its_base():
    model, plain = dynamic_model("sd15"), small_models.small_model("sd15")
    change = torch.full_like(plain.model.diffusion_model.out[2].weight, 0.5)
    for one in (model, plain):
        assert one.add_patches({KEY: ("diff", (change,))}, 0.3) == [KEY]
    base = base_of(model, "sd15")
    with base.loaded():
        close(base.model.diffusion_model.out[2].weight, plain.model.diffusion_model.out[2].weight + 0.15, 1e-6)
    same(losses_and_gradients(base, "sd15")[0], losses_and_gradients(base_of(plain, "sd15"), "sd15")[0])


def test_a_model_that_its_loader_cannot_load_again_is_refused_with_what_can_be_done():
    model = dynamic_model("sd15")
    model.cached_patcher_init = None
    with pytest.raises(ValueError, match="loaded as a whole .*Load Checkpoint.*--disable-dynamic-vram"):
        base_of(model, "sd15")


def test_a_checkpoint_by_the_hosts_own_loader_is_trained_on(tmp_path):
    write_stand_ins(tmp_path, (StandIn("sd15.safetensors", lambda: checkpoint("sd15")),))
    with torch.inference_mode():  # as ComfyUI runs nodes
        model = comfy.sd.load_checkpoint_guess_config(str(tmp_path / "sd15.safetensors"), output_clip=False)[0]
        base = FrozenBase(model, trainable_family(model))
        assert model.is_dynamic() and not base.patcher.is_dynamic()
        weight = model.get_model_object("diffusion_model").out[2].weight
        with base.loaded():
            mine = base.model.diffusion_model.out[2].weight
            same(mine.float(), weight.float())
            assert not mine.is_inference() and not mine.requires_grad
