"""The Schedule Instruct Weight node."""

from dataclasses import replace

from comfy_api.latest import io

from ...models.encoding.combining import parse_numbers
from ...models.guidance.weight_schedule import ALONG, BETWEEN, HOLD, NOISE, Schedule, parse_schedule
from ...models.messages import check_numbers
from ..shared.schema import CATEGORY, Curve, Schedules, Schema


class IPAdapterInstructSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="IPAdapterInstructSchedule",
            category=f"{CATEGORY}/control",
            inputs=[
                io.String.Input("factors", default="0: 1, 0.35: 0.5", multiline=True),
                io.Combo.Input("between", options=list(BETWEEN), default=HOLD),
                io.Combo.Input("along", options=list(ALONG), default=NOISE),
                io.String.Input("batch_factors", default=""),
                io.Float.Input("three_way_until", default=1.0, min=0.0, max=1.0, step=0.001),
                io.HookKeyframes.Input("hook_keyframes", optional=True),
                Curve.Input(
                    "curve",
                    optional=True,
                    extra_dict={"forceInput": True},  # newer pages would draw an editor, whose curve always counts
                ),
            ],
            outputs=[Schedules.Output(display_name="schedule")],
            hidden=[],
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
            if not callable(getattr(curve, "interp", None)):
                raise ValueError(
                    f"A curve of ComfyUI was expected; found {type(curve).__name__}. Connect a curve node, or write "
                    "factors."
                )
            # ComfyUI's comfy_api, curve_types.py: `CurveInput.interp` takes a position in 0..1.
            schedule = Schedule(along=along, curve=curve.interp)
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
