"""`python cli.py download`, as a user runs it: in a ComfyUI's folder, broken off, killed, run again."""

import os
import shutil
import signal
import subprocess
import time

import pytest
from support import command_line
from support.servers.file_server import Served, serving
from support.small_files import save_encoder_header

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


def start(comfyui, url, *arguments) -> subprocess.Popen:
    script = comfyui / "custom_nodes" / command_line.FOLDER / "cli.py"
    return command_line.start(script, "download", *arguments, HF_ENDPOINT=url, NO_PROXY="127.0.0.1")


def command(*arguments) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    process = start(*arguments)
    output, errors = process.communicate(timeout=60)
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


def stopped_by(number, comfyui, url, served) -> tuple[int, int, str]:
    """Stop a slow download in the middle; the bytes received, the exit code, standard error."""
    served.seconds_a_chunk = 0.05
    process = start(comfyui, url, "sdxl", "--no-encoder")
    deadline = time.monotonic() + 30
    while sum(size for name, size in files(comfyui / "models").items() if name.endswith(".part")) < 100_000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    served.seconds_a_chunk = 0
    assert f"ipadapter/{SDXL}" not in files(comfyui / "models")
    (received,) = (size for name, size in files(comfyui / "models").items() if name.endswith(".part"))
    assert 100_000 <= received < 400_000
    return received, process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_stopped_download_goes_on_where_it_stopped(comfyui, url, served, number):
    received, code, errors = stopped_by(number, comfyui, url, served)
    if number == signal.SIGINT:
        assert code == 130
        assert errors.strip() == "Stopped. Run the same command again to go on."
    served.forget()

    _, output, _ = command(comfyui, url, "sdxl", "--no-encoder", "--dry-run")
    assert output.startswith(f"Would resume at {received / 1000:,.0f} kB of 400 kB, from ")
    assert served.sent == []

    code, output, _ = command(comfyui, url, "sdxl", "--no-encoder")
    assert code == 0
    assert output.startswith("Resuming at ")
    assert served.sent == [400_000 - received]
    assert files(comfyui / "models") == {f"ipadapter/{SDXL}": 400_000}
    assert (comfyui / "models" / "ipadapter" / SDXL).read_bytes() == CONTENT


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
    for part in ("cli.py download sd15", "HF_ENDPOINT", "--no-encoder", "--clip-l", "--models", "--dry-run", "or all"):
        assert part in output
