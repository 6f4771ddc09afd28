"""The Instruct Task node."""

from comfy_api.latest import io

from ...models.guidance.tasks import AUTO, TASKS, recommended
from ...models.guidance.tasks import phrasing as draw_phrasing
from ...models.messages import check_choice
from ..shared.schema import CATEGORY, Adapter, Schema
from ..shared.status_text import describe_reading, output_with_text

Choice = io.Custom("COMBO")  # ComfyUI 0.3.75's Combo.Output has a list for its type, which no V3 combo takes

PLAIN_WORDS, RANDOM = "plain", "random"
BY_NAME = {task.name: task for task in TASKS}


class IPAdapterInstructTask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructTask",
            category=f"{CATEGORY}/control",
            inputs=[
                Adapter.Input("adapter"),
                io.Combo.Input("task", options=list(BY_NAME), default="style"),
                io.Combo.Input("phrasing", options=[PLAIN_WORDS, RANDOM], default=PLAIN_WORDS),
                io.Int.Input("seed", default=0, min=0, max=2**64 - 1, control_after_generate=True),
            ],
            outputs=[
                io.String.Output(display_name="instruction"),
                io.Float.Output(display_name="weight"),
                Choice.Output(display_name="guidance"),
                io.Float.Output(display_name="instruct_guidance"),
                io.Float.Output(display_name="image_guidance"),
                io.Float.Output(display_name="cfg"),
            ],
            search_aliases=["instruct presets", "recommended settings", "random instruction"],
        )

    @classmethod
    def execute(cls, adapter, task: str, phrasing: str, seed: int) -> io.NodeOutput:
        check_choice("task", task, list(BY_NAME))
        check_choice("phrasing", phrasing, (PLAIN_WORDS, RANDOM))
        family, chosen = adapter.adapter.family, BY_NAME[task]
        instruction = draw_phrasing(chosen, seed) if phrasing == RANDOM else chosen.instruction
        best = recommended(family, chosen)
        lines = [instruction, *describe_reading(adapter.adapter, instruction)]
        scales = best.instruct_guidance, best.image_guidance
        return output_with_text(cls, lines, instruction, best.weight, AUTO, *scales, best.cfg)
