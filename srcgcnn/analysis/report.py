"""`OUT/report/`: one page that opens from a file, and every figure and table next to it.

index.html            everything inside: no network, no other file
figures/*.png, *.pdf  each figure, with its numbers in data/*.csv
tables/*.csv, *.md, *.tex
"""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from srcgcnn.analysis import chemistry, costs, figures
from srcgcnn.analysis.answer import Answer, answer_of
from srcgcnn.analysis.baselines import Baseline, baseline_table, baselines_of
from srcgcnn.analysis.comparison import Comparison, against, check_margin
from srcgcnn.analysis.findings import Findings, find, tradeoff_table
from srcgcnn.analysis.interactive import plotly_source, trials_json
from srcgcnn.analysis.paper import SOURCE
from srcgcnn.analysis.probes import draw_probes
from srcgcnn.analysis.studies import views_of
from srcgcnn.analysis.style import DPI, Drawing, journal_style
from srcgcnn.analysis.tables import (
    printed_comparisons,
    printed_tradeoff,
    shown_comparisons,
    shown_tradeoff,
    write_table,
)
from srcgcnn.analysis.tradeoff import caption_of
from srcgcnn.files import write_bytes, write_text
from srcgcnn.run.folder import open_run
from srcgcnn.run.spent import is_gpu, spent_line
from srcgcnn.run.trial import MEAN_OF_RATIOS
from srcgcnn.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from srcgcnn.analysis.study import Study
    from srcgcnn.run.folder import Run
    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.record import SweepRecord

PAGE_DPI = 160  # of the images inside the page; the files have 300
FIRST_DPI = 220  # of the one that it opens with, which is shown large
MOST_STUDIES = 6
PATIENCE_S = 600.0  # for another process that writes the report
REFRESH_S = 60  # how often the page of a running sweep looks for a newer one


CONTENTS = {
    "table": "Table",
    "tests": "What the tests say",
    "depth": "Depth",
    "train_sizes": "Learning curves",
    "widths": "Widths",
    "differences": "Differences",
    "pareto": "Other costs",
    "trials": "All trials",
    "training": "Training",
    "probes": "Steps",
    "parity": "Predictions",
    "chemistry": "Chemistry",
    "largest": "Largest errors",
}


@dataclass(frozen=True)
class Progress:
    """How complete the sweep is.

    Attributes:
        finished: trials of the last request that have a result; all results if sweep.json is missing.
        requested: trials of the last request, None if sweep.json is missing.
        others: results of this folder that the last request did not ask for.
        failed: labels and reasons of failed trials.
        stopped: trials of the last request that a scheduler stopped early.
        proposals_left: of a search, those that are not made or have not ended.
    """

    finished: int
    requested: int | None
    others: int
    failed: list[tuple[str, str]]
    stopped: int = 0
    proposals_left: int = 0

    @property
    def partial(self) -> bool:
        """Whether something is missing."""
        missing = self.requested is not None and self.finished + self.stopped < self.requested
        return bool(self.failed) or missing or self.proposals_left > 0


@dataclass(frozen=True)
class Picture:
    """A figure on the page; a phone shows it in its printed size, `width_inches`, to be pushed sideways."""

    name: str
    caption: str
    image: str
    files: str
    width_inches: float


@dataclass
class Section:
    """One study on the page; `comparisons` are those with the reference of its table of differences."""

    study: Study
    folder: str
    findings: Findings
    comparisons: list[Comparison]
    sentences: list[str]
    answer: Answer
    baselines: list[Baseline]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    interactive: str = ""

    @property
    def caption(self) -> str:
        """What the errors of the table are."""
        text = caption_of(self.study.interval(name) for name in self.study.variants["variant"])
        return text[0].upper() + text[1:]

    @property
    def contents(self) -> list[tuple[str, str]]:
        """Name and title of every part of the section, in the order of the page."""
        there = {"table", "tests", "trials", *self.pictures, *self.tables}
        if self.pictures.keys() & {"curves", "alphas"}:
            there.add("training")
        if self.notes:
            there.add("chemistry")
        return [(name, title) for name, title in CONTENTS.items() if name in there]


def write_report(
    folder: Run | RunPaths, margin: float | None = None, reference: str | None = None, *, running: bool = False
) -> Path:
    """Write the report of a sweep and return the page.

    Args:
        folder: of the sweep, opened or not.
        margin: of non-inferiority, in the unit of the errors; None takes 0.005 eV/atom, or 5 % of the best error.
        reference: the variant from which differences are taken, by its name or a part that no other has; None, and
            in further studies that do not have it: the one of lowest validation error.
        running: the sweep continues and the report will be rewritten: the page reloads itself.

    Raises:
        ValueError: no trial has finished, the margin is not positive, or the first study does not have the reference.
        TimeoutError: another process has been writing it for minutes.
    """
    run = open_run(folder)
    if not run.results:
        raise ValueError(f"{run.paths.out}: no trial has finished yet, so there is nothing to report")
    if margin is not None:
        check_margin(margin)
    run.paths.report.mkdir(parents=True, exist_ok=True)
    with FileLock(run.paths.report_lock, timeout=PATIENCE_S, mode=0o600):
        return _write(run, margin, reference, running=running)


