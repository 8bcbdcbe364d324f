"""What counts as an error: the fold, and what is dropped, merged or clamped, before phones are compared.

A protocol is a small YAML file in `protocols/`, or one of the user's own:

    about: TIMIT's 61 symbols folded to 39, q deleted
    table: timit-61-48-39.tsv       # beside the file; without one, phones stay as they are
    from: ["61", "48"]              # columns whose symbols may occur, besides the target's
    to: "39"
    drop: [sil]                     # left out on both sides, after folding
    merge: [sil]                    # runs of it count as one
    clamp: false                    # true: an utterance has at most as many errors as reference phones
    splits:                         # known sizes of standard sets, to notice one that is not whole
      - {name: core test, utterances: 192, speakers: 24, phones: 7215}
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.corpus.phones import composed, read_fold
from asr.errors import AsrError, UsageError

FOLDER = Path(__file__).with_name("protocols")
KEYS = {"about", "table", "from", "to", "drop", "merge", "clamp", "splits"}


@dataclass(frozen=True, slots=True)
class Split:
    """The size of a standard set under a protocol."""

    name: str
    utterances: int
    speakers: int
    phones: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named way to score; call it on phones to get those that are compared."""

    name: str
    about: str = ""
    fold: Mapping[str, str | None] | None = None    # None: phones stay as they are; a value of None: dropped
    drop: frozenset[str] = frozenset()
    merge: frozenset[str] = frozenset()
    clamp: bool = False
    splits: tuple[Split, ...] = ()

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of a hash of all that moves the number: tables that differ, differ here."""
        fold = None if self.fold is None else sorted(self.fold.items())
        content = json.dumps([fold, sorted(self.drop), sorted(self.merge), self.clamp])
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def __call__(self, phones: Sequence[str], where: str = "") -> list[str]:
        """The phones that are compared.

        Raises:
            AsrError: for a phone that is not in the table, naming it and `where`.
        """
        if self.fold is None and not self.drop and not self.merge:
            return list(phones)
        return [phone for phone, _, _ in self.spans(phones, where)]

    def spans(self, phones: Sequence[str], where: str = "") -> list[tuple[str, int, int]]:
        """The phones that are compared, each with the first and the last position it was made from."""
        spans: list[tuple[str, int, int]] = []
        for position, phone in enumerate(phones):
            folded = phone if self.fold is None else self._fold(self.fold, phone, where)
            if folded is None or folded in self.drop:
                continue
            if folded in self.merge and spans and spans[-1][0] == folded:
                spans[-1] = (folded, spans[-1][1], position)
            else:
                spans.append((folded, position, position))
        return spans

    def _fold(self, fold: Mapping[str, str | None], phone: str, where: str) -> str | None:
        try:
            return fold[phone]
        except KeyError:
            near = difflib.get_close_matches(phone.lower(), fold, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "--protocol plain takes phones as they are"
            place = f"{where}: " if where else ""
            raise AsrError(f"{place}phone {phone!r} is not in the table of protocol {self.name}: {hint}") from None


PLAIN = Protocol("plain", "phones as they are")


def protocol_names() -> list[str]:
    """The protocols that come with the package, `plain` first."""
    return sorted((path.stem for path in FOLDER.glob("*.yaml")), key=lambda name: (name != "plain", name))


def load_protocol(name: str) -> Protocol:
    """A protocol by name, or from a YAML file of the user's own.

    Raises:
        AsrError: no such protocol, or its file is not one.
    """
    if name in protocol_names():
        path = FOLDER / f"{name}.yaml"
    elif name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        raise UsageError(f"{name}: no such protocol: choose {', '.join(protocol_names())}, or give a .yaml file")
    return _read(path)


def _read(path: Path) -> Protocol:
    import yaml

    from asr.plain import load_yaml
    try:
        tree = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise AsrError(f"{path}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(tree, dict):
        raise AsrError(f"{path}: no protocol: expected keys such as 'table:' and 'drop:', not {tree!r:.40}")
    if unknown := sorted(map(str, tree.keys() - KEYS)):
        raise AsrError(f"{path}: no protocol: unknown key {unknown[0]!r}: the known ones are {', '.join(sorted(KEYS))}")
    try:
        splits = tuple(Split(**row) for row in tree.get("splits", ()))
        return Protocol(path.stem, str(tree.get("about", "")), _fold_of(tree, path), _phones(tree, "drop"),
                        _phones(tree, "merge"), _flag(tree, "clamp"), splits)
    except KeyError as error:
        raise AsrError(f"{path}: no protocol: a 'table' needs {error} as well") from None
    except TypeError as error:
        raise AsrError(f"{path}: no protocol: {error}") from None


def _fold_of(tree: Mapping[str, Any], path: Path) -> dict[str, str | None] | None:
    """From every source column and from the target's own symbols to the target's."""
    if "table" not in tree:
        return None
    fold: dict[str, str | None] = {}
    for column in (*map(str, tree["from"]), str(tree["to"])):
        for phone, target in read_fold(path.parent / tree["table"], column, str(tree["to"])).items():
            if phone != "-" and fold.setdefault(phone, target) != target:
                raise AsrError(f"{path}: the table sends {phone!r} to {fold[phone] or '-'} and, by column {column}, "
                               f"to {target or '-'}: phones folded twice would move again")
    return fold


def _phones(tree: Mapping[str, Any], key: str) -> frozenset[str]:
    phones: Iterable[Any] = tree.get(key, ())
    if isinstance(phones, str) or not all(isinstance(phone, str) for phone in phones):
        raise TypeError(f"'{key}' is no list of phones, like [sil]")
    return frozenset(map(composed, phones))


def _flag(tree: Mapping[str, Any], key: str) -> bool:
    if not isinstance(tree.get(key, False), bool):
        raise TypeError(f"'{key}' is neither true nor false")
    return bool(tree.get(key, False))
