"""The tasks IPAdapter-Instruct was trained on, and what an instruction implies for guidance and weight."""

from __future__ import annotations

from dataclasses import dataclass

from .families import SD3, SD15, SDXL, Family


@dataclass(frozen=True)
class Task:
    """A trained task: the word its instructions share, and one that works.

    Source: arXiv 2408.03209 section 4, and the model card (beta: the tasks it calls so).
    """

    name: str
    instruction: str
    families: tuple[Family, ...]
    beta: bool = False


ALL = (SD15, SDXL, SD3)
TASKS = (
    Task("everything", "use everything", ALL),
    Task("style", "use the style", ALL),
    Task("colour", "use the colour", ALL),
    Task("pose", "use the pose", ALL),
    Task("composition", "use the composition", ALL),
    Task("face", "use the face", ALL),
    Task("foreground", "use the foreground", (SD15,), beta=True),
    Task("background", "use the background", (SD15,), beta=True),
    Task("object", "use the object", (SD15,)),
)

SIMPLE = "simple"
THREE_WAY = "three-way"


@dataclass(frozen=True)
class Advice:
    """What `auto` chooses for an instruction: a guidance mode, a change of weight, and why, in words."""

    guidance: str
    weight_change: float
    reasons: tuple[str, ...]


def advise(family: Family, instruction: str) -> Advice:
    """The reference's rule for one instruction.

    Words are looked for as case-sensitive substrings, as the reference does ("surface" contains "face").
    Source: unity-research/IP-Adapter-Instruct@57efbe4, the demos' choice of pipeline.
    """
    word = _first_word_in(family.simple_words, instruction)
    if word:
        guidance, reason = SIMPLE, f"guidance: simple (the instruction contains '{word}')"
    else:
        guidance, reason = THREE_WAY, "guidance: three-way (the instruction names no simply guided task)"
    reasons = [reason]
    weight_change = 0.0
    for words, change in family.weight_changes:
        word = _first_word_in(words, instruction)
        if word:
            weight_change += change
            reasons.append(f"weight {change:+g} (the instruction contains '{word}')")
    return Advice(guidance, weight_change, tuple(reasons))


def _first_word_in(words: tuple[str, ...], text: str) -> str | None:
    return next((word for word in words if word in text), None)
