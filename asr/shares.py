"""One decoding by several processes under `torchrun`: each searches its share, the main one writes the whole.

What is searched together does not depend on the number of processes, so that neither do the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count, islice

from asr.corpus.records import Hypothesis
from asr.frontend.store import FeatureSource
from asr.training.distributed import Processes
from asr.transcriber import Tally, Transcriber


def decode_shares(transcriber: Transcriber, opened: Sequence[FeatureSource], tally: Tally, group: Processes,
                  known: Mapping[str, Hypothesis], keep: Callable[[Hypothesis], None]) -> Iterator[Hypothesis]:
    """All hypotheses, in order, on the main process, and none on the others; the tally is that of all.

    Args:
        known: found earlier, by id, and not sought again.
        keep: called with each hypothesis that this process finds, as soon as it has.
    """
    stretches = (stretch for source in opened for stretch in transcriber.stretches(source, known))
    own = islice(stretches, group.rank, None, group.world)
    parts: list[tuple[int, list[Hypothesis], Tally]] = []
    for number, part in zip(count(group.rank, group.world), transcriber.parts(own, known), strict=False):
        for hypothesis in part.hypotheses:
            if hypothesis.id not in known:
                keep(hypothesis)
        parts.append((number, part.hypotheses, part.tally))
    for _, found, done in sorted(chain.from_iterable(group.gather(parts)), key=lambda part: part[0]):
        tally.add(done)
        if group.main:
            yield from found
