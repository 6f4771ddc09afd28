"""Image tokens against the authors' code. float32, absolute tolerance 2e-5."""

import pytest
import torch
from ipadapter_instruct.models.adapter.resampler import Resampler
from support.golden_cases import BRANCH_FEATURES, golden_case

TOLERANCE = 2e-5


@pytest.mark.parametrize("branch", BRANCH_FEATURES)
@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3"])
def test_resampler_gives_the_reference_tokens(family, branch):
    case = golden_case(family)
    prefix = "image_proj."
    weights = {n: w for n, w in case.adapter_weights.items() if n.startswith(prefix)}
    state = {n.removeprefix(prefix).replace("_big.", "."): w for n, w in weights.items()}  # _big: SD3's names
    resampler = Resampler(Resampler.read_sizes(state))
    resampler.load_state_dict(state)

    with torch.no_grad():
        tokens = resampler(*case.features(branch))

    torch.testing.assert_close(tokens, case.values[f"tokens.{branch}"], rtol=0, atol=TOLERANCE)
