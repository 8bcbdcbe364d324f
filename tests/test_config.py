"""The config: strict, and every complaint names the key and what to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asr.config import Config, dump_config, known_keys, load_config, override_config, override_decoding, parse_config
from asr.errors import AsrError, UsageError

CONF = Path(__file__).parent.parent / "conf"


def complaint(text: str, tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(AsrError) as error:
        load_config(path)
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(("text", "message"), [
    ("trian: {lr: 0.1}", ": unknown key 'trian': did you mean 'train'?"),
    ("train: {ctc_wieght: 0.1}", ": unknown key 'train.ctc_wieght': did you mean 'train.ctc_weight'?"),
    ("decode: {window: {bakc: 1}}", ": unknown key 'decode.window.bakc': did you mean 'decode.window.back'?"),
    ("zzzz: 1", ": unknown key 'zzzz': see conf/ for the known ones"),
    ("train: {lr: 3e-4}", ": train.lr is the text '3e-4': YAML reads 3e-4 as text, write 0.0003"),
    ("train: {lr: fast}", ": train.lr is 'fast': input should be a valid number"),
    ("train: {lr: .nan}", ": train.lr is nan: input should be a finite number"),
    ("train: {lr: 0}", ": train.lr is 0: input should be greater than 0"),
    ("train: {epochs: 2.5}", ": train.epochs is 2.5: input should be a valid integer"),
    ("train: {epochs: true}", ": train.epochs is True: input should be a valid integer"),
    ("train:", ": train is nothing: input should be a valid dictionary or instance of Train"),
    ("train: 3", ": train is 3: input should be a valid dictionary or instance of Train"),
    ("attention: {taps: 50}", ": attention.taps is 50: it must be odd, so that a filter has a middle"),
    ("attention: {kind: hybird}",
     ": attention.kind is 'hybird': input should be 'content', 'location', 'hybrid' or 'none'"),
    ("encoder: {pyramid: [1, 4]}", ": encoder.pyramid.1 is 4: input should be less than or equal to 3"),
    ("encoder: {pyramid: []}",
     ": encoder.pyramid is []: list should have at least 1 item after validation, not 0"),
    ("decoder: {input_feeding: no way}", ": decoder.input_feeding is 'no way': input should be a valid boolean"),
    ("- a\n- b", ": expected sections such as 'encoder:' and 'train:', not ['a', 'b']"),
    ("train: {epochs: 3}\ndecode: {}\ntrain: {lr: 0.1}", ":3: not YAML: the key 'train' is there twice: take one out"),
    ("train: 1\n? [a, b]\n: 2", ":2: not YAML: found unhashable key"),
    ("train: {lr: 0.1, lr: 0.2}", ":1: not YAML: the key 'lr' is there twice: take one out"),
    ("a: [1\nb: 2", ":2: not YAML: expected ',' or ']', but got ':'"),
])
def test_complaints(text: str, message: str, tmp_path: Path) -> None:
    assert complaint(text, tmp_path) == message


def test_a_section_given_for_a_number_is_named(tmp_path: Path) -> None:
    assert complaint("encoder: {width: {a: 1}}", tmp_path) \
        == ": encoder.width is {'a': 1}: input should be a valid integer"


def test_a_control_character_is_told_in_one_line(tmp_path: Path) -> None:
    message = complaint("train: {lr: \x01}", tmp_path)
    assert message.startswith(": not YAML: unacceptable character #x0001: special characters are not allowed")


def test_the_channel_may_be_a_number_or_mix(tmp_path: Path) -> None:
    assert parse_config({"features": {"channel": 1}}, "x").features.channel == 1
    assert complaint("features: {channel: left}", tmp_path) == ": features.channel is 'left': input should be 'mix'"


def test_not_a_number_is_no_number_anywhere() -> None:
    for key in ("decode.length_bonus", "train.label_smoothing", "train.rho", "encoder.dropout"):
        with pytest.raises(AsrError, match=f"^-o: {key} is nan: "):
            load_config(None, [f"{key}=.nan"])
    with pytest.raises(AsrError, match=r"^-o: features\.speeds\.0 is nan: "):
        load_config(None, ["features.speeds=[.nan]"])


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(AsrError) as error:
        load_config(tmp_path / "none.yaml")
    assert str(error.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"
    (tmp_path / "bytes.yaml").write_bytes(b"train: \xff\xfe")
    with pytest.raises(AsrError) as error:
        load_config(tmp_path / "bytes.yaml")
    assert str(error.value) == (f"{tmp_path}/bytes.yaml: not YAML: 'utf-8' codec can't decode byte 0xff in position 7: "
                                "invalid start byte")


@pytest.mark.parametrize(("text", "said"), [("3e-4", "0.0003"), ("1e-9", "1.0e-09"), ("1e9", "1000000000.0"),
                                            ("2e30", "2.0e+30")])
def test_the_number_that_is_advised_in_place_of_a_text_is_one(text: str, said: str) -> None:
    with pytest.raises(AsrError, match=re.escape(f"is the text '{text}': YAML reads 3e-4 as text, write {said}") + "$"):
        override_config(Config(), [f"decode.long.after={text}"])
    assert override_config(Config(), [f"decode.long.after={said}"]).decode.long.after == float(text)


@pytest.mark.parametrize(("override", "message"), [
    ("decode.beam", "-o decode.beam: expected key=value, like -o decode.beam=4"),
    ("=4", "-o =4: expected key=value, like -o decode.beam=4"),
    ("decode.beam.more=4", "-o decode.beam.more=4: decode.beam is no section"),
    ("decode.beem=4", "-o: unknown key 'decode.beem': did you mean 'decode.beam'?"),
    ("beam=4", "-o: unknown key 'beam': did you mean 'decode.beam'?"),
    ("decode.beam=", "-o: decode.beam is nothing: input should be a valid integer"),
    ("decode.beam=[1", "-o decode.beam=[1: the value is not YAML: expected ',' or ']', but got '<stream end>'"),
    ("train.lr=3e-4", "-o: train.lr is the text '3e-4': YAML reads 3e-4 as text, write 0.0003"),
    ("train.lr=2024-13-45", "-o train.lr=2024-13-45: the value is not YAML: month must be in 1..12"),
])
def test_overrides_that_are_wrong(override: str, message: str) -> None:
    with pytest.raises(AsrError) as error:
        override_config(Config(), [override])
    assert str(error.value) == message


@pytest.mark.parametrize(("override", "message"), [
    ("features.mels=80", "-o features.mels=80: the model was trained with its own 'features': only keys of 'decode' "
                         "and features.channel can be set here"),
    ("train.lr=1", "-o train.lr=1: the model was trained with its own 'train': only keys of 'decode' and "
                   "features.channel can be set here"),
    ("beam=4", "-o beam=4: the model was trained with its own 'beam': only keys of 'decode' and features.channel can "
               "be set here"),
    ("decode.beam", "-o decode.beam: expected key=value, like -o decode.beam=4"),
    ("decode.long.overlap=6", "-o: decode.long.overlap is 6 s: it must be a quarter of decode.long.span (20 s) at "
                              "most, or spans hardly advance")])
def test_what_a_trained_model_cannot_be_told(override: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        override_decoding(Config(), [override])
    assert str(error.value) == message


def test_what_a_trained_model_can_be_told() -> None:
    config = override_decoding(Config(), ["decode.beam=7", "features.channel=1", "decode.long.span=40"])
    assert (config.decode.beam, config.features.channel, config.decode.long.span) == (7, 1, 40.0)


def test_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("decode: {beam: 3, window: {back: 0.1}}\n")
    config = load_config(tmp_path / "c.yaml", ["decode.beam=7", "decode.window.ahead=2", "encoder.pyramid=[2, 3]",
                                               "features.channel=mix", "decode.window.centre=mean"])
    assert (config.decode.beam, config.decode.window.back, config.decode.window.ahead) == (7, 0.1, 2.0)
    assert config.encoder.pyramid == [2, 3]
    assert config.decode.window.centre == "mean"
    assert override_config(config, []) is config


def test_an_override_of_a_file_that_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("- a\n")
    with pytest.raises(AsrError) as error:
        load_config(tmp_path / "c.yaml", ["decode.beam=7"])
    assert str(error.value) == f"{tmp_path}/c.yaml: expected sections such as 'encoder:' and 'train:', not ['a']"


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == Config() == load_config(None)


def test_dumped_and_loaded_again(tmp_path: Path) -> None:
    config = load_config(None, ["train.lr=0.00001", "features.speeds=[0.9, 1.1]", "train.join.phone='no'",
                                "features.channel=1", "train.epsilon=1.0e-9"])
    (tmp_path / "c.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.yaml") == config
    assert set(known_keys()) >= {"train", "train.join.phone", "decode.window.back", "decode.long.block"}


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_the_configs_that_come_along(path: Path) -> None:
    config = load_config(path)
    assert parse_config(config.model_dump(), "dumped") == config
    assert config != Config()


def test_the_papers_three_rows_differ_in_attention_alone() -> None:
    """They are written out, not derived: each can be read by itself. This keeps them copies."""
    rows = [load_config(CONF / f"timit-paper-{name}.yaml") for name in ("baseline", "conv", "smooth")]
    assert len({row.attention.model_dump_json() for row in rows}) == 3
    assert len({row.model_copy(update={"attention": rows[0].attention}).model_dump_json() for row in rows}) == 1
    assert [(row.attention.kind, row.attention.normaliser) for row in rows] == [
        ("content", "softmax"), ("hybrid", "softmax"), ("hybrid", "smooth")]
