"""Real ComfyUI encoders with random weights, and what other libraries make of the same weights."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import comfy.text_encoders.sd2_clip
import comfy.text_encoders.sd3_clip
import open_clip
import torch
import transformers
from comfyhost.encoders import clip_text, vit_h
from comfyhost.weights import Blueprint, draw, draw_one
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer
from safetensors.torch import save_file
from torch import Tensor

ClipVisionModel = comfy.clip_vision.ClipVisionModel
POSITIONS = "text_model.embeddings.position_embedding.weight"
HEAD = 80  # ViT-H's heads
SMALL_TOWER = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1, "intermediate_size": 64}


# CLIP-L's text tower


@functools.cache
def clip_l_weights(layers: int = 12, seed: int = 3) -> dict[str, Tensor]:
    """fp16, in transformers' names."""
    return draw(clip_text(768, layers), seed=seed, dtype=torch.float16)


def with_positions(weights: Mapping[str, Tensor], positions: int) -> dict[str, Tensor]:
    """The tower with so many places for tokens, the first of them its own: 248 in a Long-CLIP."""
    own = weights[POSITIONS]
    drawn = torch.randn(max(positions - len(own), 0), own.shape[1], generator=torch.Generator().manual_seed(5))
    return {**weights, POSITIONS: torch.cat([own, drawn.to(own) * own.std()])[:positions]}


def load_text_encoder(kind: str, positions: int = 77):
    """A CLIP by ComfyUI's own loader: of SD1.5 or SD3 from a file that holds CLIP-L alone, or SDXL's pair.

    SDXL's second tower is small and without weights, since nothing here reads it.
    """
    weights = with_positions(clip_l_weights(), positions)
    if kind == "sdxl":
        sizes = {"clip_g_model_config": SMALL_TOWER, "clip_l_model_config": {"max_position_embeddings": positions}}
        clip = clip_of(comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel, **sizes)
        clip.cond_stage_model.clip_l.load_sd(weights)
        return clip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip_l.safetensors")
        save_file(weights, path)
        kinds = {"sd15": comfy.sd.CLIPType.STABLE_DIFFUSION, "sd3": comfy.sd.CLIPType.SD3}
        return comfy.sd.load_clip([str(path)], clip_type=kinds[kind])


@functools.cache
def small_clip(seed: int = 3):
    """SD1.5's CLIP with two layers of twelve."""
    sizes = {"num_hidden_layers": 2}
    clip = clip_of(comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel, clip_l_model_config=sizes)
    clip.load_sd({**clip_l_weights(2, seed), "text_projection.weight": torch.eye(768)})
    return clip


def clip_of(tokenizer: type, model: type, **options):
    """A ComfyUI CLIP of these classes; the options may change a tower's configuration."""
    return comfy.sd.CLIP(comfy.supported_models_base.ClipTarget(tokenizer, model), model_options=options)


def sd2_clip():
    """SD2's CLIP, whose only tower is CLIP-H. Small and without weights: it is only looked at."""
    parts = comfy.text_encoders.sd2_clip
    return clip_of(parts.SD2Tokenizer, parts.SD2ClipModel, clip_h_model_config=SMALL_TOWER)


def sd3_clip_without_clip_l():
    """SD3's CLIP of a graph that loads its other text encoders only."""
    parts = comfy.text_encoders.sd3_clip
    return clip_of(parts.SD3Tokenizer, parts.sd3_clip(clip_l=False, clip_g=False, t5=False))


def transformers_text_model(weights: Mapping[str, Tensor]) -> torch.nn.Module:
    config = transformers.CLIPTextConfig(vocab_size=49408, hidden_size=768, intermediate_size=3072)
    config.num_hidden_layers = config.num_attention_heads = 12
    with torch.device("meta"):
        model = transformers.CLIPTextModel(config)
    return filled(model, weights, "text_model.")


def open_clip_text_model(weights: Mapping[str, Tensor]) -> TextTransformer:
    """The text tower of ViT-L-14-quickgelu."""
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    assert config["quick_gelu"]
    text = config["text_cfg"]
    with torch.device("meta"):
        model = TextTransformer(**text, act_layer=QuickGELU, proj_type="none")
    names = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.weight": "text_model.final_layer_norm.weight",
        "ln_final.bias": "text_model.final_layer_norm.bias",
    }
    state = open_clip_state(weights, names, "text_model.encoder.layers.", text["layers"])
    model.load_state_dict(state, assign=True)
    model.attn_mask = model.build_causal_mask()
    return model.eval()


# ViT-H's image tower


