"""The inputs of each branch, against the table of the authors' four branches."""

import pytest
from ipadapter_instruct.models.guidance.branches import Branch, Branches, branch_texts

TEXTS = branch_texts("use the pose", "a dog", "blurry")


def test_full_is_given_the_instruction_and_the_prompt():
    assert (TEXTS.full.instruct, TEXTS.full.prompt) == ("use the pose", "a dog")


def test_everything_is_given_the_word_everything_and_the_prompt():
    assert (TEXTS.everything.instruct, TEXTS.everything.prompt) == ("everything", "a dog")


def test_image_only_is_given_the_negative_prompt_as_both_texts():
    assert (TEXTS.image_only.instruct, TEXTS.image_only.prompt) == ("blurry", "blurry")


def test_uncond_is_given_no_instruction_and_the_negative_prompt():
    assert (TEXTS.uncond.instruct, TEXTS.uncond.prompt) == ("", "blurry")


@pytest.mark.parametrize("negative_prompt", ["blurry", ""])
def test_what_to_leave_behind_is_told_to_the_branches_that_guidance_moves_away_from(negative_prompt):
    plain = branch_texts("use the pose", "a dog", negative_prompt)
    found = branch_texts("use the pose", "a dog", negative_prompt, "the colour")
    assert (found.full, found.everything) == (plain.full, plain.everything)
    for moved_from in (found.image_only, found.uncond):
        assert (moved_from.instruct, moved_from.prompt) == ("the colour", negative_prompt)


def test_nothing_to_leave_behind_changes_no_text():
    assert branch_texts("use the pose", "a dog", "blurry", "") == TEXTS


def test_each_branch_names_its_own_value():
    values = Branches(full=1, everything=2, image_only=3, uncond=4)

    assert dict(values.items()) == {
        Branch.FULL: 1,
        Branch.EVERYTHING: 2,
        Branch.IMAGE_ONLY: 3,
        Branch.UNCOND: 4,
    }
    assert all(values[branch] == value for branch, value in values.items())


def test_mapping_keeps_every_value_at_its_branch():
    assert Branches(1, 2, 3, 4).map(lambda value: value * 10) == Branches(10, 20, 30, 40)


def test_a_simple_adapter_gives_full_full_uncond_uncond():
    seats = {branch: branch.in_simple_guidance for branch in Branch}

    assert seats == {
        Branch.FULL: Branch.FULL,
        Branch.EVERYTHING: Branch.FULL,
        Branch.IMAGE_ONLY: Branch.UNCOND,
        Branch.UNCOND: Branch.UNCOND,
    }
