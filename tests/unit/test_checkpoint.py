"""Adapter files that load: in every layout, with every tensor used once."""

import logging
import re

import pytest
import torch
from ipadapter_instruct.models.adapter.checkpoint import build, look_at, recognise
from ipadapter_instruct.models.families import SD3, SD15, SDXL
from ipadapter_instruct.models.files.pickled_files import flatten
from ipadapter_instruct.models.files.tensor_files import AdapterFileError, read_file
from support.small_files import adapter_tensors, save_adapter
from torch import nn

FAMILIES = {"sd15": SD15, "sdxl": SDXL, "sd3": SD3}


def parts_of(adapter) -> list[tuple[str, nn.Module]]:
    parts = [
        ("image_proj.", adapter.image_projection),
        ("ip_adapter.", adapter.projections),
        ("ip_adapter.", adapter.streams),
    ]
    return [(prefix, module) for prefix, module in parts if module is not None]


def by_file_names(adapter) -> list[tuple[str, torch.Tensor]]:
    """The weights of a built adapter under the names that the file gives them."""
    last = "_big" if adapter.family is SD3 else ""
    weights = [(prefix + name, w) for prefix, module in parts_of(adapter) for name, w in module.state_dict().items()]
    return [(re.sub(r"\.(proj|norm)_out\.", rf".\1_out{last}.", name), w) for name, w in weights]


@pytest.fixture(params=FAMILIES)
def tensors(request):
    return adapter_tensors(request.param)


def test_the_published_bin_and_dotted_safetensors_hold_the_same_tensors(tensors, tmp_path):
    from_bin = read_file(save_adapter(tensors, tmp_path / "adapter.bin"))
    from_safetensors = read_file(save_adapter(tensors, tmp_path / "adapter.safetensors"))

    assert from_bin.keys() == from_safetensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(from_bin[name], tensor)
        assert torch.equal(from_safetensors[name], tensor)


def test_a_pickle_of_the_old_kind_loads_too(tensors, tmp_path):
    torch.save(tensors, tmp_path / "adapter.pt", _use_new_zipfile_serialization=False)
    assert read_file(tmp_path / "adapter.pt").keys() == tensors.keys()


def test_every_tensor_of_the_file_is_used_once_and_not_copied(tensors):
    used = by_file_names(build(recognise(tensors)))

    assert sorted(name for name, _ in used) == sorted(tensors)
    assert all(w.data_ptr() == tensors[name].data_ptr() for name, w in used)


def test_loading_a_good_file_warns_of_nothing(tensors, caplog):
    with caplog.at_level(logging.WARNING):
        build(recognise(tensors))
    assert not caplog.records


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_read_off_the_tensors(family):
    assert build(recognise(adapter_tensors(family))).family is FAMILIES[family]


def test_a_files_name_says_nothing_about_its_family(tmp_path):
    path = save_adapter(adapter_tensors("sd15"), tmp_path / "ip-adapter-instruct-sdxl.bin")
    assert recognise(read_file(path)).family is SD15


def test_the_sites_are_ordered_by_their_numbers_not_by_their_names():
    widths = (64, 64, 64, 64, 64, 128, 64)  # numbers to 12 or 13, where "10" comes before "2"
    for family in FAMILIES:
        backwards = dict(reversed(adapter_tensors(family, sites=widths).items()))
        assert build(recognise(backwards)).projections.widths == widths


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_precision_file_keeps_its_dtype(tensors, dtype):
    half = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    assert {w.dtype for _, w in by_file_names(build(recognise(half)))} == {dtype}


UNUSED = ["image_proj.pos_embedding", "ip_adapter.2.scale", "ip_adapter.site.to_k_ip.weight", "ip_adapter.scale"]


@pytest.mark.parametrize("name", UNUSED)
def test_a_tensor_that_nothing_uses_is_warned_of_and_the_adapter_still_loads(tensors, name, caplog):
    adapter = build(recognise({**tensors, name: torch.zeros(3)}))

    assert {name for name, _ in by_file_names(adapter)} == tensors.keys()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"holds tensors that nothing uses: {name}" in caplog.text


def test_a_built_adapter_is_for_inference_only(tensors):
    adapter = build(recognise(tensors))
    for _, module in parts_of(adapter):
        assert not module.training
        assert not any(weight.requires_grad for weight in module.parameters())


def test_the_hosts_own_layers_take_the_weights(tensors):
    class Linear(nn.Linear):
        pass

    class LayerNorm(nn.LayerNorm):
        pass

    class HostOperations:
        pass

    HostOperations.Linear, HostOperations.LayerNorm = Linear, LayerNorm
    adapter = build(recognise(tensors), HostOperations)

    layers = [layer for _, module in parts_of(adapter) for layer in module.modules()]
    weighted = [layer for layer in layers if isinstance(layer, (nn.Linear, nn.LayerNorm))]
    assert weighted
    assert {type(layer) for layer in weighted} == {Linear, LayerNorm}


def test_sd3_is_recognised_by_the_names_of_its_last_layers_which_become_the_common_ones():
    checkpoint = recognise(adapter_tensors("sd3"))

    assert checkpoint.family is SD3
    assert {
        "proj_out.weight",
        "proj_out.bias",
        "norm_out.weight",
        "norm_out.bias",
    } <= checkpoint.image_projection.keys()
    assert not any("_big" in name for name in checkpoint.image_projection)


def test_flattening_leaves_out_what_is_not_a_tensor():
    weight = torch.zeros(1)
    assert flatten({"a": {"b": weight, "step": 3}, "epoch": "last"}) == {"a.b": weight}


def test_flattening_leaves_out_what_has_no_name_and_takes_what_follows():
    weight = torch.zeros(1)
    assert flatten({(1, 2): weight, "a": {None: weight, 0: weight}}) == {"a.0": weight}


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_files_family_is_told_without_building_it(tensors, tmp_path, suffix):
    path = save_adapter(tensors, tmp_path / f"adapter{suffix}")
    expected = recognise(read_file(path)).family
    assert look_at(path).family is expected


def test_a_file_that_is_no_adapter_has_no_family(tmp_path):
    path = tmp_path / "page.bin"
    path.write_text("<html></html>", encoding="utf-8")
    with pytest.raises(AdapterFileError, match="page.bin"):
        look_at(path)
