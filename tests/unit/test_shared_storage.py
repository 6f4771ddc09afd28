"""Pickled files whose tensors lie in one storage, as trainers leave them: read as torch reads them, in both ways."""

import pytest
import torch
from comfyhost.adapters import nested
from ipadapter_instruct.models.adapter.checkpoint import build, look_at, read_checkpoint
from ipadapter_instruct.models.adapter.convert import convert
from ipadapter_instruct.models.files.tensor_files import AdapterFileError, read_file, read_shapes
from safetensors.torch import load_file
from support.refusals import refused
from support.small_files import adapter_tensors

K, V = "ip_adapter.1.to_k_ip.weight", "ip_adapter.1.to_v_ip.weight"
older = pytest.mark.parametrize("older", [False, True], ids=["archive", "older format"])


def flat(tensors: dict) -> dict:
    """All tensors as views of one storage, as DeepSpeed's zero_to_fp32 leaves them."""
    parts = torch.cat([tensor.flatten() for tensor in tensors.values()]).split([t.numel() for t in tensors.values()])
    return {name: part.view(tensors[name].shape) for name, part in zip(tensors, parts, strict=True)}


def overlapping(tensors: dict) -> dict:
    """Two views that have half of their numbers in common."""
    count, shape = tensors[V].numel(), tensors[V].shape
    numbers = torch.cat([tensors[V].flatten(), tensors[K].flatten()])
    return {**tensors, V: numbers[:count].view(shape), K: numbers[count // 2 :][:count].view(shape)}


def turned_round(tensors: dict) -> dict:
    """Rows and columns of one matrix are columns and rows in the storage."""
    return {**tensors, K: tensors[K].t().contiguous().t()}


def tied(tensors: dict) -> dict:
    """One storage under two names."""
    return {**tensors, K: tensors[V].detach()}


def tied_parameters(tensors: dict) -> dict:
    parameters = {name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()}
    return {**parameters, K: parameters[V]}


def parts_of_a_larger_one(tensors: dict) -> dict:
    """Views of a storage that holds more than them."""
    return {name: torch.cat([tensor, tensor])[: len(tensor)] for name, tensor in tensors.items()}


SHARED = [flat, overlapping, turned_round, tied, tied_parameters, parts_of_a_larger_one]
shared = pytest.mark.parametrize("share", SHARED, ids=lambda share: share.__name__)


def saved(path, share, older=False):
    torch.save(nested(share(adapter_tensors())), path, _use_new_zipfile_serialization=not older)
    return path


@older
@shared
def test_a_file_of_shared_storage_is_read_as_torch_reads_it_in_both_ways(tmp_path, share, older):
    path = saved(tmp_path / "adapter.bin", share, older)
    expected = {name: tensor.detach() for name, tensor in share(adapter_tensors()).items()}
    found, shapes = read_file(path), read_shapes(path)
    assert found.keys() == shapes.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert {name: t.shape for name, t in shapes.items()} == {name: t.shape for name, t in expected.items()}
    assert {t.device.type for t in shapes.values()} == {"meta"}


@older
@shared
def test_an_adapter_of_shared_storage_loads_and_is_known_by_a_look(tmp_path, share, older):
    path = saved(tmp_path / "adapter.bin", share, older)
    assert look_at(path).family is read_checkpoint(path).family
    modules = build(read_checkpoint(path)).projections
    names = [name for name, _ in modules.named_parameters()]
    assert names == [name for name, _ in modules.named_parameters(remove_duplicate=False)]
    assert {f"ip_adapter.{name}" for name in names} == {n for n in adapter_tensors() if n.startswith("ip_adapter.")}


@shared
def test_an_adapter_of_shared_storage_converts(tmp_path, share):
    path = saved(tmp_path / "adapter.bin", share)
    convert(path, tmp_path / "half.safetensors")
    written = load_file(tmp_path / "half.safetensors")
    for name, tensor in share(adapter_tensors()).items():
        if name.startswith(("image_proj.", "ip_adapter.")):
            assert torch.equal(written[name], tensor.half())


CLAIMS = {
    "one number as many": lambda: torch.zeros(1).expand(2**40),
    "a tensor by its size": lambda: Sized(2**20),
}


class Sized:
    """A tensor that the file has no bytes for."""

    def __init__(self, size: int):
        self.size = size

    def __reduce__(self):
        return torch.HalfTensor, (self.size,)


@older
@pytest.mark.parametrize("read", [read_file, read_shapes])
@pytest.mark.parametrize("claim", CLAIMS)
def test_beside_shared_storage_no_more_numbers_are_believed_than_there_are(tmp_path, claim, read, older):
    path = tmp_path / "adapter.bin"
    content = {**nested(flat(adapter_tensors())), "more": CLAIMS[claim]()}
    torch.save(content, path, _use_new_zipfile_serialization=not older)
    refused(lambda: read(path), "adapter.bin was expected", "numbers than", "Download it again")


@pytest.mark.parametrize("read", [read_file, read_shapes])
def test_an_archive_whose_names_claim_a_longer_storage_than_it_holds_is_refused(tmp_path, read):
    """The same in both ways: the number of numbers is changed where the names are."""
    path = tmp_path / "adapter.bin"
    torch.save({"a": torch.zeros(3000), "b": torch.zeros(300)}, path)
    content = path.read_bytes()
    three_thousand, more = b"M" + (3000).to_bytes(2, "little"), b"M" + (60000).to_bytes(2, "little")
    assert three_thousand in content
    path.write_bytes(content.replace(three_thousand, more))
    with pytest.raises(AdapterFileError, match="Nothing in it was run"):
        read(path)
