"""The base models IPAdapter-Instruct was published for. Every per-family fact is in this table."""

from dataclasses import dataclass

UNET, MMDIT = "UNet", "MMDiT"
PUBLISHED_AT = "https://huggingface.co/CiaraRowles/IP-Adapter-Instruct/resolve/main/"


@dataclass(frozen=True)
class Settings:
    """Recommended values: the adapter's weight, the sampler's cfg, and the scales of three-way guidance."""

    weight: float
    cfg: float
    instruct_guidance: float
    image_guidance: float


@dataclass(frozen=True)
class Family:
    """One base model and how its adapter is used.

    context_width: width of the text tokens its attention takes, which the image tokens share.
    denoiser: the name of its kind, which decides where image tokens enter.
    negative_reaches_resampler: the image_only and uncond branches give the resampler the negative
        prompt; where False they give it "".
    fitting_model: which models its adapter fits, for messages.
    settings: the demos', for any task; stronger_tasks: tasks for which instruct_guidance is another.
    simple_words: an instruction that contains one of these is guided simply, by two branches.
    weight_changes: (words, change) by which `auto` corrects the weight for a weak or strong task.
    sha256: the published file's, where it is known. resampler_width: of the published adapter's.

    Source: unity-research/IP-Adapter-Instruct@57efbe4, pipelines and demos.
    """

    name: str
    title: str
    context_width: int
    denoiser: str
    negative_reaches_resampler: bool
    published_file: str
    fitting_model: str
    settings: Settings
    simple_words: tuple[str, ...]
    weight_changes: tuple[tuple[tuple[str, ...], float], ...] = ()
    sha256: str = ""
    stronger_tasks: tuple[tuple[tuple[str, ...], float], ...] = ()
    resampler_width: int = 1280

    @property
    def url(self) -> str:
        return PUBLISHED_AT + self.published_file

    def resampler_negative(self, negative_prompt: str) -> str:
        """Return the text the resampler gets where a branch carries the negative prompt."""
        return negative_prompt if self.negative_reaches_resampler else ""

    def __str__(self) -> str:
        return f"{self.title} (context width {self.context_width})"


SD15 = Family(
    name="sd15",
    title="SD1.5",
    context_width=768,
    denoiser=UNET,
    negative_reaches_resampler=True,
    published_file="ip-adapter-instruct-sd15.bin",
    fitting_model="a full SD1.5 model, not a distilled or later one",
    settings=Settings(weight=0.8, cfg=5.0, instruct_guidance=2.0, image_guidance=1.0),
    simple_words=("style", "colour", "color", "everything", "face", "facial"),
    weight_changes=((("composition", "pose"), -0.2),),
    sha256="8a4e97a38f3f9cdea790af3ec3093219ac3735d78cee319d6fbba261515c2847",
    resampler_width=768,
)
SDXL = Family(
    name="sdxl",
    title="SDXL",
    context_width=2048,
    denoiser=UNET,
    negative_reaches_resampler=False,
    published_file="ip-adapter-instruct-sdxl.bin",
    fitting_model="a full SDXL base model, not its refiner or a distilled one",
    settings=Settings(weight=0.9, cfg=7.0, instruct_guidance=4.0, image_guidance=0.5),
    simple_words=SD15.simple_words,
    stronger_tasks=((("composition", "background", "object"), 6.0),),
)
SD3 = Family(
    name="sd3",
    title="SD3",
    context_width=4096,
    denoiser=MMDIT,
    negative_reaches_resampler=True,
    published_file="ip-adapter-instruct-sd3.bin",
    fitting_model="SD3 medium or SD3.5 medium; SD3.5 large is wider than the adapter",
    settings=Settings(weight=0.8, cfg=6.0, instruct_guidance=6.0, image_guidance=1.0),
    simple_words=("style", "colour", "color", "everything"),
)
FAMILIES = [SD15, SDXL, SD3]


def family_of_adapter(context_width: int, denoiser: str, attention: str) -> Family:
    """Return the family of an adapter whose image tokens are `context_width` wide.

    denoiser: the kind that it is for; attention: what image tokens enter there, for the message.
    Raises ValueError for a width that none of the families has.
    """
    for family in FAMILIES:
        if (family.context_width, family.denoiser) == (context_width, denoiser):
            return family
    known = ", ".join(f"{f.title} {f.context_width}" for f in FAMILIES if f.denoiser == denoiser)
    raise ValueError(
        f"This adapter gives image tokens of width {context_width} to {attention}; known widths are {known}. "
        "Load an adapter made for one of these base models."
    )
