"""`python cli.py download`, as a user runs it: in a ComfyUI's folder, broken off, killed, run again."""

import os
import shutil
import signal
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file
from support import command_line
from support.patience import PATIENCE
from support.servers.file_server import Served, serving
from support.small_files import adapter_tensors, save_adapter, save_encoder_header

CONTENT = os.urandom(400_000)
SDXL = "ip-adapter-instruct-sdxl.bin"
VIT_H = "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"
NOBODY = "http://127.0.0.1:9"  # a port on which nothing answers


@pytest.fixture
def comfyui(tmp_path):
    """A ComfyUI's folders with the command and models/ of the pack."""
    command_line.install(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path


@pytest.fixture
def served():
    return Served(CONTENT, linked=True)


@pytest.fixture
def url(served):
    with serving(served) as address:
        yield address


def start(comfyui, url, *arguments, **variables: str) -> subprocess.Popen:
    script = comfyui / "custom_nodes" / command_line.FOLDER / "cli.py"
    own = {"HF_ENDPOINT": url, "HF_HOME": str(comfyui / "hf"), "NO_PROXY": "127.0.0.1,localhost"}
    return command_line.start(script, "download", *arguments, **{**own, **variables})


def command(*arguments, **variables: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = start(*arguments, **variables)
    output, errors = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors
    return process.returncode, output, errors


def files(folder) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_adapters_come_into_the_comfyui_that_the_pack_lies_in(comfyui, url):
    code, output, errors = command(comfyui, url, "sdxl", "sd3", "sdxl", "--no-encoder")

    assert (code, errors) == (0, "")
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000, "ipadapter/ip-adapter-instruct-sd3.bin": 400_000}
    target = comfyui / "models" / "ipadapter" / SDXL
    asked = f"{url}/CiaraRowles/IP-Adapter-Instruct/resolve/main/{SDXL}"
    assert output.splitlines()[0] == f"Getting 400 kB from {asked} to {target}"
    assert f"In place: {target}" in output

    code, output, _ = command(comfyui, url, "sdxl", "--no-encoder")
    assert (code, output) == (0, f"There already: {target}\n")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(comfyui, url, served):
    before = files(comfyui)
    code, output, _ = command(comfyui, url, "sdxl", "--no-encoder", "--dry-run")

    assert code == 0
    assert output.startswith("Would get 400 kB from ")
    assert files(comfyui) == before
    assert not (comfyui / "models" / "ipadapter").exists()
    assert served.sent == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_download_is_not_in_place_and_comes_whole_the_next_time(comfyui, url, served, number):
    served.seconds_a_chunk = 0.5
    process = start(comfyui, url, "sdxl", "--no-encoder")
    deadline = time.monotonic() + PATIENCE
    while not any(name.endswith(".incomplete") for name in files(comfyui / "models")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    served.seconds_a_chunk = 0
    assert f"ipadapter/{SDXL}" not in files(comfyui / "models")
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert errors.strip() == "Stopped. Run the same command again to go on."

    code, _, _ = command(comfyui, url, "sdxl", "--no-encoder")
    assert code == 0
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000}
    assert (comfyui / "models" / "ipadapter" / SDXL).read_bytes() == CONTENT


def test_a_proxy_is_used_and_its_own_page_is_no_file(comfyui, url, served):
    proxy = {"http_proxy": url, "HTTP_PROXY": url}
    elsewhere = "http://huggingface.invalid"
    served.linked = False
    code, _, errors = command(comfyui, elsewhere, "sdxl", "--no-encoder", **proxy)
    assert (code, errors) == (0, "")
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000}

    served.content_type, served.commit = "text/html", ""
    code, _, errors = command(comfyui, elsewhere, "sd3", "--no-encoder", **proxy)
    assert code == 1
    assert f"error: A file was expected from {elsewhere}/CiaraRowles/IP-Adapter-Instruct/resolve/main/" in errors
    assert "sign-in page" in errors


def test_offline_it_says_what_keeps_it_so(comfyui, url, served):
    code, _, errors = command(comfyui, url, "sdxl", "--no-encoder", HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE is set. Run the same command without it." in errors
    assert served.asked == []


@pytest.fixture
def adapter(tmp_path, served):
    """A file of an adapter, which the server has."""
    path = save_adapter(adapter_tensors("sdxl"), tmp_path / "adapter.bin")
    served.content = path.read_bytes()
    return path


def test_adapters_come_in_half_precision_on_request(comfyui, url, served, adapter):
    folder = comfyui / "models" / "ipadapter"
    half = folder / SDXL.replace(".bin", "-fp16.safetensors")
    _, output, _ = command(comfyui, url, "sdxl", "--no-encoder", "--half", "--dry-run")
    assert output.startswith("Would get ")
    assert output.endswith(f" to {half}\n")

    code, output, errors = command(comfyui, url, "sdxl", "--no-encoder", "--half")
    assert (code, errors) == (0, "")
    assert output.endswith(f"In place: {half}\n")
    assert [path.name for path in folder.iterdir()] == [half.name]
    assert {tensor.dtype for tensor in load_file(half).values()} == {torch.float16}

    served.forget()
    code, output, _ = command(comfyui, url, "sdxl", "--no-encoder", "--half")
    assert (code, output) == (0, f"There already: {half}\n")
    assert served.asked == []


def test_an_adapter_that_was_there_is_converted_and_stays(comfyui, url, adapter):
    folder = comfyui / "models" / "ipadapter"
    folder.mkdir()
    shutil.copy(adapter, folder / SDXL)
    assert command(comfyui, url, "sdxl", "--no-encoder", "--half")[0] == 0
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".safetensors"]


