"""Sets of image tokens made into one by nodes: Combine, and references with instructions of their own. Bit for bit."""

import pytest
import torch
from ipadapter_instruct.models.encoding.combining import concatenate
from ipadapter_instruct.models.guidance.tasks import OWN_WORDS
from ipadapter_instruct.models.reference.faces import Faces
from ipadapter_instruct.nodes.main.apply import IPAdapterInstructApply
from ipadapter_instruct.nodes.main.combine import IPAdapterInstructCombine
from ipadapter_instruct.nodes.main.encode import IPAdapterInstructEncode
from ipadapter_instruct.nodes.main.reference import IPAdapterInstructReference
from support import readable_adapters, small_models, small_plain_adapters
from support.pack_nodes import run_node
from support.readable_adapters import (
    COLOUR,
    IMAGES,
    POSE,
    ROW,
    Runs,
    image_encoder,
    readable_adapter,
    row_of,
    same_embeds,
)
from support.sampling.short_runs import noise, same, sample

FACE = Faces(torch.ones(1, 512))
pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all


# Two sets made into one


def combined(first, second, method: str = "concat", weight_1: float = 1.0, weight_2: float = 1.0):
    inputs = {"embeds_1": first, "embeds_2": second, "method": method, "weight_1": weight_1, "weight_2": weight_2}
    return run_node(IPAdapterInstructCombine, **inputs, at_percent=0.5).args[0]


def test_two_encodes_concatenated_are_their_tokens_in_order(encode):
    first, second = encode(), encode(image=IMAGES[1:3], instruction=COLOUR)
    found = combined(first, second)
    for branch, tokens in found.image_tokens.items():
        same(tokens, torch.cat([first.image_tokens[branch], second.image_tokens[branch]], dim=1))
    assert found.token_weights is None
    assert found.instruction == f"{POSE}; {COLOUR}"


def test_pictures_of_one_batch_are_encodes_concatenated(encode):
    together = encode(references=row_of({}, {"image": IMAGES[1:2], "weight": 0.5}, image=IMAGES[:1]))
    apart = combined(encode(), encode(image=IMAGES[1:2]), weight_2=0.5)
    for branch, tokens in together.image_tokens.items():
        torch.testing.assert_close(apart.image_tokens[branch], tokens, rtol=0, atol=1e-5)
    same(apart.token_weights, together.token_weights)


@pytest.mark.parametrize("method", ["concat", "average", "add", "subtract"])
def test_a_set_of_weight_0_leaves_the_other_and_its_instruction(encode, method):
    found = combined(encode(), encode(instruction=COLOUR), method, weight_2=0.0)
    same_embeds(found, encode())
    assert found.instruction == POSE


@pytest.mark.parametrize("method", ["concat", "average", "add", "subtract"])
@pytest.mark.parametrize("guidance", ["simple", "three-way"])
def test_a_combination_samples(family, encode, method, guidance):
    model = small_models.small_model(family)
    embeds = combined(
        encode(), encode(instruction=COLOUR, combine="one per batch index", image=IMAGES[:2]), method, 0.7
    )
    found = sample(small_models.applied(model, embeds, guidance=guidance), noise(model, 2, 8, 12), last_step=1)
    assert found.isfinite().all()
    assert not torch.allclose(found, sample(model, noise(model, 2, 8, 12), last_step=1), atol=1e-3)


def test_sets_of_two_adapters_cannot_become_one(encode, family, vit_h):
    other = readable_adapter(family, factor=-1.0)
    other.name = "other.safetensors"
    with pytest.raises(
        ValueError, match=f"one adapter were expected; they are of {family}.* and other.*an Apply of its"
    ):
        combined(encode(), readable_adapters.encode(other, vit_h))


def test_an_adapter_loaded_twice_is_one(encode, family, vit_h):
    again = readable_adapters.encode(readable_adapter(family), vit_h)
    same_embeds(combined(encode(), again), combined(encode(), encode()))


def test_sets_whose_loras_were_loaded_at_two_strengths_cannot_become_one():
    embeds = small_plain_adapters.embeds(small_plain_adapters.adapter("faceid"))
    with pytest.raises(ValueError, match="their lora_strength is 1 and 0.5. Encode both with one Load"):
        combined(embeds, small_plain_adapters.of_strength(embeds, 0.5))


AUTO = {  # instructions -> weight, guidance and words that auto finds in them, for Apply's 0.8
    ("use the style", "use the dog"): ("simple", 0.8, "'style'"),
    ("use the dog", "use the pose"): ("three-way", 0.6, "'pose'"),
}


