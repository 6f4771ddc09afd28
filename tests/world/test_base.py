"""The small world's base model and its training."""

import pytest
import torch
from small_world import pool as pools
from small_world import train_base
from small_world.autoencoder import PREFIX as VAE_PREFIX
from small_world.autoencoder import new_taesd
from small_world.base import PREFIX, new_base, velocity_loss, widened
from small_world.files import in_half
from small_world.in_process import comfy
from small_world.short_texts import COPIES, SHORT, TRANSFORMER_OPTIONS, Texts
from small_world.storage import save_tensors


def stirred_base():
    """A base whose prediction is not zero, as it is at first."""
    base = new_base()
    generator = torch.Generator().manual_seed(1)
    for parameter in base.diffusion_model.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.05, generator=generator)
    return base


def some_texts(count: int) -> Texts:
    generator = torch.Generator().manual_seed(2)
    return Texts(torch.randn(count, SHORT, 768, generator=generator), torch.randn(count, 768, generator=generator))


def long(states: torch.Tensor) -> torch.Tensor:
    return torch.cat([states, states[:, -1:].expand(-1, COPIES - 1, -1)], 1)


def latents(count: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(count, 16, 8, 8, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_one_token_that_counts_often_is_as_good_as_all_the_padding():
    denoiser, texts, x = stirred_base().diffusion_model, some_texts(2), latents(2)
    times = torch.tensor([200.0, 800.0])
    short = denoiser(x, times, context=texts.states, y=texts.pooled, transformer_options=TRANSFORMER_OPTIONS)
    full = denoiser(x, times, context=long(texts.states), y=texts.pooled)
    torch.testing.assert_close(short, full, rtol=0, atol=1e-5)
    uncounted = denoiser(x, times, context=texts.states, y=texts.pooled)
    assert (uncounted - full).abs().max() > 1e-3


@torch.no_grad()
def test_the_right_velocity_denoises_to_the_latents_and_has_no_loss():
    base, data, noise, texts = new_base(), latents(2), latents(2, seed=4), some_texts(2)
    sigmas = torch.tensor([0.3, 0.9])
    level = sigmas[:, None, None, None]
    noisy = base.model_sampling.noise_scaling(level, noise, data)
    denoised = base.model_sampling.calculate_denoised(sigmas, noise - data, noisy)
    torch.testing.assert_close(denoised, data, rtol=0, atol=1e-5)
    base.diffusion_model.forward = lambda x, timesteps, **_: (x - noisy) + noise - data
    assert velocity_loss(base, data, texts, noise, sigmas, {}).max() < 1e-10


@torch.no_grad()
def test_comfyui_loads_the_checkpoint_as_sd3_and_predicts_the_same(tmp_path, few_components):
    base, texts, x = stirred_base(), some_texts(1), latents(1)
    parts = {
        PREFIX: widened(base.diffusion_model.state_dict()),
        VAE_PREFIX: new_taesd(few_components).state_dict(),
    }
    path = tmp_path / "world.safetensors"
    save_tensors(in_half(parts), path, "for tests")
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
    assert isinstance(model.model, comfy.model_base.SD3)
    assert model.model.model_sampling.shift == 3.0
    assert clip is None
    assert vae.latent_channels == 16
    context = torch.nn.functional.pad(long(texts.states), (0, 4096 - 768))
    sigma = torch.tensor([0.7])
    found = model.model.apply_model(x, sigma, c_crossattn=context, y=torch.nn.functional.pad(texts.pooled, (0, 1280)))
    predicted = base.diffusion_model(x, 1000 * sigma, context=long(texts.states), y=texts.pooled)
    expected = base.model_sampling.calculate_denoised(sigma, predicted, x)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3)  # its weights are fp16
    assert path.stat().st_size < 20e6


@pytest.fixture
def small_pool(tmp_path, monkeypatch, few_components, short_texts):
    monkeypatch.setattr(pools, "SHARD", 8)
    monkeypatch.setattr(pools, "BATCH", 4)
    monkeypatch.setattr(pools, "shard_path", lambda name: tmp_path / f"{name}.safetensors")
    for name, value in {"BATCH": 4, "LOG_EVERY": 2, "VALIDATE_EVERY": 4, "VALIDATION": 8}.items():
        monkeypatch.setattr(train_base, name, value)
    return pools.Pool(few_components, short_texts)


def test_a_resumed_training_is_bit_equal_to_one_that_ran_through(small_pool, tmp_path, monkeypatch):
    once, twice = tmp_path / "once.pt", tmp_path / "twice.pt"
    train_base.train(small_pool, once, steps=6)
    monkeypatch.setattr(train_base, "rate", lambda step, steps: original(step, 6))
    train_base.train(small_pool, twice, steps=3)
    train_base.train(small_pool, twice, steps=6)
    states = [torch.load(path, weights_only=True) for path in (once, twice)]
    assert states[0]["step"] == states[1]["step"] == 6
    for part in ("denoiser", "average"):
        for name, weight in states[0][part].items():
            assert torch.equal(weight, states[1][part][name]), name


original = train_base.rate


def test_overfitting_a_few_examples_lowers_the_loss(small_pool, tmp_path, monkeypatch):
    monkeypatch.setattr(train_base, "rate", lambda step, steps: 2e-3)
    learning, _ = train_base.begun(tmp_path / "none.pt")
    losses = [train_base.learn(learning, small_pool, step % 2, 2e-3) for step in range(60)]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_dropped_captions_are_the_empty_text(small_pool):
    examples = small_pool.examples(["a"], 16, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(examples.texts.states, small_pool.empty.states.expand(16, -1, -1))
    kept = small_pool.examples(["a"], 16, 0.0, torch.Generator().manual_seed(0))
    assert not torch.equal(kept.texts.states, examples.texts.states)


def test_a_shard_is_the_same_whenever_it_is_made(small_pool, few_components, short_texts, tmp_path):
    first = {name: tensor.clone() for name, tensor in small_pool.shard("b").items()}
    (tmp_path / "b.safetensors").unlink()
    again = pools.Pool(few_components, short_texts).shard("b")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_loss_that_is_no_number_stops_the_training(small_pool, tmp_path):
    learning, _ = train_base.begun(tmp_path / "none.pt")
    next(learning.base.diffusion_model.parameters()).data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="last good state"):
        train_base.learn(learning, small_pool, 0, 1e-3)
