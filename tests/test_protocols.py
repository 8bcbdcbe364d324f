"""Protocols: what they fold, drop, merge; that their tables are those of the paper; that a number carries its name."""

from pathlib import Path

import pytest
import yaml

from asr.errors import AsrError
from asr.scoring.protocol import FOLDER, PLAIN, Protocol, load_protocol, protocol_names
from asr.scoring.score import score

TIMIT = ["timit39", "timit39-merge-sil", "timit39-no-sil", "timit48", "timit61"]
FOLDS = """ao aa, ax ah, ax-h ah, axr er, el l, em m, en n, nx n, eng ng, hv hh, ix ih, ux uw, zh sh, bcl sil, dcl sil,
gcl sil, kcl sil, pcl sil, tcl sil, pau sil, epi sil, h# sil"""
split = str.split     # phones of a text


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_all_protocols_load_and_tell_what_they_are():
    assert protocol_names() == ["plain", *TIMIT]
    for name in protocol_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert protocol.about


@pytest.mark.parametrize(("name", "targets"), [("timit39", 39), ("timit48", 48), ("timit61", 61)])
def test_tables_have_the_sizes_of_their_names(name, targets):
    fold = load_protocol(name).fold
    of_61 = load_protocol("timit61").fold
    assert len(of_61) == 61
    assert len({fold[phone] for phone in of_61} - {None}) == targets


def test_61_symbols_fold_to_39_as_lee_and_hon_have_it():
    fold = load_protocol("timit39").fold
    moved = dict(pair.split() for pair in FOLDS.split(","))
    for phone in load_protocol("timit61").fold:
        assert fold[phone] == (None if phone == "q" else moved.get(phone, phone))


def test_48_keeps_what_39_folds_and_39_of_48_is_39_of_61():
    by_48, by_39 = load_protocol("timit48"), load_protocol("timit39")
    phones = list(load_protocol("timit61").fold)
    assert by_48(split("ao ax ix el en zh epi pcl b")) == split("ao ax ix el en zh epi cl b")
    assert by_39(by_48(phones)) == by_39(phones)


def test_silence_is_merged_or_dropped():
    phones = split("h# q pcl p pau epi aa h#")
    assert load_protocol("timit39")(phones) == split("sil sil p sil sil aa sil")
    assert load_protocol("timit39-merge-sil")(phones) == split("sil p sil aa sil")
    assert load_protocol("timit39-no-sil")(phones) == split("p aa")
    assert load_protocol("timit61")(phones) == phones
    assert load_protocol("plain")(phones) == phones


@pytest.mark.parametrize("name", ["plain", *TIMIT])
def test_folding_twice_is_folding_once(name):
    protocol = load_protocol(name)
    once = protocol(list(load_protocol("timit61").fold) * 2)
    assert protocol(once) == once


def test_spans_say_which_phones_became_which():
    protocol = load_protocol("timit39-merge-sil")
    phones = split("h# q pcl p ax-h")
    assert protocol.spans(phones) == [("sil", 0, 2), ("p", 3, 3), ("ah", 4, 4)]


def test_q_dropped_hides_no_error():
    result = score({"a": split("q aa")}, {"a": split("aa q q")}, load_protocol("timit39"))
    assert (result.total.phones, result.total.errors) == (1, 0)
    assert score({"a": split("q aa")}, {"a": split("aa q q")}, load_protocol("timit61")).total.errors == 2


def test_digests_differ_where_tables_do_and_not_by_name():
    digests = {load_protocol(name).digest for name in protocol_names()}
    assert len(digests) == len(protocol_names())
    assert Protocol("a", "about", {"x": "y"}).digest == Protocol("b", fold={"x": "y"}).digest
    assert Protocol("a", fold={"x": "y"}).digest != Protocol("a", fold={"x": None}).digest
    assert load_protocol("plain").digest == PLAIN.digest


def test_an_unknown_phone_is_named_with_its_place_and_the_nearest_known():
    with pytest.raises(AsrError) as error:
        score({"fdaw0_si1": ["AX-H"]}, {"fdaw0_si1": []}, load_protocol("timit39"))
    assert str(error.value) == ("reference fdaw0_si1: phone 'AX-H' is not in the table of protocol timit39: "
                                "did you mean 'ax-h'?")
    with pytest.raises(AsrError, match=r"hypothesis x: phone 'ɑ' .* --protocol plain takes phones as they are"):
        score({"x": []}, {"x": ["ɑ"]}, load_protocol("timit39"))


def standard_set(utterances, phones, symbol="aa"):
    """So many utterances of eight to a speaker, with so many phones in all."""
    per, rest = divmod(phones, utterances)
    references = {f"s{i // 8}_{i}": [symbol] * (per + (i < rest)) for i in range(utterances)}
    return references, {id: id.split("_")[0] for id in references}


