"""Instructions that take turns while a picture is sampled. Expected are Applies with windows, one for each turn."""

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from ipadapter_instruct.models.encoding.combining import CONCAT
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.guidance.weight_schedule import parse_schedule
from ipadapter_instruct.models.patching.apply import ApplySettings, apply_instruct
from ipadapter_instruct.models.patching.run import RUN
from ipadapter_instruct.nodes.main.combine import IPAdapterInstructCombine
from ipadapter_instruct.nodes.prepare.save_embeds import IPAdapterInstructSaveEmbeds
from support import small_models
from support.pack_nodes import run_node
from support.sampling.counting import passes
from support.sampling.short_runs import close, same, sample

MODES = ["simple", "three-way"]


@pytest.fixture(scope="module")
def pictures(family) -> list[InstructEmbeds]:
    """Three embeds of one adapter: a composition, and two others with another instruction."""
    one = small_models.golden_embeds(family)
    others = [one.image_tokens.map(lambda t, n=n: t.roll(7 * n, dims=-1)) for n in (1, 2)]
    return [one, *(InstructEmbeds(one.adapter, "use the style", tokens) for tokens in others)]


def then(first, second, at: float):
    return combined(first, second, "then", at_percent=at)


def combined(first, second, method: str, weight_1: float = 1.0, weight_2: float = 1.0, at_percent: float = 0.5):
    weights = {"weight_1": weight_1, "weight_2": weight_2}
    inputs = {"embeds_1": first, "embeds_2": second, "method": method, "at_percent": at_percent}
    return run_node(IPAdapterInstructCombine, **inputs, **weights).args[0]


def in_windows(model, *turns, **settings):
    """Embeds applied one after another, each with a start and an end."""
    for embeds, start, end in turns:
        model = small_models.applied(model, embeds, start_percent=start, end_percent=end, **settings)
    return model


BEFORE, AFTER = 0.349, 0.351  # no step begins in between, so which of the two acts there does not matter


@pytest.mark.parametrize("guidance", MODES)
def test_turns_are_applies_with_windows(bare, pictures, guidance):
    a, b, _ = pictures
    found = small_models.applied(bare, then(a, b, 0.35), guidance=guidance)
    expected = in_windows(bare, (a, 0, BEFORE), (b, AFTER, 1), guidance=guidance)
    same(sample(found), sample(expected))
    assert not torch.allclose(sample(found), sample(small_models.applied(bare, a, guidance=guidance)), atol=1e-3)


@pytest.mark.parametrize("guidance", MODES)
def test_a_chain_of_turns_in_either_grouping(bare, pictures, guidance):
    a, b, c = pictures
    left, right = then(then(a, b, 0.3), c, 0.7), then(a, then(b, c, 0.7), 0.3)
    assert left == right
    expected = in_windows(bare, (a, 0, 0.29), (b, 0.31, 0.69), (c, 0.71, 1), guidance=guidance)
    same(sample(small_models.applied(bare, left, guidance=guidance)), sample(expected))


def test_a_later_turn_cuts_off_what_would_come_after_it(bare, pictures):
    a, b, c = pictures
    same(*(sample(small_models.applied(bare, embeds)) for embeds in (then(then(a, b, 0.7), c, 0.4), then(a, c, 0.4))))


@pytest.mark.parametrize("at, turn", [(0.0, 1), (1.0, 0)])
def test_a_turn_of_no_length_is_none(bare, pictures, at, turn):
    found = small_models.applied(bare, then(*pictures[:2], at), guidance="three-way")
    same(sample(found), sample(small_models.applied(bare, pictures[turn], guidance="three-way")))


def test_the_same_embeds_twice_are_no_turns(bare, pictures):
    found = small_models.applied(bare, then(pictures[0], pictures[0], 0.5), guidance="three-way")
    same(sample(found), sample(small_models.applied(bare, pictures[0], guidance="three-way")))


@pytest.mark.parametrize("start, end", [(0.1, 0.4), (0.0, 0.9), (0.6, 1.0)])
def test_start_and_end_of_apply_cut_the_turns(bare, pictures, start, end):
    a, b, _ = pictures
    window = {"start_percent": start, "end_percent": end}
    found = small_models.applied(bare, then(a, b, 0.35), guidance="simple", **window)
    turns = [(a, start, min(BEFORE, end)), (b, max(AFTER, start), end)]
    expected = in_windows(bare, *(turn for turn in turns if turn[1] <= turn[2]), guidance="simple")
    same(sample(found), sample(expected))


