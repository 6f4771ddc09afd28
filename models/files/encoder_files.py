"""Image encoders: which one an adapter needs, and files recognised by a look at their headers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

H94 = "https://huggingface.co/h94/IP-Adapter/resolve/main/"
VIT_H_FILE = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
VIT_H_URL = f"{H94}models/image_encoder/model.safetensors"
SUFFIXES = (".safetensors", ".sft")
FACE_WIDTH = 512  # numbers of an ArcFace embedding


@dataclass(frozen=True)
class EncoderSizes:
    """The sizes that tell image encoders apart.

    width: of the hidden states. projection_width: of the projected embedding of the whole image, None without one.
    positions: how many hidden states there are, the class token's among them; None where a file does not tell.
    """

    width: int
    projection_width: int | None = None
    positions: int | None = None


@dataclass(frozen=True)
class Encoder:
    """An image encoder that people know by a title, and where to get the file that adapters were trained with."""

    title: str
    sizes: EncoderSizes
    file: str = ""
    url: str = ""


# Of those of one width, the one that adapters were trained with stands first and the one that is just called so last.
# Source: the encoders' config.json on Hugging Face.
ENCODERS = (
    Encoder("ViT-H", EncoderSizes(1280, 1024, 257), VIT_H_FILE, VIT_H_URL),
    Encoder(
        "ViT-bigG",
        EncoderSizes(1664, 1280, 257),
        "CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors",
        f"{H94}sdxl_models/image_encoder/model.safetensors",
    ),
    Encoder(
        "ViT-L at 336 pixels",
        EncoderSizes(1024, 768, 577),
        "clip-vit-large-patch14-336.safetensors",
        "https://huggingface.co/openai/clip-vit-large-patch14-336",
    ),
    Encoder("ViT-L", EncoderSizes(1024, 768, 257)),
    Encoder("ViT-B", EncoderSizes(768, 512)),
    Encoder("SigLIP so400m", EncoderSizes(1152)),
    Encoder("DINOv2 giant", EncoderSizes(1536)),
)


@dataclass(frozen=True)
class EncoderNeed:
    """The part of an encoded image that an adapter reads: hidden states [N, width], or image embeds [width]."""

    width: int
    image_embeds: bool = False

    @property
    def encoder(self) -> Encoder | None:
        """The known encoder of that width; the first, where several have it."""
        return next((one for one in ENCODERS if self.matches(one.sizes)), None)

    @property
    def title(self) -> str:
        """A name that people know for the encoder, and what is read of it."""
        if self.encoder is None:
            return f"an encoder {'with a pooled embedding ' if self.image_embeds else ''}{self.width} wide"
        embedding = f", pooled embedding {self.width}" if self.image_embeds else ""
        return f"{self.encoder.title} ({self.encoder.sizes.width} wide{embedding})"

    def matches(self, sizes: EncoderSizes) -> bool:
        return (sizes.projection_width if self.image_embeds else sizes.width) == self.width

    def is_trained_with(self, sizes: EncoderSizes) -> bool:
        """True when the image's size, too, is the known encoder's, which no tensor of an adapter tells."""
        return self.matches(sizes) and (self.encoder is None or sizes.positions in (None, self.encoder.sizes.positions))


VIT_H_HIDDEN_STATES = EncoderNeed(1280)

# Names in transformers' layout and in open_clip's, and which dimension of the tensor is the size.
WIDTHS = (("vision_model.embeddings.patch_embedding.weight", 0), ("visual.conv1.weight", 0))
PROJECTION_WIDTHS = (("visual_projection.weight", 0), ("visual.proj", 1))
POSITION_TENSORS = (("vision_model.embeddings.position_embedding.weight", 0), ("visual.positional_embedding", 0))


def encoder_title(width: int) -> str:
    """Return a name that people know for an image encoder whose hidden states have this width."""
    name = next((one.title for one in reversed(ENCODERS) if one.sizes.width == width), "")
    return f"{name} ({width} wide)" if name else f"an encoder {width} wide"


def encoder_sizes(path: Path) -> EncoderSizes | None:
    """Return the sizes of the image encoder in a .safetensors file, read from its header alone.

    None for any other kind of file, and for one that cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        return None
    import safetensors  # which `cli.py download` does without

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (safetensors.SafetensorError, OSError, RuntimeError):
        return None
    width, projection_width, positions = (
        next((shapes[name][place] for name, place in named if place < len(shapes.get(name, ()))), None)
        for named in (WIDTHS, PROJECTION_WIDTHS, POSITION_TENSORS)
    )
    return None if width is None else EncoderSizes(width, projection_width, positions)


def find_encoder(files: Iterable[tuple[str, Path]], need: EncoderNeed) -> str | None:
    """Return the name, among (name, path), whose file is the encoder to use for an adapter; None without one.

    It is the first of those the adapter was trained with, else the first that has what is needed.
    """
    found = [(name, sizes) for name, path in files if (sizes := encoder_sizes(path)) and need.matches(sizes)]
    trained_with = [name for name, sizes in found if need.is_trained_with(sizes)]
    return next(iter(trained_with or [name for name, _ in found]), None)


def check_sizes(sizes: EncoderSizes, need: EncoderNeed, name: str) -> None:
    """Raises ValueError, which calls the encoder `name`, unless it has what an adapter needs."""
    if need.matches(sizes):
        return
    found = encoder_title(sizes.width)
    if need.image_embeds and sizes.projection_width is None:
        found += " without a projection (visual_projection), which makes the pooled embedding"
    raise ValueError(wrong_encoder(f"{name} is {found}", need))


def wrong_encoder(found: str, need: EncoderNeed) -> str:
    """Return the message for an image encoder that does not fit, with the file to get and where to put it."""
    encoder = need.encoder
    if encoder is not None and encoder.url:
        get = f"Get {encoder.url} , save it as models/clip_vision/{encoder.file} and choose it, or 'auto'."
    else:
        get = "Get the image encoder that the adapter's page names, into models/clip_vision, and choose it."
    return f"This adapter needs the image encoder {need.title}; {found}. {get}"