def test_an_adapter_that_cannot_be_converted_is_said_and_kept(comfyui, url):
    code, output, errors = command(comfyui, url, "sdxl", "--no-encoder", "--half")
    assert code == 1
    assert errors.startswith("error: ")
    assert "In place" not in output
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000}


def test_without_a_network_it_says_so_once_and_where_to_get_everything_by_hand(comfyui):
    code, _, errors = command(comfyui, NOBODY, "all", "--clip-l")

    assert code == 1
    assert errors.count("127.0.0.1:9 cannot be reached") == 1
    assert errors.count("save as ") == 5
    assert f"save as {comfyui / 'models' / 'clip_vision' / VIT_H}" in errors
    assert "https://huggingface.co/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors" in errors
    assert files(comfyui / "models") == {}


def test_a_file_that_cannot_be_had_does_not_keep_the_others_away(comfyui, url):
    code, _, errors = command(comfyui, url, "sd15", "sdxl", "--no-encoder")

    assert code == 1
    assert "sd15.bin was expected to have sha256 8a4e97a3" in errors  # the server has another file of that name
    assert errors.count("save as ") == 1
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000}


def test_a_file_that_turns_out_wrong_is_not_in_place(comfyui, url, served):
    served.linked_sha256 = "0" * 64
    code, output, errors = command(comfyui, url, "sdxl", "--no-encoder")

    assert code == 1
    assert "In place" not in output
    assert f"error: {SDXL} was expected to have sha256 000" in errors
    assert files(comfyui / "models") == {}


def test_too_little_disk_space_stops_everything_before_it_begins(comfyui, url, served):
    served.stated_size = 10**15
    code, output, errors = command(comfyui, url, "sdxl", "--no-encoder")

    assert code == 1
    assert errors.startswith("error: Not enough disk space: 1,000,000.00 GB are still to come to ")
    assert output.startswith("Would get 1,000,000.00 GB from ")
    assert files(comfyui / "models") == {}
    assert served.sent == []


def test_an_image_encoder_under_another_name_is_not_fetched_again(comfyui, url, served):
    folder = comfyui / "models" / "clip_vision" / "sub"
    folder.mkdir(parents=True)
    save_encoder_header(folder / "model.safetensors", 1280)
    code, output, _ = command(comfyui, url, "sdxl", "--dry-run")

    assert code == 0
    assert f"There already, the image encoder: {folder / 'model.safetensors'}" in output
    assert "ViT-H-14" not in output


def test_the_image_encoder_is_fetched_unless_told_otherwise(comfyui, url):
    _, _, errors = command(comfyui, url, "sdxl", "--dry-run")
    assert "models/image_encoder/model.safetensors was expected to have size 2528373448" in errors
    _, _, errors = command(comfyui, url, "sdxl", "--dry-run", "--clip-l", "--no-encoder")
    assert "clip_l.safetensors was expected to have size 246144152" in errors
    assert "h94/IP-Adapter" not in errors


def test_another_models_folder_can_be_named(comfyui, url, tmp_path):
    other = tmp_path / "my models"
    other.mkdir()
    assert command(comfyui, url, "sdxl", "--no-encoder", "--models", other)[0] == 0
    assert files(other) == {f"ipadapter/{SDXL}": 400_000}
    assert files(comfyui / "models") == {}


def test_a_wrong_models_folder_is_refused_with_what_to_say(comfyui):
    (comfyui / "elsewhere").mkdir()
    elsewhere = comfyui / "elsewhere"
    code, _, errors = command(comfyui, NOBODY, "sd15", "--models", comfyui)
    assert (code, errors) == (
        1,
        f"error: --models was expected to be the models folder itself. Say --models {comfyui / 'models'}\n",
    )
    _, _, errors = command(comfyui, NOBODY, "sd15", "--models", elsewhere / "none")
    assert f"expected at {elsewhere / 'none'}; there is none. Say --models FOLDER." in errors

    shutil.move(comfyui / "custom_nodes", elsewhere / "custom_nodes")
    (elsewhere / "custom_nodes").rename(elsewhere / "packs")
    script = elsewhere / "packs" / command_line.FOLDER / "cli.py"
    assert command_line.run(script, "download", "sd15")[2] == (
        f"error: This pack was expected in custom_nodes; it lies in {elsewhere / 'packs'}. Say --models FOLDER.\n"
    )


def test_what_cannot_be_meant_is_refused(comfyui):
    code, _, errors = command(comfyui, NOBODY, "sd2")
    assert code == 2
    assert "sd2 is not one of sd15, sdxl, sd3, all" in errors
    assert "Name what to download: sd15, sdxl, sd3, several of them, or all" in command(comfyui, NOBODY)[2]


def test_the_help_shows_a_command_and_every_option(comfyui):
    code, output, _ = command(comfyui, NOBODY, "--help")
    assert code == 0
    options = ("--half", "--no-encoder", "--clip-l", "--models", "--dry-run")
    for part in ("cli.py download sd15", "HF_ENDPOINT", "HTTPS_PROXY", "or all", *options):
        assert part in output
