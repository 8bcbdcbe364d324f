"""`asr align`: when the phones of known transcripts were said, in recordings of any length.

Short utterances are aligned whole, in batches. Recordings longer than `decode.long.after` are encoded in blocks and
followed along: beside the transcript itself, memory holds the blocks at hand, a minute of evidence and a band of some
250 phones around the place that has been reached. What fails is named at the end, and never keeps the rest from being
done.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from asr import config
from asr.corpus.records import Hypothesis, Utterance
from asr.corpus.words import timed_words
from asr.decode import NAMED
from asr.errors import AsrError, printable
from asr.formats.writers import write_hypotheses
from asr.inputs import check_ids, sources
from asr.model.attention import Memory
from asr.model.file import Model
from asr.search.follow import Timekeeper
from asr.search.gaze import attention_weights
from asr.search.times import Placed, method_of, monotone_foci, place, tiled
from asr.training.distributed import pick_device
from asr.transcriber import Encoded, Heard, Live, Tally, Transcriber, with_origin

EARLY = 0.7         # encoder frames by which foci run ahead: on espeak borders midway come 29 ms early at 40 ms a frame
LEAST = 1e-10       # confidence below which its logarithm counts no further


class Aligner(Transcriber):
    """A model that is told what was said, and finds out when."""

    def __init__(self, model: Model, settings: config.Decode, device: torch.device) -> None:
        super().__init__(model, settings, device)
        self.method = method_of(model, settings.times)

    def batch(self, utterances: Sequence[Utterance], seconds: Sequence[float],
              batch: Encoded) -> Iterator[Hypothesis | AsrError]:
        """Utterances of so many seconds, encoded → a result each."""
        evidence = self.evidence
        rows = None if evidence is None else evidence.rows(batch.feats, batch.frames, batch.memory)
        for b, (utterance, length) in enumerate(zip(utterances, seconds, strict=True)):
            try:
                ids = self._ids(utterance)
                alone = torch.tensor([b], device=self.device)
                placed = self._by_attention(batch.memory.pick(alone), ids) if evidence is None or rows is None \
                    else place(rows[b], ids, evidence)
                yield self._hypothesis(utterance, placed, length)
            except AsrError as error:
                yield error

    def long(self, utterance: Utterance, tally: Tally, stream: BinaryIO | None = None,
             live: Live | None = None) -> Iterator[Hypothesis]:
        """One recording of any length, in bounded memory."""
        heard, long = Heard(), self.settings.long
        try:
            if self.evidence is None:
                raise AsrError(f"longer than {long.after:g} s, and there the attention gives no times: take a model "
                               "with a CTC branch, or cut the recording")
            keeper = Timekeeper(self.evidence, held=0)
            keeper.expect(self._ids(utterance))
            with self.blocks(utterance, heard, keeper, stream=stream) as blocks:
                for _ in blocks:
                    pass
            if heard.broken is not None:
                raise heard.broken
            hypothesis = self._hypothesis(utterance, keeper.finish(), heard.seconds)
        except AsrError as error:
            tally.failures.append((utterance.id, str(error)))
            return
        yield self._counted(with_origin(hypothesis, utterance, heard.seconds), heard.seconds, tally)

    def _ids(self, utterance: Utterance) -> list[int]:
        if utterance.phones is None:
            raise AsrError("has no phones: there is nothing to align")
        return self.model.phones.encode(utterance.phones, "its transcript")

    def _by_attention(self, memory: Memory, ids: Sequence[int]) -> Placed:
        """Borders midway between the frames on which the attention lies, phone by phone."""
        weights = attention_weights(self.network, memory, ids, self.settings)
        assert weights is not None
        if not ids:
            return Placed([], [])
        foci = monotone_foci(weights[:len(ids)])
        middles = [(focus + 0.5 + EARLY) * self.network.seconds for focus in foci]
        starts = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(middles))]
        return Placed(starts, [float(weights[u, focus]) for u, focus in enumerate(foci)])

    def _hypothesis(self, utterance: Utterance, placed: Placed, seconds: float) -> Hypothesis:
        phones = tiled(utterance.phones or (), placed.starts, placed.confidences, seconds)
        score = sum(math.log(max(LEAST, phone.confidence)) for phone in phones)
        words: dict[str, Any] = {key: value for key, value in utterance.extra.items() if key == "words"}
        if timed := timed_words(utterance.extra, phones, "its row"):
            words["word_times"] = [[round(start, 4), round(end, 4)] for start, end, _ in timed]
        return Hypothesis(utterance.id, phones, score, {"times": self.method}, words)

    def _counted(self, hypothesis: Hypothesis, seconds: float, tally: Tally) -> Hypothesis:
        tally.utterances += 1
        tally.seconds += seconds
        return hypothesis


def align(model: Model, manifests: Sequence[str], settings: config.Decode, *, formats: Sequence[str],
          out: Path | None, device: str = "auto") -> Tally:
    """Align all utterances of manifests into the formats named; gives the tally.

    Raises:
        AsrError: a manifest cannot be read, an id is used twice, or the model lacks what `settings.times` asks for.
    """
    aligner = Aligner(model, settings, pick_device(device))
    tally, started = Tally(), time.monotonic()
    opened = list(sources(manifests, aligner.features))
    check_ids(opened)
    write_hypotheses((hypothesis for source in opened
                      for hypothesis in aligner.run(source, tally)), list(formats), out)
    aligner.bandwidth.close()
    taken = time.monotonic() - started
    if tally.utterances:
        print(f"{tally.utterances} utterance(s), {tally.seconds:.1f} s of speech aligned by {aligner.method} in "
              f"{taken:.1f} s ({taken / max(tally.seconds, 1e-9):.4f} x real time)", file=sys.stderr)
    for id, reason in tally.failures[:NAMED]:
        name = printable(id)
        named = reason.startswith(f"{name}:") or repr(id) in reason
        print(f"asr: {reason}" if named else f"asr: {name}: {reason}", file=sys.stderr)
    if len(tally.failures) > NAMED:
        print(f"asr: and {len(tally.failures) - NAMED} more", file=sys.stderr)
    return tally
