"""Download the published IPAdapter-Instruct files and their image encoder into ComfyUI's folders.

    python custom_nodes/ipadapter-instruct/cli.py download sd15

A broken download goes on where it stopped when the command is run again; files that are there already are left alone.
HF_ENDPOINT names a mirror of huggingface.co, HTTPS_PROXY a proxy.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

from ..models.families import FAMILIES
from . import ROOT

FAMILY_NAMES = tuple(family.name for family in FAMILIES)


def part_of_pack(name: str) -> types.ModuleType:
    """Import a module only now, when the arguments have been read."""
    return importlib.import_module(f"..models.files.{name}", __package__)


def run(arguments: argparse.Namespace) -> int:
    """Return 0 when all asked for is in place (or could be, for a dry run), else 1 with messages on stderr."""
    models = models_folder(arguments.models)
    return get_all(files_to_get(arguments, models), models, arguments.dry_run)


def models_folder(named: str | None) -> Path:
    """The models folder named, else the one of the ComfyUI that this pack lies in (by a link, where the link lies)."""
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


def files_to_get(wanted: argparse.Namespace, models: Path) -> list:
    """The files asked for, without the image encoder where ComfyUI has it under another name."""
    if not wanted.families and not wanted.clip_l:
        raise ValueError(f"Name what to download: {', '.join(FAMILY_NAMES)}, several of them, or all; see --help.")
    published = part_of_pack("published_files")
    names = FAMILY_NAMES if "all" in wanted.families else dict.fromkeys(wanted.families)
    files = [published.ADAPTERS[name] for name in names]
    if wanted.encoder and not another_encoder(published.IMAGE_ENCODER, models):
        files.append(published.IMAGE_ENCODER)
    return [*files, published.CLIP_L_FILE] if wanted.clip_l else files


def another_encoder(encoder, models: Path) -> bool:
    """True when the image encoder is there under another name; the node finds it by its content, too."""
    folder = models / encoder.folder
    if (folder / encoder.name).exists():
        return False
    files = ((str(path), path) for path in sorted(folder.rglob("*")) if path.is_file())
    encoder_files = part_of_pack("encoder_files")
    found = encoder_files.find_encoder(files, encoder_files.VIT_H_STATES)
    if found:
        print(f"There already, the image encoder: {found}")
    return found is not None


def get_all(files: Sequence, models: Path, dry: bool) -> int:
    """Plan all, then get all; a file that cannot be had does not keep the others away."""
    planned, well = plan_all(files, models)
    lacking = part_of_pack("download").lacking_space(planned)
    for message in lacking:
        say_error(message)
    for download in planned:
        print(intention(download, dry or bool(lacking)), flush=True)
    if not dry and not lacking:
        well &= all([get(download) for download in planned])
    if well and not lacking:
        return 0
    tell_by_hand(files, models)
    return 1


def plan_all(files: Sequence, models: Path) -> tuple[list, bool]:
    """The downloads that are needed, and whether nothing stood in the way of planning them."""
    download, web = part_of_pack("download"), part_of_pack("web")
    planned, well = [], True
    for file in files:
        try:
            needed = download.plan(file, file.url_at(os.environ.get("HF_ENDPOINT", "")), models)
        except web.DownloadError as error:
            say_error(error)
            well = False
            if isinstance(error, web.UnreachableError):
                break  # the others are on the same server
        else:
            planned += [needed] if needed else []
            if not needed:
                print(f"There already: {models / file.folder / file.name}", flush=True)
    return planned, well


def intention(download, dry: bool) -> str:
    """Say what is done, or would be done, for one file."""
    in_words = part_of_pack("download").in_words
    size, way = in_words(download.remote.size), f"from {download.url} to {download.target}"
    if download.received:
        return f"{'Would resume' if dry else 'Resuming'} at {in_words(download.received)} of {size}, {way}"
    return f"{'Would get' if dry else 'Getting'} {size} {way}"


def get(download) -> bool:
    """Download one file under a progress bar, which is shown on a terminal only. Return True when it is in place."""
    from tqdm import tqdm

    size, name = download.remote.size, download.file.name
    try:
        with tqdm(total=size, initial=download.received, desc=name, unit="B", unit_scale=True, disable=None) as bar:
            part_of_pack("download").get(download, lambda received: bar.update(received - bar.n))
    except part_of_pack("web").DownloadError as error:
        say_error(error)
        return False
    print(f"In place: {download.target}", flush=True)
    return True


def tell_by_hand(files: Sequence, models: Path) -> None:
    """Say where to get in a browser what is not in place."""
    missing = [file for file in files if not (models / file.folder / file.name).exists()]
    if missing:
        print("Not in place yet. To get it in a browser instead:", file=sys.stderr)
    for file in missing:
        print(f"  {file.url}\n    save as {models / file.folder / file.name}", file=sys.stderr)


def say_error(message: object) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(FAMILY_NAMES)
    parser.add_argument("families", nargs="*", type=family, metavar="FAMILY", help=f"the adapters: {names}, or all")
    parser.add_argument("--no-encoder", dest="encoder", action="store_false", help="without the image encoder ViT-H")
    parser.add_argument("--clip-l", action="store_true", help="also CLIP-L, for a checkpoint that has none")
    parser.add_argument("--models", metavar="FOLDER", help="ComfyUI's models folder; without, that of this ComfyUI")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")


def family(name: str) -> str:
    if name not in (*FAMILY_NAMES, "all"):
        raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(FAMILY_NAMES)}, all")
    return name
