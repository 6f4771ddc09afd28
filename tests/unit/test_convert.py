"""Converting an adapter to half precision: the same adapter in half the size, or nothing written at all."""

import hashlib
import os

import pytest
import safetensors
import torch
from ipadapter_instruct.models.adapter import convert as convert_module
from ipadapter_instruct.models.adapter.checkpoint import build, recognise
from ipadapter_instruct.models.adapter.convert import DTYPES, convert, default_name
from ipadapter_instruct.models.files.tensor_files import read_file
from safetensors.torch import save_file
from support import command_line
from support.small_files import adapter_tensors, save_adapter

FAMILIES = ["sd15", "sdxl", "sd3"]
BIG = "image_proj.layers.1.0.to_q.weight"
# Of the largest of the tokens. Seen: 1.3e-3 and 1.1e-2.
TOLERANCES = {"fp16": 5e-3, "bf16": 4e-2}

precisions = pytest.mark.parametrize("precision", DTYPES)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def source(family, tmp_path):
    return save_adapter(adapter_tensors(family), tmp_path / "adapter.bin")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "half.safetensors"


def tokens(tensors) -> torch.Tensor:
    resampler = build(recognise(tensors)).image_projection.float()
    made = torch.Generator().manual_seed(3)
    inputs = (torch.randn(1, length, width, generator=made) for length, width in ((257, 1280), (77, 768), (77, 768)))
    with torch.no_grad():
        return resampler(*inputs)