def small_vit_l() -> dict[str, Tensor]:
    """Both towers of a ViT-L-14 with few layers, in open_clip's layout."""
    config = open_clip.get_model_config("ViT-L-14-quickgelu")
    config["vision_cfg"] |= {"layers": 2, "image_size": 28}
    config["text_cfg"] |= {"layers": 1, "vocab_size": 49408}
    torch.manual_seed(0)
    return {name: x.half() for name, x in open_clip.CLIP(**config).state_dict().items()}


def vit_weights(width: int = HEAD * 2, layers: int = 4, patches: int = 16) -> dict[str, Tensor]:
    """fp16, in transformers' names; by default a tower of ViT-H's structure and a fraction of its size.

    Of more than four layers the large matrices repeat every four; norms and biases are each layer's own.
    """
    blueprint: Blueprint = vit_h(width=width, layers=layers, patches=patches**2)
    generator = torch.Generator().manual_seed(4)
    drawn: dict[str, Tensor] = {}
    for name, weight in blueprint.items():
        parts = name.split(".")
        if "layers" in parts and len(weight.shape) > 1:
            number = parts.index("layers") + 1
            first = ".".join([*parts[:number], str(int(parts[number]) % 4), *parts[number + 1 :]])
            if first != name:
                drawn[name] = drawn[first]
                continue
        drawn[name] = draw_one(weight, generator, torch.float16)
    return drawn


def vit_config(width: int = HEAD * 2, layers: int = 4, patches: int = 16) -> dict:
    """ViT-H's configuration as ComfyUI ships it, with these sizes."""
    path = Path(comfy.clip_vision.__file__).with_name("clip_vision_config_h.json")
    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "image_size": 14 * patches,
    }
    return {**json.loads(path.read_text()), **sizes}


def clip_vision(width: int = HEAD * 2, layers: int = 4, patches: int = 16):
    """ComfyUI's ClipVisionModel of these sizes, with `vit_weights`."""
    model = clip_vision_of(vit_config(width, layers, patches))
    missing, unexpected = model.load_sd(vit_weights(width, layers, patches))
    assert not missing
    assert not unexpected
    return model


def clip_vision_of(config: dict):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))
        return ClipVisionModel(str(path))


def transformers_vision_model(weights: Mapping[str, Tensor], config: dict) -> torch.nn.Module:
    with torch.device("meta"):
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    return filled(model, weights, "vision_model.")


def open_clip_vision_model(weights: Mapping[str, Tensor], config: dict) -> VisionTransformer:
    with torch.device("meta"):
        model = VisionTransformer(
            image_size=config["image_size"],
            patch_size=config["patch_size"],
            width=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            mlp_ratio=config["intermediate_size"] / config["hidden_size"],
            output_dim=config["projection_dim"],
        )
    names = {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    }
    for ours, theirs in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        names |= {f"{ours}.{part}": f"vision_model.{theirs}.{part}" for part in ("weight", "bias")}
    state = open_clip_state(weights, names, "vision_model.encoder.layers.", config["num_hidden_layers"])
    state["proj"] = weights["visual_projection.weight"].float().T
    model.load_state_dict(state, assign=True)
    return model.eval()


# Both


def filled(model: torch.nn.Module, weights: Mapping[str, Tensor], tower: str) -> torch.nn.Module:
    """A transformers model made on the meta device, with the weights in float32.

    transformers 5 has dropped the towers' own prefix from some models' names.
    """
    named = any(name.startswith(tower) for name in model.state_dict())
    shared = {id(w): w.float() for w in weights.values()}  # repeated matrices stay one
    state = {name if named else name.removeprefix(tower): shared[id(w)] for name, w in weights.items()}
    model.load_state_dict(state, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # position_ids
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], torch.arange(buffer.shape[-1]).expand(buffer.shape))
    return model.eval()


def open_clip_state(
    weights: Mapping[str, Tensor], names: Mapping[str, str], layers: str, count: int
) -> dict[str, Tensor]:
    """transformers' weights under open_clip's names, in float32: q, k and v are one matrix there."""
    state = {ours: weights[theirs].float() for ours, theirs in names.items()}
    joined = functools.cache(lambda *tensors: torch.cat([t.float() for t in tensors]))
    plain = functools.cache(lambda tensor: tensor.float())
    pairs = (
        ("attn.out_proj", "self_attn.out_proj"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
    )
    for number, part in itertools.product(range(count), ("weight", "bias")):
        ours, theirs = f"transformer.resblocks.{number}.", f"{layers}{number}."
        qkv = (weights[f"{theirs}self_attn.{x}_proj.{part}"] for x in "qkv")
        state[f"{ours}attn.in_proj_{part}"] = joined(*qkv)
        state |= {f"{ours}{a}.{part}": plain(weights[f"{theirs}{b}.{part}"]) for a, b in pairs}
    return state
