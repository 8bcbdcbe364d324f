"""A result as one page of HTML that needs nothing beside it: no script, no font, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.errors import AsrError
from asr.scoring.align import pairs
from asr.scoring.confusions import CLASSES, by_class, confusions
from asr.scoring.pra import kind
from asr.scoring.report import boundaries_text, interval_line, p_value, per_line, protocols_text
from asr.scoring.result import GROUPS, Result, System
from asr.scoring.score import Counts, Score, total

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN = 200         # utterances with their alignment, the worst first
CONFUSED = 30       # pairs of phones


def result_html(result: Result) -> str:
    """The page: for each system the score, tables by speaker and length, confusions, utterances from bad to good.

    Raises:
        AsrError: Jinja2 is not installed.
    """
    page = templates("-f html", "asr.scoring").get_template("score.html")
    return page.render(systems=[system_view(system) for system in result.systems], pairs=result.pairs,
                       p_value=p_value) + "\n"


def templates(what: str, *packages: str) -> Environment:
    """The templates that lie in these packages; what they show is escaped.

    Raises:
        AsrError: Jinja2 is not installed; `what` needs it.
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader
    except ImportError:
        raise AsrError(f"{what}: needs Jinja2: pip install 'asr[report]'") from None
    return Environment(loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]), autoescape=True,
                       trim_blocks=True, lstrip_blocks=True)


def system_view(system: System) -> dict[str, Any]:
    """What the templates show of a system."""
    score = system.score
    return {
        "name": system.name, "score": score, "per_line": per_line(score.total),
        "interval": interval_line(system.interval),
        "speakers": len({row.speaker for row in score.rows if row.speaker}), "parts": _parts(score.total),
        "boundaries": boundaries_text(system.boundaries) if system.boundaries else "",
        "elsewhere": protocols_text(system) if system.elsewhere else "",
        "groups": [(name, [(group, len(rows), total(rows), None) for group, rows in groups(score).items()])
                   for name, groups in GROUPS.items()],
        "confused": _confused(score), "classes": _class_matrix(score), "rows": _worst(score),
        "left_out": max(0, len(score.rows) - SHOWN)}


def _parts(counts: Counts) -> list[tuple[str, str, int, float]]:
    """Each kind of error: its name, its letter, how many, and its share of all in per cent."""
    edits = (("substitutions", "S", counts.substitutions), ("deletions", "D", counts.deletions),
             ("insertions", "I", counts.insertions))
    return [(label, letter, n, 100 * n / max(1, sum(edit[2] for edit in edits))) for label, letter, n in edits]


def _confused(score: Score) -> list[tuple[str | None, str | None, int]]:
    counts = confusions(score).most_common()
    return [(reference, hypothesis, n) for (reference, hypothesis), n in counts
            if reference != hypothesis][:CONFUSED]


def _class_matrix(score: Score) -> tuple[list[str], list[tuple[str, list[tuple[int, float]]]]]:
    """Names of the columns, and rows of counts with their share of the row, for the shade."""
    counts = by_class(confusions(score))
    used: list[str | None] = [*(name for name in CLASSES if any(name in pair for pair in counts)), None]
    rows = []
    for reference in used:
        numbers = [counts[reference, hypothesis] for hypothesis in used]
        rows.append((reference or "inserted", [(n, n / max(1, sum(numbers))) for n in numbers]))
    return [name or "deleted" for name in used], rows


def _worst(score: Score) -> list[dict[str, Any]]:
    rows = sorted(score.rows, key=lambda row: (-row.counts.per, -row.counts.errors))[:SHOWN]
    return [{"row": row, "cells": [(r or "·", h or "·", kind(r, h))
                                   for r, h in pairs(row.alignment, row.reference, row.hypothesis)]} for row in rows]
