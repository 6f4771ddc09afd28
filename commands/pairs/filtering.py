"""Pairs that are left out of a set by their scores: too alike, not alike enough, or not what the words say."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ...models.messages import check_numbers
from ..servers.progress import say
from .written import DROPPED, PairSet, write_lines

CLIP_I, CLIP_P = "CLIP-I", "CLIP-P"  # of target and reference, and of target and caption, by the paper's definitions
SHARES = (5, 50, 95)  # of pairs, in percent, whose scores are told
NOT_ASKED = {"dino": None, "faces": None, "fid": False, "lpips": False}  # of the scores that an evaluation has


def check_limits(wanted: argparse.Namespace) -> None:
    """Raises ValueError for limits that make no sense, or without an encoder."""
    limits = {"most_alike": (-1, 1), "least_alike": (-1, 1), "least_prompt": (0, 2.5)}
    given = {name: getattr(wanted, name) for name in limits if getattr(wanted, name) is not None}
    for name, value in given.items():
        check_numbers(*limits[name], **{name: value})
    if given and not is_scored(wanted):
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"A CLIP to score pairs by was expected with {named}; none is named. Say --open-clip.")
    if wanted.clip_vision and wanted.open_clip:
        raise ValueError("One CLIP was expected; two are named. Leave --open-clip or --clip-vision out.")
    for path in (wanted.clip_vision, wanted.clip_text, Path(wanted.open_clip[1]) if wanted.open_clip else None):
        if path and not path.is_file():
            raise ValueError(f"A file was expected at {path}; there is none. Correct the path.")


def is_scored(wanted: argparse.Namespace) -> bool:
    return bool(wanted.open_clip or wanted.clip_vision)


def left_out(pair_set: PairSet, wanted: argparse.Namespace) -> set[str]:
    """Return the keys of pairs to leave out; list them, with their scores and why. What is held out stays so."""
    lines = pair_set.trained()
    scores = scores_of(pair_set, lines, wanted) if lines else {}
    tell_scores(scores)
    reasons = {key: why for key, found in scores.items() if (why := reason_to_drop(found, wanted))}
    list_of_them = pair_set.folder / DROPPED
    write_lines(({**lines[key], "why": why, "scores": scores[key]} for key, why in reasons.items()), list_of_them)
    print(f"{len(reasons):,} pairs are left out; {list_of_them} says why.")
    return set(reasons)


def scores_of(pair_set: PairSet, lines: Mapping[str, dict], wanted: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the scores of pairs, by their keys. lines: of them."""
    from ..evaluate.comparison import Teller, scorers
    from ..evaluate.manifest import Row as Trial
    from ..evaluate.scoring import Image, scored

    def image(key: str, line: dict) -> Image:
        caption = pair_set.rows[key].source.caption
        trial = Trial(key, line["reference"], line["task"], (), line["caption"], 0, caption)
        return Image(key, trial, folder / line["target"], folder / line["reference"])

    folder = pair_set.folder
    encoder = scorers(argparse.Namespace(**{**vars(wanted), **NOT_ASKED}))
    found = scored({key: image(key, line) for key, line in lines.items()}, encoder, folder / "cache", Teller())
    return {key: {name: values[key] for name, values in found.values.items() if key in values} for key in lines}


def reason_to_drop(scores: Mapping[str, float], wanted: argparse.Namespace) -> str:
    """Return why a pair is left out, in words; "" for one that is kept."""
    alike, prompt = scores[CLIP_I], scores[CLIP_P]
    if wanted.most_alike is not None and alike > wanted.most_alike:
        return f"too alike: {CLIP_I} {alike:.4f} is above {wanted.most_alike:g}"
    if wanted.least_alike is not None and alike < wanted.least_alike:
        return f"not alike enough: {CLIP_I} {alike:.4f} is below {wanted.least_alike:g}"
    if wanted.least_prompt is not None and prompt < wanted.least_prompt:
        return f"not what the caption says: {CLIP_P} {prompt:.4f} is below {wanted.least_prompt:g}"
    return ""


def tell_scores(scores: Mapping[str, Mapping[str, float]]) -> None:
    """Say how scores are spread, so that limits can be chosen."""
    for name in (CLIP_I, CLIP_P) if scores else ():
        values = sorted(of[name] for of in scores.values())
        told = (f"{share} % are below {values[(len(values) - 1) * share // 100]:.3f}" for share in SHARES)
        say(f"{name} of {len(values):,} pairs: {', '.join(told)}")
