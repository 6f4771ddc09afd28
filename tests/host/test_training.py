"""Training on the golden cases' small models: what is trained on is what is sampled with, and nothing else changes."""

from __future__ import annotations

import io
from dataclasses import replace

import comfy.model_management as mm
import pytest
import torch
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.training.batch import Batch
from ipadapter_instruct.models.training.trainable_adapter import named_as_published
from ipadapter_instruct.models.training.trainer import TrainingError
from support import small_models, small_training
from support.golden_cases import golden_case
from support.sampling.short_runs import close, noise_prediction, same

FAMILIES = ("sd15", "sdxl", "sd3")
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_family
def test_the_base_predicts_in_training_what_it_predicts_while_sampling(family):
    base, adapter = small_training.frozen_base(family), small_training.trainable_adapter(family)
    sigma = base.noise_levels(torch.tensor([0.6]))
    x = torch.randn(1, small_training.GoldenDataset(family).channels, *small_training.LATENT) * sigma
    loaded = small_models.small_adapter(family)
    embeds = InstructEmbeds(loaded, "", small_models.golden_tokens(golden_case(family), loaded))
    model = small_models.applied(small_models.small_model(family), embeds, weight=1.0, guidance="simple")
    conds = tuple(small_models.golden_conditioning(family, name) for name in ("positive", "negative"))
    sampled = x - sigma * noise_prediction(model, conds, 1.0, x, sigma)
    with base.loaded(), torch.no_grad():
        trained = base.denoised(adapter, small_training.conditioning(family), x.clone(), sigma.clone())
    close(trained, sampled, 2e-5)


@each_family
def test_image_tokens_are_float32s_in_half_precision_too(family):
    adapter, given = (
        small_training.trainable_adapter(family),
        small_training.conditioning(family).to(torch.device("cpu")),
    )
    with torch.no_grad():
        plain = adapter.image_tokens(given)
        with torch.autocast("cpu", torch.bfloat16):
            same(adapter.image_tokens(given), plain)


@each_family
def test_the_loss_is_the_mean_square_error_of_the_models_own_prediction(family):
    base, adapter = small_training.frozen_base(family), small_training.trainable_adapter(family)
    generator = torch.Generator().manual_seed(1)
    with base.loaded(), torch.no_grad():
        batch = small_training.GoldenDataset(family).batch(2, generator)
        noise = torch.randn(batch.latents.shape, generator=generator)
        sigmas = base.noise_levels(torch.tensor([0.3, 0.8]))
        level = sigmas[:, None, None, None]
        is_flow = family == "sd3"
        noisy = level * noise + (1 - level) * batch.latents if is_flow else batch.latents + level * noise
        denoised = base.denoised(adapter, batch.conditioning, noisy, sigmas)
        predicted = (noisy - denoised) / level
        wanted = noise - batch.latents if is_flow else noise
        expected = (predicted - wanted).square().mean((1, 2, 3))
        found = base.losses(adapter, batch, noise, sigmas)
    close(found, expected, 1e-4)


@each_family
def test_training_changes_every_part_of_the_adapter_and_nothing_of_the_base(family):
    model = small_models.small_model(family)
    before = small_training.weights(model)
    trainer = small_training.trainer(family)
    trainer.base.patcher.model = model.model
    first = small_training.weights(trainer.adapter)
    reports = list(trainer.steps())
    assert [report.step for report in reports] == [1, 2, 3, 4]
    for name, weight in small_training.weights(model).items():
        same(weight, before[name])
    unchanged = [
        name for name, weight in small_training.weights(trainer.adapter).items() if torch.equal(weight, first[name])
    ]
    assert unchanged == (["projections.2.proj_encoder_passthrough_ip.weight"] if family == "sd3" else [])  # the last
    assert not any(parameter.requires_grad and parameter.grad is not None for parameter in model.model.parameters())


@each_family
def test_a_stopped_and_resumed_run_ends_with_the_same_bits(family):
    whole = small_training.trainer(family)
    list(whole.steps())
    stopped, resumed = small_training.trainer(family), small_training.trainer(family)
    run = stopped.steps()
    next(run), next(run)
    kept = io.BytesIO()
    torch.save(stopped.state(), kept)
    kept.seek(0)
    resumed.resume(torch.load(kept, weights_only=True))  # in inference mode, as all here
    list(resumed.steps())
    for name, weight in whole.trained_weights().items():
        same(resumed.trained_weights()[name], weight)
    assert whole.adapter.state_dict().keys() == resumed.adapter.state_dict().keys()
    for name, weight in small_training.weights(whole.adapter).items():
        same(small_training.weights(resumed.adapter)[name], weight)


