"""Conditions sampled through the pack's nodes with the stored adapter, a few of each kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ipadapter_instruct.models.encoding.text_encoder import encode_texts
from small_world.conditions import HELD_OUT, conditions, outcome
from small_world.encoders import ENCODERS
from small_world.in_process import comfy
from small_world.reader import read
from small_world.train_adapter import JOINT, stored_adapter
from small_world.transfer import Setting, Transfer, joined, short_world

COUNT = 8


@pytest.fixture(scope="module")
def transfer() -> Transfer:
    return Transfer(short_world())


@pytest.fixture(scope="module")
def tried():
    return conditions("colour", COUNT, HELD_OUT)


@pytest.fixture(scope="module")
def batches(transfer, tried):
    return transfer.encoded(stored_adapter(JOINT), tried, transfer.hidden_states(tried))


def test_the_colour_comes_from_the_picture_and_the_rest_from_the_prompt(transfer, tried, batches):
    found = outcome(tried, [read(picture) for picture in transfer.pictures(batches, Setting())])
    assert found.asked >= 0.75
    assert found.others >= 0.75
    assert found.leak <= 0.25


def test_at_weight_0_nothing_comes_from_the_picture(transfer, tried, batches):
    pictures = transfer.pictures(batches, Setting(0.0))
    assert outcome(tried, [read(picture) for picture in pictures]).others >= 0.75
    of_others = transfer.encoded(stored_adapter(JOINT), tried, transfer.hidden_states(tried[::-1]))
    assert np.array_equal(pictures, transfer.pictures(of_others, Setting(0.0)))
    assert not np.array_equal(pictures, transfer.pictures(of_others, Setting(0.5)))


def test_a_batch_has_what_its_conditions_have_in_their_order(transfer, tried):
    each = [transfer.encoded(stored_adapter(JOINT), [one], transfer.hidden_states([one]))[0] for one in tried[:2]]
    both = joined(each)
    assert torch.equal(both.positive[0][0], torch.cat([one.positive[0][0] for one in each]))
    for branch, tokens in both.embeds.image_tokens.items():
        assert torch.equal(tokens, torch.cat([dict(one.embeds.image_tokens.items())[branch] for one in each]))


def test_the_short_text_encoder_says_what_the_whole_one_says(transfer):
    whole = comfy.sd.load_clip([str(ENCODERS["text"].built())], clip_type=comfy.sd.CLIPType.SD3)
    layers = transfer.world.clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers
    assert len(layers) < len(whole.cond_stage_model.clip_l.transformer.text_model.encoder.layers)
    texts = ["use the colour", "a big red star", ""]
    short, long = encode_texts(transfer.world.clip, texts), encode_texts(whole, texts)
    assert all(torch.equal(short[text], long[text]) for text in texts)
