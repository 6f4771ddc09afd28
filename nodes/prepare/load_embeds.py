"""The Load Instruct Embeds node."""

from comfy_api.latest import io

from ...models.encoding.stored_embeds import EMBEDS_SUFFIX, check_adapter, read_embeds
from ..shared.output_files import OutputFiles
from ..shared.schema import CATEGORY, Adapter, Embeds, Schema
from ..shared.status_text import output_with_text

EMBEDS = OutputFiles(EMBEDS_SUFFIX, "embeds", "embeds/cat", saved="embeds", save="Save Instruct Embeds")


class IPAdapterInstructLoadEmbeds(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructLoadEmbeds",
            category=f"{CATEGORY}/prepare",
            inputs=[Adapter.Input("adapter"), io.Combo.Input("file", options=EMBEDS.names())],
            outputs=[Embeds.Output(display_name="embeds")],
            search_aliases=["instruct load", "ip adapter embeds", "load embeds", "import embeds"],
        )

    @classmethod
    def validate_inputs(cls, file=None):
        return EMBEDS.problem_with(file) or True

    @classmethod
    def fingerprint_inputs(cls, adapter=None, file=None):
        return EMBEDS.fingerprint(file)

    @classmethod
    def execute(cls, adapter, file: str) -> io.NodeOutput:
        from ...models.encoding.embeds import InstructEmbeds

        path = EMBEDS.path(file)
        stored = read_embeds(path)
        check_adapter(path.name, stored, adapter.adapter)
        embeds = InstructEmbeds(adapter.adapter, stored.instruction, stored.image_tokens, stored.token_weights)
        return output_with_text(cls, [f"instruction: {stored.instruction}"], embeds)