def test_what_is_saved_is_the_average_of_the_weights_after_each_step():
    trainer = small_training.trainer("sd15", ema_decay=0.15)  # so that the last steps keep less than the first could
    averages = {name: weight.double() for name, weight in small_training.weights(trainer.adapter).items()}
    for report in trainer.steps():
        kept = min(0.15, report.step / (9 + report.step))
        for name, weight in small_training.weights(trainer.adapter).items():
            averages[name] = kept * averages[name] + (1 - kept) * weight.double()
    expected = named_as_published(trainer.adapter.family, {name: averages[name] for name in trainer.ema})
    for name, weight in trainer.trained_weights().items():
        torch.testing.assert_close(weight.double(), expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.long("gradients and losses are tested apart")
@each_family
def test_a_batch_that_an_adapter_can_explain_is_learnt_by_heart(family):
    """Targets and noise are made so that the golden adapter's loss is zero; another starts far from it."""
    base = small_training.frozen_base(family)
    golden, adapter = (small_training.trainable_adapter(family) for _ in range(2))
    generator = torch.Generator().manual_seed(2)
    with base.loaded(), torch.no_grad():
        for weight in adapter.trainable_parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * weight.std() * 0.5)
        channels = small_training.GoldenDataset(family).channels
        sigmas, noisy = base.noise_levels(torch.tensor([0.7])), torch.randn(1, channels, 4, 4, generator=generator)
        latents = base.denoised(golden, small_training.conditioning(family), noisy, sigmas)
        clean = 1 - sigmas if family == "sd3" else 1.0
        batch, noise = Batch(latents, small_training.conditioning(family)), (noisy - clean * latents) / sigmas
    optimizer, losses = torch.optim.AdamW(adapter.trainable_parameters(), lr=1e-3), []
    with base.loaded(), torch.enable_grad():
        for _ in range(60):
            optimizer.zero_grad()
            loss = base.losses(adapter, batch, noise, sigmas).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[0] > 1e-3
    assert losses[-1] < 0.01 * losses[0]


def test_a_loss_that_is_no_number_stops_with_the_last_good_weights():
    trainer = small_training.trainer("sd15")
    run = trainer.steps()
    next(run)
    good = small_training.weights(trainer.adapter)
    trainer.dataset.channels, drawn = 4, trainer.dataset._drawn
    trainer.dataset._drawn = lambda generator: replace(
        drawn(generator), latents=drawn(generator).latents * float("nan")
    )
    with pytest.raises(TrainingError, match=r"step 1 a loss was expected to be a number; it is nan.*learning rate"):
        next(run)
    for name, weight in small_training.weights(trainer.adapter).items():
        same(weight, good[name])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, mm.InterruptProcessingException])
def test_a_run_that_is_stopped_saves_what_was_trained_by_then(stop):
    trainer, saved = small_training.trainer("sd15"), []

    def after_step(report):
        if report.step == 2:
            raise stop

    with pytest.raises(stop):
        trainer.train(after_step, lambda: saved.append(trainer.step))
    assert saved == [2]


def test_a_run_that_stops_before_its_first_step_saves_nothing():
    trainer, saved = small_training.trainer("sd15", learning_rate=1.0), []
    with torch.inference_mode(False), torch.no_grad():
        for weight in trainer.adapter.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="step 0"):
        trainer.train(lambda report: None, lambda: saved.append(trainer.step))
    assert saved == []


@each_family
def test_gradients_are_those_of_finite_differences(family):
    """Differences of the loss along random directions in the space of each part's weights."""
    base, adapter = small_training.frozen_base(family), small_training.trainable_adapter(family)
    generator = torch.Generator().manual_seed(3)
    with base.loaded(), torch.enable_grad():
        batch = small_training.GoldenDataset(family).batch(2, generator)
        noise = torch.randn(batch.latents.shape, generator=generator)
        sigmas = base.noise_levels(torch.tensor([0.4, 0.7]))

        def loss() -> torch.Tensor:
            return base.losses(adapter, batch, noise, sigmas).double().mean()

        loss().backward()
        for part in ("image_projection", "projections", *(["streams"] if family == "sd3" else [])):
            parameters = [p for p in getattr(adapter, part).parameters() if p.requires_grad]
            directions = [torch.randn(p.shape, generator=generator) * p.detach().std() for p in parameters]
            slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True)).item()
            step, ends = 2e-3, []
            for sign in (1, -2, 1):
                with torch.no_grad():
                    for p, d in zip(parameters, directions, strict=True):
                        p.add_(d, alpha=sign * step)
                    ends.append(loss().item())
            found = (ends[0] - ends[1]) / (2 * step)
            assert found == pytest.approx(slope, rel=2e-2), part
            assert abs(slope) > 1e-4, part
