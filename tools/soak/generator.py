"""Random valid prompts over all of the pack's nodes, the same ones for the same seed; a share are repeated later."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from soak import catalogue
from soak.catalogue import ADAPTERS, FACE, FAMILIES, SD15
from soak.encoding import Encoded, encode, encoded, row_of, simple, then
from soak.sampling import applied, heat_map, latent, sampled, steps, texts, watched
from soak.scene import OWN_WORDS, PACK, Choices, Scene
from soak.schema import Schema

REPEATS = 0.25
DISTANCE = 6  # prompts between a prompt and its repeat, at least
FAMILY_SHARES = (78, 9, 13)
STAYS = 0.6  # in the family of the prompt before


@dataclass(frozen=True)
class Prompt:
    """A prompt to queue, and which files it reads: see Scene. repeats: the number of the prompt it is, or None."""

    number: int
    recipe: str
    family: str
    graph: dict[str, dict]
    uses: frozenset = frozenset()
    faces: frozenset = frozenset()
    repeats: int | None = None

    @property
    def text(self) -> str:
        """The graph as text, the same for the same graph."""
        return json.dumps(self.graph, sort_keys=True)


class Generator:
    """A source of random prompts. prompts: what it has drawn so far. bare: graphs without the pack, to compare."""

    def __init__(self, seed: int, choices: Choices, schema: Schema | None = None, bare: bool = False):
        self.random = random.Random(seed)
        self.choices = choices
        self.schema = schema or Schema()
        self.recipes = {"bare": bare_picture} if bare else RECIPES
        self.prompts: list[Prompt] = []
        self.family = SD15

    def take(self, number: int) -> Iterator[Prompt]:
        for _ in range(number):
            yield self.next()

    def next(self) -> Prompt:
        number = len(self.prompts)
        if number > 2 * DISTANCE and self.random.random() < REPEATS:
            prompt = self.again(self.random.choice(self.prompts[:-DISTANCE]))
        else:
            prompt = self.drawn(number)
        self.prompts.append(prompt)
        return prompt

    def again(self, prompt: Prompt) -> Prompt:
        first = prompt.number if prompt.repeats is None else prompt.repeats
        parts = (prompt.recipe, prompt.family, prompt.graph, prompt.uses, prompt.faces)
        return Prompt(len(self.prompts), *parts, first)

    def drawn(self, number: int) -> Prompt:
        """Draw a new prompt. The first few are one of each recipe, and of each family."""
        names = list(self.recipes)
        recipe = names[number] if number < len(names) else self.random.choice(names)
        if number < len(names):
            self.family = FAMILIES[number % len(FAMILIES)]
        elif self.random.random() > STAYS:
            (self.family,) = self.random.choices(FAMILIES, FAMILY_SHARES)
        scene = Scene(self.random, self.schema, self.choices, self.family, self.random.choice((1, 1, 1, 2, 3)))
        self.recipes[recipe](scene)
        return Prompt(number, recipe, self.family, scene.graph, frozenset(scene.uses), frozenset(scene.faces))


def save(scene: Scene, image: list) -> None:
    scene.graph.add("SaveImage", images=image, filename_prefix="soak")


def decoded(scene: Scene, samples: list, vae: list) -> list:
    if scene.some(0.25):
        scene.graph.add("SaveLatent", samples=samples, filename_prefix="latents/soak")
    return scene.graph.out("VAEDecode", samples=samples, vae=vae)


def chain(scene: Scene) -> None:
    """Apply one adapter or several after one another, and sample by any sampler or guider."""
    model, clip, vae = scene.checkpoint()
    last = Encoded([])
    for _ in range(scene.random.choice((1, 1, 2, 3))):
        last = encoded(scene, scene.adapter_name(), clip)
        if scene.some(0.2):
            last = then(scene, last, clip)
        model = applied(scene, model, last.embeds)
    samples = sampled(scene, model, texts(scene, last, clip), latent(scene, vae))
    save(scene, decoded(scene, samples, vae))


def watching(scene: Scene) -> None:
    model, clip, vae = scene.checkpoint()
    one = Encoded([])
    for _ in range(scene.random.choice((1, 1, 2))):
        one = encoded(scene, scene.adapter_name(), clip)
        model = applied(scene, model, one.embeds, plainly=True)
    model, watch = watched(scene, model)
    samples = sampled(scene, model, texts(scene, one, clip), latent(scene, vae))
    image = decoded(scene, samples, vae)
    save(scene, image)
    save(scene, heat_map(scene, watch, image))


def grid(scene: Scene) -> None:
    """Make a grid of two or three settings by two, or of one setting alone."""
    model, clip, vae = scene.checkpoint()
    name = scene.adapter_name()
    scene.uses.add((name, None))
    source = {"image": scene.one_picture()}
    if FACE in ADAPTERS[name].reads or scene.half():
        source = {"references": row_of(scene, ADAPTERS[name])}
    values = _axis_values(scene)
    rows, columns = scene.random.sample(list(values), 2)
    samples, denoise = latent(scene, vae)
    settings = {
        "weight": scene.number(0.8, 0.5),
        "guidance": scene.option("Grid", "guidance"),
        "instruct_guidance": scene.number(2.0, 4.0),
        "image_guidance": scene.number(1.0, 0.5),
        "seed": scene.seed(),
        "cfg": scene.number(5.0, 1.0),
        "sampler_name": scene.random.choice(("euler", "dpmpp_2m")),
        **steps(scene, 1, 2),
    }
    node = scene.graph.add(
        f"{PACK}Grid",
        model=model,
        adapter=scene.load(name),
        clip=clip,
        vae=vae,
        **source,
        latent=samples,
        instruction=scene.instruction(),
        **scene.texts(),
        **settings,
        denoise=denoise,
        rows=rows,
        row_values=values[rows],
        columns=columns,
        column_values=values[columns],
        attn_mask=scene.maybe_mask(),
    )
    save(scene, [node, 0])
    save(scene, [node, 1])


def _axis_values(scene: Scene) -> dict[str, str]:
    return {
        "nothing": "",
        "instruction": "\n".join(scene.random.sample(catalogue.INSTRUCTIONS, 2)),
        "weight": "0.4, 0.9",
        "guidance": "auto, simple, three-way",
        "instruct_guidance": "1, 4",
        "image_guidance": "0, 1",
        "cfg": "1, 5",
        "seed": "3, 18446744073709551615",
    }


def by_task(scene: Scene) -> None:
    """Connect every one of a task's recommended settings."""
    model, clip, vae = scene.checkpoint()
    name = scene.adapter_name("instruct")
    scene.uses.add((name, None))
    loaded = scene.load(name)
    task = scene.graph.add(
        f"{PACK}Task",
        adapter=loaded,
        task=scene.option("Task", "task"),
        phrasing=scene.option("Task", "phrasing"),
        seed=scene.seed(),
    )
    one = encode(scene, loaded, clip, image=scene.one_picture(), task=OWN_WORDS, instruction=[task, 0])
    names = ("weight", "guidance", "instruct_guidance", "image_guidance")
    settings = {setting: [task, slot] for slot, setting in enumerate(names, start=1)}
    window = {"start_percent": 0.0, "end_percent": 1.0}
    model = scene.pack("Apply", model=model, embeds=one.embeds, **settings, **window)
    samples = sampled(scene, model, (one.positive, one.negative), latent(scene, vae))
    for node in scene.graph.values():
        if "cfg" in node["inputs"]:
            node["inputs"]["cfg"] = [task, 5]
    save(scene, decoded(scene, samples, vae))


