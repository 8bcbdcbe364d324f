"""Sentences composed from a grammar and a lexicon, or taken from a file."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from asr.errors import AsrError

HERE = Path(__file__).parent
SPLITS = ("train", "dev", "test")
SLOT = re.compile(r"<(\w+)(?:\+(s|ed))?>")
TRIES = 100     # sentences in a row that were composed before: then the grammar is taken to be exhausted


class Grammar:
    """Expands the symbol `sentence` by chance until only words are left.

    Args:
        grammar: file with one expansion a line, `symbol [weight]: words and <symbols>`.
        lexicon: file with the words of each `[section]`; None where the grammar needs no words.
    """

    def __init__(self, grammar: Path, lexicon: Path | None = None) -> None:
        self._rules = _read_rules(grammar)
        self._lexicon = _read_lexicon(lexicon) if lexicon else {}
        used = {slot for expansions in self._rules.values() for text in expansions for slot, _ in SLOT.findall(text)}
        for symbol in sorted(used):
            if symbol not in self._rules and symbol not in self._lexicon and symbol not in NUMBERS:
                raise AsrError(f"{grammar}: <{symbol}> is no rule, no section of the lexicon and no kind of number")

    def compose(self, draw: random.Random) -> str:
        """One sentence, its first letter a capital."""
        text = self._expand("sentence", "", draw)
        text = re.sub(r"\b([Aa]) (?=(?!us[eu])[aeiou]|honest)", r"\1n ", text)
        return text[0].upper() + text[1:]

    def _expand(self, symbol: str, form: str, draw: random.Random) -> str:
        if symbol in self._rules:
            text = draw.choice(self._rules[symbol])
            return SLOT.sub(lambda slot: self._expand(slot[1], slot[2] or form, draw), text)
        if symbol in NUMBERS:
            low, high = NUMBERS[symbol]
            # as many digits as the range allows are equally likely: small numbers are said oftener than large ones
            return str(draw.randint(low, min(high, 10 ** draw.randint(len(str(low)), len(str(high))))))
        return inflect(draw.choice(self._lexicon[symbol]), symbol, form)


NUMBERS: Mapping[str, tuple[int, int]] = {
    "digit": (0, 9), "small": (2, 99), "day": (1, 31), "year": (1801, 2029), "number": (2, 9999)}


def inflect(entry: str, section: str, form: str) -> str:
    """The plural or third person (`s`) or the past (`ed`) of a lexicon entry, which may give an irregular one."""
    word, _, irregular = entry.partition("/")
    word = word.replace("_", " ")
    verb = section in ("transitive", "intransitive")
    if not form or (verb and form == "ed" and irregular) or (not verb and form == "s" and irregular):
        return irregular if form else word
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + ("ies" if form == "s" else "ied")
    if form == "ed":
        return word + ("d" if word.endswith("e") else "ed")
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


def deal(voices: Mapping[str, list[str]], counts: Mapping[str, int], language: str, file: Path | None,
         seed: int) -> dict[str, list[str]]:
    """Sentences for every voice; no sentence of one split occurs in another.

    Args:
        voices: the voices of each split.
        counts: how many sentences each voice of a split may need.
        file: one sentence a line; None: composed for English, numbers for any other language. Composed sentences go
            to one voice only; those of a file may be read by every voice of their split.

    Raises:
        AsrError: the file cannot be read or is too short, or the grammar cannot make so many sentences.
    """
    if file is None:
        return _deal_composed(voices, counts, language, seed)
    pools = split_lines(file, seed)
    return {voice: random.Random(f"{seed} {voice} file").sample(pools[split], min(len(pools[split]), counts[split]))
            for split in SPLITS for voice in voices[split]}


def _deal_composed(voices: Mapping[str, list[str]], counts: Mapping[str, int], language: str,
                   seed: int) -> dict[str, list[str]]:
    english = language.split("-")[0] == "en"
    grammar = Grammar(HERE / "grammar.txt", HERE / "lexicon.txt") if english else Grammar(HERE / "numbers.txt")
    source = _new_sentences(grammar, random.Random(f"{seed} sentences"))
    dealt: dict[str, list[str]] = {}
    for split in ("test", "dev", "train"):      # test first: it stays the same whatever the amount of training speech
        for voice in voices[split]:
            dealt[voice] = [next(source) for _ in range(counts[split])]
    return dealt


def _new_sentences(grammar: Grammar, draw: random.Random) -> Iterator[str]:
    """Sentences without end, none twice."""
    seen: set[str] = set()
    while True:
        for _ in range(TRIES):
            sentence = grammar.compose(draw)
            if (key := plain(sentence)) not in seen:
                break
        else:
            raise AsrError(f"the grammar has no more new sentences after {len(seen)}: ask for fewer hours")
        seen.add(key)
        yield sentence


def plain(sentence: str) -> str:
    """The words alone, in lower case: what makes two sentences the same."""
    return " ".join(re.findall(r"\w+", sentence.casefold()))


def split_lines(file: Path, seed: int) -> dict[str, list[str]]:
    """The sentences of a file, each once, shuffled: 80 % for training, 10 % each for dev and test."""
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise AsrError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AsrError(f"{file}: not UTF-8 text: {error.reason}") from error
    sentences = list({plain(line): line.strip() for line in lines if plain(line)}.values())
    if len(sentences) < 10:
        raise AsrError(f"{file}: holds {len(sentences)} different sentences: at least 10 are needed, better thousands")
    random.Random(f"{seed} file").shuffle(sentences)
    tenth = len(sentences) // 10
    return {"test": sentences[:tenth], "dev": sentences[tenth:2 * tenth], "train": sentences[2 * tenth:]}


def _read_rules(path: Path) -> dict[str, list[str]]:
    rules: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            head, colon, text = line.partition(":")
            symbol, _, weight = head.strip().partition(" ")
            if not colon or not symbol or not (weight or "1").isdigit():
                raise AsrError(f"{path}:{number}: expected 'symbol weight: expansion'")
            rules.setdefault(symbol, []).extend([text.strip()] * int(weight or 1))
    return rules


def _read_lexicon(path: Path) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            words = sections.setdefault(line.strip("[] "), [])
        elif not line.startswith("#"):
            words += line.split()
    return {section: sorted(set(words)) for section, words in sections.items()}