def _write(run: Run, margin: float | None, reference: str | None, *, running: bool) -> Path:
    paths, studies = run.paths, views_of(run)
    references = {} if reference is None else _references(studies, reference)
    record = _record(paths)
    sections = []
    _remove_earlier(paths.report)
    with journal_style():
        for number, study in enumerate(studies[:MOST_STUDIES]):
            home = f"study-{number + 1}/" if number else ""
            sections.append(_section(study, paths, home, margin, references.get(study.title, study.best)))
    page = paths.report / "index.html"
    left_out = [study.title for study in studies[MOST_STUDIES:]]
    write_text(page, _render(run, record, sections, left_out, running=running))
    return page


def _references(studies: Sequence[Study], query: str) -> dict[str, str]:
    """Return by title which variant is meant; the first study must have it."""
    found = {studies[0].title: studies[0].find(query)}
    for study in studies[1:]:
        with suppress(ValueError):
            found[study.title] = study.find(query)
    return found


def _remove_earlier(folder: Path) -> None:
    """Remove figures, tables and data of an earlier report, so that no old number remains; computed symmetries stay."""
    for path in sorted(folder.glob("**/*"), reverse=True):
        if path.is_dir():
            with suppress(OSError):  # it holds something that is not ours
                path.rmdir()
        elif path.parent.name in ("figures", "tables", "data") and not path.name.startswith(chemistry.SYSTEMS_FILE):
            path.unlink()


def _record(paths: RunPaths) -> SweepRecord | None:
    from srcgcnn.sweep.record import read_record

    return read_record(paths) if paths.spec.exists() else None


def _section(study: Study, paths: RunPaths, folder: str, margin: float | None, reference: str) -> Section:
    findings, baselines = find(study, margin), baselines_of(study)
    comparisons = findings.comparisons if reference == study.best else against(study, reference)
    answer = answer_of(study, findings, baselines)
    section = Section(
        study,
        folder,
        findings,
        comparisons,
        findings.sentences(study),
        answer,
        baselines,
        interactive=trials_json(study),
    )
    home = paths.report / folder
    _write_tables(section, home)
    drawings = [costs.draw_tradeoff(study, baselines), costs.draw_pareto(study)]
    if comparisons:
        drawings.append(figures.draw_differences(study, comparisons, findings.margin))
    varied = (figures.draw_depth(study), figures.draw_train_sizes(study), costs.draw_widths(study))
    optional = (*varied, figures.draw_parity(study), figures.draw_alphas(study), draw_probes(study))
    drawings += [drawn for drawn in (*optional, figures.draw_curves(study)) if drawn]
    drawings += _chemistry(study, section, home)
    for drawing in drawings:
        section.pictures[drawing.name] = _save(drawing, home, folder)
    return section


def _write_tables(section: Section, home: Path) -> None:
    study, findings = section.study, section.findings
    table = tradeoff_table(study, findings)
    section.tables["tradeoff"] = shown_tradeoff(table, study.quantity, section.baselines)
    printed = printed_tradeoff(study, table, section.comparisons, section.baselines)
    write_table(home / "tables", "tradeoff", table, section.tables["tradeoff"], printed)
    write_table(home / "tables", "trials", study.trials)
    if section.baselines:
        write_table(home / "tables", "baselines", baseline_table(section.baselines))
    if section.comparisons:
        section.tables["comparisons"] = shown_comparisons(section.comparisons, study.unit)
        printed = printed_comparisons(study, section.comparisons)
        write_table(home / "tables", "comparisons", section.tables["comparisons"], printed=printed)


def _chemistry(study: Study, section: Section, home: Path) -> list[Drawing]:
    if study.data.targets:  # its parts have them
        return []
    crystals = chemistry.crystal_table(study, study.best)
    if crystals.empty:
        section.notes.append("No predictions are kept in this folder, so errors by chemistry are not shown.")
        return []
    data_hash = study.results[0].config.data.data_hash  # ids of other data may be the same
    cache = study.run.paths.report / "data" / f"{chemistry.SYSTEMS_FILE}-{data_hash}.csv"
    systems, note = chemistry.crystal_systems(study, list(crystals["id"]), cache)
    if note:
        section.notes.append(note)
    if systems:
        crystals["crystal_system"] = crystals["id"].map(systems).fillna("unknown")
    section.tables["largest"] = largest = chemistry.largest_errors(crystals)
    write_table(home / "tables", "largest_errors", largest)
    return [
        chemistry.draw_elements(study, crystals, study.best),
        chemistry.draw_groups(study, crystals, study.best),
    ]


