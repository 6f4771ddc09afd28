"""What a resampler is taught before the lessons: that it learns it and nothing else, and that it is held then."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from ipadapter_instruct.models.adapter.resampler import ProjectionSizes, Resampler
from small_world import reading, train_adapter
from small_world.first_layer import first_layers
from small_world.phrasings import PLAIN
from small_world.reading import (
    LEARN_PICTURES,
    LEARN_TEXTS,
    Codes,
    first_features,
    first_of_texts,
    started,
    taught_pictures,
    taught_texts,
    tokens,
)
from small_world.references import References, all_scenes
from small_world.scenes import ATTRIBUTES, TASKS, scene_of
from small_world.storage import save_tensors
from small_world.train_adapter import TEXTS_HELD, hold

TOKENS, WIDTH, PICTURES = 6, 64, 40


def sizes() -> ProjectionSizes:
    return ProjectionSizes(
        TOKENS, out_width=96, image_width=1280, width=WIDTH, heads=1, blocks=1, image_ff=64, text_width=768,
        prompt_ff=64, instruct_ff=64,
    )  # fmt: skip


def codes() -> Codes:
    return Codes.for_tokens(sizes())


def pool(folder) -> References:
    """Pictures whose states tell each attribute by a direction of its own, somewhere among noise."""
    generator = torch.Generator().manual_seed(3)
    scenes = tuple(all_scenes()[:: len(all_scenes()) // PICTURES][:PICTURES])
    shown = torch.stack([Codes.for_tokens(replace(sizes(), width=1280)).of(scene).sum(0) for scene in scenes])[:, None]
    states = shown + 0.3 * torch.randn(len(scenes), 257, 1280, generator=generator)
    save_tensors({"states": states.half()}, folder / "pool-40.safetensors", "for tests")
    return References(scenes, folder / "pool-40.safetensors")


def test_marks_and_codes_are_of_one_length_and_at_right_angles():
    rows = torch.cat([codes().marks, *codes().values.values()])
    assert len(rows) == TOKENS + sum(map(len, ATTRIBUTES.values()))
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)) * WIDTH / 2, rtol=0, atol=1e-4)


def test_each_token_tells_one_attribute():
    scenes, words = all_scenes()[::100], codes()
    read = torch.stack([words.of(scene) for scene in scenes])
    assert set(words.told(read, scenes).values()) == {1.0}
    assert words.told(-read, scenes)["shape"] == 0.0
    scene = all_scenes()[0]
    other = scene_of({**scene.attributes, "colour": "blue"})
    differs = (words.of(scene) != words.of(other)).any(-1)
    assert differs.tolist() == [False, True, False, False, False, False]  # the sixth tells the shape again


def test_of_what_is_not_asked_for_the_mark_is_left():
    words, scene = codes(), all_scenes()[0]
    assert torch.equal(words.of(scene, ()), words.marks)
    of_style = words.of(scene, TASKS["style"])
    assert torch.equal(of_style[:4], words.marks[:4]) and torch.equal(of_style[4], words.of(scene)[4])


def fresh(references: References, short_texts) -> dict[str, torch.Tensor]:
    """A drawn resampler's tensors, with the first layers."""
    torch.manual_seed(0)
    resampler = Resampler(sizes())
    torch.nn.init.normal_(resampler.latents)
    return {**resampler.state_dict(), **first_layers(references, short_texts, WIDTH)}


def error(weights, features, wanted) -> float:
    with torch.no_grad():
        return float((tokens(started(weights), features) - wanted).square().mean())


@pytest.fixture
def few(monkeypatch):
    for name, value in {"TRIED": 10, "BATCH": 8, "PROMPTS": 6}.items():
        monkeypatch.setattr(reading, name, value)


def test_it_learns_to_read_pictures_and_the_layers_for_texts_stay(tmp_path, short_texts, few):
    references = pool(tmp_path)
    start = fresh(references, short_texts)
    learnt = taught_pictures(start, references, steps=120)
    assert learnt and all(name.startswith(LEARN_PICTURES) for name in learnt)
    wanted = torch.stack([codes().of(scene) for scene in references.scenes])
    features = first_features(start, references).float()
    assert error({**start, **learnt}, features, wanted) < 0.5 * error(start, features, wanted)


def test_it_learns_to_keep_what_an_instruction_asks_for_and_what_reads_pictures_stays(tmp_path, short_texts, few):
    references, words = pool(tmp_path), codes()
    start = fresh(references, short_texts)
    start |= taught_pictures(start, references, steps=120)
    learnt = taught_texts(start, references, short_texts, steps=120)
    assert learnt and all(name.startswith(LEARN_TEXTS) for name in learnt)
    features = first_features(start, references).float()
    prompts = torch.stack(first_of_texts(start, "proj_prompt_input", short_texts, ["a thing"] * PICTURES))
    for task, names in TASKS.items():
        instructions = torch.stack(first_of_texts(start, "proj_new_input", short_texts, [PLAIN[task]] * PICTURES))
        kept = torch.stack([words.of(scene, names) for scene in references.scenes])
        with torch.no_grad():
            before, after = (
                (tokens(started(weights), features, instructions, prompts) - kept).square().mean()
                for weights in (start, {**start, **learnt})
            )
        assert after < before


def test_first_layers_and_what_was_taught_with_them_are_made_once_and_together(tmp_path, monkeypatch):
    made = []

    def layers(*_) -> dict:
        made.append(1)
        return {"proj_in.bias": torch.tensor([float(len(made))])}

    monkeypatch.setattr(train_adapter, "world_folder", lambda: tmp_path)
    monkeypatch.setattr(
        train_adapter, "recognise", lambda _: SimpleNamespace(image_projection={"latents": torch.ones(1)})
    )
    monkeypatch.setattr(train_adapter, "first_layers", layers)
    monkeypatch.setattr(
        train_adapter, "reading_parts", lambda start, *_: {"latents": start["proj_in.bias"] + start["latents"]}
    )
    first, again = (train_adapter.reading_part({}, None, None) for _ in range(2))
    assert first == again == {"image_proj.proj_in.bias": 1.0, "image_proj.latents": 2.0}
    assert made == [1]


def test_what_reads_is_held_while_nothing_can_be_written_yet():
    learner = SimpleNamespace(image_projection=Resampler(sizes()))
    hold(learner, 0)
    learning = {name for name, weight in learner.image_projection.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in learning} == {"proj_out", "norm_out"}
    hold(learner, TEXTS_HELD)
    learning = {name for name, weight in learner.image_projection.named_parameters() if weight.requires_grad}
    assert {"proj_new_input.weight", "proj_prompt_input.bias"} < learning
    assert any(name.startswith("new_input_layers.") for name in learning)
    assert not any(name.startswith(("latents", "layers.", "proj_in.")) for name in learning)
