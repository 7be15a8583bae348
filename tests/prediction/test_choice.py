"""Which trials make predictions."""

from dataclasses import replace

from made_results import result_of

from srcgcnn.models.config import ModelConfig
from srcgcnn.prediction.choice import choose
from srcgcnn.run.paths import RunPaths, make_run_folder
from srcgcnn.run.results import write_result


def test_the_best_variant_is_the_best_over_all_its_splits_and_not_on_the_easiest(tmp_path, trial_of):
    paths = RunPaths(tmp_path / "out")
    make_run_folder(paths)
    for depth, errors in ((1, (0.12, 0.12, 0.12)), (3, (0.20, 0.12, 0.10))):
        for split, error in enumerate(errors):
            for seed in (0, 1):
                trial = trial_of(ModelConfig("cgcnn", depth), seed)
                trial = replace(trial, seeds=replace(trial.seeds, split=split))
                write_result(paths, result_of(trial, val_mae=error))
    best = choose(paths)
    assert best.variant == "CGCNN-1"
    assert best.reason == "lowest mean validation error of 2 variants; the first of 3 splits"
    assert [member.config.seeds.init for member in best.members] == [0, 1]
    named = choose(paths, "CGCNN-3")
    assert named.reason == "as requested; the first of 3 splits"
    assert {member.config.seeds.split for member in named.members} == {0}  # and not the one of the lowest error
    (single,) = choose(paths, "CGCNN-3 seed 1 split 2").members
    assert single.val_error == 0.10
