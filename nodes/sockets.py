"""The pack's own socket types and category."""

from comfy_api.latest import io

CATEGORY = "IPAdapter-Instruct"

Adapter = io.Custom("IPADAPTER_INSTRUCT")
Embeds = io.Custom("INSTRUCT_EMBEDS")
PlusEmbeds = io.Custom("EMBEDS")  # ComfyUI_IPAdapter_plus's
References = io.Custom("INSTRUCT_REFERENCES")
Schedules = io.Custom("INSTRUCT_SCHEDULE")
Layers = io.Custom("INSTRUCT_LAYERS")
Curve = io.Custom("CURVE")  # ComfyUI's own, in versions that have it
