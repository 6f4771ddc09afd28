"""Embeds that were saved and loaded: the same as made afresh, bit for bit."""

import os

import pytest
import torch
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.encoding.embeds import InstructEmbeds
from ipadapter_instruct.models.encoding.loaded_adapter import LoadedAdapter
from ipadapter_instruct.nodes.prepare.load_embeds import IPAdapterInstructLoadEmbeds
from support import small_files, small_models
from support.node_runs.saved_embeds import FIRST, load, save
from support.refusals import refused
from support.sampling.short_runs import noise, same, sample
from support.small_models import FAMILIES

pytestmark = pytest.mark.xdist_group("nodes")  # one process makes the encoders for all


def listed() -> list[str]:
    return IPAdapterInstructLoadEmbeds.INPUT_TYPES()["required"]["file"][1]["options"]


@pytest.mark.parametrize("guidance", ["simple", "three-way"])
@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_embeds_give_the_same_picture(places, family, guidance):
    embeds, model = small_models.golden_embeds(family), small_models.small_model(family)
    save(embeds)
    loaded = load(small_models.small_adapter(family))

    assert loaded.instruction == embeds.instruction
    found, expected, bare = (
        sample(each) for each in (*(small_models.applied(model, e, guidance=guidance) for e in (loaded, embeds)), model)
    )
    same(found, expected)
    assert not torch.allclose(found, bare, atol=0.05)


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_tokens_for_each_latent_come_back_too(places, family):
    made, model = small_models.golden_embeds(family), small_models.small_model(family)
    tokens = made.image_tokens.map(lambda t: torch.cat([t, t.roll(5, dims=-1)]))
    weights = torch.linspace(0.2, 1.2, tokens.full.shape[0] * tokens.full.shape[1]).view(2, -1)
    embeds = InstructEmbeds(made.adapter, made.instruction, tokens, weights)
    save(embeds)
    loaded = load(made.adapter)

    assert torch.equal(loaded.token_weights, weights)
    found, expected = (sample(small_models.applied(model, e), noise(model, batch=2)) for e in (loaded, embeds))
    same(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_adapter_and_its_conversions_load_each_others_embeds(places, family):
    paths = [places / name for name in ("adapter.bin", "adapter-fp16.safetensors", "adapter-bf16.safetensors")]
    small_files.save_adapter(small_files.adapter_tensors(family), paths[0])
    convert(paths[0], paths[1], "fp16")
    convert(paths[1], paths[2], "bf16")
    adapters = [LoadedAdapter.read(path) for path in paths]

    for number, adapter in enumerate(adapters, start=1):
        tokens = torch.randn(1, 16, adapter.context_width)
        save(InstructEmbeds(adapter, "use the pose", small_models.Branches(*[tokens] * 4)))
        for other in adapters:
            loaded = load(other, f"embeds/instruct_{number:05}_.instruct.safetensors [output]")
            assert loaded.adapter is other
            assert torch.equal(loaded.image_tokens.full, tokens)


def test_another_adapter_is_refused_of_the_same_family_or_another(places):
    save(small_models.golden_embeds("sd15"))
    trained = small_models.small_adapter(
        "sd15", lambda name, weight: -weight if name.endswith("proj_in.bias") else weight
    )
    trained.name = "trained.safetensors"
    parts = ("The embeds in instruct_00001_.instruct.safetensors were made with small.safetensors (for SD1.5)",)
    refused(lambda: load(trained), *parts, "trained.safetensors (for SD1.5)", "another one", "encode the picture again")
    refused(lambda: load(small_models.small_adapter("sdxl")), *parts, "for SDXL", "Load small.safetensors")


def test_files_are_numbered_and_none_is_written_over(places):
    embeds = small_models.golden_embeds()
    said = [save(embeds).ui["text"] for _ in range(3)]
    names = [f"instruct_0000{number}_.instruct.safetensors" for number in (1, 2, 3)]

    assert sorted(os.listdir(places / "output" / "embeds")) == names
    for name, (file, instruction) in zip(names, said, strict=True):
        assert file.startswith(f"embeds/{name} (")
        assert file.endswith(f" MB), in {places / 'output'}")
        assert instruction == "instruction: use the composition"


def test_words_that_a_file_may_hold_are_no_markup_on_the_page(places):
    """The page of 1.32 writes what a node says into itself as HTML."""
    made = small_models.golden_embeds()
    said = save(InstructEmbeds(made.adapter, "<img src=x onerror=alert(1)>", made.image_tokens)).ui["text"]
    assert "img src=x" in said[-1]
    assert not any("<" in line for line in said)


def test_a_prefix_may_be_a_plain_name_or_hold_the_date(places):
    save(small_models.golden_embeds(), "cat")
    save(small_models.golden_embeds(), "cats/%year%/cat")
    assert (places / "output" / "cat_00001_.instruct.safetensors").is_file()
    assert len(list((places / "output" / "cats").glob("2*/cat_00001_.instruct.safetensors"))) == 1


@pytest.mark.parametrize("prefix", ["../cat", "/tmp/cat", "a/../../cat"])
def test_a_prefix_outside_the_output_folder_is_refused(places, prefix):
    refused(
        lambda: save(small_models.golden_embeds(), prefix), "filename_prefix", "inside", str(places / "output"), "Write"
    )
    assert os.listdir(places / "output") == []


@pytest.mark.parametrize("prefix", ["", "  ", ".", "..", "/"])
def test_a_prefix_that_names_nothing_is_refused(places, prefix):
    refused(
        lambda: save(small_models.golden_embeds(), prefix), "filename_prefix was expected to be a name", "Write one"
    )


def test_a_folder_that_cannot_be_made_is_said(places):
    (places / "output" / "embeds").write_text("a file in the folder's place")
    refused(
        lambda: save(small_models.golden_embeds()), "embeds", "the system refused", "choose another filename_prefix"
    )


def test_the_list_shows_the_input_folder_and_what_was_saved(places):
    save(small_models.golden_embeds())
    save(small_models.golden_embeds(), "embeds/more/cat")
    save(small_models.golden_embeds(), "elsewhere/cat")
    saved = places / "output" / "embeds" / "instruct_00001_.instruct.safetensors"
    (places / "input" / "mine").mkdir()
    for name in ("b.instruct.safetensors", "mine/a.instruct.safetensors", "other.safetensors"):
        (places / "input" / name).write_bytes(saved.read_bytes())

    assert listed() == [
        "b.instruct.safetensors",
        "mine/a.instruct.safetensors",
        f"{FIRST} [output]",
        "embeds/more/cat_00001_.instruct.safetensors [output]",
    ]
    for name in listed():
        assert IPAdapterInstructLoadEmbeds.validate_inputs(file=name) is True
        assert torch.equal(
            load(small_models.small_adapter(), name).image_tokens.full, small_models.golden_embeds().image_tokens.full
        )


@pytest.mark.parametrize(
    "name",
    [
        "gone.instruct.safetensors",
        "../a.instruct.safetensors",
        "other.safetensors",
        "",
        "/etc/hostname",
        "gone [output]",
    ],
)
def test_a_file_that_is_not_there_or_not_embeds_is_refused_before_anything_runs(places, name):
    for path in (places / "a.instruct.safetensors", places / "input" / "other.safetensors"):
        path.write_bytes(b"x")
    said = IPAdapterInstructLoadEmbeds.validate_inputs(file=name)
    assert "file was expected to be embeds" in said
    assert "refresh the page" in said
    refused(lambda: load(small_models.small_adapter(), name), "file was expected to be embeds")


def test_a_linked_file_name_is_checked_when_it_is_known(places):
    assert IPAdapterInstructLoadEmbeds.validate_inputs(file=None) is True


def test_another_file_under_the_same_name_is_loaded_anew(places):
    made, name = small_models.golden_embeds(), "a.instruct.safetensors"
    for instruction in ("use the style", "use the pose"):
        save(InstructEmbeds(made.adapter, instruction, made.image_tokens))
    first, second = (path.read_bytes() for path in sorted((places / "output" / "embeds").iterdir()))
    prints = []
    for content in (first, first, second):
        (places / "input" / name).write_bytes(content)
        prints.append(IPAdapterInstructLoadEmbeds.fingerprint_inputs(adapter=None, file=name))
    assert prints[0] == prints[1] != prints[2]
