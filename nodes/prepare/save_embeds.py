"""The Save Instruct Embeds node."""

import os

import folder_paths
from comfy_api.latest import io

from ...models.encoding.stored_embeds import StoredEmbeds, write_embeds
from ..shared.schema import CATEGORY, Embeds, Schema
from ..shared.status_text import output_with_text
from .load_embeds import EMBEDS


class IPAdapterInstructSaveEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructSaveEmbeds",
            category=f"{CATEGORY}/prepare",
            inputs=[Embeds.Input("embeds"), io.String.Input("filename_prefix", default="embeds/instruct")],
            outputs=[],
            is_output_node=True,
            search_aliases=["instruct save", "ip adapter embeds", "save embeds", "export embeds"],
        )

    @classmethod
    def execute(cls, embeds, filename_prefix: str) -> io.NodeOutput:
        from ...models.encoding.embeds import check_untimed

        check_untimed(embeds)
        stored = StoredEmbeds.of(embeds.adapter, embeds.instruction, embeds.image_tokens, embeds.token_weights)
        output = os.path.abspath(folder_paths.get_output_directory())
        target = EMBEDS.next_path(filename_prefix, output)
        write_embeds(stored, target)
        text = f"{target.relative_to(output).as_posix()} ({target.stat().st_size / 1e6:.1f} MB), in {output}"
        return output_with_text(cls, [text, f"instruction: {stored.instruction}"])
