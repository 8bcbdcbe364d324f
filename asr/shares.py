"""One decoding by several processes under `torchrun`: each searches its share, the main one writes the whole.

What is searched together does not depend on the number of processes, so that neither do the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

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
    parts: list[tuple[int, list[Hypothesis], Tally]] = []
    stretches = ((source, *stretch) for source in opened for stretch in transcriber.stretches(source, known))
    for number, (source, rows, long) in enumerate(stretches):
        if number % group.world == group.rank:
            part, found = Tally(), []
            for hypothesis in transcriber.stretch(source, rows, long, part, known=known):
                found.append(hypothesis)
                if hypothesis.id not in known:
                    keep(hypothesis)
            parts.append((number, found, part))
    for _, found, part in sorted(chain.from_iterable(group.gather(parts)), key=lambda part: part[0]):
        tally.add(part)
        if group.main:
            yield from found
