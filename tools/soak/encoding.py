"""Random ways from pictures and words to embeds."""

from __future__ import annotations

from dataclasses import dataclass

from soak import catalogue
from soak.catalogue import ADAPTERS, FACE, Adapter
from soak.scene import PACK, Scene, reads_image_embeds

CONCAT, AVERAGE, PER_INDEX, THEN = "concat", "average", "one per batch index", "then"


@dataclass(frozen=True)
class Encoded:
    """The links of what was encoded. The texts are None where embeds were stored without them."""

    embeds: list
    positive: list | None = None
    negative: list | None = None


def encoded(scene: Scene, name: str, clip: list) -> Encoded:
    """Return embeds of an adapter's file, by any of the ways that its kind has."""
    adapter, loaded = ADAPTERS[name], scene.load(name)
    scene.uses.add((name, None))
    ways = [_references, _references]
    if FACE not in adapter.reads:
        ways += [_images, _images, _combined]
    if stored_of(name):
        ways.append(_loaded)
    return scene.random.choice(ways)(scene, name, loaded, clip)


def stored_of(name: str) -> list[str]:
    return [file for file, stored in catalogue.EMBEDS.items() if stored.adapter == name]


def encode(scene: Scene, loaded: list, clip: list, **source) -> Encoded:
    """Encode an image or references."""
    node = scene.graph.add(f"{PACK}Encode", adapter=loaded, clip=clip, **{**scene.words(), **scene.texts(), **source})
    return Encoded([node, 0], [node, 1], [node, 2])


def simple(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    """Encode one picture, with nothing set."""
    return encode(scene, loaded, clip, image=scene.one_picture())


def _images(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    image = scene.tiles() if scene.some(0.15) else scene.picture(scene.random.choice((1, 1, 2, 3)))
    return encode(scene, loaded, clip, image=image)


def _references(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    return encode(scene, loaded, clip, references=row_of(scene, ADAPTERS[name]))


def row_of(scene: Scene, adapter: Adapter) -> list:
    """A row of references, which act in any of the ways there are."""
    combine = scene.option("Reference", "combine") if scene.half() else CONCAT
    if FACE in adapter.reads:
        return _face(scene, adapter, combine)
    row = None
    for number in _numbers(scene, combine):
        row = _reference(scene, combine, row, **_picture(scene, adapter, number, combine))
    return row


def _numbers(scene: Scene, combine: str) -> list[int]:
    """How many pictures each reference of a row is; together at most one for each latent, where each has its own."""
    if combine == PER_INDEX:
        return scene.random.choice(([scene.batch], [1] * scene.batch))
    return [scene.random.choice((1, 1, 2)) for _ in range(scene.random.choice((1, 2, 3)))]


def _reference(scene: Scene, combine: str, row: list | None, **read) -> list:
    """Add a reference behind those of the row. Weights never sum up to nothing, which a mean cannot be made of."""
    weights = (1.0, 0.5, 1.5) if row is None or combine == AVERAGE else (1.0, 0.5, -0.5, 0.0)
    return scene.pack(
        "Reference",
        instruction=scene.instruction() if scene.half() else "",
        negative_instruction=scene.instruction() if scene.some(0.2) else "",
        weight=scene.number(*weights),
        combine=combine,
        references=row,
        **read,
    )


def _face(scene: Scene, adapter: Adapter, combine: str) -> list:
    """A reference that is a face, with a picture where the adapter reads one, too; several faces act together."""
    face, crop, number = scene.face()
    combine = combine if number == 1 else CONCAT
    structure = scene.number(0.0, 0.5, 2.0) if scene.half() else None
    read = {"image": crop if scene.half() else None}
    if adapter.reads != (FACE,):
        read = {"image": crop} if crop else _picture(scene, adapter, number, combine)
    return _reference(scene, combine, None, face=face, face_structure=structure, **read)


def _picture(scene: Scene, adapter: Adapter, number: int, combine: str) -> dict:
    """Return so many pictures, or what another node has read of them; or tiles of one, which are any number."""
    if scene.some(0.3):
        return _stored(scene, adapter, number)
    tiled = number == 1 and combine != PER_INDEX and FACE not in adapter.reads and scene.some(0.15)
    return {
        "image": scene.tiles() if tiled else scene.picture(number),
        "image_mask": scene.maybe_mask(),
        "fit": scene.option("Reference", "fit") if scene.half() else None,
    }


def _stored(scene: Scene, adapter: Adapter, number: int) -> dict[str, list | None]:
    """Return what an image encoder of another node has read, in one of the two ways."""
    crop = scene.random.choice(("center", "none"))
    vision, image = scene.clip_vision(), scene.picture(number)
    seen = scene.graph.out("CLIPVisionEncode", clip_vision=vision, image=image, crop=crop)
    if reads_image_embeds(adapter) or scene.half():
        return {"clip_vision_output": seen}
    blank = scene.graph.out("SoakPlusEmbeds", clip_vision_output=seen, blank=True) if scene.half() else None
    return {"embeds": scene.graph.out("SoakPlusEmbeds", clip_vision_output=seen, blank=False), "neg_embeds": blank}


def _combined(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    """Combine two embeds of the adapter; of different lengths only where they follow one another."""
    method = scene.random.choice([one for one in scene.options("Combine", "method") if one != THEN])
    ways = (_images, _references, simple) if method == CONCAT else (simple,)
    first, second = (scene.random.choice(ways)(scene, name, loaded, clip) for _ in range(2))
    return _both(scene, first, second, method)


def _both(scene: Scene, first: Encoded, second: Encoded, method: str) -> Encoded:
    embeds = scene.pack(
        "Combine",
        embeds_1=first.embeds,
        embeds_2=second.embeds,
        method=method,
        weight_1=scene.number(1.0, 0.7, 1.5),
        weight_2=scene.number(1.0, 0.4),
        at_percent=scene.number(0.0, 0.35, 0.5, 1.0),
    )
    return Encoded(embeds, first.positive or second.positive, first.negative or second.negative)


def _loaded(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    file = scene.random.choice(stored_of(name))
    scene.uses.add((name, file))
    return Encoded(scene.pack("LoadEmbeds", adapter=loaded, file=file))


def then(scene: Scene, first: Encoded, clip: list) -> Encoded:
    """Turn to a second picture or instruction from some moment on, of any adapter of the family."""
    return _both(scene, first, encoded(scene, scene.adapter_name(), clip), THEN)
