"""The Schedule Instruct Weight node."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io

from ...models.encoding.combining import parse_numbers
from ...models.guidance.weight_schedule import ALONG, BETWEEN, HOLD, NOISE, Schedule, parse_schedule
from ...models.messages import check_numbers
from ..shared.schema import schema
from ..shared.sockets import CATEGORY, Curve, Schedules


class IPAdapterInstructSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            io.Schema(
                node_id="IPAdapterInstructSchedule",
                display_name="Schedule Instruct Weight",
                category=f"{CATEGORY}/control",
                description="Factors on the weight over the sampling and a batch, and how long guidance is three-way.",
                inputs=[
                    io.String.Input(
                        "factors",
                        default="0: 1, 0.35: 0.5",
                        multiline=True,
                        tooltip=(
                            "Positions with factors, such as 0: 1, 0.35: 0.5, 1: 0; or factors alone for equal parts, "
                            "such as 1, 0.8, 0.5. A factor of 0 leaves the adapter out and saves its work. Empty: 1."
                        ),
                    ),
                    io.Combo.Input(
                        "between",
                        options=list(BETWEEN),
                        default=HOLD,
                        tooltip="From one factor to the next: hold it, go straight, or start and end gently.",
                    ),
                    io.Combo.Input(
                        "along",
                        options=list(ALONG),
                        default=NOISE,
                        tooltip=(
                            "What positions are measured on: the noise schedule, as start_percent is, or the steps "
                            "that are run; as many factors as steps are then one a step."
                        ),
                    ),
                    io.String.Input(
                        "batch_factors",
                        default="",
                        tooltip=(
                            "Besides, a factor for each picture of a batch or frame of an animation, such as 1, 0.8, "
                            "0.6; from the first again when they are fewer. Empty: all alike."
                        ),
                    ),
                    io.Float.Input(
                        "three_way_until",
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.001,
                        tooltip="Where in the sampling three-way guidance becomes simple, to save passes.",
                    ),
                    io.HookKeyframes.Input(
                        "hook_keyframes",
                        optional=True,
                        tooltip="From Create Hook Keyframe, instead of factors: its strengths, held from each start.",
                    ),
                    Curve.Input(
                        "curve",
                        optional=True,
                        tooltip="A curve of ComfyUI, instead of factors: left is the beginning.",
                        extra_dict={"forceInput": True},  # newer pages would draw an editor, whose curve always counts
                    ),
                ],
                outputs=[Schedules.Output(display_name="schedule", tooltip="Connect it to Apply IPAdapter-Instruct.")],
            ),
            search_aliases=["instruct schedule", "weight over steps", "keyframes", "ip adapter weights"],
        )

    @classmethod
    def execute(
        cls,
        factors: str,
        between: str,
        along: str,
        batch_factors: str,
        three_way_until: float,
        hook_keyframes=None,
        curve=None,
    ) -> io.NodeOutput:
        check_numbers(0.0, 1.0, three_way_until=three_way_until)
        own = parse_numbers(batch_factors, "batch_factors")
        if hook_keyframes is not None and curve is not None:
            raise ValueError("One of hook_keyframes and curve was expected; both are connected. Disconnect one.")
        if curve is not None:
            schedule = Schedule(along=along, curve=_function(curve))
        elif hook_keyframes is not None:
            schedule = _of_keyframes(hook_keyframes)
        else:
            schedule = parse_schedule(factors, between, along)
        return io.NodeOutput(replace(schedule, batch_factors=own, three_way_until=three_way_until))


def _of_keyframes(group) -> Schedule:
    """Return the strengths of a HookKeyframeGroup, each from its start on. Raises ValueError for a group without any.

    Source: ComfyUI 0.3.75, comfy/hooks.py. Of keyframes with the same start the last one counts, as there.
    """
    points = {keyframe.start_percent: float(keyframe.strength) for keyframe in group.keyframes}
    if not points:
        raise ValueError("hook_keyframes was expected to hold a keyframe; it holds none. Add one, or disconnect it.")
    return Schedule(tuple(sorted(points.items())))


def _function(curve):
    """Return a curve's function from a position in 0..1 to its value. Raises ValueError for what is no ComfyUI curve.

    Source: ComfyUI's comfy_api, curve_types.py, `CurveInput.interp`.
    """
    if not callable(getattr(curve, "interp", None)):
        raise ValueError(
            f"A curve of ComfyUI was expected; found {type(curve).__name__}. Connect a curve node, or write factors."
        )
    return curve.interp
