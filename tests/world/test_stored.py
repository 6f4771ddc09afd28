"""The stored models of the drawn world are small, and as good as is said of them."""

import random
from shutil import copyfile

import pytest
import torch
from comfyhost.places import ToolError
from drawn_world.adapter.references import TextReader
from drawn_world.adapter.train_resampler import shares_right
from drawn_world.files import JOINT, adapter_file, adapter_name
from drawn_world.models.text_encoder import CODE, TextEncoder, Tokens, codes
from drawn_world.models.train_image_encoder import Reading, figures
from drawn_world.models.train_text_encoder import Tagging, Texts
from drawn_world.models.train_text_encoder import figures as text_figures
from drawn_world.scenes.scene import HELD_OUT, TASKS
from drawn_world.scenes.words import SENSES, held_out_wordings, words_for
from drawn_world.storage import STORED, stored, stored_path
from ipadapter_instruct.models.adapter.checkpoint import build, read_checkpoint


@pytest.fixture(scope="module")
def text():
    return TextEncoder.from_stored()


def nearest_senses(text: TextEncoder, words: str) -> set:
    """The senses of a text's states that are long enough to be one."""
    states = text(torch.tensor([Tokens().of_text(words)]))[0][0, :, :CODE]
    known, every = [*codes()], torch.stack(list(codes().values()))
    found = states[states.norm(dim=-1) > 0.6 * CODE**0.5]
    return {known[number] for number in (found @ every.T).argmax(-1).tolist()}


def test_the_stored_files_are_small():
    assert sum(path.stat().st_size for path in STORED.glob("*")) < 24e6


def test_an_adapter_that_is_not_there_or_for_other_models_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("DRAWN_WORLD", str(tmp_path))
    assert adapter_file(JOINT) == stored_path(JOINT)
    with pytest.raises(ToolError, match="is not there. Train it: make world"):
        adapter_file("style")
    copyfile(stored_path("base"), tmp_path / adapter_name("style"))
    with pytest.raises(ToolError, match="was trained with other models than are stored"):
        adapter_file("style")


def test_states_of_texts_that_were_not_learnt_are_their_words_senses(text):
    tagging = Tagging(text)
    tagging.load_state_dict(stored("text_encoder"))
    shares = text_figures(tagging, Texts(200, "texts of the tests", Tokens()))
    assert shares["states"] > 0.99
    assert shares["nothing"] < 0.1


@pytest.mark.parametrize("task", TASKS)
def test_held_out_wordings_are_understood(text, task):
    read = [nearest_senses(text, wording) for wording in held_out_wordings(task)]
    assert sum(senses == {("task", task)} for senses in read) >= len(read) - 1


def test_synonyms_mean_the_same(text):
    drawn = random.Random(0)
    for sense in drawn.sample(SENSES, 20):
        for word in words_for(sense):
            frame = {"task": "use the {}", "place": "one {}"}.get(sense[0], "a {}")
            assert nearest_senses(text, frame.format(word)) == {sense}, word


def test_drawings_never_seen_are_read():
    reading = Reading()
    reading.load_state_dict(stored("image_encoder"), strict=False)
    shares = figures(reading.eval(), sorted(HELD_OUT), 200)
    assert min(shares[name] for name in ("places", "ground", "tint", "concept")) > 0.9
    assert shares["style"] > 0.8


def test_the_stored_adapter_reads_what_it_is_asked_for_by_wordings_never_taught():
    resampler = build(read_checkpoint(stored_path("joint"))).image_projection.float()
    shares = shares_right(resampler, TextReader(), {task: held_out_wordings(task) for task in TASKS}, 40)
    assert min(shares[name] for name in ("colour", "composition", "background")) > 0.9
    assert min(shares[name] for name in ("style", "object")) > 0.75
