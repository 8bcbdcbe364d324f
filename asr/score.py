"""`asr score`: references and hypotheses in, error rates and how far to trust them out."""

from __future__ import annotations

from dataclasses import dataclass

from asr.formats.reading import read_transcripts
from asr.scoring.protocol import Protocol
from asr.scoring.report import summary
from asr.scoring.score import Score, score
from asr.scoring.significance import SAMPLES, interval


@dataclass(frozen=True, slots=True)
class Options:
    """What `asr score` can be asked for."""

    protocol: Protocol
    samples: int = SAMPLES
    seed: int = 1


def score_files(reference: str, hypothesis: str, options: Options) -> str:
    """Score a file against another."""
    references = read_transcripts(reference)
    hypotheses = read_transcripts(hypothesis)
    speakers = {t.id: t.speaker for t in references if t.speaker is not None}
    result: Score = score({t.id: t.phones for t in references}, {t.id: t.phones for t in hypotheses},
                          options.protocol, speakers)
    return summary(result, interval(result, options.samples, options.seed))
