"""Hostile values for the nodes: each is refused in words, or read in good time."""

from __future__ import annotations

import math
import time

import pytest
import torch
from ipadapter_instruct.nodes.control.schedule import IPAdapterInstructSchedule
from ipadapter_instruct.nodes.explore.grid_cells import axis, cells_of
from ipadapter_instruct.nodes.explore.heat_map import IPAdapterInstructHeatMap
from ipadapter_instruct.nodes.explore.label_grid import IPAdapterInstructLabelGrid
from ipadapter_instruct.nodes.main.load import IPAdapterInstructLoader
from ipadapter_instruct.nodes.main.reference import IPAdapterInstructReference
from ipadapter_instruct.nodes.prepare.prepare_reference import IPAdapterInstructPrepare
from ipadapter_instruct.nodes.prepare.tile import IPAdapterInstructTile
from support import small_encoders
from support.node_runs.node_inputs import BATCH, INFINITE, NAN, PICTURE, PREPARING, apply
from support.pack_nodes import run_node
from support.readable_adapters import ROW
from support.refusals import refused

pytestmark = pytest.mark.xdist_group("nodes")


@pytest.mark.parametrize("number", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("name", ["weight", "instruct_guidance", "image_guidance"])
def test_apply_refuses_numbers_that_are_none(name, number):
    refused(
        lambda: apply(guidance="three-way", **{name: number}),
        f"{name} was expected to be a finite number",
        "Correct it",
    )


@pytest.mark.parametrize("tiles, overlap", [(10**9, 0.1), (0, 0.1), (4, NAN), (4, 5.0)])
def test_tiles_beyond_all_measure_are_refused(tiles, overlap):
    call = {"image": PICTURE, "max_tiles": tiles, "overlap": overlap, "whole": True}
    refused(lambda: run_node(IPAdapterInstructTile, **call), "was expected to be a number from", "Correct it")


@pytest.mark.parametrize("feather", [1e9, NAN, -1.0])
def test_a_feather_beyond_all_measure_is_refused(feather):
    call = {**PREPARING, "feather": feather}
    refused(lambda: run_node(IPAdapterInstructPrepare, **call), "feather was expected to be a number from 0 to 64")


@pytest.mark.parametrize("seed", [-1, 2**64, 10**400])
def test_a_seed_that_no_generator_takes_is_refused(seed):
    call = {**PREPARING, "seed": seed}
    refused(lambda: run_node(IPAdapterInstructPrepare, **call), "seed was expected to be a number from 0", "it is")


@pytest.mark.parametrize("weight", [NAN, 3.5, -1e9])
def test_a_weight_of_a_reference_beyond_all_measure_is_refused(weight):
    call = {"image": PICTURE, **ROW, "weight": weight}
    refused(lambda: run_node(IPAdapterInstructReference, **call), "weight was expected to be a number from -3 to")


@pytest.mark.parametrize("structure", [NAN, INFINITE, -0.1, 10**400])
@pytest.mark.parametrize("source", ["image", "embeds"])
def test_more_structure_of_a_face_than_there_is_is_refused(source, structure):
    call = {source: PICTURE, **ROW, "face_structure": structure}
    said = "face_structure was expected to be a number from 0 to 5"
    refused(lambda: run_node(IPAdapterInstructReference, **call), said)


@pytest.mark.parametrize("until", [NAN, INFINITE, -0.1, 1.01])
def test_a_moment_outside_the_sampling_is_refused(until):
    call = {"factors": "1", "between": "hold", "along": "steps", **BATCH, "three_way_until": until}
    said = "three_way_until was expected to be a number from 0 to 1"
    refused(lambda: run_node(IPAdapterInstructSchedule, **call), said)


@pytest.mark.parametrize("strength", [NAN, INFINITE, -INFINITE])
def test_a_lora_strength_that_is_no_number_is_refused_before_a_file_is_read(strength):
    call = {"adapter_name": "gone.bin", "image_encoder": "auto", "lora_strength": strength}
    refused(lambda: run_node(IPAdapterInstructLoader, **call), "lora_strength was expected to be a finite number")


@pytest.mark.parametrize("opacity", [NAN, -1.0, 1.01])
def test_an_opacity_beyond_all_measure_is_refused(opacity):
    call = {"watch": None, "image": PICTURE, "view": "picture", "opacity": opacity, "scale": "each map"}
    refused(lambda: run_node(IPAdapterInstructHeatMap, **call), "opacity was expected to be a number from 0 to 1")


@pytest.mark.parametrize("name", ["row_labels", "column_labels"])
def test_labels_of_a_megabyte_are_refused(name):
    call = {"images": PICTURE, "row_labels": "", "column_labels": "", name: "x" * 1_000_000}
    refused(lambda: run_node(IPAdapterInstructLabelGrid, **call), f"{name} was expected to hold at most 100,000")


def test_a_cell_width_that_makes_pictures_of_gigabytes_is_refused():
    call = {"images": torch.zeros(2, 4096, 1, 3), "row_labels": "", "column_labels": "a\nb", "cell_width": 4096}
    said = "cell_width was expected to leave at most 268,435,456 pixels", "2 picture(s) would be 4,096 x 16,777,216"
    refused(lambda: run_node(IPAdapterInstructLabelGrid, **call), *said)


def test_a_seed_of_thousands_of_digits_is_refused_in_the_packs_words():
    refused(lambda: axis("rows", "seed", "1 " + "9" * 5000), "row_values was expected to hold seeds", "(5,000 letters)")


@pytest.mark.parametrize("padding", [math.inf, NAN, 1e300])
def test_a_padding_beyond_all_measure_is_refused(padding):
    call = {**PREPARING, "action": "crop", "padding": padding}
    refused(lambda: run_node(IPAdapterInstructPrepare, **call), "padding was expected to be a number from 0 to 2")


def test_a_grid_of_a_billion_cells_is_refused_before_any_is_made():
    began = time.process_time()
    rows, columns = (axis(name, what, "1 " * 40000) for name, what in (("rows", "seed"), ("columns", "cfg")))
    refused(lambda: cells_of(rows, columns, None), "At most 100 pictures", "40000 x 40000 = 1600000000")
    assert time.process_time() - began < 5


def test_an_instruction_of_a_megabyte_is_read_as_its_beginning_is():
    from ipadapter_instruct.models.encoding.text_encoder import encode_texts

    clip, beginning = small_encoders.small_clip(), "use the style " * 200
    began = time.process_time()
    states = encode_texts(clip, [beginning, beginning * 400, "x" * 1_000_000])
    assert time.process_time() - began < 30
    assert torch.equal(states[beginning], states[beginning * 400])
