"""How much memory decoding takes beyond the loaded model: worked out from the config, whatever the recording's length.

The tensors that live at the same time are added up, layer by layer and step by step, with a margin for what the
allocator keeps. The figures hold for a CPU; a GPU needs less than that beside its kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from asr.config import Config
from asr.frontend.fbank import feature_width
from asr.search.ahead import pays
from asr.search.blocks import TOGETHER
from asr.search.follow import BAND, LAG
from asr.search.longform import PAUSE, walking_lag, widest
from asr.search.recognise import fallback
from asr.search.second import ASIDE
from asr.search.spans import PAD, blocks_ahead, lag
from asr.search.stepper import MORE_CANDIDATES, no_wider

FLOAT, DOUBLE = 4, 8
READ = 10.0             # s of audio read at a time
AHEAD = 4               # batches of short utterances whose features are made together
COPIES_SAMPLES = 8      # of a piece of audio: as read, mixed, joined with the rest, framed
COPIES_LAYER = 6        # of a layer's output: two directions, turned back, joined, normalised, masked
COPIES_KEYS = 4         # of the energies' hidden layer: keys, plus query, plus location, its tanh
COPIES_CTC = 3          # of a window's log probabilities: found, widened, masked
COPIES_EXTENDED = 12    # of the forward variables of all candidates
ROW = 300               # bytes of the objects around a row that is followed
SLACK = 1.25            # what the allocator holds beyond what is in use
FIXED = 12 << 20        # bytes: Python's own objects, buffers of the kernels


@dataclass(frozen=True)
class Bound:
    """Bytes above the loaded model, at most."""

    audio: float        # samples and features on their way
    encoder: float      # one batch of blocks, or of utterances
    memory: float       # encoder frames, keys and CTC columns that the search can look at
    search: float       # one step of all hypotheses, and what they have said so far
    times: float = 0.0  # evidence of when phones were said, that waits for them to settle
    held: float = 0.0   # encoder frames of spans that wait for their batch to be full
    beside: bool = False    # the next batch is encoded while one is searched

    @property
    def total(self) -> int:
        """What decoding takes at most: the encoder runs beside spans that wait, the search beside its own memory."""
        encoding, searching = self.held + self.encoder, self.memory + self.search
        working = encoding + searching if self.beside else max(encoding, searching)
        return round(SLACK * (self.audio + self.times + working)) + FIXED


def long_bound(config: Config, phones: int) -> Bound:
    """For recordings longer than `decode.long.after`; `phones` is V, with the end among them."""
    long, seconds = config.decode.long, _seconds(config)
    together = TOGETHER * (long.block + 2 * long.margin) * 1000 / config.features.hop       # feature frames
    waiting = (READ + TOGETHER * long.block + 2 * long.margin) * 1000 / config.features.hop
    audio = READ * config.features.rate * FLOAT * COPIES_SAMPLES + 3 * waiting * _features(config)
    value, batch = 2 * config.encoder.width * FLOAT, 1
    fresh = value * (TOGETHER * long.block + long.span) / seconds       # behind the spans of a batch that is full
    road = long.road if walks(config) else "spans"
    if road == "spans":
        batch, span = long.batch, math.ceil((long.span + long.overlap + PAD) / seconds)
        said = long.span * config.decode.longest
        held = fresh + 2 * value * batch * span                         # once more while they are laid side by side
    else:
        window = no_wider(config.decode, widest(long)).window
        config = config.model_copy(update={"decode": config.decode.model_copy(update={"window": window})})
        reach = TOGETHER * long.block + PAUSE + long.margin + window.back + window.ahead
        span, said = math.ceil(reach / seconds), long.settle + 1
        held = 2 * fresh + span * _frame(config, phones)
    if beside(config):
        held += value * blocks_ahead(long) * (long.block + 2 * long.margin) / seconds
    bound = Bound(audio, _encoder(config, together), fresh + batch * span * _frame(config, phones),
                  _search(config, phones, batch, said, span), _times(config, phones), held, beside(config))
    return bound if road == "spans" or not config.decode.fallback else _with_second_try(bound, config, phones)


def _with_second_try(bound: Bound, config: Config, phones: int) -> Bound:
    """The frames that are held for it, and the same once more, with all that a search makes of them, while it runs."""
    decode = config.decode
    reach = walking_lag(decode.long) + decode.window.ahead + ASIDE      # s
    S = math.ceil(reach / _seconds(config))
    held, safer = 2 * config.encoder.width * FLOAT * S, config.model_copy(update={"decode": fallback(decode)})
    return replace(bound, held=bound.held + held, memory=bound.memory + 2 * held + S * _frame(config, phones),
                   search=max(bound.search, _search(safer, phones, 1, reach * decode.longest, S)))


def batch_bound(config: Config, phones: int, longest: float | None = None) -> Bound:
    """For batches of utterances of up to `longest` seconds, by default those just too short to be read in blocks."""
    decode, longest = config.decode, longest or config.decode.long.after
    full = min(longest, decode.batch_seconds / decode.batch_size)       # s: the longest of which all rows are taken
    return max((_batch(config, phones, seconds) for seconds in (full, longest)), key=lambda bound: bound.total)


def _batch(config: Config, phones: int, seconds: float) -> Bound:
    """For as many utterances of so many seconds as are searched together."""
    decode = config.decode
    rows = max(1, min(decode.batch_size, math.floor(decode.batch_seconds / seconds + 1e-6)))
    frames = rows * seconds * 1000 / config.features.hop
    S = math.ceil(seconds / _seconds(config))
    audio = (AHEAD + 2 + beside(config)) * frames * _features(config)
    memory = rows * S * _frame(config, phones)
    return Bound(audio, _encoder(config, frames), memory,
                 _search(config, phones, rows, seconds * decode.longest, S), held=memory, beside=beside(config))


def beside(config: Config) -> bool:
    """Whether the next batch is encoded while one is searched, on a CPU."""
    return pays(config.decode, torch.device("cpu"))


def walks(config: Config) -> bool:
    """Whether one search can walk through a recording of any length: a window moves along with it."""
    return config.decode.window.enabled and config.attention.kind != "none"


def _seconds(config: Config) -> float:
    """Of an encoder frame."""
    return config.features.hop / 1000 * math.prod(config.encoder.pyramid)


def _times(config: Config, phones: int) -> float:
    """Bytes of the rows of evidence that wait, and of the rows and pointers that are followed back."""
    if config.decode.times == "attention":
        return 0.0
    step = _seconds(config) if config.decode.times == "ctc" else config.features.hop / 1000
    waiting = lag(config.decode.long) + beside(config) * blocks_ahead(config.decode.long) * config.decode.long.block
    return waiting / step * phones * FLOAT \
        + LAG * (phones * FLOAT + BAND + ROW)


def _features(config: Config) -> int:
    """Bytes of a feature frame."""
    return feature_width(config.features) * FLOAT


def _encoder(config: Config, frames: float) -> float:
    """Bytes while the costliest layer runs over so many feature frames: its input twice (ahead and turned around), the
    gates of one direction, and its output."""
    H, width, most = config.encoder.width, feature_width(config.features), 0.0
    gates = 4 if config.encoder.cell == "lstm" else 3
    for join in config.encoder.pyramid:
        frames, inputs = frames / join, width * join
        most = max(most, frames * FLOAT * (2 * inputs + gates * H + COPIES_LAYER * 2 * H))
        width = 2 * H
    return most


def _frame(config: Config, phones: int) -> int:
    """Bytes of an encoder frame in the memory: value, key (and once more as they are made), CTC column, next speech."""
    D, A = 2 * config.encoder.width, config.attention.width
    return FLOAT * (2 * D + 2 * A + (2 * phones if config.train.ctc_weight else 0)) + DOUBLE


def _search(config: Config, phones: int, batch: int, said: float, S: int) -> float:
    """Bytes of a step of `batch` utterances; `said` phones are in each hypothesis, `S` frames in a memory."""
    decode, seconds, D, A = config.decode, _seconds(config), 2 * config.encoder.width, config.attention.width
    W = S
    if walks(config):
        window = no_wider(decode, S * seconds).window
        W = round(window.back / seconds) + 1 + round(window.ahead / seconds)
    each: float = FLOAT * W * (COPIES_KEYS * A + config.attention.filters + D)
    if config.train.ctc_weight and decode.ctc_weight:
        each += DOUBLE * W * (COPIES_CTC * phones + COPIES_EXTENDED * (decode.beam + MORE_CANDIDATES))
    each += 2 * said * (DOUBLE + 3 * FLOAT)
    return batch * decode.beam * each
