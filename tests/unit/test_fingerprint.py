"""Fingerprints tell adapters apart, and know one again in any precision."""

import pytest
import torch
from ipadapter_instruct.models.adapter.checkpoint import fingerprint, recognise
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.families import FAMILIES
from ipadapter_instruct.models.files.tensor_files import read_file
from support.small_files import adapter_tensors, save_adapter

NAMES = [family.name for family in FAMILIES]


def of_file(path) -> str:
    checkpoint = recognise(read_file(path))
    return fingerprint({**checkpoint.image_projection, **checkpoint.attention})


@pytest.mark.parametrize("family", NAMES)
def test_a_published_file_and_its_conversions_are_the_same_adapter(tmp_path, family):
    source = save_adapter(adapter_tensors(family), tmp_path / "adapter.bin")
    half, brain, both = (tmp_path / f"{name}.safetensors" for name in ("fp16", "bf16", "fp16-bf16"))
    convert(source, half, "fp16")
    convert(source, brain, "bf16")
    convert(half, both, "bf16")

    assert {of_file(path) for path in (source, half, brain, both)} == {of_file(source)}


def test_numbers_that_precisions_round_apart_do_not_matter():
    middle = 1 + 2.0**-8  # between two numbers of bf16; from just above it bf16 goes up, and from fp16 down
    tensor = torch.tensor([-middle - 2.0**-14, middle + 2.0**-14, -1e-9, 1e-9, -0.0, 0.0, -1e-42, 6e4])
    forms = [tensor, tensor.half(), tensor.bfloat16(), tensor.half().bfloat16()]
    assert not torch.equal(forms[2], forms[3])

    assert len({fingerprint({"latents": form}) for form in forms}) == 1


@pytest.mark.parametrize("family", NAMES)
def test_a_sign_changed_in_any_tensor_is_another_adapter(family):
    tensors = adapter_tensors(family)
    seen = {fingerprint(tensors)}
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[len(changed) // 2] *= -1
        seen.add(fingerprint({**tensors, name: changed}))
    assert len(seen) == len(tensors) + 1


def test_a_training_with_small_steps_is_another_adapter():
    """The change is as large as a hundred steps of the published learning rate make."""
    tensors = adapter_tensors()
    made = torch.Generator().manual_seed(2)
    trained = {name: t + 1e-4 * torch.randn(t.shape, generator=made) for name, t in tensors.items()}
    assert fingerprint(trained) != fingerprint(tensors)


def test_other_names_shapes_and_families_are_other_adapters():
    tensors = adapter_tensors()
    first, second = "ip_adapter.1.to_k_ip.weight", "ip_adapter.1.to_v_ip.weight"
    swapped = {**tensors, first: tensors[second], second: tensors[first]}
    turned = {**tensors, first: tensors[first].reshape(tensors[first].T.shape)}
    renamed = {f"{name}_" if name == second else name: tensor for name, tensor in tensors.items()}
    others = [
        swapped,
        turned,
        renamed,
        adapter_tensors("sdxl"),
        adapter_tensors("sd3"),
        adapter_tensors(sites=(64, 128)),
    ]
    assert len({fingerprint(each) for each in (tensors, *others)}) == 7


def test_the_order_of_the_tensors_and_how_they_lie_in_memory_do_not_matter():
    tensors = adapter_tensors()
    lying = {name: t.T.contiguous().T if t.ndim == 2 else t for name, t in reversed(tensors.items())}
    assert fingerprint(lying) == fingerprint(tensors)


def test_the_fingerprint_of_an_adapter_stays_what_files_of_earlier_versions_hold():
    numbers = {"b": torch.tensor([1.0, -2.0, 0.0]), "a": torch.tensor([[-1.0]])}
    assert fingerprint(numbers) == "4c6586b1373bcc27f43eaaf0f9f9ad9521cdcc6ae2575c219570bbbff680cb50"
    assert fingerprint(numbers, "plus") != fingerprint(numbers)
