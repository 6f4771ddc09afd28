"""The pack's three wrappers in ComfyUI's sampling. They keep no state; what they need is in transformer_options."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..denoisers.denoiser import block_layers
from ..denoisers.rows import Area, BatchRows, Observer
from ..denoisers.site_checks import check_reached
from ..guidance.branches import HostCoefficients, host_coefficients
from .batch_index import WholeLatent, batch_indices_of_call, divide_call, is_part_of_image
from .chain import CHAIN, Shared
from .model_calls import FUNCTION_WRAPPER, SIDES, controls_with_sides, sides_of, wrapper_with_sides
from .passes import Plan, plan_passes
from .pooled_texts import Conds
from .run import OBSERVER, RUN, Run, StepAdapter, prepare_run

STEP = "ipadapter_instruct_step"
LOOK_AT_PREDICTIONS = frozenset(
    f"sampler_{name}_function" for name in ("calc_cond_batch", "pre_cfg", "cfg", "post_cfg")
)


@dataclass(frozen=True, eq=False)
class Step(Shared):
    """A sampling step, as far as its model calls need to know it."""

    run: Run
    adapters: tuple[StepAdapter, ...]
    plan: Plan
    latent_size: tuple[int, int]
    latents: int
    observer: Observer | None = None

    def rows(self, options: dict, x: Tensor) -> BatchRows:
        """Return the rows that a model call of `x` [C b, ..., h, w] holds, as its transformer_options tell."""
        uuids = options["uuids"]
        alike = not any(a.tells_latents_apart for a in self.adapters)
        batch_indices, tiles = divide_call(options, len(x), len(uuids), self.latents, self.run.whole, alike)
        areas = tuple(self.plan.area_of[i] for i in uuids) * tiles
        height, width = x.shape[-2:]
        if any(a.masks is not None for a in self.adapters):
            self._check_whole(areas, (height, width))
        return BatchRows(
            branches=tuple(self.plan.branch_of[i] for i in uuids) * tiles,
            areas=areas,
            latent_size=self.latent_size,
            input_size=(height, width),
            batch_indices=batch_indices,
            reached=set() if self.run.doubted else None,
            observer=self.observer,
        )

    def _check_whole(self, areas: tuple[Area, ...], found: tuple[int, int]) -> None:
        expected = {self.latent_size if area is None else area[:2] for area in areas}
        if expected != {found}:
            raise ValueError(
                f"With attn_mask, calls of the model with the whole latent of height and width {self.latent_size} were "
                f"expected; one has {found}. Another node calls it with tiles of the picture: bypass that node, or "
                "leave attn_mask unconnected."
            )


def sampler_sample(executor, guider, sigmas, extra_args: dict, callback, noise, latent_image=None, *args, **kwargs):
    """Begin a run (SAMPLER_SAMPLE), in the options that the guider made for it and that end with it."""
    model_options = extra_args["model_options"]
    options = model_options["transformer_options"]
    whole = WholeLatent.of_run(noise, latent_image, model_options)
    run = options[RUN] = prepare_run(options[CHAIN], guider, sigmas, whole)
    if OBSERVER in options:
        first = options[CHAIN].applied[0]
        options[OBSERVER].begin(run, block_layers(first.adapter.family, tuple(first.layers)))
    return executor(guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)


def calc_cond_batch(executor, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict):
    """Run the branches that the host's lists stand for (CALC_COND_BATCH), and combine them into the lists'."""
    options = model_options["transformer_options"]
    run: Run = options[RUN]
    adapters = run.active(timestep)
    if STEP in options:  # inside a step already: another pack asks for one of our passes again
        return executor(model, conds, x_in, timestep, model_options)
    if not adapters:
        return executor(model, conds, x_in, timestep, _with_step(model_options, None))
    plan = plan_passes(conds, run.guider.conds, _coefficients(adapters, conds, run, model_options), x_in, timestep)
    patchers = (run.guider.model_patcher, *model_options.get("multigpu_clones", {}).values())  # where a step runs
    first_layers = {run.denoiser.first_layer(patcher.model.diffusion_model) for patcher in patchers}
    height, width = x_in.shape[-2:]
    size = run.whole.size if is_part_of_image(options) else (height, width)
    with (
        _observed(options, run, plan, x_in, timestep) as observer,
        run.calls.step(first_layers, model_options.get(FUNCTION_WRAPPER)),
        controls_with_sides(plan.conds.values(), plan.branch_of),
    ):
        step = Step(run, adapters, plan, size, len(x_in), observer)
        own_options = _with_step(model_options, step)
        predictions = executor(model, list(plan.conds.values()), x_in, timestep, own_options)
    if not run.calls.were_entered and plan.acts_at(x_in, timestep):
        raise run.calls.refusal()
    return plan.combine(predictions, x_in)


def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
    """Patch the attention of this call (APPLY_MODEL) for the branches in its batch.

    Patching here, and not in the model's own options, means that nothing of another pack is overwritten
    and that it does not matter which of the two was applied first.
    """
    options = transformer_options or {}
    step: Step | None = options.get(STEP)
    if STEP not in options and RUN in options and options[RUN].adapters:
        raise options[RUN].calls.refusal("calls it past the wrappers of the sampling step")
    if step is None:
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    rows = step.rows(options, x)
    options = step.run.denoiser.patched(options, step.adapters, rows)
    options[SIDES] = sides_of(rows.branches)
    with step.run.calls.entered():
        predictions = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    check_reached(step.run.doubted, (site for a in step.adapters for site in a.sites), rows.reached)
    return predictions


def _observed(options: dict, run: Run, plan: Plan, x: Tensor, timestep: Tensor) -> AbstractContextManager:
    """Return a context that gives what sees the model calls of a step: None without an observer."""
    if OBSERVER not in options:
        return nullcontext()
    conds = [cond for own in plan.conds.values() for cond in own]
    in_parts = batch_indices_of_call(options, len(x), run.whole) is not None
    return options[OBSERVER].step(run, conds, timestep[0], in_parts)


def _with_step(model_options: dict, step: Step | None) -> dict:
    """Return the options of a step's calls. step: None where no adapter acts."""
    options = {**model_options, "transformer_options": {**model_options["transformer_options"], STEP: step}}
    if step is not None and FUNCTION_WRAPPER in options:
        options[FUNCTION_WRAPPER] = wrapper_with_sides(options[FUNCTION_WRAPPER], step.plan.branch_of)
    return options


def _coefficients(
    adapters: tuple[StepAdapter, ...], conds: Sequence[Conds | None], run: Run, model_options: dict
) -> HostCoefficients | None:
    """Return the coefficients of the last three-way adapter, or None when all are simple.

    At cfg 1 the host leaves out the negative: where the pack has chosen the guidance, one pass is all there is then.
    """
    at_cfg_1 = None in conds or (run.cfg == 1 and not model_options.get("disable_cfg1_optimization", False))
    three_way = [a.applied for a in adapters if a.is_three_way and not (a.applied.is_auto and at_cfg_1)]
    if not three_way:
        return None
    inspected = not run.is_plain or LOOK_AT_PREDICTIONS & model_options.keys()
    settings = three_way[-1].settings
    return host_coefficients(settings.instruct_scale, settings.image_scale, None if inspected else run.cfg)
