"""`asr decode`: from audio to hypotheses, be it a folder of short files or one recording of hours.

What a model hears in them is the `transcriber`'s part. Here inputs are opened, shared among processes and written out,
what an earlier call found is taken up, and what failed is named at the end.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from asr import config
from asr.corpus.records import Hypothesis, TimedPhone, Utterance
from asr.errors import AsrError, printable
from asr.files import Steady
from asr.formats.record import Record, keepable, mark, write_failures
from asr.formats.writers import write_hypotheses
from asr.frontend.store import FeatureSource
from asr.inputs import check_ids, listings, seconds_of, sources
from asr.live import LiveLine, Watch
from asr.model.file import Model
from asr.reporting.gazer import Gazer
from asr.reporting.picture import png_format
from asr.shares import decode_shares
from asr.training.distributed import Processes, pick_device, processes
from asr.transcriber import Tally, Transcriber

NAMED = 20          # utterances that failed, named on standard error; a list beside the output names all
PATIENCE = datetime.timedelta(days=7)    # of processes that wait for a slower one


def decode(model: Model, inputs: Sequence[str], settings: config.Decode, *, formats: Sequence[str], out: Path | None,
           device: str = "auto", resume: bool = False) -> Tally:
    """Decode all inputs into the formats named; gives the tally.

    Args:
        out: a file, or a folder; None for standard output. Beside a device, such as /dev/null, nothing is kept.
        resume: what an earlier call with the same model, settings and inputs found for `out` is not sought again.

    Raises:
        AsrError: an input is not there, or `out` cannot be written. What is wrong with one utterance is in the tally.
    """
    with processes(torch.device("cpu"), patience=PATIENCE) as group:     # they hand each other text alone
        tally = _decode(Transcriber(model, settings, pick_device(device)), inputs, formats, out, resume, group)
        group.gather(None)          # nobody leaves before the output is whole
    return tally


def _decode(transcriber: Transcriber, inputs: Sequence[str], formats: Sequence[str], out: Path | None, resume: bool,
            group: Processes) -> Tally:
    """`decode`, as one of a group of processes."""
    model, settings, tally, started = transcriber.model, transcriber.settings, Tally(), time.monotonic()
    if "-" in inputs and group.world > 1:
        raise AsrError("-: standard input goes to one process: decode it without torchrun")
    steady = Steady(listings(inputs))
    line = LiveLine(formats[0]) if out is None and list(formats) in (["txt"], ["jsonl"]) and group.world == 1 else None
    more = {"png": png_format(Gazer(model, settings))} if "png" in formats else {}
    if line is not None:
        more[formats[0]] = line.format
    opened = list(sources([name for name in inputs if name != "-"], transcriber.features))
    check_ids(opened)
    watch = Watch(None if "-" in inputs else seconds_of(opened) if sys.stderr.isatty() else None)
    beside = keepable(out)
    record = None
    for turn in range(min(2, group.world)):         # the main process begins the record, then the others open it
        if beside is not None and turn == (not group.main):
            record = _record(model, inputs, settings, opened, formats, beside, resume or not group.main)
        group.gather(None)
    if record is not None and record.up_to_date:
        if group.main:
            print(f"{out}: is whole, {len(record.marks)} utterance(s) were done before: there is nothing to do",
                  file=sys.stderr)
        return Tally(poor=record.poor)

    def live(id: str, phones: Sequence[TimedPhone], seconds: float) -> None:
        watch.show(seconds)
        if line is not None:
            line(id, phones)

    def hypotheses() -> Iterator[Hypothesis]:
        known = record.known if record else {}
        if "-" in inputs:
            yield from transcriber.long(Utterance("stdin", Path("-")), tally, sys.stdin.buffer, live)
        if group.world > 1:
            yield from decode_shares(transcriber, opened, tally, group, known, record.add if record else lambda _: None)
        else:
            for source in opened:
                for hypothesis in transcriber.run(source, tally, live, known):
                    watch.add(float(hypothesis.extra["duration"]))
                    if record is not None and hypothesis.id not in known:
                        record.add(hypothesis)
                    yield hypothesis
        steady.check()

    try:
        with record or contextlib.nullcontext():
            if not group.main:
                list(hypotheses())          # of none: this process has had its share, and the main one writes
                return tally
            write_hypotheses(hypotheses(), list(formats), out, more)
            if record is not None:
                record.poor = tally.poor
                record.whole = not tally.failures and "-" not in inputs     # a stream may be another the next time
    finally:
        watch.close()
        transcriber.bandwidth.close()
    taken = time.monotonic() - started
    if tally.utterances:
        print(f"{tally.utterances} utterance(s), {tally.seconds:.1f} s of speech in {taken:.1f} s "
              f"({taken / max(tally.seconds, 1e-9):.4f} x real time)", file=sys.stderr)
    _tell(tally, opened, record, beside)
    return tally


def _record(model: Model, inputs: Sequence[str], settings: config.Decode, opened: Sequence[FeatureSource],
            formats: Sequence[str], out: Path, resume: bool) -> Record:
    marks = {utterance.id: mark(utterance, getattr(source, "fingerprint", ""))
             for source in opened for utterance in source.utterances}
    key = [model.header.sha256, settings.model_dump(), model.config.features.channel, list(inputs)]
    return Record(out, key, marks, formats, resume=resume)


def _tell(tally: Tally, opened: Sequence[FeatureSource], record: Record | None, out: Path | None) -> None:
    """Say what was known already and what failed; beside `out`, a list of all that failed is left."""
    if record is not None and record.known:
        print(f"{len(record.known)} utterance(s) were done before", file=sys.stderr)
    audio = {utterance.id: utterance.audio for source in opened for utterance in source.utterances}
    listed = write_failures(out, tally.failures, audio) if out is not None else None
    shown = tally.failures if listed is None else tally.failures[:NAMED]
    for id, reason in shown:
        name = printable(id)
        named = reason.startswith(f"{name}:") or repr(id) in reason
        print(f"asr: {reason}" if named else f"asr: {name}: {reason}", file=sys.stderr)
    if len(shown) < len(tally.failures):
        print(f"asr: and {len(tally.failures) - len(shown)} more, all {len(tally.failures)} with reasons in {listed}",
              file=sys.stderr)
