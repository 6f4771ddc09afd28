"""The report on wordings, and their map."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch import Tensor

from ...models.files.atomic_write import whole
from ..train import import_comfyui
from . import MAP_METHODS
from .neighbours import Found, nearest_others, neighbour_embedding, principal_components, share_right
from .scatter import CROSS, DISC, SQUARE, Legend, Mark, scatter
from .wordings import Wording, each_once, own_wordings, packs_wordings

MISPLACED_SHOWN = 30
NAMED_ON_MAP = 12
TEXTS_AT_ONCE = 32


def report(wanted: argparse.Namespace) -> int:
    """Print which wordings lie with another task, and draw the map where it was asked for. Return 0."""
    own = own_wordings(wanted.wordings)
    if not wanted.text_encoder.is_file():
        raise ValueError(f"A text encoder's file was expected at {wanted.text_encoder}; there is none.")
    if wanted.plot and not wanted.plot.absolute().parent.is_dir():
        raise ValueError(f"A folder was expected at {wanted.plot.parent}, for the map; there is none. Make it first.")
    import_comfyui(Path(wanted.comfyui), wanted.cpu)
    wordings = each_once([*packs_wordings(), *own])
    embeddings = embedded(wanted.text_encoder, [wording.text for wording in wordings])
    found = nearest_others(wordings, embeddings)
    print("\n".join(lines_of(found)))
    if wanted.plot:
        points, how = (principal_components if wanted.method == MAP_METHODS[0] else neighbour_embedding)(embeddings)
        with whole(wanted.plot) as part:
            draw(found, points, f"{wanted.text_encoder.name}, {how}").save(part, "PNG")
        print(f"Written: {wanted.plot}")
    return 0


def embedded(path: Path, texts: Sequence[str]) -> Tensor:
    """Return the texts' embeddings [N, D]: the hidden state at the end of each, after the final norm."""
    from ...models.encoding.open_clip.towers import load_text_tower, sentence_ends
    from ...models.encoding.text_encoder import encode_texts

    tower, rows = load_text_tower(path), []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = texts[start : start + TEXTS_AT_ONCE]
        hidden_states = encode_texts(tower, batch)
        rows += [hidden_states[text][0, end] for text, end in zip(batch, sentence_ends(batch), strict=True)]
    return torch.stack(rows)


def lines_of(found: Sequence[Found]) -> list[str]:
    """Return the report's lines: a share for each task, and wordings that lie with another, the user's own first."""
    width = max(len(task) for task in by_task(found))
    lines = [f"Nearest other wording of the same task: {share_right(found):.1%} of {len(found)} wordings"]
    lines += [f"  {task:{width}}  {share_right(own):6.1%} of {len(own)}" for task, own in by_task(found).items()]
    wrong = misplaced(found)
    if wrong:
        lines.append(f"With another task lie {len(wrong)}:")
    for one in wrong[:MISPLACED_SHOWN]:
        whose = " (yours)" if one.wording.own else ""
        near = f'{one.nearest.task}: "{one.nearest.text}"'
        lines.append(f'  {one.wording.task}{whose}: "{one.wording.text}" lies with {near}')
    if len(wrong) > MISPLACED_SHOWN:
        lines.append(f"  and {len(wrong) - MISPLACED_SHOWN} more")
    return lines


def misplaced(found: Sequence[Found]) -> list[Found]:
    return sorted((one for one in found if not one.is_with_its_task), key=lambda one: not one.wording.own)


def by_task(found: Sequence[Found]) -> dict[str, list[Found]]:
    tasks: dict[str, list[Found]] = {}
    for one in found:
        tasks.setdefault(one.wording.task, []).append(one)
    return tasks


def draw(found: Sequence[Found], points: Tensor, title: str) -> Image:
    """Draw the map of wordings at their points [N, 2]."""
    wrong = misplaced(found)
    named = {id(one) for one in wrong if one.wording.own or len(wrong) <= NAMED_ON_MAP}
    marks = [
        Mark(
            one.wording.task,
            shape_of(one.wording),
            not one.is_with_its_task,
            one.wording.text if id(one) in named else "",
        )
        for one in found
    ]
    shares = {task: f"{share_right(own):.0%} of {len(own)}" for task, own in by_task(found).items()}
    legend = Legend(
        f"Nearest other is of the same task: {share_right(found):.0%}",
        shares,
        {CROSS: "a task's plain words", SQUARE: "your own"},
        "nearest other is of another task",
    )
    return scatter(points, marks, legend, title)


def shape_of(wording: Wording) -> str:
    return SQUARE if wording.own else CROSS if wording.plain else DISC
