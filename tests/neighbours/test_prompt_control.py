"""Prompts from comfyui-prompt-control: schedules, LoRA hooks, regions, several prompts at once, styles and cuts.

Expected are the oracle's results with the conditions that its nodes make: each positive with the negative that holds at
its place and time.
"""

import functools

import comfy.sd1_clip
import comfy.sdxl_clip
import folder_paths
import pytest
import torch
from comfy_extras import nodes_hooks
from safetensors.torch import save_file
from support import small_encoders
from support.other_nodes.other_packs import nodes_of, outputs_of
from support.other_nodes.small_lora import small_lora
from support.other_nodes.with_other_node import CHAINS
from support.sampling.host_samplers import ksampler
from support.sampling.scenes import OracleForm, PackForm, Scene, Text
from support.sampling.short_runs import close

import nodes as host_nodes

NAME = "comfyui-prompt-control"
WIDTHS = {"sd15": {"l": 96}, "sdxl": {"l": 16, "g": 112}}  # of the small UNets' texts
CLIPS = {
    "sd15": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
    "sdxl": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
}
NEGATIVE = "blurry"
PROMPTS = {
    "plain": "a dog in a field",
    "schedule": "a [red:blue:0.5] dog",
    "end of a word": "a [red::0.4] dog [in a field:0.6]",
    "regions": "a dog MASK(0 0.5, 0 1) AND a cat MASK(0.5 1, 0 1)",
    "style and cut": "STYLE(A1111) a (red:1.4) [CUT:dog in a field:field]",
    "areas": "a field AND a cat AREA(0 0.5, 0 1, 0.8)",
    "two at once": "a dog AND a cat :0.7",
}


@functools.cache
@torch.inference_mode(False)
def clip(family: str):
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 1}
    towers = {
        f"clip_{tower}_model_config": {**sizes, "hidden_size": width, "intermediate_size": width}
        for tower, width in WIDTHS[family].items()
    }
    made, random = small_encoders.clip_of(*CLIPS[family], **towers), torch.Generator().manual_seed(9)
    for name, weight in made.cond_stage_model.named_parameters():
        weight.data = 0.1 * torch.randn(weight.shape, generator=random)
        weight.data += "norm" in name and name.endswith("weight")
    return made


@pytest.fixture(scope="module")
def nodes():
    return nodes_of(NAME)


@pytest.fixture
def lora_file(tmp_path, monkeypatch):
    save_file(small_lora(), tmp_path / "small.safetensors")
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], folder_paths.supported_pt_extensions)
    )
    folder_paths.filename_list_cache.pop("loras", None)


def run(nodes, name: str, text: str, **given) -> list:
    """The results of a node that expands to a graph, run as the host's executor would. given: by the node's inputs."""
    node, links = nodes[name], {key: [key, 0] for key in given}
    if hasattr(node, "define_schema"):
        made = node.execute(**links, text=text)
    else:  # as it was written before, and with the node's number
        made = getattr(node(), node.FUNCTION)(**links, text=text, unique_id="1")
    results, graph = (made["result"], made["expand"]) if isinstance(made, dict) else (made.args, made.expand)
    classes = {**host_nodes.NODE_CLASS_MAPPINGS, **nodes_hooks.NODE_CLASS_MAPPINGS, **nodes}

    @functools.cache
    def outputs(number: str):
        inputs = {key: value(given) for key, given in graph[number]["inputs"].items()}
        return outputs_of(classes[graph[number]["class_type"]], **inputs)

    def value(one):
        if not isinstance(one, list):
            return one
        return given[one[0]] if one[0] in given else outputs(one[0])[one[1]]

    return [value(one) for one in results]


def encoded(nodes, text: str, with_clip, family: str = "sd15") -> list:
    (conditioning,) = run(nodes, "PCLazyTextEncode", text, clip=with_clip)
    if family == "sd15":  # whose UNet takes no pooled text, though its CLIP gives one
        for _, values in conditioning:
            values.pop("pooled_output")
    return conditioning


def ranges_meet(one: dict, other: dict) -> dict | None:
    start = max(one.get("start_percent", 0.0), other.get("start_percent", 0.0))
    end = min(one.get("end_percent", 1.0), other.get("end_percent", 1.0))
    return {"start_percent": start, "end_percent": end} if start < end else None


def text_of(cond: list) -> Text:
    return Text(cond[0], cond[1].get("pooled_output"))


def oracle_conditions(scene: Scene, positives: list, negatives: list) -> tuple[list, list]:
    """Each positive beside each negative of its time, both at its place and for as long as they last together."""
    made = [], []
    for positive in positives:
        for negative in negatives:
            meet = ranges_meet(positive[1], negative[1])
            if meet is None:
                continue
            own = Scene(scene.family, scene.links, text_of(positive), text_of(negative))
            for kind, conditions in zip(("positive", "negative"), made, strict=True):
                terms = own.terms(kind, own.own_text(kind), [own.positive])
                conditions.append([own.own_text(kind).context, {**positive[1], **meet, "terms": terms}])
    return made


def agree(scene: Scene, conds: tuple[list, list], model_change=lambda model: model) -> torch.Tensor:
    pack, oracle = PackForm(scene, model_change), OracleForm(scene, model_change)
    found = ksampler(pack, conds=conds)
    close(found, ksampler(oracle, conds=oracle_conditions(scene, *conds)))
    return found


@pytest.mark.parametrize("guidance", CHAINS)
@pytest.mark.parametrize("family", CLIPS)
@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_as_without_the_adapter(nodes, family, guidance, name):
    scene = Scene(family, CHAINS[guidance])
    negative = encoded(nodes, NEGATIVE, clip(family), family)
    found = agree(scene, (encoded(nodes, PROMPTS[name], clip(family), family), negative))
    if name != "plain":
        plain = encoded(nodes, PROMPTS["plain"], clip(family), family)
        assert not torch.allclose(found, ksampler(PackForm(scene), conds=(plain, negative)), atol=0.01)


@pytest.mark.parametrize("guidance", CHAINS)
@pytest.mark.parametrize("lora", ["<lora:small:0.8>", "[<lora:small:1.5>::0.5]"], ids=["all the time", "scheduled"])
def test_loras_are_as_without_the_adapter(nodes, lora_file, guidance, lora):
    scene, changed = Scene(links=CHAINS[guidance]), []

    def with_lora(model):
        changed[:] = run(nodes, "PCLazyLoraLoader", lora, model=model, clip=clip("sd15"))
        return changed[0]

    with_lora(PackForm(scene).model)
    conds = tuple(encoded(nodes, text, changed[1]) for text in (PROMPTS["schedule"], NEGATIVE))
    found = agree(scene, conds, with_lora)
    plain = tuple(encoded(nodes, text, clip("sd15")) for text in (PROMPTS["schedule"], NEGATIVE))
    assert not torch.allclose(found, ksampler(PackForm(scene), conds=plain), atol=0.01)


@pytest.mark.parametrize("guidance", CHAINS)
def test_prompts_that_it_couples_in_the_attention_are_refused(nodes, guidance):
    conds = tuple(encoded(nodes, text, clip("sd15")) for text in ("a field COUPLE(0 0.5, 0 1) a cat", NEGATIVE))
    with pytest.raises(ValueError, match="rows was expected.*repeats rows inside the attention"):
        ksampler(PackForm(Scene(links=CHAINS[guidance])), conds=conds)
