"""Inventories and maps: there and back again, times along, nothing unknown in silence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from asr.cli import main
from asr.config import Config
from asr.corpus.inventories import (
    INVENTORIES,
    MAPS,
    TABLES,
    inventory,
    ipa_to_arpabet,
    ipa_to_xsampa,
    normalise_ipa,
    phone_map,
    xsampa_to_ipa,
)
from asr.corpus.records import Utterance, read_manifest, write_manifest
from asr.errors import AsrError


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


def manifest(path: Path, *texts: str) -> Path:
    write_manifest(path, [Utterance(f"u{n}", path.parent / f"{n}.wav", phones=tuple(text.split()))
                          for n, text in enumerate(texts)])
    return path


def test_inventories_have_the_sizes_they_are_named_for() -> None:
    sizes = {name: len(inventory(name)) for name in INVENTORIES}
    assert (sizes["timit61"], sizes["timit48"], sizes["timit39"]) == (61, 48, 39)
    assert (sizes["arpabet"], sizes["arpabet-stress"]) == (39, 24 + 3 * 15)
    for name in INVENTORIES:
        assert len(set(inventory(name))) == sizes[name]


def test_every_table_names_its_source_in_the_first_line() -> None:
    for path in TABLES.glob("*.tsv"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first.startswith("# ")
        assert "Source" in first, path


def test_every_map_knows_every_phone_of_the_inventory_that_it_starts_from() -> None:
    for source, target in MAPS:
        if source in ("ipa", "xsampa"):
            continue        # letters and marks of the world's languages; English is a part of them
        mapping = phone_map(source, target)
        for phone in inventory(source):
            assert mapping.phone(phone) is not None, (source, target, phone)


def test_folding_in_one_step_is_folding_in_two() -> None:
    once = phone_map("timit61", "timit39")
    twice = phone_map("timit61", "timit48"), phone_map("timit48", "timit39")
    for phone in inventory("timit61"):
        assert once([phone]) == twice[1](twice[0]([phone])), phone
    assert once(["q", "h#", "ix", "dcl"]) == ("sil", "ih", "sil")


def test_arpabet_comes_back_from_ipa_and_x_sampa() -> None:
    for target in ("ipa", "xsampa"):
        there, back = phone_map("arpabet", target), phone_map(target, "arpabet")
        for phone in inventory("arpabet"):
            assert back(there([phone])) == (phone,)
    assert phone_map("arpabet-stress", "ipa")("AH0 AH1 ER0 ER1 K".split()) == ("ə", "ʌ", "ɚ", "ɝ", "k")     # noqa: SIM905
    assert phone_map("arpabet-stress", "arpabet")("AH0 ZH OW2".split()) == ("AH", "ZH", "OW")                # noqa: SIM905


def test_every_ipa_symbol_comes_back_from_x_sampa() -> None:
    for symbol in inventory("ipa"):
        code = ipa_to_xsampa(symbol)
        assert code is not None
        assert code.isascii()
        assert xsampa_to_ipa(code) == normalise_ipa(symbol)


@pytest.mark.parametrize(("ipa", "xsampa"), [
    ("t͡ʃ", "t_S"), ("pʰ", "p_h"), ("ɛ̃ː", "E~:"), ("k͡p", "k_p"), ("ç", "C"), ("ɻ̥", "r\\`_0"), ("q'ʷ", "q_>_w"),
    ("g", "g"), ("t͡s", "t_s"), ("ɜ", "3"), ("ɝ", "3`")])
def test_x_sampa_of_compounds(ipa: str, xsampa: str) -> None:
    assert ipa_to_xsampa(ipa) == xsampa
    assert xsampa_to_ipa(xsampa) == normalise_ipa(ipa)


@pytest.mark.parametrize("phone", ["h͡w", "ɡ͡b!", "", "汉"])
def test_what_x_sampa_cannot_say_is_refused(phone: str) -> None:
    assert ipa_to_xsampa(phone) is None     # h͡w would be h_w, which is hʷ


def test_one_symbol_has_one_spelling() -> None:
    assert normalise_ipa("a\N{COMBINING TILDE}") == normalise_ipa("ã") == "ã"
    assert normalise_ipa("g'") == "ɡʼ"
    assert normalise_ipa("ʧ") == "t͡ʃ"
    assert normalise_ipa(normalise_ipa("q'ʷː")) == normalise_ipa("q'ʷː")


@pytest.mark.parametrize(("ipa", "arpabet"), [
    ("t͡ʃ", "CH"), ("tʃ", "CH"), ("ɚ", "ER"), ("iː", "IY"), ("ˈɑː", "AA"), ("oʊ", "OW"), ("ɑːɹ", "AA R"), ("əl", "AH L"),
    ("ʔ", ""), ("aɪɚ", "AY ER"), ("ɾ", "T"), ("ᵻ", "IH"), ("sː", "S")])
def test_english_ipa_in_arpabet(ipa: str, arpabet: str) -> None:
    assert ipa_to_arpabet(ipa) == tuple(arpabet.split())
    assert ipa_to_arpabet("ʘ") is None


def test_times_follow_their_phones() -> None:
    row = Utterance("u", Path("a.wav"), phones=("ɑːɹ", "ʔ", "k"),
                    extra={"phone_times": [[0.0, 0.2], [0.2, 0.3], [0.3, 0.5]], "words": "arc"})
    mapped = phone_map("ipa", "arpabet").utterance(row)
    assert mapped.phones == ("AA", "R", "K")
    assert mapped.extra == {"phone_times": [[0.0, 0.1], [0.1, 0.2], [0.3, 0.5]], "words": "arc"}
    assert row.extra["phone_times"] == [[0.0, 0.2], [0.2, 0.3], [0.3, 0.5]]
    spelt = Utterance("u", Path("a.wav"), phones=row.phones, extra={"words": "ar uh c", "word_phones": [1, 1, 1]})
    assert phone_map("ipa", "arpabet").utterance(spelt).extra == {"words": "ar uh c", "word_phones": [2, 0, 1]}
    for wrong in ([1, 1], [3, -1, 1], ["x"], 3):
        with pytest.raises(AsrError, match="u: its word_phones are no numbers of phones that make up its 3"):
            phone_map("ipa", "arpabet").utterance(replace(spelt, extra={"word_phones": wrong}))
    untold = Utterance("u", Path("a.wav"))
    assert phone_map("ipa", "arpabet").utterance(untold) is untold
    with pytest.raises(AsrError, match="u: 1 phone_times for 3 phones"):
        phone_map("ipa", "arpabet").utterance(Utterance("u", Path("a.wav"), phones=("a", "b", "d"),
                                                        extra={"phone_times": [[0, 1]]}))


def test_unknown_names_and_phones_are_errors() -> None:
    with pytest.raises(AsrError, match="no phone inventory is called 'kirshenbaum': there are timit61 timit48"):
        phone_map("kirshenbaum", "ipa")
    with pytest.raises(AsrError, match="no phone inventory is called 'klingon'"):
        inventory("klingon")
    with pytest.raises(AsrError, match="no table leads from timit39 to ipa: from timit39 one gets to nothing"):
        phone_map("timit39", "ipa")
    with pytest.raises(AsrError, match="here: not in timit61, or without a form in timit39: XX YY"):
        phone_map("timit61", "timit39")(["iy", "YY", "XX", "YY"], "here")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "phones", "list")
    assert code == 0
    assert out.splitlines()[:5] == ["timit61          61  → timit48 timit39", "timit48          48  → timit39",
                                    "timit39          39", "arpabet          39  → ipa xsampa",
                                    "arpabet-stress   69  → arpabet ipa xsampa"]
    assert run(capsys, "phones", "list", "arpabet")[1].splitlines()[:3] == ["AA", "AE", "AH"]
    assert run(capsys, "phones", "list", "latin")[0] == 1


def test_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = manifest(tmp_path / "train.jsonl", "a b a", "ŋ a"), manifest(tmp_path / "test.jsonl", "t͡ʃ b")
    assert run(capsys, "phones", "count", train, test) == (0, "phone  train  test\n"
                                                              "a          3     0\n"
                                                              "b          1     1\n"
                                                              "ŋ          1     0\n"
                                                              "t͡ʃ         0     1\n"
                                                              "total      5     2\n"
                                                              "kinds      3     2\n", "")


def test_map_writes_a_manifest_that_reads_from_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "phones", "map", "timit61", "timit39", manifest(tmp_path / "m.jsonl", "h# q ix h#"))
    assert code == 0
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mapped.jsonl").write_text(out)
    (row,) = read_manifest(tmp_path / "sub" / "mapped.jsonl")
    assert (row.phones, row.audio) == (("sil", "ih", "sil"), tmp_path / "0.wav")
    code, out, err = run(capsys, "phones", "map", "timit61", "timit39", manifest(tmp_path / "n.jsonl", "iy", "ZZ"))
    assert (code, out, err) == (1, "", "asr: u1: not in timit61, or without a form in timit39: ZZ\n")


def test_map_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "phones", "map", "timit61", "timit39")[1].splitlines()
    assert len(lines) == 61
    assert "q\t-" in lines
    assert "ax-h\tah" in lines


def model_header(path: Path, phones: list[str]) -> Path:
    """A file with a model's header and no weights."""
    save_file({"none": np.zeros(1, np.float32)}, path, {
        "format": "asr-1", "phones": json.dumps(phones), "provenance": json.dumps({"seed": 1}),
        "config": json.dumps(Config().model_dump()), "sha256": hashlib.sha256(b"").hexdigest()})
    return path


def test_check_against_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_header(tmp_path / "m.asr", ["AA", "B", "IH"])
    rows = manifest(tmp_path / "m.jsonl", "AA B AA1", "AA1 X")
    assert run(capsys, "phones", "check", rows, "--model", model) == (
        1, f"{rows}: 5 phones of 4 kinds; {model} knows 3 kinds\nknown: 2 phones (40.0 %)\n"
           "unknown: AA1 (2 times; nearest known: AA)\nunknown: X (1 times)\nnot in the manifest: IH\n", "")
    good = manifest(tmp_path / "g.jsonl", "AA B IH")
    assert run(capsys, "phones", "check", good, "--model", model)[0] == 0
    assert run(capsys, "phones", "check", good, "--model", tmp_path / "none.asr")[0] == 1
