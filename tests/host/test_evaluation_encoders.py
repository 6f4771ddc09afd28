"""The encoders of `cli.py evaluate`, from files to scores, against transformers and torchmetrics.

The CLIPs and DINOv2s are small, random and of transformers' own classes.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import comfy.sd1_clip
import pytest
import torch
import transformers
from comfyhost.places import REPO_ROOT
from ipadapter_instruct.commands.evaluate.embeddings import Embeddings
from ipadapter_instruct.commands.evaluate.encoders import Encoder, comfyui_encoder, dino_encoder, open_clip_encoder
from ipadapter_instruct.commands.evaluate.pixels import opened
from ipadapter_instruct.commands.evaluate.scores import clip_score, clip_style, cosine
from PIL import Image
from safetensors.torch import load_file, save_file
from support.patience import PATIENCE
from support.random_clip import random_clip, random_clip_l, saved
from support.refusals import refused
from support.small_encoders import open_clip_state
from torch import Tensor
from torchmetrics.multimodal import CLIPScore

CLOSE = 1e-5
TEXTS = ["a boat at sea", "a cat (on a sofa:1.3), 8k", "", "a red square, and then " * 30]
SIZES = [(40, 60), (61, 33), (28, 28), (300, 200)]
OTHERS = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    **{f"ln_pre.{part}": f"pre_layrnorm.{part}" for part in ("weight", "bias")},
    **{f"ln_post.{part}": f"post_layernorm.{part}" for part in ("weight", "bias")},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """Pictures of several sizes, one with transparency."""
    folder, paths = tmp_path_factory.mktemp("pictures"), []
    for number, (width, height) in enumerate(SIZES):
        noise = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(number))
        small = Image.frombytes("RGB", (12, 12), (noise * 255).byte().numpy().tobytes())
        paths.append(folder / f"{number}.png")
        small.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def clip_l() -> transformers.CLIPModel:
    return random_clip_l()


@pytest.fixture(scope="module")
def clip_file(clip_l, tmp_path_factory) -> Path:
    return saved(clip_l, tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def ours(clip_file) -> Encoder:
    return comfyui_encoder(clip_file, clip_file)


def with_pillow(name: str) -> type:
    """transformers' preprocessing by Pillow, as scores are published with; transformers 5 has another one beside it."""
    return getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)


class AsTorchmetricsKnowsIt(torch.nn.Module):
    """A CLIPModel of transformers 5, whose features torchmetrics 1.9 expects as tensors."""

    def __init__(self, clip):
        super().__init__()
        self.clip, self.config = clip, clip.config

    def get_image_features(self, *given, **named):
        return tensor_of(self.clip.get_image_features(*given, **named))

    def get_text_features(self, *given, **named):
        return tensor_of(self.clip.get_text_features(*given, **named))


def tensor_of(found) -> Tensor:
    return getattr(found, "pooler_output", found)


