"""`asr phones`: inventories, counts, maps, and whether a model knows what a manifest says."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.corpus.inventories import INVENTORIES, MAPS, inventory, phone_map
from asr.corpus.lexicon import manifest_lines
from asr.corpus.records import read_manifest
from asr.corpus.table import aligned


def list_inventories() -> str:
    """The named inventories, how many phones each has, and where maps lead from it."""
    width = max(map(len, INVENTORIES))
    lines = []
    for name in INVENTORIES:
        targets = " ".join(target for source, target in MAPS if source == name)
        lines.append(f"{name:<{width}}  {len(inventory(name)):>3}  {f'→ {targets}' if targets else ''}".rstrip())
    return "\n".join(lines)


def list_phones(name: str) -> str:
    """The phones of an inventory, one a line.

    Raises:
        AsrError: there is no such inventory.
    """
    return "\n".join(inventory(name))


def count_phones(manifests: Sequence[Path]) -> str:
    """How often each phone occurs in each manifest: a column each, the most frequent of the first one on top.

    Raises:
        AsrError: a manifest cannot be read.
    """
    counts = [Counter(phone for utterance in read_manifest(path) for phone in utterance.phones or ())
              for path in manifests]
    phones = sorted(set().union(*counts), key=lambda phone: (*(-count[phone] for count in counts), phone))
    names = [path.name.removesuffix(".jsonl") for path in manifests]
    rows = [["phone", *names]]
    rows += [[phone, *(f"{count[phone]:,}" for count in counts)] for phone in phones]
    rows += [["total", *(f"{count.total():,}" for count in counts)]]
    rows += [["kinds", *(f"{len(count):,}" for count in counts)]]
    return aligned(rows)


def map_lines(source: str, target: str, manifest: Path | None) -> Iterator[str]:
    """Lines of the manifest in the other inventory; without a manifest, the map as `phone TAB phones`.

    Raises:
        AsrError: no such map, or a phone that it does not know.
    """
    mapping = phone_map(source, target)
    if manifest is None:
        for phone in inventory(source):
            news = mapping.phone(phone)
            if news is not None:
                yield f"{phone}\t{' '.join(news) or '-'}"
        return
    yield from manifest_lines([mapping.utterance(utterance) for utterance in read_manifest(manifest)])


def check_phones(manifest: Path, model: Path) -> tuple[str, bool]:
    """What of a manifest's phones a model knows, in words, and whether it knows all.

    Raises:
        AsrError: the manifest or the model cannot be read.
    """
    from asr.model.file import load_header
    known = load_header(model).phones.phones
    counts = Counter(phone for utterance in read_manifest(manifest) for phone in utterance.phones or ())
    strange = sorted(set(counts) - set(known), key=lambda phone: (-counts[phone], phone))
    covered = sum(count for phone, count in counts.items() if phone in set(known))
    total = counts.total()
    lines = [f"{manifest}: {total:,} phones of {len(counts)} kinds; {model} knows {len(known)} kinds",
             f"known: {covered:,} phones ({100 * covered / total if total else 100:.1f} %)"]
    for phone in strange:
        near = difflib.get_close_matches(phone, known, n=1)
        lines.append(f"unknown: {phone} ({counts[phone]:,} times{f'; nearest known: {near[0]}' if near else ''})")
    unheard = [phone for phone in known if phone not in counts]
    if unheard:
        lines.append(f"not in the manifest: {' '.join(unheard)}")
    return "\n".join(lines), not strange
