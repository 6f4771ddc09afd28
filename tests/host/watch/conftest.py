"""A second picture and two latents to watch; and the images that the first attention gives."""

import pytest
import torch
from ipadapter_instruct.models.attention_maps import record as watching
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from support.sampling.short_runs import noise
from support.sampling.watching import seen


@pytest.fixture(scope="module")
def other(embeds):
    """A second picture."""
    return InstructEmbeds(embeds.adapter, "use the style", embeds.image_tokens.map(lambda t: t.roll(7, dims=-1)))


@pytest.fixture(scope="module")
def batch(bare):
    """Two latents of the model's."""
    return noise(bare, 2, 8, 12)


@pytest.fixture
def first_seen(monkeypatch):
    """A function: the shares [latents, positions] in the first attention that is seen, before which no adapter acts."""
    shares, original = [], watching.attention_to

    def look(*args):
        found = original(*args)
        shares.append(found[0])
        return found

    def first(model, latents, number: int = 1) -> list[torch.Tensor]:
        shares.clear()
        seen(model, latents, last_step=1)
        return shares[:number]

    monkeypatch.setattr(watching, "attention_to", look)
    return first