def processor(side: int) -> transformers.CLIPProcessor:
    """transformers' own, with CLIP's words as ComfyUI ships them."""
    words = Path(comfy.sd1_clip.__file__).with_name("sd1_tokenizer")
    seen = with_pillow("CLIPImageProcessor")(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    return transformers.CLIPProcessor(seen, transformers.CLIPTokenizer.from_pretrained(words))


@torch.no_grad()
def theirs(clip, side: int, paths: list[Path], texts: list[str]) -> tuple[Tensor, Tensor]:
    given = processor(side)(
        images=[opened(path) for path in paths],
        text=texts,
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=77,
    )
    made = clip(**given)
    return made.image_embeds, made.text_embeds


def check(encoder: Encoder, clip, side: int, pictures: list[Path]) -> None:
    images, texts = theirs(clip, side, pictures, TEXTS)
    found = encoder.images([opened(path) for path in pictures]), encoder.texts(TEXTS)
    for ours, expected in zip(found, (images, texts), strict=True):
        ours = ours / ours.norm(dim=-1, keepdim=True)
        assert torch.allclose(ours, expected, atol=CLOSE)
        assert (expected @ expected.T).fill_diagonal_(0).max() < 0.999, "these would pass for one another"


def test_comfyuis_files_of_a_clip_give_transformers_embeddings(ours, clip_l, pictures):
    check(ours, clip_l, 28, pictures)


def test_open_clips_model_with_a_local_file_gives_transformers_embeddings(pictures, tmp_path):
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    vision = {**sizes, "image_size": 224, "patch_size": 32, "hidden_act": "gelu"}
    clip = random_clip(vision, {**sizes, "hidden_act": "gelu"}, 384)
    weights = dict(clip.state_dict())
    others = {ours: f"vision_model.{theirs}" for ours, theirs in OTHERS.items()}
    state = open_clip_state(weights, others, "vision_model.encoder.layers.", 12)
    state = {f"visual.{name}": x for name, x in state.items()} | {"visual.proj": weights["visual_projection.weight"].T}
    texts = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        **{f"ln_final.{part}": f"text_model.final_layer_norm.{part}" for part in ("weight", "bias")},
    }
    state |= open_clip_state(weights, texts, "text_model.encoder.layers.", 12)
    state |= {"text_projection": weights["text_projection.weight"].T, "logit_scale": weights["logit_scale"]}
    path = tmp_path / "vit-s-32.safetensors"
    save_file({name: x.contiguous() for name, x in state.items()}, path)
    check(open_clip_encoder("ViT-S-32", path, "cpu"), clip, 224, pictures)


def test_scores_of_files_are_those_of_torchmetrics_and_transformers(ours, clip_l, pictures, tmp_path):
    embeddings = Embeddings(ours, tmp_path, lambda *_: None)
    images, texts = embeddings.of_pictures(pictures), embeddings.of_texts(TEXTS)
    image, text = torch.stack([images[path] for path in pictures]), torch.stack([texts[one] for one in TEXTS])
    by_file = zip(pictures, TEXTS, clip_score(image, text).tolist(), strict=True)
    for path, one, score in list(by_file)[:-1]:  # torchmetrics cuts the end off a text that is too long
        metric = CLIPScore(model_name_or_path=lambda: (AsTorchmetricsKnowsIt(clip_l), processor(28)))
        pixels = torch.frombuffer(bytearray(opened(path).tobytes()), dtype=torch.uint8)
        width, height = opened(path).size
        expected = metric(pixels.view(height, width, 3).permute(2, 0, 1), one).item() / 100
        assert score == pytest.approx(2.5 * expected, abs=CLOSE)
    their_images, their_texts = theirs(clip_l, 28, pictures, TEXTS)
    similar = torch.nn.functional.cosine_similarity
    assert torch.allclose(cosine(image, image.flip(0)).float(), similar(their_images, their_images.flip(0)), atol=CLOSE)
    style = similar(their_images - their_texts, (their_images - their_texts).flip(0))
    assert torch.allclose(clip_style(image, text, image.flip(0), text.flip(0)).float(), style, atol=CLOSE)


@pytest.mark.parametrize(
    "changed, said",
    [
        ("text_projection.weight", "a text encoder with its projection (text_projection); it has none"),
        ("visual_projection.weight", "has no projection, and"),
    ],
)
def test_a_tower_without_its_projection_is_refused(clip_file, tmp_path, changed, said):
    tensors = load_file(clip_file)
    del tensors[changed]
    save_file(tensors, tmp_path / "lacking.safetensors")
    refused(lambda: comfyui_encoder(tmp_path / "lacking.safetensors", tmp_path / "lacking.safetensors"), said)


def test_encoders_of_different_clips_are_refused(clip_file, tmp_path):
    tensors = load_file(clip_file)
    tensors["text_projection.weight"] = tensors["text_projection.weight"][:64].clone()
    save_file(tensors, tmp_path / "other.safetensors")
    refused(
        lambda: comfyui_encoder(clip_file, tmp_path / "other.safetensors"),
        "An image and a text encoder of one CLIP were expected",
        "96 numbers",
        "other.safetensors gives embeddings of 64",
    )


