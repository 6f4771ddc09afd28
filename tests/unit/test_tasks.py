"""The choices of `auto`, against the table of the reference, and its trained tasks."""

import dataclasses

import pytest
from ipadapter_instruct.models.families import FAMILIES, SD3, SD15, SDXL, Settings
from ipadapter_instruct.models.guidance.tasks import SIMPLE, TASKS, THREE_WAY, advise, describe_instruction, recommended

SIMPLE_WORDS = {
    SD15: {"style", "colour", "color", "everything", "face", "facial"},
    SDXL: {"style", "colour", "color", "everything", "face", "facial"},
    SD3: {"style", "colour", "color", "everything"},
}
WORDS = ("style", "colour", "color", "everything", "face", "facial", "composition", "pose", "object", "background")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_instruction_is_guided_simply_when_it_contains_one_of_its_familys_words(family, word):
    expected = SIMPLE if word in SIMPLE_WORDS[family] else THREE_WAY
    assert advise(family, f"take the {word} of it").guidance == expected


def test_words_are_found_inside_other_words_as_the_reference_finds_them():
    advice = advise(SD15, "use the surface")

    assert advice.guidance == SIMPLE
    assert "'face'" in advice.reasons[0]


@pytest.mark.parametrize("instruction", ["use the Style", "USE THE FACE", "Composition"])
def test_words_are_case_sensitive_as_in_the_reference(instruction):
    advice = advise(SD15, instruction)
    assert (advice.guidance, advice.weight_change) == (THREE_WAY, 0)


def test_an_empty_instruction_names_no_simply_guided_task():
    assert advise(SD15, "").guidance == THREE_WAY


@pytest.mark.parametrize(
    ("instruction", "change"),
    [
        ("use the composition", -0.2),
        ("use the pose", -0.2),
        ("use the pose and the composition", -0.2),
        ("use the style", 0.0),
        ("use the object", 0.0),
    ],
)
def test_sd15_lowers_the_weight_for_composition_and_pose(instruction, change):
    assert advise(SD15, instruction).weight_change == change


@pytest.mark.parametrize("family", [SDXL, SD3], ids=lambda family: family.name)
def test_sdxl_and_sd3_leave_the_weight_alone(family):
    assert advise(family, "use the composition and the pose").weight_change == 0


def test_every_choice_says_the_word_it_was_made_for():
    advice = advise(SD15, "use the style and the pose")

    assert len(advice.reasons) == 2
    assert "'style'" in advice.reasons[0]
    assert "'pose'" in advice.reasons[1]
    assert "-0.2" in advice.reasons[1]


@pytest.mark.parametrize(
    "family, instruction, described",
    [
        (SD15, "use the style", "trained on style"),
        (SD15, "Use the Color and the facial features", "trained on colour, face"),
        (SD15, "use the object, a red car", "trained on object"),
        (SD15, "use the background", "trained on background (beta)"),
        (SDXL, "use the background", "not one that SDXL's adapter was trained on (everything, style, colour"),
        (SD3, "make it nice", "not one that SD3's adapter was trained on"),
    ],
)
def test_an_instruction_is_described_by_the_tasks_its_family_was_trained_on(family, instruction, described):
    assert describe_instruction(family, instruction).startswith(f"instruction: {described}")


def test_an_instruction_that_the_file_was_trained_on_is_known():
    trained = ["use the brush strokes", "take them", "keep them", "copy them"]
    assert describe_instruction(SD15, "Use the brush strokes ", trained) == "instruction: this file was trained on it"
    assert describe_instruction(SD15, "use the style", trained) == "instruction: trained on style"
    said = describe_instruction(SD3, "make it nice", trained)
    assert "(use the brush strokes, take them, keep them, ...; published ones: everything, style" in said
    assert "; published ones" in describe_instruction(SD3, "make it nice", trained[:3])


def test_the_trained_tasks_are_the_published_ones():
    first_six = ["everything", "style", "colour", "pose", "composition", "face"]
    trained = {family: [task.name for task in TASKS if family in task.families] for family in FAMILIES}

    assert trained == {SD15: [*first_six, "foreground", "background", "object"], SDXL: first_six, SD3: first_six}
    assert [task.name for task in TASKS if task.beta] == ["foreground", "background"]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_tasks_instruction_has_its_own_word_and_no_other_tasks(task):
    assert [other.name for other in TASKS if other.name in task.instruction] == [task.name]


RECOMMENDED = {
    SD15: Settings(weight=0.8, cfg=5.0, instruct_guidance=2.0, image_guidance=1.0),
    SDXL: Settings(weight=0.9, cfg=7.0, instruct_guidance=4.0, image_guidance=0.5),
    SD3: Settings(weight=0.8, cfg=6.0, instruct_guidance=6.0, image_guidance=1.0),
}
STRONGER_ON_SDXL = {"composition", "background", "object"}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_authors_settings_are_recommended(family, task):
    expected = RECOMMENDED[family]
    if family is SDXL and task.name in STRONGER_ON_SDXL:
        expected = Settings(0.9, 7.0, 6.0, 0.5)
    assert recommended(family, task) == expected


def test_changes_of_several_words_add_up():
    family = dataclasses.replace(SD15, weight_changes=((("pose",), -0.25), (("light",), 0.5)))
    advice = advise(family, "use the pose and the light")
    assert advice.weight_change == 0.25
    assert [reason for reason in advice.reasons if reason.startswith("weight")] == [
        "weight -0.25 for 'pose'",
        "weight +0.5 for 'light'",
    ]