def storing(scene: Scene) -> None:
    """Save embeds into a file, and make a picture with them."""
    model, clip, vae = scene.checkpoint()
    one = encoded(scene, scene.adapter_name(), clip)
    scene.graph.add(f"{PACK}SaveEmbeds", embeds=one.embeds, filename_prefix="embeds/soak")
    model = applied(scene, model, one.embeds)
    samples = sampled(scene, model, texts(scene, one, clip), latent(scene, vae))
    save(scene, decoded(scene, samples, vae))


def face_file(scene: Scene) -> None:
    """Save a face into a file, and its crop, without any sampling."""
    photo = scene.random.choice(list(catalogue.PHOTOS))
    node = scene.read_face(photo, which=scene.option("ReadFace", "which"), save_as="faces/soak")
    save(scene, [node, 1])


def sheet(scene: Scene) -> None:
    """Label pictures, without any sampling."""
    image = scene.tiles() if scene.half() else scene.loaded()
    column = scene.random.choice(("", "one column"))
    width = scene.random.choice((None, 0, 64))
    node = scene.graph.add(f"{PACK}LabelGrid", images=image, row_labels="", column_labels=column, cell_width=width)
    save(scene, [node, 0])


def bare_picture(scene: Scene) -> None:
    """Sample in the same way without the pack."""
    model, clip, vae = scene.checkpoint()
    samples = sampled(scene, model, texts(scene, Encoded([]), clip), latent(scene, vae))
    save(scene, decoded(scene, samples, vae))


# How often each is drawn is how often it stands here.
RECIPES = {
    "chain": chain,
    "watching": watching,
    "grid": grid,
    "by task": by_task,
    "storing": storing,
    "face file": face_file,
    "sheet": sheet,
    "chain again": chain,
    "chain once more": chain,
    "chain of any kind": chain,
}


def preparations(schema: Schema, choices: Choices) -> dict[str, dict[str, dict]]:
    """Return prompts that write the stored embeds and faces of the catalogue, by the names of the files."""
    made = {}
    for file, stored in catalogue.EMBEDS.items():
        scene = Scene(random.Random(file), schema, choices, ADAPTERS[stored.adapter].family)
        _, clip, _ = scene.checkpoint()
        one = simple(scene, stored.adapter, scene.load(stored.adapter), clip)
        scene.graph.add(f"{PACK}SaveEmbeds", embeds=one.embeds, filename_prefix="embeds/prepared")
        made[file] = scene.graph
    for file, photo in catalogue.FACES.items():
        scene = Scene(random.Random(file), schema, choices, SD15)
        scene.read_face(photo, model_pack=catalogue.FACE_PACKS[len(made) % 2], device="CPU", save_as="faces/prepared")
        made[file] = scene.graph
    return made
