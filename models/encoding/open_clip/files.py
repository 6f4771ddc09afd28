"""CLIP's towers in files: which one a file holds, its sizes, and its tensors under open_clip's names.

A file may hold one tower or a whole CLIP, in open_clip's names or in transformers', behind any prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...adapter.resampler import highest_number
from ...files.encoder_files import EncoderSizes
from ...files.tensor_files import read_file
from ...messages import some

BLOCKS = "transformer.resblocks."
TOWER_TENSORS_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Tower:
    """A tower that is known by the width of its hidden states.

    model: the configuration in open_clip that has its heads and its activation, which no tensor tells.
    """

    title: str
    model: str
    width: int


@dataclass(frozen=True)
class Pretrained:
    """The weights that open_clip knows by a model and a tag. Their file holds both towers."""

    model: str
    tag: str

    @property
    def choice(self) -> str:
        """The name by which the nodes offer it and workflows keep it."""
        return f"{self.model} {self.tag} (download)"

    @property
    def stem(self) -> str:
        """The name of its file in ComfyUI's folder, without the suffix."""
        return f"{self.model}-{self.tag}"


@dataclass(frozen=True)
class Layout:
    """A way to name a tower's tensors. names: open_clip's name of one, or the beginning of several, to the file's.

    A file has the layout at a prefix where all of `marks` are. Names of `beside` lie beside the tower's own prefix.
    """

    title: str
    marks: tuple[str, ...]
    blocks: str
    names: Mapping[str, str]
    beside: str = ""

    def prefixes(self, names: Mapping[str, Tensor]) -> list[str]:
        """Return the prefixes behind which the file has such a tower."""
        found = [name.removesuffix(self.marks[0]) for name in names if name.endswith(self.marks[0])]
        return [p for p in found if p[-1:] in ("", ".") and all(f"{p}{mark}" in names for mark in self.marks)]

    def source(self, ours: str, prefix: str) -> str:
        """Return the file's name of a tensor."""
        block = re.match(rf"{re.escape(BLOCKS)}\d+\.", ours)
        if block:
            prefix += self.blocks + block[0].removeprefix(BLOCKS)
            ours = ours.removeprefix(block[0])
        for beginning, theirs in self.names.items():
            if ours == beginning or ours.startswith(f"{beginning}."):
                if theirs == self.beside:
                    prefix = prefix.removesuffix("vision_model.")
                return prefix + theirs + ours.removeprefix(beginning)
        return prefix + ours


@dataclass(frozen=True)
class Kind:
    """The image or the text towers: what they have outside their blocks, the layouts, and the towers that are known."""

    title: str
    norm: str
    outside: tuple[str, ...]
    layouts: tuple[Layout, ...]
    towers: tuple[Tower, ...]


PROJECTION = "visual_projection.weight"
TRANSFORMERS_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
BLOCK = [f"{name}.{part}" for name in TRANSFORMERS_BLOCK for part in ("weight", "bias")]
JOINED = ("attn.in_proj_weight", "attn.in_proj_bias")
DIMENSIONS = {"conv1.weight": 4, "positional_embedding": 2, f"{BLOCKS}0.mlp.c_fc.weight": 2, "proj": 2}

