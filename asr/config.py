"""Every knob, on one page.

A config file is YAML with the sections below; a key that is left out keeps its default. The model file carries the
whole config, so that decoding needs nothing beside it. Times are in the unit named; "frames" are feature frames of
`features.hop` ms, before the pyramid.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asr.errors import AsrError, UsageError
from asr.plain import load_yaml

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Dropped = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Frozen, typed, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Features(Section):
    """Log-mel filterbanks as Kaldi computes them (Povey window, pre-emphasis 0.97, no dither)."""

    rate: Annotated[int, Field(ge=8000, le=48000)] = 16000  # Hz; other audio is resampled
    channel: Literal["mix"] | Count = "mix"     # of stereo: the mean of all, or one by number
    window: Above0 = 25.0                       # ms
    hop: Above0 = 10.0                          # ms
    mels: Annotated[int, Field(ge=8, le=128)] = 40
    low: NotNegative = 20.0                     # Hz, lower edge of the first filter
    high: NotNegative = 0.0                     # Hz, upper edge of the last; 0: half the rate
    energy: bool = False                        # log energy as one more value
    deltas: Literal[0, 1, 2] = 0                # orders of time derivatives (the paper: energy and 2, 123 values)
    end_frame: bool = False                     # append one frame of zeros after normalisation, so the end can be seen
    speeds: Annotated[list[Annotated[float, Field(ge=0.5, le=2.0, allow_inf_nan=False)]], Field(min_length=1)] = [1.0]
    #                                             copies of each utterance at these speeds; training draws one an epoch


class Encoder(Section):
    """Bidirectional recurrent layers, each joining consecutive frames first (Chan et al. 2015, section 3.1)."""

    cell: Literal["lstm", "gru"] = "lstm"
    width: Positive = 128                       # units in each direction
    pyramid: Annotated[list[Annotated[int, Field(ge=1, le=3)]], Field(min_length=1, max_length=12)] = [1, 2, 2]
    #                                             frames joined before each layer; one layer an entry
    dropout: Dropped = 0.1                      # between layers and on the output
    layer_norm: bool = False                    # behind each layer


class Attention(Section):
    """Where the decoder looks (Chorowski et al. 2015, section 2)."""

    kind: Literal["content", "location", "hybrid", "none"] = "hybrid"
    width: Positive = 128                       # of the energy's hidden layer
    filters: Positive = 10                      # C, over the previous weights
    taps: Positive = 51                         # r, encoder frames that a filter spans; odd
    normaliser: Literal["softmax", "smooth"] = "softmax"    # smooth: sigmoids (eq. 11)
    beta: Above0 = 1.0                          # sharpening: energies times β (eq. 10)
    keep: Count = 0                             # sharpening: only the k largest weights; 0: all
    start: Literal["first", "uniform"] = "first"    # α_0: all on frame 0, or spread evenly
    detach: bool = False                        # no gradient through the previous weights

    @model_validator(mode="after")
    def _odd(self) -> Attention:
        if self.taps % 2 == 0:
            raise ValueError(f"attention.taps is {self.taps}: it must be odd, so that a filter has a middle")
        return self


class Decoder(Section):
    """Emits one phone after another."""

    cell: Literal["lstm", "gru"] = "lstm"
    width: Positive = 128
    embedding: Positive = 64
    order: Literal["update-look-generate", "look-generate-update", "look-update-generate"] = "update-look-generate"
    #                                             Chan 2015; Chorowski 2015 (eqs. 1-4); Bahdanau 2015
    input_feeding: bool = True                  # the last context is an input of the recurrence
    output: Literal["mlp", "maxout"] = "mlp"
    output_width: Positive = 128                # hidden units of the output layer (maxout: pairs)
    dropout: Dropped = 0.1                      # on embedding and output layer


class Mask(Section):
    """SpecAugment (Park et al. 2019) without time warping; vocal tracts of other lengths (Jaitly, Hinton 2013)."""

    time_masks: Count = 0
    time_width: Count = 20                      # frames at most, each; and never over a fifth of the utterance
    mel_masks: Count = 0
    mel_width: Count = 8                        # mel bands at most, each
    warp: Annotated[float, Field(ge=0, lt=0.5)] = 0.0   # the mel axis is stretched by a factor in 1 - warp … 1 + warp


class Join(Section):
    """Training on random joins of utterances, so that long input is no news. An epoch still has each utterance once."""

    probability: Share = 0.0                    # that a row of a batch is a join
    most: Annotated[int, Field(ge=2)] = 3       # utterances in a join, drawn from 2 to this
    gap: NotNegative = 0.05                     # s of silence between two
    phone: str = ""                             # label of the gap, where the phone set has one


class Freeze(Section):
    """Encoder layers that stand still at first, for fine-tuning."""

    layers: Count = 0                           # from the bottom
    updates: Count = 0


class Train(Section):
    """How the weights are found."""

    seed: Count = 1
    deterministic: bool = False                 # CUDA: kernels that repeat their bits where torch has them; slower
    epochs: Positive = 30
    unseen: Literal["error", "keep"] = "error"  # phones that the dev set alone has: an error, or kept as known
    batch_frames: Positive = 12000              # padded feature frames in a batch, over all processes
    batch_utterances: Positive = 64             # at most
    shortest_first: Count = 1                   # epochs that run from short to long
    workers: Count = 0                          # processes that load data; 0: the training process itself
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: bf16 on CUDA, float32 on a CPU
    optimizer: Literal["adamw", "adadelta"] = "adamw"
    lr: Above0 = 0.002
    weight_decay: NotNegative = 0.0001
    epsilon: Above0 = 1.0e-8                    # of AdamW or AdaDelta
    rho: Share = 0.95                           # AdaDelta's memory
    warmup: Count = 200                         # updates of rising rate
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    final_lr: Share = 0.02                      # cosine: the last rate, as a share of lr
    plateau_factor: Share = 0.5                 # plateau: rate times this …
    plateau_patience: Count = 2                 # … after so many epochs without a better dev PER
    clip: NotNegative = 1.0                     # largest gradient norm; 0: no clipping
    column_norm: NotNegative = 0.0              # largest norm of a weight column; 0: free (the paper: 1)
    label_smoothing: Share = 0.1
    ctc_weight: Share = 0.3                     # share of the CTC branch in the loss; 0: no branch
    ctc_warmup: Count = 0                       # updates on the CTC loss alone, to wake the encoder
    scheduled_sampling: Share = 0.0             # probability of feeding back the model's own phone
    weight_noise: NotNegative = 0.0             # standard deviation of Gaussian noise on the weights …
    weight_noise_epoch: Count = 0               # … from this epoch on
    mask: Mask = Mask()
    join: Join = Join()
    freeze: Freeze = Freeze()
    patience: Count = 0                         # epochs without a better dev PER before stopping; 0: run them all
    average: Count = 3                          # best epochs whose weights are averaged at the end; 0: the best alone
    dev_beam: Positive = 1                      # width of the search that measures dev PER
    dev_utterances: Count = 0                   # first n of the dev set; 0: all
    bad_updates: Positive = 20                  # non-finite updates in a row that end the training
    checkpoint_minutes: NotNegative = 5.0       # between two saves of the run's state; and at every epoch's end
    checkpoint_updates: Count = 0               # the same, in updates; 0: by minutes alone
    plots: Count = 3                            # attention plots of so many dev utterances an epoch


class Times(Section):
    """The classifier of feature frames, trained at the end where manifests have `phone_times` (model/frames.py)."""

    width: Count = 96                           # channels; 0: none is trained
    reach: Count = 4                            # feature frames heard on each side
    updates: Positive = 700                     # of its training, at most …
    epochs: Positive = 30                       # … and passes over the data
    hours: Above0 = 1.5                         # of speech that it learns from, at most
    lr: Above0 = 0.003


class Window(Section):
    """The frames around the last focus that are scored at all; outside it, attention is zero."""

    enabled: bool = True
    back: NotNegative = 0.5                     # s
    ahead: Above0 = 1.2                         # s
    centre: Literal["median", "mean", "argmax"] = "median"  # of the previous weights


class Long(Section):
    """Recordings longer than `after` are read in blocks, in bounded memory."""

    after: Above0 = 30.0                        # s
    block: Above0 = 8.0                         # s of encoder output made at a time
    margin: NotNegative = 1.5                   # s on each side of a block that are computed and thrown away
    road: Literal["spans", "stream"] = "spans"  # spans: cut at quiet places, searched as a batch; stream: in one go
    settle: Positive = 60                       # stream: phones after which hypotheses that differ from the best go
    span: Above0 = 20.0                         # spans: s at most …; stream: s within which phones settle
    overlap: NotNegative = 1.0                  # … s on either side of a cut that both share, where no silence is …
    batch: Positive = 8                         # … and how many are searched together

    @model_validator(mode="after")
    def _advances(self) -> Long:
        if self.overlap > self.span / 4:
            raise ValueError(f"decode.long.overlap is {self.overlap:g} s: it must be a quarter of decode.long.span "
                             f"({self.span:g} s) at most, or spans hardly advance")
        return self


class Decode(Section):
    """How the phones are searched for."""

    beam: Positive = 10                         # 1: greedy
    nbest: Positive = 1
    batch_size: Positive = 16                   # utterances at a time …
    batch_seconds: Above0 = 80.0                # … and seconds of them, as if each were as long as the longest
    ctc_weight: Share = 0.3                     # of the CTC prefix score, where the model has a branch
    length_bonus: Finite = 0.0                  # log probability added for every phone
    pace: NotNegative = 0.0                     # log probability a second that a hypothesis is ahead, to rank the beam
    longest: Above0 = 25.0                      # phones a second, at most …
    shortest: NotNegative = 0.0                 # … and at least
    beta: Above0 = 1.0                          # further sharpening at decode time, times attention.beta
    beta_log_length: bool = False               # β times log L as well (Chorowski et al. 2015, section 2.2)
    keep: Count = 0                             # only the k largest weights; 0: as trained
    normaliser: Literal["as-trained", "softmax", "smooth"] = "as-trained"
    eos_gate: NotNegative = 0.6                 # s: the end is allowed once the focus is so near it; 0: always
    jump_back: NotNegative = 0.5                # s: a focus that goes back further drops the hypothesis; 0: allowed
    jump_ahead: NotNegative = 0.0               # s: the same ahead
    times: Literal["auto", "frames", "ctc", "attention"] = "auto"   # where borders come from; auto: the first there is
    fallback: bool = True                       # search again, by safer settings, where the attention went astray
    precision: Literal["float32", "bf16"] = "float32"
    overlap: Literal["auto", "always", "never"] = "auto"    # encode the next batch while one is searched; auto: on CUDA
    window: Window = Window()
    long: Long = Long()


class Config(Section):
    """The whole tree."""

    features: Features = Features()
    encoder: Encoder = Encoder()
    attention: Attention = Attention()
    decoder: Decoder = Decoder()
    train: Train = Train()
    times: Times = Times()
    decode: Decode = Decode()


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a config file and apply `key=value` overrides to it.

    Args:
        path: a YAML file; None for the defaults.
        overrides: like `train.lr=0.001`; the value is YAML and is checked like the file's.

    Raises:
        AsrError: naming file and key, for an unknown key (with the nearest known one) or a value of the wrong type.
    """
    tree: Any = {}
    if path is not None:
        try:
            tree = load_yaml(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise AsrError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise AsrError(f"{path}{line}: not YAML: {_one_line(error)}") from error
    return override_config(parse_config(tree, str(path)), overrides)


def parse_config(tree: Any, where: str) -> Config:
    """Check a tree of plain data; errors begin with `where`."""
    if not isinstance(tree, dict):
        raise AsrError(f"{where}: expected sections such as 'encoder:' and 'train:', not {tree!r:.60}")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise AsrError(f"{where}: {_explain(error.errors()[0])}") from None


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """The config with `key=value` overrides applied.

    Raises:
        UsageError: as `load_config`, of an override.
    """
    if not overrides:
        return config
    try:
        return parse_config(_override(config.model_dump(), overrides), "-o")
    except AsrError as error:
        raise UsageError(str(error)) from None


def override_decoding(config: Config, overrides: Sequence[str]) -> Config:
    """The config of a trained model with other settings of its use: what its weights were made for stays.

    Raises:
        UsageError: as `load_config`, of an override; or it is no key of `decode`, nor `features.channel`.
    """
    for override in overrides:
        key = override.partition("=")[0]
        if "=" in override and not key.startswith("decode.") and key != "features.channel":
            raise UsageError(f"-o {override}: the model was trained with its own {key.partition('.')[0]!r}: only keys "
                             "of 'decode' and features.channel can be set here")
    return override_config(config, overrides)


def _override(tree: Any, overrides: Sequence[str]) -> Any:
    if not isinstance(tree, dict):
        return tree                     # what it should be is told by `parse_config`
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise AsrError(f"-o {override}: expected key=value, like -o decode.beam=4")
        node = tree
        *sections, last = key.split(".")
        for section in sections:
            node = node.setdefault(section, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise AsrError(f"-o {override}: {'.'.join(sections)} is no section")
        try:
            node[last] = load_yaml(value)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise AsrError(f"-o {override}: the value is not YAML: {_one_line(error)}") from error
    return tree


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "problem", None) or error).split())


