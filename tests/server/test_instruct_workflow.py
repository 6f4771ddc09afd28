"""The shipped workflow, run by a real server from its own file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from comfyhost.demo import choices
from ipadapter_instruct.commands.servers.client import Client, Progress, RunInterruptedError
from PIL import Image

LOADER, ENCODE, APPLY = "IPAdapterInstructLoader", "IPAdapterInstructEncode", "IPAdapterInstructApply"


def picture(client: Client, graph: dict) -> np.ndarray:
    """Run the graph; its only picture, [H, W, 3] of 0..255."""
    (image,) = client.run(graph).images()
    return np.asarray(Image.open(io.BytesIO(client.download(image))).convert("RGB"))


def test_adapters_of_the_models_folder_and_of_extra_model_paths_are_offered(object_info, shipped, tiny):
    offered = choices(object_info[LOADER], "adapter_name")
    assert {shipped.inputs(LOADER)["adapter_name"], tiny.inputs(LOADER)["adapter_name"]} <= set(offered)


def test_the_shipped_workflow_makes_a_picture_of_the_size_asked_for(client, with_auto):
    made = picture(client, with_auto)
    assert made.shape == (128, 128, 3)
    assert made.std() > 1, "the picture is one flat colour"


@pytest.mark.parametrize(
    ("task", "chosen"),
    [
        (
            "composition",
            ["guidance: three-way, weight: 0.6", "auto: three-way", "auto: weight -0.2", "passes a step: 3, 2"],
        ),
        (
            "style",
            ["guidance: simple, weight: 0.8", "auto: simple for 'style'", "passes a step: 2, 1 at cfg 1"],
        ),
    ],
)
def test_the_apply_node_shows_what_auto_chose(client, tiny, task, chosen):
    apply = tiny.id(APPLY)
    client.run(tiny.changed(ENCODE, task="pose"))  # nodes that are cached show nothing
    shown = client.run(tiny.changed(ENCODE, task=task)).outputs[apply]["text"]
    assert len(shown) == len(chosen)
    assert all(line.startswith(choice) for line, choice in zip(shown, chosen, strict=True)), shown


def test_another_task_or_instruction_makes_another_picture(client, tiny):
    simply = tiny.changed(APPLY, guidance="simple")
    composition = picture(client, simply)
    face = picture(client, simply.changed(ENCODE, task="face"))
    assert (composition != face).any()
    own_words = simply.changed(ENCODE, task="own words", instruction="use the face")
    assert np.array_equal(picture(client, own_words), face)


@pytest.mark.parametrize("guidance", ["auto", "simple", "three-way"])
def test_at_weight_0_the_picture_is_that_of_the_graph_without_apply(client, tiny, guidance):
    bare = picture(client, tiny.changed("KSampler", model=tiny.output("CheckpointLoaderSimple")))
    assert np.array_equal(picture(client, tiny.changed(APPLY, weight=0.0, guidance=guidance)), bare)
    assert (picture(client, tiny.changed(APPLY, guidance=guidance)) != bare).any()


def test_clip_text_encode_gives_the_picture_that_encodes_own_conditioning_gives(client, tiny):
    clip, texts = tiny.output("CheckpointLoaderSimple", 1), tiny.inputs(ENCODE)
    graph = tiny.with_node("positive", "CLIPTextEncode", clip=clip, text=texts["prompt"])
    graph = graph.with_node("negative", "CLIPTextEncode", clip=clip, text=texts["negative_prompt"])
    graph = graph.changed("KSampler", positive=["positive", 0], negative=["negative", 0])
    assert np.array_equal(picture(client, graph), picture(client, tiny))


@pytest.mark.long("tests/host/test_latent_masks has sizes that halve unevenly")
def test_a_large_picture_of_520_by_712_works(client, tiny):
    graph = tiny.changed("EmptyLatentImage", width=520, height=712).changed("KSampler", steps=1, cfg=1.0)
    assert picture(client, graph.changed(APPLY, guidance="simple")).shape == (712, 520, 3)


@pytest.mark.long("tests/host/test_latent_masks has small UNets")
def test_a_size_that_halves_unevenly_works_with_an_attention_mask_on_the_real_unet(client, shipped):
    """Latents of 25 x 17, then 13 x 9, 7 x 5 and 4 x 3; on the files that the workflow names."""
    graph = shipped.changed("EmptyLatentImage", width=136, height=200).changed("KSampler", steps=1)
    masked = graph.with_node("mask", "SolidMask", value=0.5, width=300, height=170)
    made = picture(client, masked.changed(APPLY, attn_mask=["mask", 0]))
    assert made.shape == (200, 136, 3)
    assert made.std() > 1


@pytest.mark.long("tests/host/test_broken_runs does it in process")
def test_an_interrupted_run_leaves_the_next_one_as_it_would_have_been(client, tiny):
    undisturbed = picture(client, tiny)
    asked: list[Progress] = []

    def interrupt_while_sampling(progress: Progress) -> None:
        if progress.maximum and progress.node_id == tiny.id("KSampler") and not asked:
            asked.append(progress)
            client.post("/interrupt")

    with pytest.raises(RunInterruptedError, match="KSampler"):
        client.run(tiny.changed("KSampler", steps=500), interrupt_while_sampling)
    assert np.array_equal(picture(client, tiny), undisturbed)


def test_two_applies_in_a_chain_act_together(client, tiny):
    style = {"task": "style"}
    chain = tiny.with_node("encode 2", ENCODE, **{**tiny.inputs(ENCODE), **style})
    second = {**tiny.inputs(APPLY), "model": tiny.output(APPLY), "embeds": ["encode 2", 0]}
    chain = chain.with_node("apply 2", APPLY, **second).changed("KSampler", model=["apply 2", 0])
    both = picture(client, chain)
    assert (both != picture(client, tiny)).any()
    assert (both != picture(client, tiny.changed(ENCODE, **style))).any()


def test_the_advanced_sampler_with_a_cfg_guider_gives_ksamplers_picture(client, tiny):
    settings = tiny.inputs("KSampler")
    model = settings["model"]
    graph = tiny.with_node("noise", "RandomNoise", noise_seed=settings["seed"])
    graph = graph.with_node("sampler", "KSamplerSelect", sampler_name=settings["sampler_name"])
    graph = graph.with_node(
        "sigmas", "BasicScheduler", model=model, scheduler=settings["scheduler"], steps=settings["steps"], denoise=1.0
    )
    texts = {name: settings[name] for name in ("positive", "negative")}
    graph = graph.with_node("guider", "CFGGuider", model=model, cfg=settings["cfg"], **texts)
    links = {name: [name, 0] for name in ("noise", "guider", "sampler", "sigmas")}
    graph = graph.with_node(
        tiny.id("KSampler"), "SamplerCustomAdvanced", latent_image=settings["latent_image"], **links
    )
    assert np.array_equal(picture(client, graph), picture(client, tiny))
