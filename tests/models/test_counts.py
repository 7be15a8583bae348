"""Parameters of whole networks: the published numbers in their own sizes, and closed forms over depth."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srcgcnn.cli.main import main
from srcgcnn.models.config import ModelConfig
from srcgcnn.models.counts import count_parameters
from srcgcnn.models.published import NAMES, settings_of
from srcgcnn.models.published_counts import ALIGNN_ANGLE_ENTRY, PUBLISHED_SIZES
from srcgcnn.models.registry import BLOCKS

# name, layers, published number, of these parameters that nothing reads
PUBLISHED = [
    ("cgcnn", 1, 36_545, 0),  # arXiv:2605.01304 and its code
    ("cgcnn", 3, 80_833, 0),
    ("srcgcnn", 3, 37_313, 0),
    ("srcgcnn", 5, 38_081, 0),
    ("srcgcnn", 8, 39_233, 0),
    ("srcgcnn", 16, 42_305, 0),
    ("schnet", 15, 1_102_401, 0),  # Patterns 3, 100491
    ("schnet", 20, 1_455_901, 0),
    ("deeperschnet", 15, 1_144_401, 0),
    ("deeperschnet", 20, 1_511_901, 0),
    ("megnet", 25, 4_857_201, 0),
    ("megnet", 30, 5_819_201, 0),
    ("deepermegnet", 15, 3_185_201, 0),
    ("deepermegnet", 20, 4_231_201, 0),
    ("gatgnn", 25, 863_370, 384),
    ("gatgnn", 30, 1_030_770, 384),
    ("gatgnn", 50, 1_700_370, 384),
    ("deepergatgnn", 30, 1_089_906, 5_760),
    ("deepergatgnn", 50, 1_795_346, 5_760),
    ("mpnn", 4, 4_385_901, 0),  # "about 4.39 M", "10.9 M", "32.6 M" in the paper; these are of its code
    ("mpnn", 10, 10_901_901, 0),
    ("mpnn", 30, 32_621_901, 0),
    ("deepermpnn", 4, 4_397_101, 0),
    ("deepermpnn", 10, 10_929_901, 0),
    ("deepermpnn", 30, 32_705_901, 0),
    ("cgconv", 25, 1_337_101, 5_000),
    ("cgconv", 30, 1_590_101, 6_000),
    ("deepercgcnn", 15, 873_101, 3_000),
    ("deepercgcnn", 20, 1_140_101, 4_000),
    ("alignn", 4, 4_026_753, 0),  # npj Comput. Mater. 7, 185; 4 + 4 layers, and so on
    ("alignn", 2, 2_046_849, 0),
    ("alignn", 1, 1_056_897, 0),
    ("eggc", 4, 1_386_881, ALIGNN_ANGLE_ENTRY),  # 0 + 4
]
# without what nothing reads: base, and per layer
CLOSED_FORMS = {
    "schnet": (41_901, 70_700),
    "deeperschnet": (41_901, 73_500),
    "mpnn": (41_901, 1_086_000),
    "deepermpnn": (41_901, 1_088_800),
    "cgconv": (72_101, 50_400),
    "deepercgcnn": (72_101, 53_200),
    "megnet": (47_201, 192_400),
    "deepermegnet": (47_201, 209_200),
    "gatgnn": (25_986, 33_480),
    "deepergatgnn": (25_986, 35_272),
    "alignn": (66_945, 659_968 + 329_984),
    "eggc": (66_945 - ALIGNN_ANGLE_ENTRY, 329_984),
    "cgcnn": (14_401, 22_144),
    "srcgcnn": (36_161, 384),
}


@pytest.mark.parametrize(("name", "layers", "published", "unused"), PUBLISHED)
def test_whole_networks_have_their_published_numbers_of_parameters(name, layers, published, unused):
    sizes = PUBLISHED_SIZES[name]
    assert sizes.count(layers) == published
    assert sizes.count(layers, unused=False) == published - unused


@given(st.sampled_from(sorted(CLOSED_FORMS)), st.integers(1, 200))
def test_published_networks_grow_by_the_same_number_with_every_layer(name, layers):
    base, per_layer = CLOSED_FORMS[name]
    assert PUBLISHED_SIZES[name].count(layers, unused=False) == base + per_layer * layers


def test_every_name_has_its_published_sizes_and_closed_form():
    assert set(NAMES) == PUBLISHED_SIZES.keys() == CLOSED_FORMS.keys() == {name for name, *_ in PUBLISHED}


@given(
    name=st.sampled_from([name for name in NAMES if name != "srcgcnn"]),
    depth=st.integers(2, 60),
    blocks=st.integers(1, 60),
    norm=st.sampled_from(["step", "affine", "shared"]),
    width=st.integers(1, 96),
)
def test_counts_are_closed_forms_of_depth_blocks_and_norms(name, depth, blocks, norm, width):
    """Base + K * weights + norms of T steps or of one; `affine` and `shared` weigh the same."""

    def count(depth, blocks, norm):
        settings = {**settings_of(name), "blocks": blocks, "norm": norm, "hidden_channels": width}
        return count_parameters(ModelConfig(**settings, depth=depth)).total

    blocks = min(blocks, depth)
    stacked_cgcnn = name == "cgcnn" and blocks == depth
    once = count(depth, 1, "shared")
    norms = count(depth, 1, "step") - once
    assert norms % (depth - 1) == 0
    family = settings_of(name)["family"]
    block = BLOCKS[family].weights(ModelConfig(family, 1, hidden_channels=width).sizes)
    expected = once + (blocks - 1) * block + (norms if norm == "step" or stacked_cgcnn else 0)
    assert count(depth, blocks, norm) == expected


def test_published_counts_are_printed_with_those_that_nothing_reads(capsys):
    command = ["params", "--models", "gatgnn", "deepercgcnn", "alignn", "--depths", "4", "30", "--published"]
    assert main([*command, "--json"]) == 0
    found = {row["model"]: (row["total_params"], row["unused"]) for row in json.loads(capsys.readouterr().out)}
    assert found["GATGNN-30"] == (1_030_770, 384)
    assert found["DeeperCGCNN-30"] == (72_101 + 53_400 * 30, 6_000)
    assert found["ALIGNN-4 + EGGC-4"] == (4_026_753, 0)
    assert main(command) == 0
    assert "1,030,770" in capsys.readouterr().out


def test_our_counts_are_printed_for_every_name(capsys):
    assert main(["params", "--models", *NAMES, "--depths", "2", "--json"]) == 0
    found = {row["model"]: row["total_params"] for row in json.loads(capsys.readouterr().out)}
    for name in NAMES:
        config = ModelConfig(**settings_of(name), depth=2)
        assert found[config.label] == count_parameters(config).total


def test_counts_over_distinct_blocks_are_printed_once_each(capsys):
    assert (
        main(["params", "--models", "schnet", "cgcnn", "--depths", "3..4", "--blocks", "1", "2", "all", "--json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)
    found = {row["model"]: row["conv_params"] for row in rows}
    assert len(rows) == len(found) == 12
    for family, depth, blocks in product(("schnet", "cgcnn"), (3, 4), (1, 2, "all")):
        config = ModelConfig(family, depth, blocks=blocks)
        assert found[config.label] == count_parameters(config).convolution


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths", "deep"], "--depths: 'deep' must be a whole number or a range such as 1..8"),
        (["--depths", "0"], "depth=0 must lie in 1.."),
        (["--blocks", "1.5"], "--blocks: 1.5 must be a whole number or a range such as 1..8 or all"),
        (["--blocks", "1", "--published", "--models", "gatgnn"], "--blocks: the published networks have their own"),
    ],
)
def test_wrong_depths_and_blocks_are_named(words, message, capsys):
    assert main(["params", *words]) == 2
    assert message in capsys.readouterr().err
