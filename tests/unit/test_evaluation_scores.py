"""The paper's scores against torch's own and plain arithmetic, on random embeddings; and the table's intervals.

tests/host compares them with torchmetrics and transformers, from files on.
"""

from __future__ import annotations

import math
import random

import pytest
import torch
from ipadapter_instruct.commands.evaluate.scores import SCORES, clip_score, clip_style, cosine
from ipadapter_instruct.commands.evaluate.scoring import Sample
from ipadapter_instruct.commands.evaluate.table import mean_of
from torch import Tensor

CLOSE = 1e-5
B, D = 17, 24


def drawn(seed: int, length: float = 3.0) -> Tensor:
    return length * torch.randn(B, D, generator=torch.Generator().manual_seed(seed))


def by_hand(a: list[float], b: list[float]) -> float:
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a)) / math.sqrt(math.fsum(x * x for x in b))


def test_cosines_are_those_of_torch_and_of_arithmetic():
    a, b = drawn(0), drawn(1, 0.1)
    found = cosine(a, b)
    assert found.tolist() == pytest.approx(torch.nn.functional.cosine_similarity(a, b).tolist(), abs=CLOSE)
    assert found.tolist() == pytest.approx([by_hand(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)])


def test_clip_score_is_two_and_a_half_times_a_cosine_that_is_not_below_zero():
    a, b = drawn(0), drawn(1)
    expected = [2.5 * max(by_hand(*pair), 0) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert clip_score(a, b).tolist() == pytest.approx(expected, abs=CLOSE)
    assert 0.0 in expected and max(expected) > 0.1


def test_the_style_score_compares_what_texts_do_not_say():
    image, prompt, reference, caption = (drawn(seed, seed + 0.5) for seed in range(4))

    def direction(picture: Tensor, text: Tensor) -> list[float]:
        return (picture / picture.norm() - text / text.norm()).tolist()

    rows = zip(image, prompt, reference, caption, strict=True)
    expected = [by_hand(direction(i, p), direction(r, c)) for i, p, r, c in rows]
    assert clip_style(image, prompt, reference, caption).tolist() == pytest.approx(expected, abs=CLOSE)
    assert clip_style(image, prompt, image, prompt).tolist() == pytest.approx([1.0] * B)


def test_a_batch_is_scored_as_its_rows_one_by_one():
    parts = [drawn(seed) for seed in range(4)]
    one_by_one = [clip_style(*(part[row : row + 1] for part in parts)).item() for row in range(B)]
    assert clip_style(*parts).tolist() == pytest.approx(one_by_one, abs=1e-12)


def test_the_papers_tasks_have_the_papers_scores():
    found = {task: {score.name for score in SCORES if task in score.paper} for task in ("everything", "style", "face")}
    assert found == {
        "everything": {"CLIP-I", "CLIP-T"},
        "style": {"CLIP-S", "CLIP-P"},
        "face": {"CLIP-I", "CLIP-P"},
    }


def samples(count: int, units: int) -> list[Sample]:
    draw = random.Random(3)
    offsets = [draw.gauss(0, 1) for _ in range(units)]
    return [Sample(f"{n % units}.png", offsets[n % units] + draw.gauss(0, 0.1)) for n in range(count)]


def test_an_interval_is_the_same_whatever_the_order():
    given = samples(90, 30)
    found = mean_of(given)
    random.Random(1).shuffle(given)
    assert mean_of(given) == found
    assert found.low < found.mean < found.high
    assert found.count == 90


def test_an_interval_is_as_wide_as_the_references_make_it_and_not_as_the_images_of_one_do():
    """Nine alike images of a reference say hardly more than one."""
    alone, nine = mean_of(samples(40, 40)), mean_of(samples(360, 40))
    assert nine.high - nine.low == pytest.approx(alone.high - alone.low, rel=0.25)
    deviation = torch.tensor([s.value for s in samples(40, 40)]).std().item()
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * deviation / math.sqrt(40), rel=0.15)


def test_of_one_reference_there_is_no_interval():
    found = mean_of([Sample("a.png", 0.25), Sample("a.png", 0.75)])
    assert (found.mean, found.low, found.high, found.count) == (0.5, None, None, 2)
