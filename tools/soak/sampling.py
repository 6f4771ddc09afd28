"""Random ways from embeds to pictures."""

from __future__ import annotations

from soak.catalogue import SD3
from soak.encoding import Encoded
from soak.scene import PACK, Scene

TABLES = ("style", "composition")
OWN_LAYERS = ("", "", "0: 1", "0: 0.5, 1: 1")


def applied(scene: Scene, model: list, embeds: list, plainly: bool = False) -> list:
    """Apply the embeds to a model. plainly: acting at every step and place, for a watch."""
    weights = (0.3, 0.8, 1.2) if plainly else (0.8, 0.6, 1.2, -0.5, 0.0, 3.0)
    window = scene.random.choice(((0.0, 1.0), (0.0, 1.0), (0.0, 0.5), (0.3, 0.9), (1.0, 1.0)))
    instruct = (2.0, 1.0, 5.0) if plainly else (2.0, 0.0, 1.0, 5.0)
    more = {} if plainly else _more(scene)
    start, end = (0.0, 1.0) if plainly else window
    return scene.pack(
        "Apply",
        model=model,
        embeds=embeds,
        weight=scene.number(*weights),
        guidance=scene.option("Apply", "guidance"),
        instruct_guidance=scene.number(*instruct),
        image_guidance=scene.number(1.0, 1.0, 0.0, 2.5),
        start_percent=start,
        end_percent=end,
        **more,
    )


def _more(scene: Scene) -> dict:
    return {
        "attn_mask": scene.maybe_mask(0.25),
        "schedule": schedule(scene) if scene.some(0.4) else None,
        "layers": layers(scene) if scene.some(0.3) else None,
    }


def schedule(scene: Scene) -> list:
    frames, curve = None, None
    if scene.some(0.2):
        first = scene.graph.out("CreateHookKeyframe", strength_mult=1.0, start_percent=0.0)
        frames = scene.graph.out("CreateHookKeyframe", strength_mult=0.4, start_percent=0.5, prev_hook_kf=first)
    elif scene.some(0.15):
        curve = scene.graph.out("SoakCurve")
    return scene.pack(
        "Schedule",
        factors=scene.random.choice(("0: 1, 0.35: 0.5", "1, 0.8, 0.5", "0: 0, 0.5: 1", "0.7", "")),
        between=scene.option("Schedule", "between"),
        along=scene.option("Schedule", "along"),
        batch_factors=scene.list_of(scene.batch, 0.5),
        three_way_until=scene.number(0.0, 0.5, 1.0),
        hook_keyframes=frames,
        curve=curve,
    )


def layers(scene: Scene) -> list:
    """Draw layer weights. SD3 has no tables, and its weight acts in one place."""
    kinds, scalings = scene.options("Layers", "weight_type"), scene.options("Layers", "scaling")
    if scene.is_joint:
        kinds = [kind for kind in kinds if not any(word in kind for word in TABLES)]
        scalings = scalings[:1]
    own = "" if scene.family != "sd15" else scene.random.choice(OWN_LAYERS)
    return scene.pack(
        "Layers", weight_type=scene.random.choice(kinds), layer_weights=own, scaling=scene.random.choice(scalings)
    )


def watched(scene: Scene, model: list) -> tuple[list, list]:
    node = scene.graph.add(f"{PACK}Watch", model=model)
    return [node, 0], [node, 1]


def heat_map(scene: Scene, watch: list, image: list) -> list:
    views = {name: scene.option("HeatMap", name) for name in ("view", "scale")}
    return scene.pack("HeatMap", watch=watch, image=image, opacity=scene.number(0.0, 0.6, 1.0), **views)


def texts(scene: Scene, encoded: Encoded, clip: list) -> tuple[list, list]:
    """Return positive and negative: Encode's, or ComfyUI's own."""
    if encoded.positive is not None and encoded.negative is not None and scene.some(0.85):
        return encoded.positive, encoded.negative
    words = scene.texts()
    return tuple(scene.graph.out("CLIPTextEncode", clip=clip, text=text) for text in words.values())


def latent(scene: Scene, vae: list) -> tuple[list, float]:
    """Return an empty latent, or a picture's, at times with a mask; and how much of it is to be sampled anew."""
    if scene.some(0.75):
        size = {"width": scene.random.choice((64, 80, 96, 128)), "height": scene.random.choice((64, 64, 96))}
        kind = "EmptySD3LatentImage" if scene.family == SD3 else "EmptyLatentImage"
        return scene.graph.out(kind, **size, batch_size=scene.batch), 1.0
    image = scene.graph.out("LoadImage", image=scene.random.choice(("square.png", "cut-2.png")))
    samples = scene.graph.out("VAEEncode", pixels=image, vae=vae)
    if scene.batch > 1:
        samples = scene.graph.out("RepeatLatentBatch", samples=samples, amount=scene.batch)
    if scene.half():
        samples = scene.graph.out("SetLatentNoiseMask", samples=samples, mask=scene.mask())
    return samples, scene.number(0.5, 0.7, 1.0)


def sampled(scene: Scene, model: list, conds: tuple[list, list], start: tuple[list, float]) -> list:
    """Sample latents by any sampler or guider."""
    samples, denoise = start
    sampler, along = _sampler(scene), steps(scene, 1, 2, 2, 3)
    if scene.some(0.25):
        return _custom(scene, model, conds, samples, {**along, "denoise": denoise}, sampler)
    both = {"model": model, "positive": conds[0], "negative": conds[1], "latent_image": samples}
    settings = {**along, "cfg": scene.number(5.0, 1.0, 2.0, 7.5), "sampler_name": sampler}
    if denoise == 1.0 and scene.some(0.1):
        more = {
            "add_noise": "enable",
            "start_at_step": 0,
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
        }
        return scene.graph.out("KSamplerAdvanced", **both, **settings, **more, noise_seed=scene.seed())
    return scene.graph.out("KSampler", **both, **settings, denoise=denoise, seed=scene.seed())


def steps(scene: Scene, *numbers: int) -> dict:
    """A scheduler, and one of these numbers of steps. ComfyUI 0.3.75's kl_optimal divides 0 by 0 for a single one."""
    scheduler, number = scene.random.choice(scene.choices.schedulers), scene.random.choice(numbers)
    return {"scheduler": scheduler, "steps": max(number, 2) if scheduler == "kl_optimal" else number}


def _sampler(scene: Scene) -> str:
    return scene.random.choice(("euler", "dpmpp_2m", *scene.choices.samplers))


def _custom(scene: Scene, model, conds, samples, along: dict, sampler: str) -> list:
    node = scene.graph.add(
        "SamplerCustomAdvanced",
        noise=scene.graph.out("RandomNoise", noise_seed=scene.seed()),
        guider=_guider(scene, model, conds),
        sampler=scene.graph.out("KSamplerSelect", sampler_name=sampler),
        sigmas=scene.graph.out("BasicScheduler", model=model, **along),
        latent_image=samples,
    )
    return [node, 0]


def _guider(scene: Scene, model: list, conds: tuple[list, list]) -> list:
    positive, negative = conds
    if scene.some(0.3):
        return scene.graph.out("BasicGuider", model=model, conditioning=positive)
    cfg = scene.number(5.0, 1.0)
    return scene.graph.out("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg)
