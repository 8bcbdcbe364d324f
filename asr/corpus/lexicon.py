"""Pronunciation lexicons in the CMU dictionary's format: from words to phones.

A line is `WORD  PHONE PHONE …`; a second pronunciation is `WORD(2)`; `;;;` or `#` begins a comment. MFA's
probabilities between word and phones are passed over. Words are compared without regard to case.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.corpus.inventories import strip_stress
from asr.corpus.records import Utterance, manifest_row
from asr.corpus.words import word_extra
from asr.errors import AsrError
from asr.files import writing

Lexicon = Mapping[str, tuple[str, ...]]     # word in lower case -> phones of its first pronunciation
VARIANT = re.compile(r"\(\d+\)$")
NUMBER = re.compile(r"\d*\.\d+|[01]")
NOT_IN_WORDS = re.compile(r"[^\w\s'’-]|_")


def read_lexicon(path: Path, stress: bool = False) -> Lexicon:
    """The first pronunciation of every word; stress digits are dropped unless asked for.

    Raises:
        AsrError: the file cannot be read, a word has no phones, or there is no word.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_lines(path), start=1):
        if line.startswith((";;;", "#")) or not line.strip():
            continue
        fields = re.sub(r"\s#.*$", "", line).split()
        if not fields:
            continue
        word, *phones = fields
        while phones and NUMBER.fullmatch(phones[0]):
            phones.pop(0)
        if not phones:
            raise AsrError(f"{path}:{number}: the word {word!r} has no phones: expected 'WORD  PHONE PHONE …'")
        lexicon.setdefault(VARIANT.sub("", word).lower(), tuple(phones if stress else map(strip_stress, phones)))
    if not lexicon:
        raise AsrError(f"{path}: holds no word")
    return lexicon


def words_of(sentence: str) -> list[str]:
    """The words of a sentence, lower case, without punctuation; apostrophes inside a word stay."""
    text = NOT_IN_WORDS.sub(" ", sentence.lower().replace("’", "'"))
    return [word for word in (part.strip("-") for part in text.split()) if word.strip("'")]


def pronounce(words: Iterable[str], lexicon: Lexicon) -> tuple[tuple[str, ...], list[str]]:
    """Phones of the words, and the words that the lexicon does not have.

    Words with hyphens or with apostrophes around them are looked up as they are, then without.
    """
    phones: list[str] = []
    unknown = []
    for word in words:
        forms = [word, word.strip("'"), word.replace("-", "")]
        found = next((lexicon[form] for form in forms if form in lexicon), None)
        if found is None and "-" in word:
            parts = [lexicon.get(part) for part in word.split("-")]
            if all(parts):
                found = tuple(phone for part in parts for phone in part or ())
        if found is None:
            unknown.append(word)
        else:
            phones += found
    return tuple(phones), unknown


def words_row(words: Sequence[str], lexicon: Lexicon) -> dict[str, Any]:
    """The row keys `words` and `word_phones` of a manifest, for words that are pronounced by a lexicon."""
    return word_extra(words, [len(pronounce([word], lexicon)[0]) for word in words])


def write_unknown(path: Path, unknown: Counter[str]) -> None:
    """Unknown words and how often each was met, most frequent first, tab-separated."""
    with writing(path) as file:
        for word, count in sorted(unknown.items(), key=lambda item: (-item[1], item[0])):
            file.write(f"{word}\t{count}\n")


def _lines(path: Path) -> list[str]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return data.decode("latin-1").splitlines()      # the dictionary's older releases


def pronounce_all(utterances: Iterable[Utterance], lexicon: Lexicon, where: str) -> list[Utterance]:
    """Utterances whose transcript is words, with the words' phones instead.

    The words go to `words`, how many phones each has to `word_phones`, times that the transcript had to `word_times`.

    Raises:
        AsrError: naming the words, for words that the lexicon does not have.
    """
    result, unknown = [], Counter[str]()
    for utterance in utterances:
        if utterance.phones is None:
            result.append(utterance)
            continue
        words = words_of(" ".join(utterance.phones))
        phones, missing = pronounce(words, lexicon)
        unknown.update(missing)
        extra = {key: value for key, value in utterance.extra.items() if key not in ("phone_times", "word_times")}
        times = utterance.extra.get("phone_times")
        if times is not None and all(len(words_of(label)) == 1 for label in utterance.phones):
            extra["word_times"] = times
        result.append(replace(utterance, phones=phones, extra=extra | words_row(words, lexicon)))
    if unknown:
        raise AsrError(f"{where}: has no pronunciation of {len(unknown):,} words: "
                       f"{' '.join(word for word, _ in unknown.most_common(10))}{' …' if len(unknown) > 10 else ''}: "
                       "add them to the lexicon")
    return result


def manifest_lines(utterances: Iterable[Utterance], lexicon: Path | None = None) -> Iterator[str]:
    """Lines of a manifest with absolute paths; with a lexicon, the transcripts are words and become phones."""
    if lexicon is not None:
        utterances = pronounce_all(utterances, read_lexicon(lexicon), str(lexicon))
    for utterance in utterances:
        row = manifest_row(replace(utterance, audio=utterance.audio.resolve()))
        yield json.dumps(row, ensure_ascii=False)
