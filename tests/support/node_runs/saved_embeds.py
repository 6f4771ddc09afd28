"""Embeds saved and loaded by the nodes, in ComfyUI's output folder."""

from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.encode import AdapterWithEncoders
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.nodes.prepare.load_embeds import IPAdapterInstructLoadEmbeds
from ipadapter_instruct.nodes.prepare.save_embeds import IPAdapterInstructSaveEmbeds

from support.pack_nodes import run_node

FIRST = "embeds/instruct_00001_.instruct.safetensors"


def save(embeds, prefix: str = "embeds/instruct"):
    return run_node(IPAdapterInstructSaveEmbeds, embeds=embeds, filename_prefix=prefix)


def load(adapter: LoadedAdapter, file: str = f"{FIRST} [output]") -> InstructEmbeds:
    (embeds,) = run_node(IPAdapterInstructLoadEmbeds, adapter=AdapterWithEncoders(adapter, None), file=file).args
    return embeds
