"""The Load IPAdapter-Instruct node."""

import folder_paths
from comfy_api.latest import io

from ...models.messages import check_numbers
from ..shared.folders import AUTO, adapter_path, encoder_file, stamps_of
from ..shared.schema import CATEGORY, Adapter, Schema, advanced, instruct_clip_input
from ..shared.status_text import output_with_text


class IPAdapterInstructLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructLoader",
            category=CATEGORY,
            inputs=[
                io.Combo.Input("adapter_name", options=folder_paths.get_filename_list("ipadapter")),
                io.Combo.Input(
                    "image_encoder", options=[AUTO, *folder_paths.get_filename_list("clip_vision")], default=AUTO
                ),
                advanced(io.Float.Input("lora_strength", default=1.0, min=-2.0, max=2.0, step=0.05)),
                io.ClipVision.Input("clip_vision", optional=True),
                instruct_clip_input(),
            ],
            outputs=[Adapter.Output(display_name="adapter")],
            search_aliases=["ip adapter instruct", "ipadapter loader", "reference image", "faceid", "ip adapter plus"],
        )

    @classmethod
    def validate_inputs(cls, adapter_name=None, image_encoder=None):
        """Return True: `execute` finds files that are listed otherwise, and says more of those that are not there."""
        return True

    @classmethod
    def fingerprint_inputs(cls, adapter_name=None, image_encoder=None, **_):
        """Return the files' stamps: other files under the same names are another input. Links are None here."""
        encoders = folder_paths.get_filename_list("clip_vision") if image_encoder == AUTO else [image_encoder]
        return [*stamps_of("ipadapter", adapter_name), *stamps_of("clip_vision", *encoders)]

    @classmethod
    def execute(
        cls, adapter_name: str, image_encoder: str, lora_strength: float, clip_vision=None, instruct_clip=None
    ) -> io.NodeOutput:
        from ...models.adapter.checkpoint import look_at
        from ...models.encoding.encode import AdapterWithEncoders
        from ...models.encoding.image_encoder import check_encoder
        from ...models.encoding.loaded_adapter import LoadedAdapter
        from ...models.encoding.text_encoder import check_clip_l

        check_numbers(lora_strength=lora_strength)
        path = adapter_path(adapter_name)
        header = look_at(path)
        need, encoder, reads = header.encoder_need, None, "none needed, it reads a face embedding"
        if need and clip_vision is not None:
            check_encoder(clip_vision, need, "the connected one")
            reads = "the connected one"
        elif need:
            encoder = encoder_file(image_encoder, need)  # before gigabytes are read
            reads = encoder.name if encoder else f"{need.title} is needed, and not in models/clip_vision"
        if instruct_clip is not None and header.kind.takes_instruction:
            check_clip_l(instruct_clip)
        adapter = LoadedAdapter.read(path, lora_strength)
        lines = [f"{adapter.kind} for {adapter.family.title}", *adapter.notes, f"image encoder: {reads}"]
        if instruct_clip is not None and not adapter.kind.takes_instruction:
            lines.append("instruct_clip: not used, since this adapter takes no instruction")
        return output_with_text(cls, lines, AdapterWithEncoders(adapter, encoder, clip_vision, instruct_clip))
