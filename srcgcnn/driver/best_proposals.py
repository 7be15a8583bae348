"""What a search found, printed at its end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table

from srcgcnn.sweep.proposals import proposals_of

if TYPE_CHECKING:
    from rich.console import Console

    from srcgcnn.run.paths import RunPaths
    from srcgcnn.sweep.plan import Plan
    from srcgcnn.sweep.proposals import Proposal


def show_proposals(plan: Plan, paths: RunPaths, console: Console) -> None:
    """Print the best proposals of a search: one with one objective, the Pareto front with several."""
    if not plan.spec.search.proposes:
        return
    proposals = proposals_of(plan.spec, plan.data, paths)
    table = Table()
    for heading in ("proposal", "variant", *plan.spec.search.objectives):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    shown: dict[str, Proposal] = {}
    for proposal in proposals:
        if proposal.best:
            shown.setdefault(proposal.label, proposal)
    for proposal in sorted(shown.values(), key=lambda proposal: proposal.values):
        number = "known" if proposal.known else str(proposal.number)
        table.add_row(number, proposal.label, *[f"{value:,.6g}" for value in proposal.values])
    made = [proposal for proposal in proposals if not proposal.known]
    distinct = len({proposal.trials for proposal in made})
    states = ", ".join(f"{count} {state}" for state, count in Counter(proposal.state for proposal in made).items())
    console.print("best proposals; the error is the mean over seeds on validation rows")
    console.print(table)
    console.print(f"{len(made)} proposals ({states}) of {distinct} variants; study: {paths.study_db}", soft_wrap=True)
