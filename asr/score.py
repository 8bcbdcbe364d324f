"""`asr score`: references and hypotheses in, error rates and how far to trust them out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from asr.corpus.records import TimedPhone
from asr.errors import AsrError, UsageError
from asr.formats.reading import read_transcripts
from asr.formats.transcript import Transcript
from asr.scoring.boundaries import Boundaries, boundaries, need_times
from asr.scoring.protocol import Protocol, load_protocol, protocol_names
from asr.scoring.result import Result, System, compare_all
from asr.scoring.score import Score, score
from asr.scoring.significance import SAMPLES, interval

Transcripts = Mapping[str, Transcript]


@dataclass(frozen=True, slots=True)
class Options:
    """What `asr score` can be asked for."""

    protocol: str = "plain"
    all_protocols: bool = False
    by: tuple[str, ...] = ()            # `speaker`, `length`
    boundaries: bool = False
    samples: int = SAMPLES              # of the bootstrap
    seed: int = 1
    reference_kind: str | None = None   # one of asr.formats.reading.KINDS; None: found out
    hypothesis_kind: str | None = None


def score_files(reference: str, hypotheses: Sequence[str], options: Options, compared: bool = False) -> Result:
    """Score the hypotheses of one or more systems against the same references.

    Args:
        reference: a file or folder of references.
        hypotheses: a file or folder for each system; `-` is standard input.
        options: what is asked for.
        compared: compare every system with every other.

    Raises:
        AsrError: something cannot be read, ids or phones do not fit, or the scores cannot be compared.
    """
    if hypotheses.count("-") + (reference == "-") > 1:
        raise UsageError("-: standard input can be read once only: give files for the others")
    protocol = load_protocol(options.protocol)
    references = _by_id(reference, options.reference_kind)
    if any(transcript.protocol is not None for transcript in references.values()):
        raise AsrError(f"{reference}: is a score, which holds what was recognised: give the references that it was "
                       "scored against")
    for transcript in references.values():      # a phone that the protocol does not know is the references' fault here
        protocol(transcript.phones, f"{reference}: {transcript.id}")
    systems = [_system(reference, references, name, protocol, options) for name in hypotheses]
    return Result(tuple(systems), compare_all(systems, options.samples, options.seed) if compared else ())


def render(result: Result, form: str) -> str:
    """The result as `text`, `json`, `pra`, `confusions` or `html`."""
    if form == "json":
        from asr.scoring.plain import result_data
        return json.dumps(result_data(result), ensure_ascii=False, indent=1) + "\n"
    if form == "html":
        from asr.scoring.html import result_html
        return result_html(result)
    if form == "text":
        from asr.scoring.report import result_text
        return result_text(result)
    from asr.scoring.confusions import confusions_text
    from asr.scoring.pra import pra
    print_one = {"pra": pra, "confusions": confusions_text}[form]
    several = len(result.systems) > 1
    return "\n".join((f"system {system.name}\n" if several else "") + print_one(system.score)
                     for system in result.systems)


def _system(reference: str, references: Transcripts, name: str, protocol: Protocol, options: Options) -> System:
    hypotheses = _by_id(name, options.hypothesis_kind)
    _check_protocol(hypotheses, name, protocol)
    try:
        scored = _score(references, hypotheses, protocol)
    except AsrError as error:
        raise AsrError(f"{name}: {error}") from None
    system = System("standard input" if name == "-" else name, scored, interval(scored, options.samples, options.seed),
                    by=options.by)
    if options.boundaries:
        system = replace(system, boundaries=_boundaries(scored, reference, references, name, hypotheses))
    return _elsewhere(system, references, hypotheses, name) if options.all_protocols else system


def _score(references: Transcripts, hypotheses: Transcripts, protocol: Protocol) -> Score:
    speakers = {t.id: t.speaker for side in (hypotheses, references) for t in side.values() if t.speaker is not None}
    return score(_phones(references), _phones(hypotheses), protocol, speakers)


def _elsewhere(system: System, references: Transcripts, hypotheses: Transcripts, name: str) -> System:
    """The system with its scores under every protocol that knows the phones."""
    found, unknown, reason = [], [], ""
    own = system.score.protocol
    names = protocol_names()
    for protocol in [*map(load_protocol, names), *([] if own.name in names else [own])]:
        try:
            _check_protocol(hypotheses, name, protocol)
            found.append(_score(references, hypotheses, protocol))
        except AsrError as error:
            unknown.append(protocol.name)
            reason = reason or str(error)
    return replace(system, elsewhere=tuple(found), unknown=tuple(unknown), reason=reason)


def _check_protocol(hypotheses: Transcripts, name: str, protocol: Protocol) -> None:
    other = next((t.protocol for t in hypotheses.values() if t.protocol not in (None, protocol.digest)), None)
    if other is not None:
        raise AsrError(f"{name}: was scored by another protocol (table {other}) than {protocol.name} "
                       f"({protocol.digest}), and scores of different protocols cannot be compared: score its "
                       "hypotheses anew")


def _boundaries(scored: Score, reference: str, references: Transcripts, name: str,
                hypotheses: Transcripts) -> Boundaries:
    for side, path in ((references, reference), (hypotheses, name)):
        need_times(_phones(side), {t.id: t.times for t in side.values() if t.times is not None}, path)
    return boundaries(scored, _timed(references), _timed(hypotheses))


def _by_id(source: str, kind: str | None) -> Transcripts:
    return {transcript.id: transcript for transcript in read_transcripts(source, kind)}


def _phones(transcripts: Transcripts) -> dict[str, tuple[str, ...]]:
    return {id: transcript.phones for id, transcript in transcripts.items()}


def _timed(transcripts: Transcripts) -> dict[str, list[TimedPhone]]:
    return {t.id: [TimedPhone(phone, start, end) for phone, (start, end) in zip(t.phones, t.times or (), strict=True)]
            for t in transcripts.values()}
