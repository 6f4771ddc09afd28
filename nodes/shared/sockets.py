"""The pack's own socket types and category."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "IPAdapter-Instruct"

Adapter = io.Custom("IPADAPTER_INSTRUCT")
Embeds = io.Custom("INSTRUCT_EMBEDS")
PlusEmbeds = io.Custom("EMBEDS")  # ComfyUI_IPAdapter_plus's
References = io.Custom("INSTRUCT_REFERENCES")
Schedules = io.Custom("INSTRUCT_SCHEDULE")
Layers = io.Custom("INSTRUCT_LAYERS")
InstructClip = io.Custom("INSTRUCT_CLIP")  # a text encoder that reads instructions, and nothing else
Face = io.Custom("INSTRUCT_FACE")
FaceAnalysis = io.Custom("INSIGHTFACE")  # insightface's own object, as in ComfyUI_IPAdapter_plus
Curve = io.Custom("CURVE")  # ComfyUI's own, in versions that have it


def instruct_clip_input() -> io.Input:
    """Return an input for the instruction's text encoder: a CLIP, or one that reads nothing else."""
    return io.MultiType.Input("instruct_clip", types=[io.Clip, InstructClip], optional=True)
