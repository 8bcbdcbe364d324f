"""Words of an utterance and where they lie, as far as its manifest tells.

`words` holds them between spaces. Where they lie is told in one of two ways: `word_times` has `[start, end]` in seconds
for each; `word_phones` tells how many of the utterance's phones each is made of, as a lexicon does, so that whoever
times the phones has timed the words. Without either, words are known but not when they were said: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from asr.corpus.records import TimedPhone
from asr.errors import AsrError

TimedWord = tuple[float, float, str]        # start and end in seconds


def word_extra(words: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
    """The row keys of a manifest for words, each of so many phones."""
    return {"words": " ".join(words), "word_phones": list(counts)}


def timed_words(extra: Mapping[str, Any], phones: Sequence[TimedPhone], where: str) -> list[TimedWord]:
    """The words with their times: those of `word_times`, else the phones' by `word_phones`, else none.

    Args:
        extra: what a manifest's row holds beside the usual.
        phones: those of the utterance, timed.
        where: names the utterance in errors.

    Raises:
        AsrError: `words`, `word_times` and `word_phones` do not fit each other, or not the phones.
    """
    key = next((key for key in ("word_times", "word_phones") if extra.get(key) is not None), None)
    if key is None:
        return []
    words, each = extra.get("words"), extra[key]
    if not isinstance(words, str) or not isinstance(each, list | tuple) or len(words.split()) != len(each):
        raise AsrError(f"{where}: its 'words' and {key!r} do not fit: give the words as text between spaces, and "
                       f"{key!r} a value for each")
    try:
        times = [(float(start), float(end)) for start, end in each] if key == "word_times" else _by_phones(each, phones)
    except (TypeError, ValueError):
        raise AsrError(f"{where}: " + (
            "'word_times' are not [[start, end], …]: a pair of seconds for each word" if key == "word_times" else
            f"'word_phones' are no numbers of phones that make up its {len(phones)}")) from None
    return [(start, end, word) for (start, end), word in zip(times, words.split(), strict=True)]


def _by_phones(counts: Sequence[Any], phones: Sequence[TimedPhone]) -> list[tuple[float, float]]:
    """From the start of each word's first phone to the end of its last."""
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != len(phones):
        raise ValueError
    times, first = [], 0
    for count in counts:
        start = phones[first].start if first < len(phones) else phones[-1].end if phones else 0.0
        times.append((start, phones[first + count - 1].end if count else start))
        first += count
    return times
