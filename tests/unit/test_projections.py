"""Image projections of plain adapters, written out once more from the published names. float64, tolerance 1e-9.

That they give what diffusers gives is in tests/host/test_against_diffusers.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from comfyhost.adapters import Plain, plain_adapter
from comfyhost.weights import draw
from ipadapter_instruct.models.adapter.kinds import FACE_ID_PLUS, FACE_ID_PLUS_V2, Kind, kind_of
from ipadapter_instruct.models.encoding.features import Features, stacked
from torch import Tensor

WIDTH, FACE, IMAGE = 48, 512, 40
STACK = {"width": 128, "heads": 2, "blocks": 2}
READER = {**STACK, "width": WIDTH, "heads": 3}
SIZES = {
    "base": Plain("base", WIDTH, 3, IMAGE),
    "plus": Plain("plus", WIDTH, 5, IMAGE, **STACK),
    "full-face": Plain("full-face", WIDTH, image=IMAGE),
    "faceid": Plain("faceid", WIDTH, 3),
    "faceid-plus": Plain("faceid-plus", WIDTH, 3, IMAGE, **READER),
    "faceid-resampler": Plain("faceid-resampler", WIDTH, 5, FACE, **STACK),
}


class Written:
    """The layers under a prefix of a file, applied one by one."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str = ""):
        self.tensors, self.prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self[f"{name}.weight"], self.tensors.get(f"{self.prefix}{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self[f"{name}.weight"], self[f"{name}.bias"])

    def tokens(self, face_or_pooled: Tensor, count: int) -> Tensor:
        return self.norm("norm", face_or_pooled.reshape(len(face_or_pooled), count, WIDTH))

    def two_layers(self, x: Tensor) -> Tensor:
        return self.linear("proj.2", F.gelu(self.linear("proj.0", x)))

    def read(self, hidden_states: Tensor, queries: Tensor, blocks: int) -> Tensor:
        context = self.linear("proj_in", hidden_states)
        for number in range(blocks):
            queries = queries + self.attention(f"layers.{number}.0.", context, queries)
            hidden = F.gelu(self.linear(f"layers.{number}.1.1", self.norm(f"layers.{number}.1.0", queries)))
            queries = queries + self.linear(f"layers.{number}.1.3", hidden)
        return self.norm("norm_out", self.linear("proj_out", queries))

    def attention(self, layer: str, context: Tensor, queries: Tensor) -> Tensor:
        context, queries = self.norm(f"{layer}norm1", context), self.norm(f"{layer}norm2", queries)
        q = self.linear(f"{layer}to_q", queries)
        k, v = self.linear(f"{layer}to_kv", torch.cat([context, queries], 1)).chunk(2, -1)
        heads = [
            torch.softmax(one @ keys.mT / 64**0.5, -1) @ values
            for one, keys, values in zip(q.split(64, -1), k.split(64, -1), v.split(64, -1), strict=True)
        ]
        return self.linear(f"{layer}to_out", torch.cat(heads, -1))


def base(file: Written, given: Features) -> Tensor:
    return file.tokens(file.linear("proj", given.image_embeds), 3)


def plus(file: Written, given: Features) -> Tensor:
    return file.read(given.hidden_states, file["latents"].expand(given.rows, -1, -1), 2)


def full_face(file: Written, given: Features) -> Tensor:
    return file.norm("proj.3", file.two_layers(given.hidden_states))


def face_id(file: Written, given: Features) -> Tensor:
    return file.tokens(file.two_layers(given.face), 3)


def face_id_plus(file: Written, given: Features) -> Tensor:
    reader = Written(file.tensors, "perceiver_resampler.")
    return reader.read(given.hidden_states, face_id(file, given), 2)


def face_id_plus_v2(file: Written, given: Features) -> Tensor:
    return face_id(file, given) + face_id_plus(file, given)


def face_resampler(file: Written, given: Features) -> Tensor:
    return file.read(given.face[:, None], file["latents"].expand(given.rows, -1, -1), 2)


WRITTEN: dict[str, Callable[[Written, Features], Tensor]] = {
    "base": base,
    "plus": plus,
    "full-face": full_face,
    "faceid": face_id,
    "faceid-plus": face_id_plus,
    "faceid-plus-v2": face_id_plus_v2,
    "faceid-resampler": face_resampler,
}


def tensors(name: str) -> dict[str, Tensor]:
    """The weights that stand under image_proj. in a file of this kind."""
    drawn = draw(plain_adapter(SIZES[name.removesuffix("-v2")], (8,)), 3, torch.float64)
    return {key.removeprefix("image_proj."): x for key, x in drawn.items() if key.startswith("image_proj.")}


def kind(name: str) -> Kind:
    found = kind_of(tensors(name))
    return FACE_ID_PLUS_V2 if name.endswith("v2") and found is FACE_ID_PLUS else found


def features(rows: int = 2) -> Features:
    generator = torch.Generator().manual_seed(2)
    shapes = ((rows, 7, IMAGE), (rows, IMAGE), (rows, FACE))
    return Features(*(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes))


def projection(name: str) -> torch.nn.Module:
    of_kind, weights = kind(name), tensors(name)
    made = of_kind.projection(of_kind.projection.read_sizes(weights)).double()
    made.load_state_dict(weights)
    return made.eval()


def read_by(name: str, given: Features) -> list[Tensor]:
    of_kind = kind(name)
    wanted = (
        (of_kind.reads_face, given.face),
        (of_kind.reads_hidden_states, given.hidden_states),
        (of_kind.reads_image_embeds, given.image_embeds),
    )
    return [part for reads, part in wanted if reads]


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", WRITTEN)
@torch.no_grad()
def test_a_projection_computes_what_its_published_names_say(name):
    assert kind(name).name == name
    given = features()
    same(projection(name)(*read_by(name, given)), WRITTEN[name](Written(tensors(name)), given))


@pytest.mark.parametrize("structure", [0.0, 0.5, 2.0])
@torch.no_grad()
def test_v2s_structure_is_the_factor_of_what_the_states_tell(structure):
    file, given = Written(tensors("faceid-plus-v2")), features()
    expected = face_id(file, given) + structure * face_id_plus(file, given)
    same(projection("faceid-plus-v2")(given.face, given.hidden_states, structure), expected)


@pytest.mark.parametrize("name", WRITTEN)
def test_a_tensor_that_a_projections_size_is_read_off_is_named_where_it_is_missing(name):
    of_kind, weights = kind(name), tensors(name)
    for missing in weights:
        rest = {key: x for key, x in weights.items() if key != missing}
        try:
            assert of_kind.projection.read_sizes(rest) == of_kind.projection.read_sizes(weights)
        except KeyError as error:
            assert error.args == (missing,)


def test_features_split_into_batches_and_stack_to_the_same():
    given = features(rows=5)
    parts = given.split(2)
    assert [part.rows for part in parts] == [2, 2, 1]
    assert all(torch.equal(part, vars(given)[name]) for name, part in vars(stacked(parts)).items())


@pytest.mark.parametrize(
    "known", [("hidden_states", "image_embeds", "face"), ("hidden_states",), ("image_embeds", "face")]
)
def test_one_batch_of_features_is_stacked_to_itself(known):
    given = Features(**{name: vars(features(rows=2))[name] for name in known})
    found = stacked([given])
    assert {name for name, part in vars(found).items() if part is not None} == set(known)
    assert all(torch.equal(vars(found)[name], vars(given)[name]) for name in known)


def test_features_of_which_only_faces_are_known_have_nothing_else():
    faces = Features(face=features(rows=3).face)
    parts = faces.split(2)
    assert (faces.rows, [part.rows for part in parts]) == (3, [2, 1])
    assert (stacked(parts).hidden_states, stacked(parts).image_embeds) == (None, None)
    assert torch.equal(stacked(parts).face, faces.face)
