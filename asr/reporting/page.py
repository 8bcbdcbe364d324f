"""The report as one file of HTML that opens without a network: pictures, sounds, styles and script inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from asr.reporting.cards import Card
from asr.reporting.charts import confusion_chart, group_chart, training_charts
from asr.scoring.confusions import confusions
from asr.scoring.html import system_view, templates
from asr.scoring.report import p_value
from asr.scoring.result import GROUPS, Result, System
from asr.scoring.score import total
from asr.scoring.significance import interval

LISTED = 2000           # utterances in the table of all, the worst of them


@dataclass(frozen=True)
class Run:
    """A training run: what it said of itself."""

    name: str
    log: list[dict[str, Any]]
    config: str                                         # YAML
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """All that a report shows."""

    title: str
    runs: Sequence[Run]
    result: Result | None
    cards: Sequence[Card]
    seconds: float = 0.0                                # of speech, where known
    made: str = ""                                      # by what, and when


def render(contents: Contents) -> str:
    """The page.

    Raises:
        AsrError: Jinja2 is not installed.
    """
    page = templates("asr report", "asr.reporting", "asr.scoring").get_template("report.html")
    systems = contents.result.systems if contents.result else ()
    return page.render(
        contents=contents, runs=[_run_view(run, n) for n, run in enumerate(contents.runs)],
        systems=[_system(system, n) for n, system in enumerate(systems)],
        pairs=contents.result.pairs if contents.result else (), p_value=p_value,
        listed=_listed(systems), cards=contents.cards, carded={card.id: n for n, card in enumerate(contents.cards)},
        attention=any(card.heat for card in contents.cards), most=LISTED) + "\n"


def _run_view(run: Run, number: int) -> dict[str, Any]:
    return {"name": run.name, "charts": training_charts(run.log, f"run{number}-"), "config": run.config,
            "about": run.about, "epochs": [line for line in run.log if line.get("event") == "epoch"]}


def _system(system: System, number: int) -> dict[str, Any]:
    score = system.score
    view = system_view(system)
    groups = {}
    for name, group in GROUPS.items():
        rows = [(label, len(some), total(some), interval(replace(score, rows=tuple(some), total=total(some))))
                for label, some in group(score).items()]
        chart = group_chart([(label, counts, within) for label, _, counts, within in rows],
                            f"PER by {name}" if name == "speaker" else "PER by reference phones", f"{name}{number}")
        groups[name] = {"rows": rows, "chart": chart}
    return view | {"groups": groups, "heat": confusion_chart(confusions(score), f"heat{number}")}


def _listed(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Utterances with the counts of every system, the worst first."""
    by_id = [{row.id: row for row in system.score.rows} for system in systems]
    rows = [{"id": row.id, "speaker": row.speaker or "", "counts": [rows[row.id].counts for rows in by_id]}
            for row in (systems[0].score.rows if systems else ())]
    return sorted(rows, key=lambda row: -max(counts.per for counts in row["counts"]))
