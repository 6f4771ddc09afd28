"""The Instruct Task node."""

from __future__ import annotations

from comfy_api.latest import io

from ...models.guidance.task_phrasings import phrasing as draw_phrasing
from ...models.guidance.tasks import AUTO, TASKS, describe_reading, recommended
from ...models.messages import check_choice
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Adapter
from ..shared.status_text import output_with_text

Choice = io.Custom("COMBO")  # ComfyUI 0.3.75's Combo.Output has a list for its type, which no V3 combo takes

PLAIN_WORDS, RANDOM = "plain", "random"
BY_NAME = {task.name: task for task in TASKS}


class IPAdapterInstructTask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructTask",
                display_name="Instruct Task",
                category=f"{CATEGORY}/control",
                description="Gives a trained task's instruction, and what the authors recommend for it.",
                inputs=[
                    Adapter.Input("adapter", tooltip="From Load IPAdapter-Instruct. It decides what is recommended."),
                    io.Combo.Input(
                        "task",
                        options=list(BY_NAME),
                        default="style",
                        tooltip="What to take from the picture. foreground, background and object are for SD1.5.",
                    ),
                    io.Combo.Input(
                        "phrasing",
                        options=[PLAIN_WORDS, RANDOM],
                        default=PLAIN_WORDS,
                        tooltip="plain: the usual words for the task. random: others, which the seed draws.",
                    ),
                    io.Int.Input(
                        "seed",
                        default=0,
                        min=0,
                        max=2**64 - 1,
                        control_after_generate=True,
                        tooltip="Draws a random phrasing: the same one for the same seed.",
                    ),
                ],
                outputs=[
                    io.String.Output(
                        display_name="instruction", tooltip="To Encode's instruction; choose own words there."
                    ),
                    io.Float.Output(display_name="weight", tooltip="To Apply's weight."),
                    Choice.Output(display_name="guidance", tooltip="To Apply's guidance. It is auto."),
                    io.Float.Output(display_name="instruct_guidance", tooltip="To Apply's instruct_guidance."),
                    io.Float.Output(display_name="image_guidance", tooltip="To Apply's image_guidance."),
                    io.Float.Output(display_name="cfg", tooltip="To the sampler's cfg."),
                ],
                hidden=[io.Hidden.unique_id],
            ),
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