def acting(model, percents: list[float]) -> list[list[int]]:
    """The adapters of the chain that act at the noise levels of these percentages."""
    level, found = model.get_model_object("model_sampling").percent_to_sigma, []

    def look(executor, *args, **kwargs):
        run = args[2]["transformer_options"][RUN]
        for percent in () if found else percents:
            active = run.active(torch.tensor([level(percent)], dtype=torch.float64))
            found.append([[each.applied for each in run.adapters].index(one.applied) for one in active])
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "look", look)
    sample(model, last_step=1)
    return found[: len(percents)]


def test_at_the_boundary_the_second_acts_and_never_both(bare, pictures):
    percents = [0.0, 0.1, 0.3, 0.35, 0.4, 0.7, 0.9, 0.999]
    embeds = then(then(*pictures[:2], 0.35), pictures[2], 0.7)
    assert acting(small_models.applied(bare, embeds), percents) == [[0], [0], [0], [1], [1], [2], [2], [2]]


def test_the_last_turn_acts_to_the_end_of_a_window_that_is_apply_s(bare, pictures):
    embeds = then(*pictures[:2], 0.35)
    assert acting(small_models.applied(bare, embeds, end_percent=0.35), [0.3, 0.35, 0.36]) == [[0], [1], []]
    assert acting(small_models.applied(bare, embeds, end_percent=0.7), [0.3, 0.35, 0.7, 0.71]) == [[0], [1], [1], []]


def test_auto_chooses_for_each_turn_and_says_so(bare, pictures):
    """Three steps, which begin at 0, the middle and the end; a composition is three-way, a style simple."""
    a, b, _ = pictures
    model, lines = apply_instruct(bare, then(a, b, 0.35), ApplySettings())
    assert passes(model) == [3, 2, 2]
    assert [line.split(",")[0] for line in lines if "guidance:" in line] == [
        "0 to 0.35: guidance: three-way",
        "0.35 to 1: guidance: simple",
    ]
    assert passes(small_models.applied(bare, then(b, a, 0.35))) == [2, 3, 3]
    same(sample(model), sample(in_windows(bare, (a, 0, BEFORE), (b, AFTER, 1), guidance="auto")))


def test_turns_keep_masks_schedules_and_frames(bare, pictures):
    a, b, _ = pictures
    mask = torch.zeros(1, 16, 24)
    mask[..., :10] = 1
    settings = {
        "guidance": "simple",
        "batch_factors": (0.7,),
        "schedule": parse_schedule("0: 1, 1: 0.5", "linear", "steps"),
    }
    found = small_models.applied(bare, then(a, b, 0.35), mask, **settings)
    expected = small_models.applied(bare, a, mask, end_percent=BEFORE, **settings)
    expected = small_models.applied(expected, b, mask, start_percent=AFTER, **settings)
    close(sample(found), sample(expected))


def test_nodes_that_need_one_set_of_tokens_refuse_turns(pictures):
    timed = then(*pictures[:2], 0.35)
    message = (
        r"Embeds of one moment were expected; these change while sampling \(method then\). Put the Combine .* behind"
    )
    for first, second in ((timed, pictures[2]), (pictures[2], timed)):
        with pytest.raises(ValueError, match=message):
            combined(first, second, CONCAT)
    with pytest.raises(ValueError, match=message):
        run_node(IPAdapterInstructSaveEmbeds, embeds=timed, filename_prefix="instruct")


@pytest.mark.parametrize("guidance", MODES)
def test_the_weights_of_turns_are_factors_on_applys(bare, pictures, guidance):
    a, b, _ = pictures
    found = small_models.applied(bare, combined(a, b, "then", 0.5, -0.25, 0.35), weight=0.8, guidance=guidance)
    expected = small_models.applied(bare, a, weight=0.4, end_percent=BEFORE, guidance=guidance)
    expected = small_models.applied(expected, b, weight=-0.2, start_percent=AFTER, guidance=guidance)
    close(sample(found), sample(expected))


def test_a_turn_of_weight_0_is_the_bare_model(bare, pictures):
    found = small_models.applied(bare, combined(*pictures[:2], "then", 0.0, 1.0, 0.35), guidance="simple")
    expected = small_models.applied(bare, pictures[1], start_percent=AFTER, guidance="simple")
    same(sample(found), sample(expected))


def test_an_unknown_method_is_refused(pictures):
    with pytest.raises(ValueError, match="^method was expected to be one of concat, .*, then; it is 'next'"):
        combined(*pictures[:2], "next")
