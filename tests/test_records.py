"""Manifests and hypotheses: checked at the door, read back as they were written."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.corpus.phones import END, PhoneSet, read_fold
from asr.corpus.records import (
    Hypothesis,
    PackedPhones,
    TimedPhone,
    Utterance,
    each_row,
    hypothesis_row,
    read_hypotheses,
    read_manifest,
    write_manifest,
)
from asr.errors import AsrError
from asr.formats.transcript import Transcript

EMPTY = ":1: 'id' and 'audio_filepath' cannot be empty: fill them in or take the row out"
EMPTY = ":1: 'id' and 'audio_filepath' cannot be empty: fill them in or take the row out"
GOOD = '{"id": "a", "audio_filepath": "a.wav"}\n'


def complaint(text: str | bytes, tmp_path: Path, **how: bool) -> str:
    path = tmp_path / "m.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AsrError) as error:
        read_manifest(path, **how)
    return str(error.value).removeprefix(str(path))


@pytest.mark.parametrize(("row", "message"), [
    ("{", ":1: not JSON: Expecting property name enclosed in double quotes: mend the line or take it out"),
    ("[1]", ':1: expected a JSON object, like {"id": …}'),
    ("[" * 100_000, ":1: not JSON: maximum recursion depth exceeded while decoding a JSON array from a unicode string: "
                    "mend the line or take it out"),
    ('{"audio_filepath": "a"}', ":1: the row has no 'id': every row needs 'id' and 'audio_filepath'"),
    ('{"id": "a"}', ":1: the row has no 'audio_filepath': every row needs 'id' and 'audio_filepath'"),
    ('{"id": 3, "audio_filepath": "a"}', ":1: 'id' is 3: write it as text between quotes"),
    ('{"id": "a", "audio_filepath": "a", "text": ["b"]}', ":1: 'text' is ['b']: write it as text between quotes"),
    ('{"id": " ", "audio_filepath": "a"}', EMPTY),
    ('{"id": "a", "audio_filepath": ""}', EMPTY),
    ('{"id": null, "audio_filepath": "a"}', EMPTY),
    ('{"id": "a", "audio_filepath": "a\\u0000"}', ":1: 'audio_filepath' holds a NUL character: mend the path"),
    ('{"id": "a", "audio_filepath": "a", "offset": -1}',
     ":1: 'offset' is -1: it must be a number of seconds, 0 or more"),
    ('{"id": "a", "audio_filepath": "a", "duration": "1"}',
     ":1: 'duration' is '1': it must be a number of seconds, 0 or more"),
    ('{"id": "a", "audio_filepath": "a", "duration": NaN}',
     ":1: 'duration' is nan: it must be a number of seconds, 0 or more"),
    ('{"id": "a", "audio_filepath": "a", "duration": true}',
     ":1: 'duration' is True: it must be a number of seconds, 0 or more"),
    ('{"id": "a", "audio_filepath": "a", "duration": 0}',
     ":1: 'duration' of 'a' is 0 s: give the true duration or leave it out"),
    (GOOD + "\n" + GOOD, ":3: id 'a' was used in line 1 already: rename or remove one"),
    ("\n \n", ": holds no utterance: is it empty, or the wrong file?"),
    (GOOD.encode() + b"\xff", ":2: not UTF-8 text: invalid start byte: save it as UTF-8"),
])
def test_rows_that_are_wrong(row: str | bytes, message: str, tmp_path: Path) -> None:
    assert complaint(row, tmp_path) == message


def test_phones_that_are_needed(tmp_path: Path) -> None:
    needed = "but its phones are needed here: transcribe it or take the row out"
    assert complaint(GOOD, tmp_path, need_phones=True) == f":1: utterance 'a' has no 'text', {needed}"
    assert complaint('{"id": "a", "audio_filepath": "a", "text": " "}', tmp_path, need_phones=True) \
        == f":1: utterance 'a' has an empty 'text', {needed}"


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AsrError) as error:
        read_manifest(tmp_path / "none")
    assert str(error.value) == f"{tmp_path}/none: cannot be read: No such file or directory"
    with pytest.raises(AsrError) as error:
        read_manifest(tmp_path)
    assert str(error.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_byte_order_mark_blank_lines_and_what_else_a_row_holds(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\n{"id": "\xc3\xa4", "audio_filepath": "x/a.wav", "offset": 1, "duration": 2,'
                     b' "text": " a  b ", "speaker": "s", "lang": "de"}\r\n\r\n'
                     b'{"id": "b", "audio_filepath": "/b.wav", "text": ""}')
    assert read_manifest(path) == [
        Utterance("ä", tmp_path / "x/a.wav", 1.0, 2.0, ("a", "b"), "s", {"lang": "de"}),
        Utterance("b", Path("/b.wav"), phones=())]
    assert [number for number, _ in each_row(path)] == [2, 4]


def test_each_row_goes_on_behind_a_bad_one(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(GOOD + "nonsense\n" + '{"id": "b"}\n')
    rows = list(each_row(path))
    assert [number for number, _ in rows] == [1, 2, 3]
    assert rows[0][1] == Utterance("a", tmp_path / "a.wav")
    assert str(rows[1][1]) == f"{path}:2: not JSON: Expecting value: mend the line or take it out"
    assert str(rows[2][1]) == f"{path}:3: the row has no 'audio_filepath': every row needs 'id' and 'audio_filepath'"
    path.write_bytes(b"\xff")
    with pytest.raises(AsrError) as error:
        list(each_row(path))
    assert str(error.value) == f"{path}: not UTF-8 text: invalid start byte: save it as UTF-8"
    with pytest.raises(AsrError) as error:
        list(each_row(tmp_path / "none"))
    assert str(error.value) == f"{tmp_path}/none: cannot be read: No such file or directory"


WORD = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(lambda s: s.strip() == s)
PHONE = WORD.filter(lambda s: len(s.split()) == 1)


@given(st.lists(st.builds(
    Utterance, id=WORD, audio=WORD.map(lambda w: Path("/corpus") / w.replace("/", "_").replace(".", "_")),
    offset=st.floats(0, 1e6), duration=st.none() | st.floats(1e-6, 1e6),
    phones=st.none() | st.lists(PHONE, max_size=4).map(tuple), speaker=st.none() | WORD,
    extra=st.dictionaries(WORD.map(lambda w: "x-" + w), st.none() | st.integers() | WORD, max_size=2)),
    min_size=1, max_size=4, unique_by=lambda u: u.id))
@example([Utterance("a\u2028b", Path("/corpus/a"), speaker="x\x85y")])
@settings(max_examples=60, deadline=None)
def test_a_manifest_is_read_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory,
                                                   utterances: list[Utterance]) -> None:
    path = tmp_path_factory.mktemp("m") / "m.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances
    assert [row for _, row in each_row(path)] == utterances     # U+2028 in a name does not end a line


def test_audio_below_the_manifest_is_named_relative_to_it(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", tmp_path / "wav" / "a.wav"), Utterance("b", Path("/b.wav"))])
    assert (tmp_path / "m.jsonl").read_text() == ('{"id": "a", "audio_filepath": "wav/a.wav"}\n'
                                                  '{"id": "b", "audio_filepath": "/b.wav"}\n')


def test_hypotheses_are_read_back(tmp_path: Path) -> None:
    hypotheses = [
        Hypothesis("a", (TimedPhone("x", 0.0, 0.5, 0.25), TimedPhone("ʃ", 0.5, 1.0)), -1.5, {"ended": "eos"},
                   {"duration": 1.0}),
        Hypothesis("b", (), 0.0)]
    text = "".join(json.dumps(hypothesis_row(h)) + "\n" for h in hypotheses)
    (tmp_path / "h.jsonl").write_text(text)
    assert read_hypotheses(tmp_path / "h.jsonl") == hypotheses
    assert read_hypotheses(io.StringIO(text)) == hypotheses
    assert hypotheses[0].text == "x ʃ"
    assert read_hypotheses(io.StringIO('{"id": "a", "text": "x y"}'))[0].phones \
        == (TimedPhone("x", 0, 0), TimedPhone("y", 0, 0))


@pytest.mark.parametrize("row", ['{"text": "a"}', '{"id": 3, "text": "a"}', '{"id": "a"}', '{"id": "a", "text": null}',
                                 '{"id": "a", "phones": [{"phone": "a"}]}', '{"id": "a", "text": "a", "score": "x"}'])
def test_rows_that_are_no_hypothesis(row: str) -> None:
    with pytest.raises(AsrError) as error:
        read_hypotheses(io.StringIO(row))
    assert str(error.value) == ("standard input:1: no hypothesis: expected 'id' and 'text' or timed 'phones', "
                                "as `asr decode -f jsonl` writes them")


def test_a_hypothesis_id_that_comes_twice() -> None:
    with pytest.raises(AsrError) as error:
        read_hypotheses(io.StringIO('{"id": "a", "text": ""}\n' * 2))
    assert str(error.value) == "standard input:2: id 'a' was used in line 1 already: rename or remove one"


def test_a_hypothesis_that_was_never_found_is_valid_json() -> None:
    row = json.dumps(hypothesis_row(Hypothesis("a", (), float("-inf"), {"ended": "limit"})))
    json.loads(row, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_phone_set() -> None:
    phones = PhoneSet.of([["b", "a"], ["c", "a"]])
    assert phones == PhoneSet(["a", "b", "c"])
    assert hash(phones) == hash(PhoneSet(["a", "b", "c"]))
    assert len(phones) == 4
    assert "b" in phones
    assert END not in phones
    assert phones.encode(["c", "a"]) == [3, 1]
    assert phones.decode([3, 1]) == ["c", "a"]
    with pytest.raises(AsrError) as error:
        phones.encode(["a", "x"], "here")
    assert str(error.value) == "here: unknown phone 'x': map it or take it out, the model knows a b c"
    with pytest.raises(AsrError) as error:
        PhoneSet([f"p{n}" for n in range(61)]).encode(["x"])
    assert str(error.value).endswith(" p59 …")
    assert str(error.value).startswith("unknown phone 'x': map it or take it out, the model knows p0 ")


@pytest.mark.parametrize("phone", ["", "a b", "a\u2003", END])
def test_what_cannot_be_a_phone(phone: str) -> None:
    with pytest.raises(AsrError) as error:
        PhoneSet(["a", phone])
    assert str(error.value) == (f"{phone!r} cannot be a phone: a phone is not empty, has no space in it, "
                                f"and is not {END}")


def test_a_phone_named_twice() -> None:
    with pytest.raises(AsrError) as error:
        PhoneSet(["a", "a"])
    assert str(error.value) == "a phone set names a phone twice"


def test_a_fold(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text("# source\n61\t48\t39\nao\tao\taa\nq\tq\t-\n")
    assert read_fold(table, "61", "39") == {"ao": "aa", "q": None}
    with pytest.raises(AsrError) as error:
        read_fold(table, "61", "40")
    assert str(error.value) == f"{table}: has no column '40': it has 61 48 39"
    table.write_text("61\t39\nao\n")
    with pytest.raises(AsrError) as error:
        read_fold(table, "61", "39")
    assert str(error.value) == f"{table}: the row 'ao' has 1 fields, the header 2: part them by tabs"
    table.write_bytes(b"\xff")
    with pytest.raises(AsrError) as error:
        read_fold(table, "61", "39")
    assert str(error.value) == f"{table}: not UTF-8 text: invalid start byte: save it as UTF-8"
    with pytest.raises(AsrError) as error:
        read_fold(tmp_path / "none", "61", "39")
    assert str(error.value) == f"{tmp_path}/none: cannot be read: No such file or directory"


def test_a_device_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    """`--out /dev/null` as root once made a regular file of it."""
    import os
    import threading

    from asr.files import writing
    pipe, link, heard = tmp_path / "pipe", tmp_path / "link", []
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    with writing(link) as file:
        file.write("phones\n")
    reader.join()
    assert heard == ["phones\n"]
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    from asr.files import writing
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with writing(tmp_path / "link") as file:
        file.write("phones\n")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "phones\n"


def test_what_looks_alike_is_alike(tmp_path: Path) -> None:
    """ã as one character and as a letter with a mark are one phone, wherever they are read."""
    one, two = "\u00e3", "a\u0303"
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"id": f"u{n}", "audio_filepath": "a.wav", "text": f"{phone} t"},
                                       ensure_ascii=False) + "\n" for n, phone in enumerate((one, two))))
    rows = read_manifest(path)
    assert rows[0].phones == rows[1].phones == (one, "t")
    phones = PhoneSet.of(row.phones or () for row in rows)
    assert phones.phones == ("t", one)
    assert phones == PhoneSet(["t", two])
    assert phones.encode(["t", two]) == [1, 2]
    (hypothesis,) = read_hypotheses(io.StringIO(json.dumps({"id": "u", "text": two})))
    assert hypothesis.text == TimedPhone(two, 0.0, 0.1).phone == one
    assert Transcript("u", (two,)).phones == (one,)
    (tmp_path / "t.tsv").write_text(f"a\tb\n{two}\t{two}\n")
    assert read_fold(tmp_path / "t.tsv", "a", "b") == {one: one}
    with pytest.raises(AsrError, match="names a phone twice"):
        PhoneSet([one, two])


def test_packed_phones_are_the_phones_in_a_fifth_of_the_memory() -> None:
    phones = tuple(TimedPhone("aɪ" if i % 3 else "t", i / 10, (i + 1) / 10, 1 / (i + 1)) for i in range(3000))
    packed = PackedPhones(phones)
    assert packed == phones
    assert packed != phones[:-1]
    assert packed != (*phones[:-1], TimedPhone("t", 0.0, 1.0))
    assert packed[-1] == phones[-1]
    assert packed[10:20] == phones[10:20]
    assert list(PackedPhones([])) == []
    tracemalloc.start()
    PackedPhones(TimedPhone(p.phone, p.start, p.end, p.confidence) for p in phones)
    small = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    tuple(TimedPhone(p.phone, p.start + 0.5, p.end + 0.5, p.confidence + 0.5) for p in phones)
    assert tracemalloc.get_traced_memory()[1] > 4 * small
    tracemalloc.stop()