def metadata(path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def refusal(*args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        convert(*args, **kwargs)
    return str(caught.value)


@precisions
def test_every_tensor_is_there_rounded_once_and_contiguous(source, target, precision):
    convert(source, target, precision)
    halves = read_file(target)

    assert halves.keys() == read_file(source).keys()
    for name, tensor in read_file(source).items():
        assert halves[name].dtype == DTYPES[precision]
        assert torch.equal(halves[name], tensor.to(DTYPES[precision]))


@precisions
def test_the_tokens_are_those_of_the_rounded_weights_and_close_to_the_originals(source, target, precision):
    convert(source, target, precision)
    found, original = tokens(read_file(target)), tokens(read_file(source))
    rounded = {name: t.to(DTYPES[precision]).float() for name, t in read_file(source).items()}

    assert torch.equal(found, tokens(rounded))
    torch.testing.assert_close(found, original, rtol=0, atol=TOLERANCES[precision] * float(original.abs().max()))


def test_the_file_is_half_as_large_and_says_where_it_comes_from(source, target, family):
    convert(source, target)
    found = metadata(target)

    assert target.stat().st_size < 0.51 * source.stat().st_size
    assert found["family"] == family
    assert found["tokens"] == "16"
    assert found["dtype"] == "float16"
    assert found["source_file"] == "adapter.bin"
    assert found["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert found["format"] == "pt"  # what transformers and others ask of the format
    assert "IPAdapter-Instruct" in found["note"]


def test_a_converted_file_converts_again_to_the_same(source, target, tmp_path):
    convert(source, target)
    again = tmp_path / "again.safetensors"
    convert(target, again)

    assert all(torch.equal(read_file(again)[name], tensor) for name, tensor in read_file(target).items())
    assert metadata(again)["source_file"] == "half.safetensors"


def test_what_was_done_is_said_with_sizes(source, target, family):
    said = str(convert(source, target))
    title = {"sd15": "SD1.5", "sdxl": "SDXL", "sd3": "SD3"}[family]

    sizes = [f"{path.stat().st_size / 1e6:,.1f} MB" for path in (source, target)]
    assert said.startswith(f"adapter.bin ({sizes[0]}) -> {target} ({sizes[1]})")
    assert said.endswith(f" MB), fp16, IPAdapter-Instruct for {title}")


@pytest.fixture
def small_source(tmp_path):
    return save_adapter(adapter_tensors(), tmp_path / "adapter.bin")


def changed(tmp_path, name: str, change):
    tensors = adapter_tensors()
    return save_adapter({**tensors, name: change(tensors[name])}, tmp_path / "changed.bin")


def test_tensors_that_nothing_uses_are_kept_as_they_are(tmp_path, target):
    step = torch.arange(6).view(2, 3).T
    convert(save_adapter({**adapter_tensors(), "ip_adapter.step": step}, tmp_path / "adapter.bin"), target)
    assert torch.equal(read_file(target)["ip_adapter.step"], step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_tensors_that_share_memory_or_lie_across_it_are_written_too(tmp_path, target, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in adapter_tensors().items()}
    keys = tensors["ip_adapter.1.to_k_ip.weight"]
    tensors["ip_adapter.1.to_v_ip.weight"] = keys
    tensors["ip_adapter.5.to_k_ip.weight"] = keys.T.contiguous().T
    convert(save_adapter(tensors, tmp_path / "adapter.bin"), target)

    for name in ("ip_adapter.1.to_k_ip.weight", "ip_adapter.1.to_v_ip.weight", "ip_adapter.5.to_k_ip.weight"):
        assert torch.equal(read_file(target)[name], keys.half())


def test_an_unknown_precision_is_refused_by_name(small_source, target):
    assert refusal(small_source, target, "int8").startswith("precision was expected to be one of fp16, bf16; it is")


def test_a_number_too_large_for_fp16_is_refused_and_bf16_holds_it(tmp_path, target):
    source = changed(tmp_path, BIG, lambda t: t.index_fill(0, torch.tensor([0]), -7e4))
    message = refusal(source, target)

    assert BIG in message
    assert "7e+04" in message
    assert "65504" in message
    assert "Convert to bf16" in message
    assert not target.exists()
    convert(source, target, "bf16")
    assert read_file(target)[BIG].isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@precisions
def test_a_damaged_file_is_refused(tmp_path, target, value, precision):
    source = changed(tmp_path, BIG, lambda t: t.index_fill(0, torch.tensor([0]), value))
    message = refusal(source, target, precision)

    assert BIG in message
    assert "damaged" in message
    assert "bf16" not in message


def test_what_is_not_an_adapter_is_refused_as_the_loader_refuses_it(tmp_path, target):
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_a.lora_up.weight": torch.zeros(2, 2)}, lora)
    assert "this is a LoRA" in refusal(lora, target)

    incomplete = {name: t for name, t in adapter_tensors().items() if "to_v_ip" not in name}
    assert "missing" in refusal(save_adapter(incomplete, tmp_path / "incomplete.bin"), target)
    assert not target.exists()


def test_a_file_that_is_there_is_replaced_only_when_told(small_source, target):
    target.write_bytes(b"precious")
    message = refusal(small_source, target)
    assert str(target) in message
    assert "overwrite" in message
    assert target.read_bytes() == b"precious"

    convert(small_source, target, overwrite=True)
    assert read_file(target).keys() == adapter_tensors().keys()


def test_a_file_is_never_written_over_itself(small_source, target):
    convert(small_source, target)
    before = target.read_bytes()
    assert "another than half.safetensors, which it is made of" in refusal(target, target, "bf16", overwrite=True)
    assert target.read_bytes() == before


def test_a_name_that_the_loader_would_read_as_a_pickle_is_refused(small_source, tmp_path):
    message = refusal(small_source, tmp_path / "half.bin")
    assert ".safetensors" in message
    assert "half.bin" in message


def test_an_interrupted_writing_leaves_nothing_behind(small_source, target, monkeypatch):
    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError("no space left on the disk")

    monkeypatch.setattr(convert_module, "save_file", interrupted)
    said = f"The converted weights were to be saved in {target.parent}; .*no space.*Make room.*cli.py convert --output"
    with pytest.raises(ValueError, match=said):
        convert(small_source, target)
    assert os.listdir(target.parent) == ["adapter.bin"]


def test_the_default_name_tells_the_precision(tmp_path):
    assert default_name(tmp_path / "instruct-sdxl.bin", "bf16") == "instruct-sdxl-bf16.safetensors"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return command_line.install(tmp_path_factory.mktemp("comfyui"))


def test_the_command_writes_beside_the_original_and_says_so(script, small_source):
    code, output, errors = command_line.run(script, "convert", small_source)
    written = small_source.with_name("adapter-fp16.safetensors")

    assert (code, errors) == (0, "")
    assert f"-> {written} (" in output
    assert torch.equal(read_file(written)[BIG], adapter_tensors()[BIG].half())


def test_the_command_takes_a_precision_and_a_name_and_refuses_with_the_reason(script, small_source, target):
    arguments = ("convert", small_source, "--dtype", "bf16", "--output", target)
    assert command_line.run(script, *arguments)[0] == 0
    assert metadata(target)["dtype"] == "bfloat16"

    code, _, errors = command_line.run(script, *arguments)
    assert code == 1
    assert errors.startswith(f"error: {target} is there already.")
