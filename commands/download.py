"""Download the published IPAdapter-Instruct files and their image encoder into ComfyUI's folders.

    python custom_nodes/ipadapter-instruct/cli.py download sd15

Each file is checked and only then given its name; files that are there already are left alone. The installed
huggingface_hub does the rest. Newer versions of it go on after a connection that broke, but begin a file anew after a
command that was stopped; older ones go on when the command is run again. It heeds HF_ENDPOINT for a mirror of
huggingface.co, HTTPS_PROXY for a proxy, HF_TOKEN for a login, and its other variables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..models.families import FAMILIES
from ..models.files.download import Download, DownloadError, Problem, get, in_words, lacking_space, plan
from ..models.files.encoder_files import VIT_H_HIDDEN_STATES, find_encoder
from ..models.files.published_files import ADAPTERS, CLIP_L_FILE, IMAGE_ENCODER, PublishedFile
from . import ROOT

FAMILY_NAMES = tuple(family.name for family in FAMILIES)
HALF = "fp16"
REMEDIES = {
    Problem.UNREACHABLE: "Check the network and, behind a proxy, HTTPS_PROXY and NO_PROXY. Where Hugging Face is "
    "blocked, set HF_ENDPOINT to a mirror, for example HF_ENDPOINT=https://hf-mirror.com",
    Problem.OFFLINE: "Run the same command without it.",
    Problem.BUSY: "Run the same command again later.",
    Problem.FORBIDDEN: "Open the file's page in a browser, sign in or accept its terms, and name your token in "
    "HF_TOKEN; or see whether a proxy forbids it.",
    Problem.MISSING: "The file may have moved: look for a newer version of this pack. If HF_ENDPOINT names a mirror, "
    "the mirror may lack it: try without.",
    Problem.NOT_A_FILE: "A proxy or a network's sign-in page may stand in between: open the address in a browser. If "
    "HF_ENDPOINT names a mirror, try without.",
    Problem.OTHER_ON_SERVER: "It is not the file that this pack was made for. If HF_ENDPOINT names a mirror, try "
    "without; else look for a newer version of this pack.",
    Problem.BROKEN_OFF: "Run the same command again.",
    Problem.ALTERED: "Run the same command again; if that does not help, a proxy or mirror alters it.",
    Problem.OTHER_IN_PLACE: "If it works, keep it; else move it away and run the same command again.",
    Problem.RUNNING: "Wait for it, or end it.",
    Problem.NO_SPACE: "Make room there, or name another models folder with --models.",
    Problem.NOT_WRITABLE: "Check its disk and your right to write there, or name another models folder with --models.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(FAMILY_NAMES)
    parser.add_argument("families", nargs="*", type=family, metavar="FAMILY", help=f"the adapters: {names}, or all")
    parser.add_argument("--half", action="store_true", help="keep adapters as half-precision .safetensors, half as big")
    parser.add_argument("--no-encoder", dest="encoder", action="store_false", help="without the image encoder ViT-H")
    parser.add_argument("--clip-l", action="store_true", help="also CLIP-L, for a checkpoint that has none")
    parser.add_argument("--models", metavar="FOLDER", help="ComfyUI's models folder; without, that of this ComfyUI")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


def family(name: str) -> str:
    if name not in (*FAMILY_NAMES, "all"):
        raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(FAMILY_NAMES)}, all")
    return name


def run(arguments: argparse.Namespace) -> int:
    """Return 0 when all asked for is in place (or could be, for a dry run), else 1 with messages on stderr."""
    models = models_folder(arguments.models)
    files = files_to_get(arguments, models)
    halves = {file: half_of(file, models) for file in files if arguments.half and file in ADAPTERS.values()}
    if get_all(files, halves, models, arguments.dry_run):
        return 0
    tell_by_hand([file for file in files if file not in halves or not halves[file].exists()], models)
    return 1


def models_folder(named: str | None) -> Path:
    """Return the models folder named, else the one of the ComfyUI that this pack, or a link to it, lies in."""
    if named:
        folder = Path(named).expanduser().absolute()
        if (folder / "models").is_dir():
            raise ValueError(f"--models was expected to be the models folder itself. Say --models {folder / 'models'}")
    else:
        packs = ROOT.parent
        folder = packs.parent / "models"
        if packs.name != "custom_nodes":
            raise ValueError(f"This pack was expected in custom_nodes; it lies in {packs}. Say --models FOLDER.")
    if not folder.is_dir():
        raise ValueError(f"A ComfyUI models folder was expected at {folder}; there is none. Say --models FOLDER.")
    return folder


def files_to_get(wanted: argparse.Namespace, models: Path) -> list[PublishedFile]:
    """Return the files asked for, without those that ComfyUI has under another name."""
    if not wanted.families and not wanted.clip_l:
        raise ValueError(f"Name what to download: {', '.join(FAMILY_NAMES)}, several of them, or all; see --help.")
    names = FAMILY_NAMES if "all" in wanted.families else dict.fromkeys(wanted.families)
    files = [ADAPTERS[name] for name in names]
    if wanted.half:
        files = [file for file in files if not is_there(half_of(file, models))]
    if wanted.encoder and not another_encoder(IMAGE_ENCODER, models):
        files.append(IMAGE_ENCODER)
    return [*files, CLIP_L_FILE] if wanted.clip_l else files


def is_there(path: Path) -> bool:
    if path.exists():
        print(f"There already: {path}", flush=True)
    return path.exists()


def half_of(file: PublishedFile, models: Path) -> Path:
    return models / file.folder / f"{Path(file.name).stem}-{HALF}.safetensors"


def another_encoder(encoder: PublishedFile, models: Path) -> bool:
    """Return True when the image encoder is there under another name; the node finds it by its content, too."""
    folder = models / encoder.folder
    if (folder / encoder.name).exists():
        return False
    files = ((str(path), path) for path in sorted(folder.rglob("*")) if path.is_file())
    found = find_encoder(files, VIT_H_HIDDEN_STATES)
    if found:
        print(f"There already, the image encoder: {found}")
    return found is not None


def get_all(files: Sequence[PublishedFile], halves: Mapping[PublishedFile, Path], models: Path, dry: bool) -> bool:
    """Plan all, then get all; a file that cannot be had does not keep the others away. Return True if all went well.

    halves: where adapters go in half precision, for those that are wanted so.
    """
    planned = plan_all(files, models)
    downloads = [one for one in planned.values() if one is not None]
    lacking = lacking_space((one.target, one.size * 3 // 2 if one.file in halves else one.size) for one in downloads)
    for error in lacking:
        say(error)
    dry |= bool(lacking)
    for one in downloads:
        way = f"{in_words(one.size)} from {one.url} to {halves.get(one.file, one.target)}"
        print(f"{'Would get' if dry else 'Getting'} {way}", flush=True)
    if not dry:
        done = [get_one(models / file.folder / file.name, planned[file], halves.get(file)) for file in planned]
        return all(done) and len(planned) == len(files)
    return len(planned) == len(files) and not lacking


def plan_all(files: Sequence[PublishedFile], models: Path) -> dict[PublishedFile, Download | None]:
    """Return the files that can be had, with their downloads, or None for what is there already."""
    planned: dict[PublishedFile, Download | None] = {}
    for file in files:
        try:
            planned[file] = plan(file, models)
        except DownloadError as error:
            say(error)
            if error.problem in (Problem.UNREACHABLE, Problem.OFFLINE):
                break  # the others are on the same server
        else:
            if planned[file] is None:
                print(f"There already: {models / file.folder / file.name}", flush=True)
    return planned


def get_one(target: Path, download: Download | None, half: Path | None) -> bool:
    """Download a file if it has to be, and convert it if it is wanted in half precision. Return True if all went well.

    What is converted is removed only if it was downloaded for that alone.
    """
    try:
        if download is not None:
            get(download)
        if half is not None:
            halve(target, half)
            if download is not None:
                target.unlink()
    except DownloadError as error:
        say(error)
        return False
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return False
    if download is not None or half is not None:
        print(f"In place: {half or target}", flush=True)
    return True


def halve(source: Path, target: Path) -> None:
    from ..models.adapter.convert import convert

    print(convert(source, target, HALF), flush=True)


def tell_by_hand(files: Sequence[PublishedFile], models: Path) -> None:
    """Say where to get in a browser what is not in place."""
    missing = [file for file in files if not (models / file.folder / file.name).exists()]
    if missing:
        print("Not in place yet. To get it in a browser instead:", file=sys.stderr)
    for file in missing:
        print(f"  {file.url}\n    save as {models / file.folder / file.name}", file=sys.stderr)


def say(error: DownloadError) -> None:
    print(f"error: {error} {REMEDIES[error.problem]}", file=sys.stderr, flush=True)