@pytest.mark.parametrize(
    "name, said",
    [
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "would be downloaded"),
        ("ViT-None", "ViT-None is none"),
        ("ViT-B-32", "to hold the weights of ViT-B-32; open_clip says"),
    ],
)
def test_what_open_clip_has_not_or_would_download_is_refused(clip_file, name, said):
    refused(lambda: open_clip_encoder(name, clip_file, "cpu"), said)


def test_a_dinov2_in_transformers_folder_gives_its_class_token(pictures, tmp_path):
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 98, "patch_size": 14}
    model = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, initializer_range=0.2)).eval()
    model.save_pretrained(tmp_path)
    encoder = dino_encoder(tmp_path, "cpu")
    seen = with_pillow("BitImageProcessor")(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        resample=Image.Resampling.BICUBIC,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    images = [opened(path) for path in pictures]
    with torch.no_grad():
        expected = model(seen(images=images, return_tensors="pt")["pixel_values"]).last_hidden_state[:, 0]
    assert torch.allclose(encoder.images(images), expected, atol=CLOSE)


def test_what_is_no_dinov2_is_refused(clip_file, tmp_path):
    refused(lambda: dino_encoder(tmp_path, "cpu"), "transformers' folder of a DINOv2")
    refused(lambda: dino_encoder(clip_file, "cpu"), "was expected to be a DINOv2 image encoder; it is none")
    refused(lambda: dino_encoder(tmp_path / "gone", "cpu"), "A file was expected at")


def test_embeddings_are_the_same_bits_whatever_was_encoded_before(ours, pictures, tmp_path):
    told: list[tuple] = []
    make = partial(Embeddings, ours, tell=lambda *words: told.append(words))
    whole = make(tmp_path / "one").of_pictures(pictures)
    again = make(tmp_path / "one").of_pictures(pictures[::-1])
    other = make(tmp_path / "other").of_pictures(pictures[::-1])
    assert all(torch.equal(whole[path], again[path]) and torch.equal(whole[path], other[path]) for path in pictures)
    assert told[-1] == (4, 4, "pictures, model.safetensors")


def test_pictures_encoded_once_are_not_read_again_by_an_encoder(ours, pictures, tmp_path):
    Embeddings(ours, tmp_path, lambda *_: None).of_pictures(pictures)

    def never(pictures):
        raise AssertionError("encoded again")

    found = Embeddings(Encoder(ours.name, never, never), tmp_path, lambda *_: None).of_pictures(pictures)
    assert found.keys() == set(pictures)


@pytest.mark.parametrize("name", ["roberta-ViT-B-32", "ViT-B-16-SigLIP", "ViT-B-32"])
def test_a_model_whose_parts_are_not_all_on_disk_is_refused_without_a_connection(clip_file, name):
    """Some of open_clip's models take their words, or a whole text encoder, from Hugging Face."""
    arguments = [sys.executable, "-c", OFFLINE, str(REPO_ROOT), name, str(clip_file)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert f"to hold the weights of {name}; open_clip says" in done.stdout
    assert "NETWORK" not in done.stderr


# Every connection that is tried is told.
OFFLINE = """
import argparse, sys
calls = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, args: print("NETWORK", event, args, file=sys.stderr) if event in calls else None)
root, name, file = sys.argv[1:]
sys.path.insert(0, root)
import cli
cli.load_pack()
from ipadapter_instruct.commands.evaluate.comparison import scorers
nothing = dict.fromkeys(("clip_vision", "clip_text", "dino", "faces", "fid", "lpips"))
try:
    scorers(argparse.Namespace(open_clip=(name, file), cpu=True, comfyui="", **nothing))
except ValueError as error:
    print(error)
"""
