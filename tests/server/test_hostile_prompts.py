"""Prompts that no page would send: each ends in an error that says why, and the next right prompt runs."""

from __future__ import annotations

import pytest
from ipadapter_instruct.commands.servers.client import NodeFailedError, PromptRejectedError
from support.patience import PATIENCE

APPLY, ENCODE, LOADER = "IPAdapterInstructApply", "IPAdapterInstructEncode", "IPAdapterInstructLoader"
LABEL = "IPAdapterInstructLabelGrid"
HUGE = 10**400
DEEP = [[[[[["a"]]]]]]

# node, its inputs, what is said. {kind} is the link of that kind's first output.
WRONG = {
    "a link of another type": (APPLY, {"embeds": "{CheckpointLoaderSimple}"}, "Return type mismatch"),
    "a link of another type to an optional input": (APPLY, {"attn_mask": "{LoadImage}"}, "Return type mismatch"),
    "a model for an adapter": (ENCODE, {"adapter": "{CheckpointLoaderSimple}"}, "Return type mismatch"),
    "an output that is not there": (APPLY, {"embeds": ["{IPAdapterInstructEncode}", 99]}, "index out of range"),
    "an output before the first": (APPLY, {"embeds": ["{IPAdapterInstructEncode}", -99]}, "index out of range"),
    "a node that is not there": (APPLY, {"embeds": ["nobody", 0]}, "nobody"),
    "a link to itself": (APPLY, {"model": "{IPAdapterInstructApply}"}, "failed validation"),
    "nested lists for a number": (APPLY, {"weight": DEEP}, "Bad linked input"),
    "nested lists for a text": (ENCODE, {"prompt": DEEP}, "Bad linked input"),
    "a list for a choice": (APPLY, {"guidance": ["simple"]}, "Bad linked input"),
    "an object for a number": (APPLY, {"weight": {"a": 1}}, "weight"),
    "an object for a choice": (APPLY, {"guidance": {"__value__": ["x", "y"]}}, "guidance"),
    "a wrapped list for a number": (APPLY, {"weight": {"__value__": [1, 2, 3]}}, "weight"),
    "nothing for a number": (APPLY, {"weight": None}, "weight"),
    "a text for a picture": (ENCODE, {"image": "a"}, "The image was expected to be"),
    "a task that is none": (ENCODE, {"task": "the style"}, "'the style'"),
    "a number that is none": (APPLY, {"weight": float("nan")}, "weight was expected to be a finite number"),
    "a number without end": (APPLY, {"instruct_guidance": float("inf")}, "instruct_guidance"),
    "a number that no float holds": (APPLY, {"weight": HUGE}, "weight"),
    "a missing input": (APPLY, {"embeds": ...}, "Required input is missing"),
}
SPOOFED = {
    "unique_id": "7",
    "prompt": {"1": {"class_type": "x"}},
    "dynprompt": "x",
    "extra_pnginfo": {"workflow": {}},
    "auth_token_comfy_org": "secret",
    "api_key_comfy_org": "secret",
    "__class__": "x",
    "cls": "x",
    "self": "x",
    "hidden": {"unique_id": 3},
}


def filled(graph, value):
    """The value with {kind} in it replaced by a link, or in a link by a node's id."""
    if isinstance(value, str) and value.startswith("{"):
        return graph.output(value[1:-1])
    if isinstance(value, list) and len(value) == 2 and str(value[0]).startswith("{"):
        return [graph.id(value[0][1:-1]), value[1]]
    return value


def changed(graph, kind: str, inputs: dict):
    made = graph.changed(kind, **{name: filled(graph, value) for name, value in inputs.items()})
    own = made[made.id(kind)]["inputs"]
    for name in [name for name, value in own.items() if value is ...]:
        del own[name]
    return made


def ended(client, graph) -> str:
    with pytest.raises((NodeFailedError, PromptRejectedError)) as caught:
        client.run(graph, timeout=PATIENCE)
    return str(caught.value)


@pytest.fixture(scope="module")
def right(tiny):
    return tiny.changed("KSampler", steps=1)


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_prompt_is_refused_in_words_and_the_right_one_runs(client, right, case):
    kind, inputs, said = WRONG[case]
    message = ended(client, changed(right, kind, inputs))
    assert said in message
    assert len(message) < 3000
    assert client.run(right).prompt_id


def test_hidden_inputs_that_a_prompt_brings_are_not_looked_at(client, right):
    """The node's text comes back under its own id, and the picture is made."""
    graph = right
    for kind in (LOADER, ENCODE, APPLY):
        graph = graph.changed(kind)
        graph[graph.id(kind)]["inputs"] |= SPOOFED
    run = client.run(graph.changed("KSampler", seed=123))
    assert graph.id(APPLY) in run.outputs and "7" not in set(run.outputs) - set(graph)
    assert run.images()


@pytest.mark.parametrize("name", ["unique_id", "prompt", "hidden", "more", "more_001", "cls", "nobody"])
def test_links_to_inputs_that_a_node_has_not_do_no_harm(client, right, name):
    """The host hands them over as arguments, and only Label a Grid takes such: pictures."""
    for kind, inputs in ((LABEL, {"row_labels": "", "column_labels": ""}), (APPLY, {})):
        own = {**inputs, "images": right.output("VAEDecode")} if kind == LABEL else right.inputs(APPLY)
        graph = right.with_node("odd", kind, **own, **{name: right.output("CheckpointLoaderSimple")})
        graph = graph.with_node("see", "PreviewAny", source=["odd", 0])
        message = ended(client, graph)
        assert "unexpected keyword" in message or "multiple values" in message or "was expected to be" in message
    assert client.run(right).prompt_id