@pytest.mark.parametrize(("name", "utterances", "phones"), [
    ("timit39", 192, 7215), ("timit39", 400, 15057), ("timit61", 192, 7333), ("timit61", 400, 15334),
    ("timit48", 192, 7215)])
def test_a_standard_set_of_another_size_is_noticed(name, utterances, phones):
    references, speakers = standard_set(utterances, phones)
    assert score(references, references, load_protocol(name), speakers).notes == []
    references["s0_0"] = references["s0_0"][1:]
    note, = score(references, references, load_protocol(name), speakers).notes
    standard = {192: "core test", 400: "dev"}[utterances]
    assert note == (f"TIMIT's {standard} has {phones:,} reference phones under {name}, this one {phones - 1:,}: its "
                    "labels are not the standard ones, so do not compare this number with published ones")


def test_a_standard_set_that_holds_the_sa_sentences_or_is_not_whole_is_noticed():
    references, speakers = standard_set(192, 7215)
    kept = {f"{speaker}_sa{n}": ["ih"] * 10 for speaker in set(speakers.values()) for n in (1, 2)}
    everyone = speakers | {id: id.split("_")[0] for id in kept}
    assert score(references | kept, references | kept, load_protocol("timit39"), everyone).notes == [
        "TIMIT's core test has 7,215 reference phones under timit39 in 192 utterances of 24 speakers, this set of 24 "
        "speakers has 7,695 in 240: if it should be that one, leave out the SA sentences and nothing else"]
    del references["s3_24"], speakers["s3_24"]
    note, = score(references, references, load_protocol("timit39"), speakers).notes
    assert "in 191: if it should be that one" in note


def test_a_set_that_is_no_standard_one_is_not_taken_for_it():
    references, speakers = standard_set(192, 7000)
    assert score(references, references, load_protocol("timit39"), dict.fromkeys(speakers, "one")).notes == []
    assert score(references, references, load_protocol("plain"), speakers).notes == []
    assert len(score(references, references, load_protocol("timit39")).notes) == 1     # speakers not known: by its size


def test_a_protocol_of_ones_own(tmp_path):
    (tmp_path / "table.tsv").write_text("# mine\nfine\tcoarse\nt\tstop\nʔ\t-\na\tvowel\n", encoding="utf-8")
    protocol = load_protocol(write(
        tmp_path, "table: table.tsv\nfrom: [fine]\nto: coarse\ndrop: [vowel]\nclamp: true\n"))
    assert protocol(["t", "ʔ", "a", "stop"]) == ["stop", "stop"]
    assert protocol.clamp


@pytest.mark.parametrize(("text", "message"), [
    ("tabel: x.tsv", "no protocol: unknown key 'tabel': the known ones are about, clamp, drop, from, merge, splits,"),
    ("- a", r"no protocol: expected keys such as 'table:' and 'drop:', not \['a'\]"),
    ("drop: sil", "no protocol: 'drop' is no list of phones, like \\[sil\\]"),
    ("clamp: maybe", "no protocol: 'clamp' is neither true nor false"),
    ("table: gone.tsv\nfrom: [a]\nto: b", "gone.tsv: cannot be read: No such file"),
    ("table: t.tsv", "no protocol: a 'table' needs 'from' as well"),
    ("splits: [{name: x}]", "no protocol: .*missing"),
    ("a: [", "not YAML"),
    ("drop: [a]\ndrop: [b]", "not YAML: the key 'drop' is there twice: take one out"),
    ("table: t.tsv\nfrom: [one]\nto: two", "the table sends 'b' to c and, by column two, to b"),
])
def test_a_wrong_protocol_is_refused(tmp_path, text, message):
    (tmp_path / "t.tsv").write_text("one\ttwo\na\tb\nb\tc\n")
    with pytest.raises(AsrError, match=message):
        load_protocol(write(tmp_path, text))


def test_unknown_names_and_files_are_refused(tmp_path):
    with pytest.raises(AsrError, match=r"timit40: no such protocol: choose plain, timit39, .* or give a \.yaml file"):
        load_protocol("timit40")
    with pytest.raises(AsrError, match=r"gone\.yaml: cannot be read: No such file"):
        load_protocol(str(tmp_path / "gone.yaml"))


def test_every_table_names_its_source_first():
    for path in FOLDER.iterdir():
        assert path.read_text(encoding="utf-8").startswith("# "), path
    assert "Lee and H.-W. Hon 1989" in (FOLDER / "timit-61-48-39.tsv").read_text(encoding="utf-8")
    assert all(yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml"))
