"""The inputs and outputs that all encoding nodes have in common: the prompts, and what they hand out."""

from __future__ import annotations

from comfy_api.latest import io

from .sockets import Embeds


def prompt_inputs() -> list[io.Input]:
    return [
        io.String.Input("prompt", multiline=True, dynamic_prompts=True, tooltip="What the new picture shows."),
        io.String.Input("negative_prompt", multiline=True, dynamic_prompts=True, tooltip="What it should not show."),
    ]


def encoded_outputs() -> list[io.Output]:
    return [
        Embeds.Output(display_name="embeds", tooltip="Connect it to Apply IPAdapter-Instruct."),
        io.Conditioning.Output(display_name="positive", tooltip="The prompt, as by CLIP Text Encode."),
        io.Conditioning.Output(display_name="negative", tooltip="The negative prompt, likewise."),
    ]


def conditioning(clip, prompt: str, negative_prompt: str) -> list:
    """Return positive and negative, just as CLIP Text Encode makes them."""
    from ...models.encoding.text_cache import conditionings

    return conditionings(clip, (prompt, negative_prompt))
