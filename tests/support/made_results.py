"""Results without training, for tests of what reads them."""

from dataclasses import replace

from srcgcnn.run.trial import TrialConfig
from srcgcnn.run.trial_result import Cost, Curves, Metrics, Provenance, TrialResult


def result_of(config: TrialConfig, *, val_mae=0.1, test_mae=None, seconds=10.0, **fields) -> TrialResult:
    """A whole result of a trial; `fields` replaces whatever a test is about."""
    epochs = config.training.epochs
    made = TrialResult(
        key=config.key,
        config=config,
        metrics=Metrics(
            1, 0.1, val_mae=val_mae, val_rmse=0.2, test_mae=val_mae if test_mae is None else test_mae, test_rmse=0.2
        ),
        curves=Curves((0.2,) * epochs, (0.2,) * epochs, (1e-3,) * epochs),
        conv_parameters=1,
        total_parameters=2,
        target_mean=0.0,
        target_std=1.0,
        rows=(6, 2, 2),
        alphas=(),
        cost=Cost(seconds, 1.0, 1.0, 1, 0),
        provenance=Provenance("2026-01-01T00:00:00+00:00", "", {}, "cpu", "host", 1),
    )
    return replace(made, **fields)
