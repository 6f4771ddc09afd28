"""Random ways from pictures and words to embeds."""

from __future__ import annotations

from dataclasses import dataclass

from soak import catalogue
from soak.catalogue import ADAPTERS, FACE, Adapter
from soak.scene import PACK, Scene, reads_pooled

CONCAT, PER_LATENT = "concat", "one per latent"


@dataclass(frozen=True)
class Encoded:
    """The links of what was encoded. The texts are None where embeds were stored without them."""

    embeds: list
    positive: list | None = None
    negative: list | None = None


def encoded(scene: Scene, name: str, clip: list) -> Encoded:
    """Return embeds of an adapter's file, by any of the ways that its kind has."""
    adapter, loaded = ADAPTERS[name], scene.load(name)
    scene.uses.add((name, None, True))
    ways = [_encode, _encode, _encode, _stored_picture]
    if FACE not in adapter.reads:
        ways += [_references, _combined]
    if stored_of(name):
        ways.append(_loaded)
    return scene.random.choice(ways)(scene, name, loaded, clip)


def stored_of(name: str) -> list[str]:
    return [file for file, stored in catalogue.EMBEDS.items() if stored.adapter == name]


def simple(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    """Encode one picture, with nothing set."""
    inputs = {"image": scene.one_picture(), "instruction": scene.instruction(), **scene.texts()}
    vision = scene.encoder(ADAPTERS[name])
    node = scene.graph.add(f"{PACK}Encode", adapter=loaded, clip=clip, clip_vision=vision, **inputs)
    return Encoded([node, 0], [node, 1], [node, 2])


def _encode(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    adapter = ADAPTERS[name]
    several, number = _several(scene)
    face, image = None, None
    if FACE in adapter.reads:
        face, image, number = scene.face()
        several = scene.option("Encode", "several") if number == 1 else CONCAT
    if image is None:
        tiled = number == 1 and several != PER_LATENT and face is None and scene.some(0.15)
        number, image = (0, scene.tiles()) if tiled else (number, scene.picture(number))
    node = scene.graph.add(
        f"{PACK}Encode",
        adapter=loaded,
        clip=clip,
        image=image,
        instruction=scene.instruction(),
        **scene.texts(),
        clip_vision=scene.encoder(adapter),
        image_mask=scene.maybe_mask(),
        fit=scene.option("Encode", "fit") if scene.half() else None,
        instruct_clip=scene.reader(),
        several=several,
        image_weights=scene.list_of(number) if number else "",
        negative_instruction=scene.instruction() if scene.some(0.2) else None,
        face=face,
        face_structure=scene.number(0.0, 0.5, 2.0) if face and scene.half() else None,
    )
    return Encoded([node, 0], [node, 1], [node, 2])


def _several(scene: Scene) -> tuple[str, int]:
    several = scene.option("Encode", "several") if scene.half() else CONCAT
    return several, scene.batch if several == PER_LATENT else scene.random.choice((1, 1, 2, 3))


def _stored_picture(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    adapter = ADAPTERS[name]
    face, _, number = scene.face() if FACE in adapter.reads else (None, None, 1)
    vision, read = scene.encoder(adapter, always=True), {}
    if adapter.reads != (FACE,):
        read = _picture_read(scene, adapter, vision, number)
    node = scene.graph.add(
        f"{PACK}EncodeStored",
        adapter=loaded,
        clip=clip,
        instruction=scene.instruction(),
        **scene.texts(),
        **read,
        clip_vision=vision if scene.some(0.9) else None,
        instruct_clip=scene.reader(),
        several=scene.option("EncodeStored", "several") if number == 1 else None,
        image_weights=scene.list_of(number) if scene.half() else None,
        negative_instruction=scene.instruction() if scene.some(0.2) else None,
        face=face,
        face_structure=scene.number(0.0, 0.5, 2.0) if face and scene.half() else None,
    )
    return Encoded([node, 0], [node, 1], [node, 2])


def _picture_read(scene: Scene, adapter: Adapter, vision: list, number: int) -> dict[str, list]:
    """Return what an image encoder of another node has read, in one of the two ways."""
    crop = scene.random.choice(("center", "none"))
    seen = scene.graph.out("CLIPVisionEncode", clip_vision=vision, image=scene.picture(number), crop=crop)
    if reads_pooled(adapter) or scene.half():
        return {"clip_vision_output": seen}
    blank = scene.graph.out("SoakPlusEmbeds", clip_vision_output=seen, blank=True) if scene.half() else None
    return {"embeds": scene.graph.out("SoakPlusEmbeds", clip_vision_output=seen, blank=False), "neg_embeds": blank}


def _references(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    row = None
    for _ in range(scene.random.choice((1, 2, 3))):
        row = scene.pack(
            "Reference",
            image=scene.picture(scene.random.choice((1, 1, 2))),
            instruction=scene.instruction(),
            weight=scene.number(1.0, 0.5, -0.5, 1.5),
            references=row,
            image_mask=scene.maybe_mask(),
            fit=scene.option("Reference", "fit") if scene.half() else None,
        )
    node = scene.graph.add(
        f"{PACK}EncodeReferences",
        adapter=loaded,
        clip=clip,
        references=row,
        **scene.texts(),
        clip_vision=scene.encoder(ADAPTERS[name]),
        instruct_clip=scene.reader(),
    )
    return Encoded([node, 0], [node, 1], [node, 2])


def _combined(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    """Combine two embeds of the adapter; of different lengths only where they follow one another."""
    method = scene.option("Combine", "method")
    ways = (_encode, _references, simple) if method == CONCAT else (simple,)
    first, second = (scene.random.choice(ways)(scene, name, loaded, clip) for _ in range(2))
    weights = {"weight_1": scene.number(1.0, 0.7, 1.5), "weight_2": scene.number(1.0, 0.4)}
    embeds = scene.pack("Combine", embeds_1=first.embeds, embeds_2=second.embeds, method=method, **weights)
    return Encoded(embeds, first.positive, first.negative)


def _loaded(scene: Scene, name: str, loaded: list, clip: list) -> Encoded:
    file = scene.random.choice(stored_of(name))
    scene.uses.add((name, file, True))
    return Encoded(scene.pack("LoadEmbeds", adapter=loaded, file=file))


def then(scene: Scene, first: Encoded, clip: list) -> Encoded:
    """Turn to a second picture or instruction from some moment on, of any adapter of the family."""
    second = encoded(scene, scene.adapter_name(), clip)
    at = scene.number(0.0, 0.35, 0.5, 1.0)
    embeds = scene.pack("Then", embeds=first.embeds, then=second.embeds, at_percent=at)
    return Encoded(embeds, first.positive or second.positive, first.negative or second.negative)