# Source: mlfoundations/open_clip@v3.3.0 model_configs; the layouts, its VisionTransformer and TextTransformer, and
# huggingface/transformers' CLIPVisionModelWithProjection and CLIPTextModel.
IMAGE = Kind(
    "image tower",
    "ln_post.weight",
    (
        "class_embedding",
        "conv1.weight",
        "positional_embedding",
        *(f"{norm}.{part}" for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")),
    ),
    (
        Layout("open_clip's names", ("class_embedding", "conv1.weight"), BLOCKS, {}),
        Layout(
            "transformers' names",
            ("embeddings.class_embedding", "embeddings.patch_embedding.weight"),
            "encoder.layers.",
            {
                "class_embedding": "embeddings.class_embedding",
                "conv1": "embeddings.patch_embedding",
                "positional_embedding": "embeddings.position_embedding.weight",
                "ln_pre": "pre_layrnorm",
                "ln_post": "post_layernorm",
                "proj": PROJECTION,
                **TRANSFORMERS_BLOCK,
            },
            beside=PROJECTION,
        ),
    ),
    (
        Tower("ViT-H-14", "ViT-H-14", 1280),
        Tower("ViT-bigG-14", "ViT-bigG-14", 1664),
        Tower("ViT-L-14", "ViT-L-14-quickgelu", 1024),
    ),
)
TEXT = Kind(
    "text tower",
    "ln_final.weight",
    ("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"),
    (
        Layout("open_clip's names", ("token_embedding.weight", "ln_final.weight"), BLOCKS, {}),
        Layout(
            "transformers' names",
            ("embeddings.token_embedding.weight", "final_layer_norm.weight"),
            "encoder.layers.",
            {
                "token_embedding": "embeddings.token_embedding",
                "positional_embedding": "embeddings.position_embedding.weight",
                "ln_final": "final_layer_norm",
                **TRANSFORMERS_BLOCK,
            },
        ),
    ),
    (Tower("ViT-L-14", "ViT-L-14-quickgelu", 768),),
)
IMAGE_WEIGHTS = (
    Pretrained("ViT-H-14", "laion2b_s32b_b79k"),
    Pretrained("ViT-bigG-14", "laion2b_s39b_b160k"),
    Pretrained("ViT-L-14", "openai"),
    Pretrained("ViT-L-14-336", "openai"),
)
TEXT_WEIGHTS = (Pretrained("ViT-L-14", "openai"),)


@dataclass(frozen=True, eq=False)
class TowerWeights:
    """A tower of a file: its tensors under open_clip's names, all that it needs and no others."""

    file: str
    tower: Tower
    layout: str
    tensors: Mapping[str, Tensor]

    @property
    def layers(self) -> int:
        return sum(name.startswith(BLOCKS) and name.endswith(JOINED[0]) for name in self.tensors)

    @property
    def mlp_width(self) -> int:
        return self.tensors[f"{BLOCKS}0.mlp.c_fc.weight"].shape[0]

    @property
    def positions(self) -> int:
        """The number of positions: an image's patches and its class token, or a text's tokens."""
        return self.tensors["positional_embedding"].shape[0]

    @property
    def encoder_sizes(self) -> EncoderSizes:
        projection = self.tensors.get("proj")
        return EncoderSizes(self.tower.width, None if projection is None else projection.shape[1], self.positions)

    @property
    def patch_size(self) -> int:
        """The side of an image tower's patches, in pixels."""
        return self.tensors["conv1.weight"].shape[-1]

    @property
    def image_size(self) -> int:
        """The side of the square image that an image tower takes, in pixels."""
        return round((self.positions - 1) ** 0.5) * self.patch_size


def read_tower(path: Path, kind: Kind) -> TowerWeights:
    """Read the tower of this kind in a .safetensors file or a pickle of tensors; of the former nothing else is read.

    Raises ValueError for a file that cannot be read, or holds no such tower, or not all of it.
    """
    return find_tower(read_file(path), kind, path.name)


def find_tower(tensors: Mapping[str, Tensor], kind: Kind, name: str) -> TowerWeights:
    """Find the tower that `read_tower` gives among the tensors of a file called `name`."""
    found = [(layout, prefix) for layout in kind.layouts for prefix in layout.prefixes(tensors)]
    known: dict[int | None, Tower] = {tower.width: tower for tower in kind.towers}
    widths = [_width(tensors, kind, *place) for place in found]
    number = next((number for number, width in enumerate(widths) if width in known), None)
    if number is None:
        raise ValueError(_not_found(tensors, kind, widths, name))
    layout, prefix = found[number]
    return TowerWeights(name, known[widths[number]], layout.title, _translated(tensors, kind, layout, prefix, name))


def _width(tensors: Mapping[str, Tensor], kind: Kind, layout: Layout, prefix: str) -> int | None:
    norm = tensors.get(layout.source(kind.norm, prefix))
    return norm.shape[0] if norm is not None and norm.ndim else None


def _translated(tensors: Mapping[str, Tensor], kind: Kind, layout: Layout, prefix: str, name: str) -> dict[str, Tensor]:
    """Return the tower at the prefix under open_clip's names. Every tensor of its blocks must be of use."""
    blocks = re.compile(rf"{re.escape(prefix + layout.blocks)}([0-9]+)\.")
    inside = {theirs: match[1] for theirs in tensors if (match := blocks.match(theirs))}
    try:
        layers = highest_number(set(inside.values()), len(inside), prefix + layout.blocks) + 1
    except KeyError as error:
        raise ValueError(_incomplete(name, kind, [f"{error.args[0]}.*"])) from None
    places = {ours: _sources(tensors, layout, ours, prefix) for ours in _expected(kind, layers)}
    used = {theirs for sources in places.values() for theirs in sources}
    if missing := sorted(used - tensors.keys()):
        raise ValueError(_incomplete(name, kind, missing))
    if unknown := sorted(inside.keys() - used):
        raise ValueError(
            f"{name} was expected to hold CLIP's {kind.title}; it has more than that, {_are(unknown)} unknown. It is "
            "another model: choose one of the files that the node's help page names."
        )
    translated = {ours: _joined(name, tensors, sources) for ours, sources in places.items()}
    projection = tensors.get(layout.source("proj", prefix)) if kind is IMAGE else None
    if projection is not None:
        translated["proj"] = projection.T if layout.beside and projection.ndim == 2 else projection
    for ours, count in DIMENSIONS.items():
        if ours in translated and translated[ours].ndim != count:
            raise ValueError(
                f"{name} was expected to hold {ours} in {count} dimensions; it is {list(translated[ours].shape)}. It "
                "is damaged: download it again, or choose another one."
            )
    return translated


def _expected(kind: Kind, layers: int) -> Iterator[str]:
    """Yield open_clip's names of all tensors of a tower but its projection."""
    yield from kind.outside
    for number in range(layers):
        yield from (f"{BLOCKS}{number}.{name}" for name in (*BLOCK, *JOINED))


def _sources(tensors: Mapping[str, Tensor], layout: Layout, ours: str, prefix: str) -> list[str]:
    """Return the file's names for one tensor: three for the attention's inputs, which transformers does not join."""
    if not ours.endswith(JOINED) or not layout.names:
        return [layout.source(ours, prefix)]
    start, _, part = ours.rpartition("attn.in_proj_")
    return [layout.source(f"{start}self_attn.{which}_proj.{part}", prefix) for which in "qkv"]


def _joined(name: str, tensors: Mapping[str, Tensor], sources: list[str]) -> Tensor:
    if len(sources) == 1:
        return tensors[sources[0]]
    try:
        return torch.cat([tensors[theirs] for theirs in sources])
    except RuntimeError:
        shapes = " and ".join(str(list(tensors[theirs].shape)) for theirs in sources)
        raise ValueError(
            f"{name} was expected to hold {', '.join(sources)} of one width; they are {shapes}. It is damaged: "
            "download it again, or choose another one."
        ) from None


def _incomplete(name: str, kind: Kind, missing: list[str]) -> str:
    return (
        f"{name} was expected to hold a whole {kind.title}; {_are(missing)} missing. It is incomplete, or was "
        "converted from an incomplete file: download it again, or choose another one."
    )


def _not_found(tensors: Mapping[str, Tensor], kind: Kind, widths: list[int | None], name: str) -> str:
    known = ", ".join(f"{tower.title} ({tower.width} wide)" for tower in kind.towers)
    other = TEXT if kind is IMAGE else IMAGE
    if any(widths):
        found = f"its {kind.title} is {' and '.join(str(width) for width in widths if width)} wide"
    elif any(layout.prefixes(tensors) for layout in other.layouts):
        found = f"it holds {'a' if other is TEXT else 'an'} {other.title} only"
    else:
        names = some(sorted(tensors), TOWER_TENSORS_SHOWN)
        found = f"it holds other tensors, such as {names}" if tensors else "it holds no tensors"
    return (
        f"{name} was expected to hold CLIP's {kind.title} of {known}, in open_clip's or transformers' names; {found}. "
        "Choose another file, or one of the entries that download it."
    )


def _are(names: list[str]) -> str:
    return f"{some(names, TOWER_TENSORS_SHOWN)} {'is' if len(names) == 1 else 'are'}"
