"""A pack that is broken in one way fails the laws of `test_properties`, and mended it does not.

`make properties` shows it of all faults (EXAMPLES=1 hardly runs anything else), the test suite of those soon seen.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from ipadapter_instruct.models.denoisers.rows import SiteMasks
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.models.guidance.weight_schedule import StepPositions
from ipadapter_instruct.models.patching import chain, run, wrappers
from ipadapter_instruct.models.patching.chain import Chain
from ipadapter_instruct.models.patching.run import BranchKeysValues
from support.situations.hypothesis_strategies import parts, situations
from support.situations.laws import as_the_oracle_says, lawful

ROUNDS, EXAMPLES = 8, 10  # at most; the first example that notices is the last


def mask_of_the_next_latent(patch):
    at = SiteMasks.at

    def of_the_next(self, size, rows, like):
        return at(self, size, replace(rows, batch_indices=tuple(index + 1 for index in rows.batch_indices)), like)

    patch(SiteMasks, "at", of_the_next)


def mask_mirrored(patch):
    at = SiteMasks.at
    patch(SiteMasks, "at", lambda self, *known: at(SiteMasks(self._mask.flip(-1)), *known))


def batch_weights_ignored(patch):
    patch(chain, "product_of_cycles", lambda first, second: ())


def batch_weights_of_the_next_latent(patch):
    product = chain.product_of_cycles
    patch(chain, "product_of_cycles", lambda *both: (lambda found: (*found[1:], *found[:1]))(product(*both)))


def schedule_one_step_late(patch):
    at = StepPositions.at
    patch(StepPositions, "at", lambda self, sigma: at(self, sigma) - 1 / self._steps)


def schedule_along_noise_late(patch):
    position = run.noise_position
    patch(run, "noise_position", lambda percent_to_sigma, sigma: position(percent_to_sigma, sigma) - 0.1)


def adapters_in_reverse(patch):
    patch(Chain, "then", lambda self, *applied: Chain((*applied, *self.applied)))


def images_of_the_next_latent(patch):
    at = BranchKeysValues.at
    patch(
        BranchKeysValues,
        "at",
        lambda self, a, b, batch_indices: at(self, a, b, [batch_index + 1 for batch_index in batch_indices]),
    )


def keys_in_bfloat16(patch):
    made = LoadedAdapter.keys_values
    coarse = lambda pairs: [tuple(x.bfloat16().to(x.dtype) for x in pair) for pair in pairs]  # noqa: E731
    patch(LoadedAdapter, "keys_values", lambda self, *given: coarse(made(self, *given)))


def windows_ignored(patch):
    patch(run, "sigma_window", lambda *_, **__: None)


def window_of_frames_ignored(patch):
    divide = wrappers.divide_call
    patch(
        wrappers,
        "divide_call",
        lambda *call: (lambda batch_indices, tiles: (tuple(range(len(batch_indices))), tiles))(*divide(*call)),
    )


def something_kept_from_run_to_run(patch):
    made, runs = LoadedAdapter.keys_values, []

    def drifting(self, *given):
        runs.append(None)
        return [(keys, values * (1 + len(runs) / 1e5)) for keys, values in made(self, *given)]

    patch(LoadedAdapter, "keys_values", drifting)


ORACLE = [
    mask_of_the_next_latent,
    mask_mirrored,
    batch_weights_ignored,
    batch_weights_of_the_next_latent,
    schedule_one_step_late,
    schedule_along_noise_late,
    adapters_in_reverse,
    images_of_the_next_latent,
    keys_in_bfloat16,
    windows_ignored,
]
LAWS = [window_of_frames_ignored, something_kept_from_run_to_run]
some = st.sampled_from(("sd15", "sd3")).flatmap(situations)
LAW_OF = {
    **dict.fromkeys(ORACLE, (as_the_oracle_says, some.map(lambda situation: (situation,)))),
    **dict.fromkeys(LAWS, (lawful, some.flatmap(lambda s: st.tuples(st.just(s), parts(s.batch))))),
}


SOON = [
    mask_mirrored,
    batch_weights_of_the_next_latent,
    windows_ignored,
    window_of_frames_ignored,
    something_kept_from_run_to_run,
]
FAULTS = list(LAW_OF) if os.environ.get("PROPERTIES_EXAMPLES") else SOON


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_laws_notice(fault, monkeypatch):
    law, examples = LAW_OF[fault]
    seen = []

    def hold(example):
        seen.append(example)
        law(*example)

    with monkeypatch.context() as broken, pytest.raises(AssertionError):
        fault(broken.setattr)
        for number in range(ROUNDS):
            fresh = settings(max_examples=EXAMPLES, phases=[Phase.generate], database=None)
            seed(number)(fresh(given(examples)(hold)))()
    law(*seen[-1])
