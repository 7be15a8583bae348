"""The commands of `srcgcnn` around trained models: predict, import-cgcnn, register."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcgcnn.cli.command import add_command, add_sweep_command, existing_run
from srcgcnn.tracking.uri import tracking_uri

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import pandas as pd

    from srcgcnn.prediction.ensemble import Ensemble

PRINTED_ROWS = 20
SOME_FAILED = 1
VARIANT_HELP = "label of a variant or trial as `srcgcnn results` names it, or a trial's key (lowest validation error)"


def add_prediction_commands(commands: Any) -> None:
    """Add the commands to a parser's subparsers."""
    predict = add_command(
        commands,
        "predict",
        "predict for new crystals",
        _predict,
        description="Predict with all seeds of a variant, with intervals. Crystals that cannot be predicted are listed "
        "with their reasons.",
        examples="""
        srcgcnn predict runs/depth new.cif more_cifs/ --out predictions.csv
        srcgcnn predict model.safetensors table.csv.gz
        """,
    )
    predict.add_argument("model", metavar="RUN_OR_MODEL", help="folder of a sweep, or a model file (.safetensors)")
    predict.add_argument(
        "crystals", nargs="+", metavar="CRYSTAL", help="CIF file, folder of CIF files, or table as for `data build`"
    )
    predict.add_argument("--variant", help=VARIANT_HELP)
    add_network_flag(predict)
    predict.add_argument("--out", type=Path, metavar="FILE", help="write all rows: .csv, .csv.gz, .parquet or .json")

    embed = add_command(
        commands,
        "embed",
        "what a trained network has learned, as features for other methods",
        _embed,
        description="Write the states of a network after a step of message passing: a row for each crystal, "
        "pooled as its readout pools them, or a row for each atom. Step 0 is the embedding of the elements. Of a "
        "sweep the seed with the lowest validation error is taken: states of different seeds have different axes.",
        examples="""
        srcgcnn embed runs/depth cifs/ --out features.parquet
        srcgcnn embed model.safetensors table.csv.gz --step 1 --level atom --out atoms.parquet
        """,
    )
    embed.add_argument("model", metavar="RUN_OR_MODEL", help="folder of a sweep, or a model file (.safetensors)")
    embed.add_argument(
        "crystals", nargs="+", metavar="CRYSTAL", help="CIF file, folder of CIF files, or table as for `data build`"
    )
    embed.add_argument("--variant", help=VARIANT_HELP)
    embed.add_argument("--step", type=int, metavar="T", help="after this step, 0 .. depth (the last)")
    embed.add_argument("--level", choices=["crystal", "atom"], default="crystal", help="a row for each (crystal)")
    embed.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="write all rows: .parquet, .csv, .csv.gz or .json"
    )

    imported = add_command(
        commands,
        "import-cgcnn",
        "read a checkpoint of txie-93/cgcnn or sata-deep/SR-CGCNN",
        _import_cgcnn,
        description="Write a model file from a checkpoint of the original codes, without running any code in it.",
        examples="srcgcnn import-cgcnn model_best.pth.tar --out formation-energy.safetensors --unit eV/atom",
    )
    imported.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="model_best.pth.tar")
    imported.add_argument("--out", type=Path, required=True, metavar="MODEL", help="model file (.safetensors)")
    imported.add_argument("--target", help="what it predicts (the file's name)")
    imported.add_argument("--unit", help="unit of the target (guessed from its name)")

    about = "register a sweep's best model in the MLflow model registry"
    register = add_sweep_command(
        commands,
        "register",
        about,
        _register,
        description="Register a variant's best seed as a new version of a model, ready for `mlflow models serve`.",
        examples="srcgcnn register runs/depth --name formation-energy",
    )
    register.add_argument("--name", required=True, help="name in the registry; a new version if it exists")
    register.add_argument("--variant", help=VARIANT_HELP)
    register.add_argument("--tracking-uri", type=tracking_uri, metavar="URI", help="default: the SQLite store in OUT")


def add_network_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that allows networks of one's own."""
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="MODULE:CLASS",
        help="import this network of your own if a model names it (nothing is imported otherwise)",
    )


def _predict(options: argparse.Namespace) -> int:
    from srcgcnn.models.own import permit
    from srcgcnn.prediction.ensemble import Ensemble

    permit(options.network)
    if options.out is not None:
        _writer(options.out)  # an unknown suffix is reported before an hour of predicting, not after it
    ensemble = Ensemble.load(options.model, options.variant)
    _describe(ensemble)
    table = ensemble.predict(options.crystals)
    _print_table(table)
    if options.out is not None:
        write_table(table, options.out)
        print(f"{len(table):,} rows in {options.out}")
    failed = table["error"] != ""
    if failed.all():
        raise ValueError(f"no crystal could be predicted: {table['error'].iloc[0]}")
    return SOME_FAILED if failed.any() else 0


