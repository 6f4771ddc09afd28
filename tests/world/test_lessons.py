"""What the world's adapters learn from: targets that are as asked for, and texts as the nodes encode them."""

from __future__ import annotations

import random

import pytest
import torch
from small_world import lessons as world_lessons
from small_world.lessons import TRAINED, WorldLessons, prompt_for, resampler_states
from small_world.phrasings import PLAIN
from small_world.references import References, all_scenes
from small_world.scenes import TASKS, is_held_out, taken
from small_world.storage import save_tensors
from small_world.train_adapter import FIXED, JOINT, NAMES, phrasings_for

FEW = 6


@pytest.fixture(scope="module")
def few_references(tmp_path_factory):
    scenes = [scene for scene in all_scenes() if not is_held_out(scene)][:: 2300 // FEW][:FEW]
    path = tmp_path_factory.mktemp("references") / "references.safetensors"
    states = torch.arange(FEW, dtype=torch.float16).view(FEW, 1, 1).expand(FEW, 257, 1280)
    save_tensors({"states": states}, path, "for tests")
    return References(tuple(scenes), path)


@pytest.fixture
def few_lessons(few_references, few_components, short_texts, monkeypatch):
    monkeypatch.setattr(world_lessons, "PROMPTS", 40)
    monkeypatch.setattr(world_lessons, "PICTURES", 1)
    monkeypatch.setattr(world_lessons, "blank_hidden_states", lambda: torch.zeros(1, 257, 1280))
    return WorldLessons(few_references, few_components, short_texts, TRAINED)


def test_there_are_as_many_scenes_as_the_attributes_have_values():
    scenes = all_scenes()
    assert len(scenes) == len(set(scenes)) == 6 * 7 * 5 * 2 * 6


def test_a_target_is_the_prompts_scene_with_what_is_asked_for_from_the_reference(few_lessons):
    drawn = random.Random(5)
    for _ in range(100):
        number, task, prompt, instruction, latents = few_lessons.example(drawn)
        target = taken(task, few_lessons.references.scenes[number], few_lessons.prompts[task][prompt].scene)
        assert not is_held_out(target)
        assert instruction in TRAINED[task]
        assert any(torch.equal(latents, one) for one in few_lessons.latents[target])


def test_a_batch_is_decided_by_its_generator(few_lessons):
    first, again, other = (few_lessons.batch(4, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert all(
        torch.equal(a, b)
        for a, b in zip(vars(first.conditioning).values(), vars(again.conditioning).values(), strict=True)
    )
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)
    shapes = [tuple(part.shape) for part in (first.latents, *vars(first.conditioning).values())]
    assert shapes == [(4, 16, 8, 8), (4, 257, 1280), (4, 77, 768), (4, 77, 768), (4, 33, 4096), (4, 2048)]


def test_what_the_instruction_asks_for_is_mostly_left_to_the_reference():
    drawn = random.Random(1)
    told = [any(prompt.scene.attributes["colour"] in prompt.text.split() for prompt in [prompt_for("colour", drawn)])
            for _ in range(600)]  # fmt: skip
    assert 0.1 < sum(told) / len(told) < 0.3


def test_the_resampler_is_given_clip_ls_last_states(short_texts, text_file):
    import comfy.sd
    from ipadapter_instruct.models.encoding.text_encoder import encode_texts

    text = "use the colour of the picture"
    clip = comfy.sd.load_clip([str(text_file)], clip_type=comfy.sd.CLIPType.SD3)
    expected = encode_texts(clip, [text])[text]
    found = resampler_states(short_texts.encode([text]).states)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * float(expected.abs().max()))


def test_each_adapter_learns_what_its_name_says():
    assert phrasings_for(JOINT) == TRAINED
    assert phrasings_for(FIXED) == {task: (PLAIN[task],) for task in TASKS}
    assert phrasings_for("style") == {"style": TRAINED["style"]}
    assert set(NAMES) == {JOINT, FIXED, *TASKS}