def _save(drawing: Drawing, home: Path, folder: str) -> Picture:
    drawing.figure.draw_without_rendering()
    drawing.figure.set_layout_engine(None)  # laid out once, not again for each file
    large = _drawn(drawing, "png", dpi=DPI)
    write_bytes(home / "figures" / f"{drawing.name}.png", large)
    write_bytes(home / "figures" / f"{drawing.name}.pdf", _drawn(drawing, "pdf", metadata={"CreationDate": None}))
    write_text(home / "data" / f"{drawing.name}.csv", drawing.data.to_csv(index=False))
    dpi = FIRST_DPI if drawing.name == "tradeoff" else PAGE_DPI
    image = base64.b64encode(_reduced(large, dpi / DPI)).decode()
    return Picture(drawing.name, drawing.caption, image, folder, float(drawing.figure.get_figwidth()))


def _drawn(drawing: Drawing, ending: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    drawing.figure.savefig(stream, format=ending, **options)
    return stream.getvalue()


def _reduced(png: bytes, scale: float) -> bytes:
    """Return a PNG made smaller, which is faster than to draw the figure again."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(png)) as large:
        large.convert("RGB").resize([round(side * scale) for side in large.size]).save(stream, "png")
    return stream.getvalue()


def progress_of(folder: Run | RunPaths, record: SweepRecord | None) -> Progress:
    """Count the trials of the last request, and those that failed."""
    from srcgcnn.sweep.plan import plan_sweep

    run = open_run(folder)
    plan = None if record is None else plan_sweep(record.spec, record.data, run)
    done = run.finished
    labels = {} if plan is None else {trial.key: plan.label_of(trial) for trial in plan.trials}
    failed = [(labels.get(one.key, one.key), one.reason.strip().splitlines()[-1:]) for one in run.failures]
    reasons = [(label, lines[0] if lines else "unknown") for label, lines in failed]
    if plan is None:
        return Progress(len(done), None, 0, reasons)
    finished, others = len(done & labels.keys()), len(done - labels.keys())
    return Progress(finished, len(labels), others, reasons, len(plan.stopped), plan.proposals_left)


def _render(
    run: Run, record: SweepRecord | None, sections: list[Section], left_out: list[str], *, running: bool
) -> str:
    import jinja2
    from markupsafe import Markup

    text = files("srcgcnn.analysis").joinpath("report.html.jinja").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    plotly = plotly_source().replace("</script", "<\\/script")
    return template.render(
        title=record.spec.name if record else run.paths.out.resolve().name,
        record=record,
        progress=progress_of(run, record),
        refresh_s=REFRESH_S if running else None,
        sections=sections,
        left_out=left_out,
        paper_source=SOURCE,
        several_unit=MEAN_OF_RATIOS,
        cost={**_cost(sections), "used in all": spent_line(run.paths)},
        provenance=_provenance(sections),
        version=__version__,
        plotly=Markup(plotly),  # noqa: S704 - a file of the plotly package
        json=Markup,  # trials_json escapes what could end a script element
    )


def _cost(sections: list[Section]) -> dict[str, str]:
    results = list({result.key: result for section in sections for result in section.study.results}.values())
    seconds = sum(result.cost.seconds for result in results)
    gpu_s = sum(result.cost.seconds for result in results if is_gpu(result))
    return {
        "trials": f"{len(results)}",
        "training time": f"{seconds / 3600:.2f} hours of workers, {gpu_s / 3600:.2f} of them on GPUs",
        "seconds per trial": f"{seconds / len(results):.0f} on average",
        "resumes after interruptions": str(sum(result.cost.resumes for result in results)),
    }


def _provenance(sections: list[Section]) -> dict[str, str]:
    results = [result for section in sections for result in section.study.results]
    sources = [result.provenance for result in results]
    versions = {f"{name} {number}" for source in sources for name, number in source.versions.items()}
    times = sorted(source.finished_at for source in sources)

    def listed(values: set[str]) -> str:
        return ", ".join(sorted(value for value in values if value)) or "not recorded"

    return {
        "data hash": listed({result.config.data.data_hash for result in results}),
        "seeds": listed({str(result.config.seeds.init) for result in results}),
        "split seeds": listed({str(result.config.seeds.split) for result in results}),
        "rows (train, validation, test)": listed({", ".join(map(str, result.rows)) for result in results}),
        "commits": listed({source.git_commit for source in sources}),
        "hardware": listed({source.hardware for source in sources}),
        "versions": listed(versions),
        "first and last result": f"{times[0]} … {times[-1]}",
    }