def _embed(options: argparse.Namespace) -> int:
    from srcgcnn.prediction.embedding import Embedding

    _writer(options.out)
    embedding = Embedding.load(options.model, options.variant, step=options.step)
    table, failed = embedding.of(options.crystals, options.level)
    write_table(table, options.out)
    print(
        f"{options.out}: {len(table):,} rows of {embedding.width(table)} features, after step {embedding.step} of "
        f"{embedding.description}"
    )
    if len(failed):
        _print_notes("left out", failed, "error")
    return SOME_FAILED if len(failed) else 0


def _import_cgcnn(options: argparse.Namespace) -> int:
    from srcgcnn.prediction.import_cgcnn import import_checkpoint

    card = import_checkpoint(options.checkpoint, options.out, options.target, options.unit)
    task = "probability of class 1" if card.model.task == "classification" else card.unit or "no unit"
    print(f"{options.out}: {card.model.label}, {card.target} [{task}], mean {card.mean:.6g}, deviation {card.std:.6g}")
    return 0


def _register(options: argparse.Namespace) -> int:
    from srcgcnn.prediction.choice import choose
    from srcgcnn.tracking.registry import register

    paths = existing_run(options.out)
    choice = choose(paths, options.variant)
    result = choice.best_member()
    version = register(paths, result, options.name, options.tracking_uri)
    uri = options.tracking_uri or paths.default_tracking_uri
    print(f"{options.name} version {version} is {result.config.label} ({choice.reason}; its best seed)")
    print(
        f"serve it: MLFLOW_TRACKING_URI={uri} mlflow models serve -m models:/{options.name}/{version} "
        "--env-manager local --host 127.0.0.1 --port 5001"
    )
    return 0


def _describe(ensemble: Ensemble) -> None:
    from srcgcnn.data.source import with_unit

    card, calibrations = ensemble.card, ensemble.calibrations
    units = [one.unit for one in card.each] if card.targets else [ensemble.members[0].unit]
    named = [with_unit(one.name, unit) for one, unit in zip(card.each, units, strict=True)]
    print(f"{' + '.join(named)} by {ensemble.description}")
    if any(calibrations):
        counts = ", ".join(f"{one.crystals:,}" if one else "too few" for one in calibrations)
        print(f"90 % intervals: split conformal on {counts} validation crystals")
    elif ensemble.members[0].classify:
        print("no intervals: the prediction is a probability")
    else:
        print(
            "no intervals: no validation predictions are available (a model file alone has none; "
            "use the sweep's folder)"
        )
    if ensemble.card.domain is None:
        print("no warnings about unfamiliar crystals: the model file does not say what it was trained on")
    if ensemble.seen is None:
        print(
            "training crystals are not marked: the graph store is not available (a model file alone does not list them)"
        )


def _print_table(table: pd.DataFrame) -> None:
    units = [name for name in table if name == "unit" or name.startswith("unit_")]
    known = table[table["error"] == ""].drop(columns=["file", "error", *units, "warning", "seen"], errors="ignore")
    if len(known):
        print(known.head(PRINTED_ROWS).to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    if len(known) > PRINTED_ROWS:
        print(f"... and {len(known) - PRINTED_ROWS:,} more")
    if "seen" in table:
        _print_notes("seen in training, so not a test of the model", table, "seen")
    _print_notes("outside of the training domain", table, "warning")
    _print_notes("not predicted", table, "error")


def _print_notes(title: str, table: pd.DataFrame, column: str) -> None:
    noted = table[table[column] != ""]
    if not len(noted):
        return
    print(f"{title}: {len(noted):,} of {len(table):,}")
    for row_id, note in zip(noted["id"].head(PRINTED_ROWS), noted[column], strict=False):
        print(f"  {row_id}: {note}")
    if len(noted) > PRINTED_ROWS:
        print(f"  ... and {len(noted) - PRINTED_ROWS:,} more")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table in the form that the suffix names, atomically."""
    from srcgcnn.files import write_bytes

    write_bytes(path, _writer(path)(table))


def _writer(path: Path) -> Callable[[pd.DataFrame], bytes]:
    writers: dict[str, Callable[[pd.DataFrame], bytes]] = {
        ".csv": lambda table: table.to_csv(index=False).encode(),
        ".csv.gz": lambda table: gzip.compress(table.to_csv(index=False).encode()),
        ".parquet": lambda table: table.to_parquet(index=False),
        ".json": lambda table: table.to_json(orient="records", indent=1, double_precision=10).encode(),
    }
    for suffix, writer in writers.items():
        if path.name.lower().endswith(suffix):
            return writer
    raise ValueError(f"--out {path}: unknown kind of file; can write: {', '.join(writers)}")
