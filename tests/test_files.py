"""Files are written whole, whatever their names and whatever the text: what a disk counts in are bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from asr.corpus.records import Hypothesis, TimedPhone
from asr.errors import AsrError
from asr.files import spelt, writing
from asr.formats.files import file_of_id
from asr.formats.writers import write_hypotheses


def test_a_long_name_of_wide_letters_is_as_good_as_any(tmp_path: Path) -> None:
    """Its part was named by 200 letters, which are 600 bytes of a disk's 255."""
    path = tmp_path / ("日" * 83 + ".a")
    with writing(path) as file:
        file.write("whole")
    assert os.listdir(tmp_path) == [path.name]


def test_a_name_too_long_for_the_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="cannot be written: File name too long"), writing(tmp_path / ("a" * 256)):
        pass


@pytest.mark.parametrize("letter", ["a", "é", "日", "/"])
def test_an_id_too_long_for_a_name_does_not_end_the_work(letter: str, tmp_path: Path) -> None:
    ids = [letter * 300, letter * 301, letter * 300 + "b", "kim"]
    write_hypotheses([Hypothesis(id, (TimedPhone("a", 0.0, 0.1),), 0.0) for id in ids], "textgrid", tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(file_of_id(id) + ".TextGrid" for id in ids)
    assert len(set(os.listdir(tmp_path))) == 4


def test_odd_bytes_of_a_name_are_written_as_json_reads_them(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.wav")
    with writing(tmp_path / "x.json") as file:
        file.write(json.dumps({"audio": odd, "phone": "ə"}, ensure_ascii=False))
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"audio": odd, "phone": "ə"}
    assert spelt(Path("é") / odd) == "é/caf\\xe9.wav"
