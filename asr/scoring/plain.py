"""A result as plain data, for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from asr.scoring.boundaries import TOLERANCES, Boundaries
from asr.scoring.confusions import confusions
from asr.scoring.protocol import Protocol
from asr.scoring.result import Pair, Result, System
from asr.scoring.score import Counts, Row, total


def result_data(result: Result) -> dict[str, Any]:
    """Systems and comparisons. PER, intervals and differences are in per cent, times in seconds; an infinite PER
    (errors against an empty reference) is null, since JSON has no infinity."""
    return {"systems": [system_data(system) for system in result.systems],
            "comparisons": [pair_data(pair) for pair in result.pairs]}


def system_data(system: System) -> dict[str, Any]:
    """One system: all that the text shows, every utterance, and every pair of phones that were confused."""
    score = system.score
    counts = sorted(confusions(score).items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    data: dict[str, Any] = {
        "name": system.name, "protocol": protocol_data(score.protocol), "notes": score.notes,
        "total": counts_data(score.total), "utterances": len(score.rows), "utterances_wrong": score.wrong,
        "ser": score.ser, "interval": system.interval and asdict(system.interval),
        "by": {name: {group: group_data(rows) for group, rows in groups.items()}
               for name, groups in system.groups.items()}}
    if system.boundaries is not None:
        data["boundaries"] = boundaries_data(system.boundaries)
    if system.elsewhere:
        data["protocols"] = [{"name": s.protocol.name, "digest": s.protocol.digest, **counts_data(s.total)}
                             for s in system.elsewhere]
    data["confusions"] = [[*pair, number] for pair, number in counts if pair[0] != pair[1]]
    data["rows"] = [row_data(row) for row in score.rows]
    return data


def protocol_data(protocol: Protocol) -> dict[str, Any]:
    """What the number means."""
    return {"name": protocol.name, "digest": protocol.digest, "about": protocol.about}


def counts_data(counts: Counts) -> dict[str, Any]:
    """PER and what it is made of."""
    return {"per": counts.per if math.isfinite(counts.per) else None, "errors": counts.errors, "phones": counts.phones,
            "insertions": counts.insertions, "deletions": counts.deletions, "substitutions": counts.substitutions}


def group_data(rows: Sequence[Row]) -> dict[str, Any]:
    """Some utterances together."""
    return {"utterances": len(rows), **counts_data(total(rows))}


def row_data(row: Row) -> dict[str, Any]:
    """One utterance."""
    return {"id": row.id, "speaker": row.speaker, **counts_data(row.counts), "reference": " ".join(row.reference),
            "hypothesis": " ".join(row.hypothesis)}


def boundaries_data(boundaries: Boundaries) -> dict[str, Any]:
    """How exact the times are: seconds, shares in per cent."""
    return {"measured": len(boundaries.errors), "starts": boundaries.starts, "mean": boundaries.mean,
            "median": boundaries.median, "bias": boundaries.bias,
            "within": {f"{t} ms": boundaries.within(t) for t in TOLERANCES}}


def pair_data(pair: Pair) -> dict[str, Any]:
    """Two systems compared."""
    return {"first": pair.first, "second": pair.second, **asdict(pair.comparison), "p_holm": pair.p_holm,
            "p_mapsswe_holm": pair.p_mapsswe_holm}