@pytest.mark.parametrize("instructions", AUTO, ids=" and ".join)
def test_auto_finds_its_words_in_all_instructions(instructions):
    encode_adapter, (guidance, weight, word) = small_models.small_adapter("sd15"), AUTO[instructions]
    golden = small_models.golden_embeds("sd15")
    sets = [small_models.InstructEmbeds(encode_adapter, words, golden.image_tokens) for words in instructions]
    settings = {
        "weight": 0.8,
        "instruct_guidance": 2.0,
        "image_guidance": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    out = run_node(
        IPAdapterInstructApply, model=small_models.small_model(), embeds=combined(*sets), guidance="auto", **settings
    )
    text = " ".join(out.ui["text"])
    assert f"guidance: {guidance}, weight: {weight}" in text
    assert word in text


# References with instructions of their own


def test_references_are_their_encodes_concatenated_with_their_weights(adapter, vit_h, encode):
    mask = torch.ones(1, 8, 8)
    mask[..., :4] = 0
    own = (
        {},
        {"image": IMAGES[1:3], "instruction": COLOUR, "image_mask": mask},
        {"image": IMAGES[3:4], "instruction": "use the style", "fit": "stretch"},
    )
    weights = (1.0, 0.5, -0.25)
    settings = ({**each, "weight": weight} for each, weight in zip(own, weights, strict=True))
    made = row_of(*settings, image=IMAGES[:1])
    output = readable_adapters.encoded(adapter, vit_h, references=made)
    expected = concatenate([(encode(**each).tokens, weight) for each, weight in zip(own, weights, strict=True)])

    found = output.args[0]
    for branch, tokens in expected.branches.items():
        same(found.image_tokens[branch], tokens)
    same(found.token_weights, expected.weights)
    assert found.token_weights[0, ::16].tolist() == [1.0, 0.5, 0.5, -0.25]
    assert found.instruction == f"{POSE}; {COLOUR}; use the style"
    assert len(output.ui["text"]) == 3


def test_a_single_reference_is_its_encode(encode):
    same_embeds(encode(references=row_of({"image": IMAGES[:1]})), encode())


def test_a_reference_of_weight_0_is_left_out_and_not_encoded(adapter, encode):
    encoder = image_encoder()
    runs = Runs(encoder)
    made = row_of({"image": IMAGES[:1]}, {"image": IMAGES[1:2], "weight": 0.0, "instruction": COLOUR})
    found = readable_adapters.encode(adapter, encoder, references=made)
    same_embeds(found, encode())
    assert found.instruction == POSE
    assert runs.sizes == [1, 1]  # the zero image and the picture


def test_references_of_nothing_but_weight_0_are_refused(encode):
    with pytest.raises(ValueError, match="other than 0"):
        encode(references=row_of({"weight": 0.0}, {"weight": 0.0}, image=IMAGES[:1]))


def test_references_are_checked_before_any_is_encoded(adapter):
    encoder = image_encoder()
    runs = Runs(encoder)
    made = row_of({"image": IMAGES[:1]}, {"embeds": torch.zeros(1, 257, 1280)}, {"face": FACE})
    with pytest.raises(ValueError, match="Connect a picture to image: .* this reference has none"):
        readable_adapters.encode(adapter, encoder, references=made)
    assert runs.sizes == []
    with pytest.raises(ValueError, match="image.*not numbers"):
        row_of({"image": torch.full((1, 8, 8, 3), float("nan"))})


@pytest.mark.parametrize("combine", ["concat", "average"])
def test_a_row_is_combined_as_its_last_node_says(encode, combine):
    images = ({"image": IMAGES[:1]}, {"image": IMAGES[1:2], "combine": combine})
    found = encode(references=row_of(*images))
    apart = [encode(image=IMAGES[n : n + 1]) for n in range(2)]
    same_embeds(found, combined(*apart, combine))


def test_a_row_with_two_ways_of_combining_is_refused():
    with pytest.raises(ValueError, match="^Choose average in combine here, too: .* this one concat"):
        row_of({"combine": "average"}, {}, image=IMAGES[:1])


def test_a_reference_without_an_instruction_has_encodes(encode):
    made = row_of({}, {"instruction": COLOUR}, image=IMAGES[:1])
    found = encode(references=made)
    same_embeds(found, combined(encode(), encode(instruction=COLOUR)))
    assert found.instruction == f"{POSE}; {COLOUR}"


UNUSED = {
    "image and embeds": ({"image": IMAGES[:1], "embeds": torch.zeros(1, 2, 3)}, "connected: image and embeds"),
    "nothing": ({}, "connected: none"),
    "a mask without an image": (
        {"face": FACE, "image_mask": torch.ones(1, 8, 8)},
        "^Connect image, too, or disconnect",
    ),
    "neg_embeds alone": ({"face": FACE, "neg_embeds": torch.ones(1, 2, 3)}, "^Connect embeds, too, or disconnect"),
}


@pytest.mark.parametrize("inputs, message", UNUSED.values(), ids=UNUSED)
def test_what_would_do_nothing_in_a_reference_is_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        row_of(inputs)


@pytest.mark.parametrize("given, found", [({}, "neither is"), ({"image": 1, "references": 1}, "both are")])
def test_encode_takes_a_picture_or_references(adapter, vit_h, given, found):
    with pytest.raises(ValueError, match=f"^Connect a picture to image, or .*; {found} connected"):
        run_node(IPAdapterInstructEncode, **readable_adapters.inputs_for(adapter, vit_h), **given)


TASKS = {"pose": ("use the pose", True), OWN_WORDS: ("take its light", False)}


@pytest.mark.parametrize("task", TASKS)
def test_a_tasks_own_wording_counts_unless_it_is_own_words(adapter, vit_h, encode, task):
    instruction, is_ignored = TASKS[task]
    output = readable_adapters.encoded(adapter, vit_h, task=task, instruction="take its light")
    same_embeds(output.args[0], encode(instruction=instruction))
    assert output.args[0].instruction == instruction
    ignored = [line for line in output.ui["text"] if "what is written in instruction: not used" in line]
    assert bool(ignored) == is_ignored


def test_a_task_that_is_none_is_refused(encode):
    with pytest.raises(ValueError, match="^task was expected to be one of own words, everything, .*; it is 'posing'"):
        encode(task="posing")


def test_adding_a_reference_leaves_those_before_it_as_they_are():
    before = row_of({"image": IMAGES[:1]})
    after = run_node(IPAdapterInstructReference, **{**ROW, "weight": 0.5}, image=IMAGES[:1], references=before).args[0]
    assert (len(before.row), len(after.row)) == (1, 2)
    assert after.row[0] is before.row[0]