def _explain(error: Any) -> str:
    """One line for pydantic's first complaint: the key, its value, what to write instead."""
    path = [str(part) for part in error["loc"]]
    key = ".".join(part for part in path if not part.startswith(("literal[", "constrained-")))
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known_keys(), n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else "see conf/ for the known ones"
        return f"unknown key '{key}': {hint}"
    message = error["msg"].removeprefix("Value error, ")
    if not key:
        return message
    if isinstance(value, str) and "valid number" in message:
        try:
            number = yaml.safe_dump(float(value)).split()[0]        # 1.0e-09: without the point it would be text again
            return f"{key} is the text {value!r}: YAML reads 3e-4 as text, write {number}"
        except ValueError:
            pass
    if error["type"] == "value_error":      # of a section's own check, which names the key itself
        return message
    shown = "nothing" if value is None else repr(value)
    return f"{key} is {shown:.60}: {message[0].lower()}{message[1:]}"


def known_keys() -> list[str]:
    """All keys, dotted, sections before what they hold."""
    def walk(section: type[Section], prefix: str) -> list[str]:
        keys = []
        for name, field in section.model_fields.items():
            keys.append(prefix + name)
            if isinstance(field.annotation, type) and not isinstance(field.annotation, types.GenericAlias) \
                    and issubclass(field.annotation, Section):
                keys += walk(field.annotation, f"{prefix}{name}.")
        return keys
    return walk(Config, "")


def without_unknown(tree: Any) -> tuple[Any, tuple[str, ...]]:
    """A tree of plain data without the keys that no config has, and those keys, dotted."""
    known = set(known_keys())
    strange: list[str] = []

    def walk(node: Any, prefix: str) -> Any:
        if not isinstance(node, dict):
            return node
        strange.extend(f"{prefix}{name}" for name in node if f"{prefix}{name}" not in known)
        return {name: walk(value, f"{prefix}{name}.") for name, value in node.items() if f"{prefix}{name}" in known}
    return walk(tree, ""), tuple(strange)


def dump_config(config: Config) -> str:
    """The config as YAML, every key written out."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False)
