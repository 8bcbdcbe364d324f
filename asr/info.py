"""`asr info`: what a model is, where it comes from, and how much memory decoding with it takes at most."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import Config, override_config
from asr.model.file import Header, load_header
from asr.search.bound import Bound, batch_bound, long_bound, walks

MB = 1e6


@dataclass(frozen=True)
class Info:
    """What `asr info` tells."""

    path: str
    size: int                   # bytes of the file
    header: Header
    config: Config              # the header's, with what was asked for on the command line
    parameters: int
    half: bool                  # whether they are stored as float16
    long: Bound
    batch: Bound


def look(path: Path, overrides: Sequence[str] = ()) -> Info:
    """Read a model's header and work out what decoding with it takes; the weights stay on the disk.

    Raises:
        AsrError: the file is missing or no model, or an override is none.
    """
    from safetensors import safe_open
    header = load_header(path)
    config = override_config(header.config, overrides)
    with safe_open(path, framework="numpy") as file:
        weights = [file.get_slice(name) for name in file.keys() if not name.startswith("normaliser.")]  # noqa: SIM118
        parameters = sum(math.prod(tensor.get_shape()) for tensor in weights)
        half = all(tensor.get_dtype() == "F16" for tensor in weights)
    phones = len(header.phones)
    return Info(str(path), Path(path).stat().st_size, header, config, parameters, half,
                long_bound(config, phones), batch_bound(config, phones))


def info_text(info: Info) -> str:
    """For a reader."""
    config, header = info.config, info.header
    halved = ", stored as float16" * info.half
    rows = [(info.path, f"{info.parameters:,} parameters, {info.size / MB:.1f} MB{halved}")]
    rows += [(name, line) for name, value in _card(header).items() for line in _lines(value)]
    rows += [(name, value) for name, value in _shape(config)]
    rows += [("phones", f"{len(header.phones) - 1}: " + " ".join(_phones(header)))]
    rows += [(name.replace("_", " "), _plain(value)) for name, value in header.provenance.items()
             if value not in (None, "") and name != "card"]
    rows += [("written by", f"asr {header.version}")] if header.version else []
    rows += [("passed over", f"{' '.join(header.passed_over)}: of another version, and of no use to this one")
             ] if header.passed_over else []
    rows += [("decoding", _decoding(config))]
    rows += [("memory", line) for line in _memory(info)]
    return "".join(_wrapped(name, value) for name, value in rows)


def info_data(info: Info) -> dict[str, Any]:
    """The same as plain data, the whole config with it. Memory in bytes above the loaded model, strides in seconds."""
    hop = info.config.features.hop / 1000
    return {"path": info.path, "bytes": info.size, "parameters": info.parameters, "half": info.half,
            "version": info.header.version, "phones": _phones(info.header),
            "provenance": dict(info.header.provenance), "frame": hop,
            "encoder_frame": round(hop * math.prod(info.config.encoder.pyramid), 6),
            "memory": {"long": info.long.total, "batch": info.batch.total},
            "config": info.config.model_dump()}


def _card(header: Header) -> dict[str, Any]:
    """What whoever trained the model says of it."""
    card = header.provenance.get("card")
    return card if isinstance(card, dict) else {}


def _lines(value: object) -> list[str]:
    return [_plain(item) for item in value] if isinstance(value, list) else [_plain(value)]


def _phones(header: Header) -> list[str]:
    """Without the end."""
    return list(header.phones.decode(range(1, len(header.phones))))


def _shape(config: Config) -> list[tuple[str, str]]:
    features, encoder, attention, decoder = config.features, config.encoder, config.attention, config.decoder
    deltas = {0: "", 1: ", deltas", 2: ", deltas of first and second order"}[features.deltas]
    stride = math.prod(encoder.pyramid)
    looks = "none: the encoder's final state" if attention.kind == "none" else \
        f"{attention.kind}, {attention.normaliser}, {attention.width} units" \
        + ("" if attention.kind == "content" else f", {attention.filters} filters of {attention.taps} taps")
    return [
        ("features", f"{features.mels} mel bands{', energy' * features.energy}{deltas}, {features.rate / 1000:g} kHz, "
                     f"a frame every {features.hop:g} ms"),
        ("encoder", f"{len(encoder.pyramid)} x {encoder.cell.upper()} of {encoder.width} in each direction, "
                    f"a frame every {stride * features.hop:g} ms (/{stride})"),
        ("attention", looks),
        ("decoder", f"{decoder.cell.upper()} of {decoder.width}, {decoder.order}"
                    f"{', CTC branch' if config.train.ctc_weight else ''}")]


def _decoding(config: Config) -> str:
    decode = config.decode
    parts = [f"beam {decode.beam}"]
    if decode.ctc_weight and config.train.ctc_weight:
        parts.append(f"CTC {decode.ctc_weight:g}")
    parts.append(f"window {decode.window.back:g} s back, {decode.window.ahead:g} s ahead" if decode.window.enabled
                 else "no window")
    return ", ".join(parts)


def _memory(info: Info) -> list[str]:
    """The bounds, in words."""
    decode = info.config.decode
    lines = [f"at most {info.long.total / MB:.0f} MB above the loaded model, however long a recording is "
             f"(decode.long.road: {decode.long.road if walks(info.config) else 'spans'})"]
    lines.append(f"at most {info.batch.total / MB:.0f} MB for short ones, {decode.batch_size} together or "
                 f"{decode.batch_seconds:g} s of them (decode.batch_size, batch_seconds)")
    return lines


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrapped(name: str, value: str) -> str:
    if len(name) > 14:
        return f"{name}\n" + _wrapped("", value)
    return textwrap.fill(value, 118, initial_indent=f"{name:<15}", subsequent_indent=" " * 15,
                         break_on_hyphens=False) + "\n"
