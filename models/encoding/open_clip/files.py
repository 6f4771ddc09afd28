"""CLIP's towers in files: which one a file holds, its sizes, and its tensors under open_clip's names.

A file may hold one tower or a whole CLIP, in open_clip's names or in transformers', behind any prefix.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...files.encoder_files import EncoderSizes
from ...files.tensor_files import read_file
from ...messages import some

BLOCKS = "transformer.resblocks."
TOWER_TENSORS_SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Tower:
    """A tower that is known by the width of its hidden states."""

    title: str
    model: str  # the configuration in open_clip that has its heads and its activation, which no tensor tells
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


IMAGE_WEIGHTS = (
    Pretrained("ViT-H-14", "laion2b_s32b_b79k"),
    Pretrained("ViT-bigG-14", "laion2b_s39b_b160k"),
    Pretrained("ViT-L-14", "openai"),
    Pretrained("ViT-L-14-336", "openai"),
)
TEXT_WEIGHTS = (Pretrained("ViT-L-14", "openai"),)


@dataclass(frozen=True)
class Kind:
    """The image or the text towers: the tensors outside their blocks, and the towers that are known.

    A file has such a tower at a prefix where both of `marks` are; the length of `norm` is its width.
    """

    title: str
    marks: tuple[str, str]
    norm: str
    others: tuple[str, ...]
    towers: tuple[Tower, ...]


# Source: mlfoundations/open_clip@v3.3.0 model_configs; for the names, its VisionTransformer and TextTransformer, and
# huggingface/transformers' CLIPVisionModelWithProjection and CLIPTextModel.
IMAGE = Kind(
    "image tower",
    ("class_embedding", "conv1.weight"),
    "ln_post.weight",
    ("positional_embedding", "ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias"),
    (
        Tower("ViT-H-14", "ViT-H-14", 1280),
        Tower("ViT-bigG-14", "ViT-bigG-14", 1664),
        Tower("ViT-L-14", "ViT-L-14-quickgelu", 1024),
    ),
)
TEXT = Kind(
    "text tower",
    ("token_embedding.weight", "ln_final.weight"),
    "ln_final.weight",
    ("positional_embedding", "ln_final.bias"),
    (Tower("ViT-L-14", "ViT-L-14-quickgelu", 768),),
)
BLOCK_PARTS = ("attn.in_proj_", "attn.out_proj.", "mlp.c_fc.", "mlp.c_proj.", "ln_1.", "ln_2.")  # of a block
DIMENSIONS = {"conv1.weight": 4, "positional_embedding": 2, f"{BLOCKS}0.mlp.c_fc.weight": 2, "proj": 2}

# The parts of open_clip's names that transformers calls otherwise.
TRANSFORMERS = {
    "class_embedding": "embeddings.class_embedding",
    "conv1": "embeddings.patch_embedding",
    "token_embedding": "embeddings.token_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "ln_final": "final_layer_norm",
    BLOCKS: "encoder.layers.",
    "attn": "self_attn",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
RENAMED = re.compile("|".join(map(re.escape, TRANSFORMERS)))


def _in_transformers(ours: str) -> list[str]:
    """Return transformers' names for a tensor: three for the attention's inputs, which open_clip joins."""
    theirs = RENAMED.sub(lambda part: TRANSFORMERS[part[0]], ours)
    return [theirs.replace("in_proj_", f"{which}_proj.") for which in "qkv"] if "in_proj_" in theirs else [theirs]


OPEN_CLIP = "open_clip's names"
LAYOUTS = {OPEN_CLIP: lambda ours: [ours], "transformers' names": _in_transformers}


@dataclass(frozen=True)
class Place:
    """The place of a tower in a file: the layout of its names, and the prefix before them."""

    layout: str
    prefix: str

    def sources(self, ours: str) -> list[str]:
        """Return the file's names for what is one tensor in open_clip."""
        return [self.prefix + theirs for theirs in LAYOUTS[self.layout](ours)]

    def projection(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """Return an image tower's projection, as open_clip has it. transformers' lies beside the tower, transposed."""
        if self.layout == OPEN_CLIP:
            return tensors.get(f"{self.prefix}proj")
        found = tensors.get(f"{self.prefix.removesuffix('vision_model.')}visual_projection.weight")
        return found.T if found is not None and found.ndim == 2 else found


@dataclass(frozen=True, eq=False)
class TowerWeights:
    """A tower of a file: its tensors under open_clip's names, all that it needs and no others."""

    file: str
    tower: Tower
    layout: str
    tensors: Mapping[str, Tensor]

    @property
    def layers(self) -> int:
        return sum(name.endswith("attn.in_proj_weight") for name in self.tensors)

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
    """Read the tower of this kind in a file of tensors. Raises ValueError for one without it, or without all of it."""
    return find_tower(read_file(path), kind, path.name)


def find_tower(tensors: Mapping[str, Tensor], kind: Kind, name: str) -> TowerWeights:
    """Find the tower that `read_tower` gives among the tensors of a file called `name`."""
    places = _places(tensors, kind)
    norms = [tensors.get(*place.sources(kind.norm)) for place in places]
    widths = [norm.shape[0] if norm is not None and norm.ndim else None for norm in norms]
    known = {tower.width: tower for tower in kind.towers}
    for place, width in zip(places, widths, strict=True):
        if width in known:
            return TowerWeights(name, known[width], place.layout, _translated(tensors, kind, place, name))
    raise ValueError(_not_found(tensors, kind, widths, name))


def _places(tensors: Mapping[str, Tensor], kind: Kind) -> list[Place]:
    places = []
    for layout, names in LAYOUTS.items():
        first, second = (names(mark)[0] for mark in kind.marks)
        prefixes = [name.removesuffix(first) for name in tensors if name.endswith(first)]
        places += [Place(layout, p) for p in prefixes if p[-1:] in ("", ".") and p + second in tensors]
    return places


def _translated(tensors: Mapping[str, Tensor], kind: Kind, place: Place, name: str) -> dict[str, Tensor]:
    """Return the tower at this place under open_clip's names. Every tensor of its blocks must be of use."""
    (blocks,) = place.sources(BLOCKS)
    matches = [re.match(rf"{re.escape(blocks)}([0-9]+)\.", theirs) for theirs in tensors]
    inside = {match.string: match[1] for match in matches if match}
    numbers = set(inside.values())
    layers = range(max(len(numbers), 1))
    in_blocks = [f"{BLOCKS}{n}.{part}{end}" for n in layers for part in BLOCK_PARTS for end in ("weight", "bias")]
    places = {ours: place.sources(ours) for ours in (*kind.marks, *kind.others, *in_blocks)}
    used = {theirs for sources in places.values() for theirs in sources}
    gaps = [f"{blocks}{n}.*" for n in layers if str(n) not in numbers]
    if missing := gaps or sorted(used - tensors.keys()):
        raise ValueError(
            f"{name} was expected to hold a whole {kind.title}; {_are(missing)} missing. It is incomplete, or was "
            "converted from an incomplete file: download it again, or choose another one."
        )
    if unknown := sorted(inside.keys() - used):
        raise ValueError(
            f"{name} was expected to hold CLIP's {kind.title}; it has more than that, {_are(unknown)} unknown. It is "
            "another model: choose one of the files that the node's help page names."
        )
    translated = {ours: _joined(name, tensors, sources) for ours, sources in places.items()}
    projection = place.projection(tensors) if kind is IMAGE else None
    if projection is not None:
        translated["proj"] = projection
    for ours, count in DIMENSIONS.items():
        if ours in translated and translated[ours].ndim != count:
            raise ValueError(
                f"{name} was expected to hold {ours} in {count} dimensions; it is {list(translated[ours].shape)}. It "
                "is damaged: download it again, or choose another one."
            )
    return translated


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


def _not_found(tensors: Mapping[str, Tensor], kind: Kind, widths: list[int | None], name: str) -> str:
    known = ", ".join(f"{tower.title} ({tower.width} wide)" for tower in kind.towers)
    other = TEXT if kind is IMAGE else IMAGE
    if any(widths):
        found = f"its {kind.title} is {' and '.join(str(width) for width in widths if width)} wide"
    elif _places(tensors, other):
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
