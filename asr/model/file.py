"""The model file: one `.asr`, which is safetensors with everything that decoding needs in its header.

The header's metadata hold the config, the phone set, the provenance (data, commit, PER), the version of `asr` that
wrote it, and a SHA-256 over them and the tensors; the tensors are the weights and the normaliser. Nothing in the file
can run code.

A file of another version may hold config keys that this one does not know. Those that only say how it was trained or
searched (`train`, `decode`) are passed over with a warning; any other would change what the weights compute, so the
file is refused, by the name of the version that wrote it. Keys that are missing have their defaults.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import Config, override_decoding, parse_config, without_unknown
from asr.corpus.phones import PhoneSet
from asr.errors import AsrError, printable
from asr.files import writing

if TYPE_CHECKING:
    from torch import Tensor

    from asr.frontend.fbank import Normaliser
    from asr.model.frames import FrameClassifier
    from asr.model.recognizer import Recognizer

FORMAT = "asr-1"
TIMES = "times."        # what the classifier's tensors begin with
HARMLESS = ("train", "decode")      # sections that say nothing about what the weights mean


@dataclass(frozen=True)
class Header:
    """What a model file says of itself."""

    config: Config
    phones: PhoneSet
    provenance: Mapping[str, Any]
    sha256: str                         # as the file has it; `load_model` compares
    metadata: Mapping[str, str]         # the texts that all this was read from
    passed_over: tuple[str, ...] = ()   # keys of its config that this version does not know, and does not need

    @property
    def version(self) -> str:
        """The version of `asr` that wrote it; "" where that was not noted."""
        return self.metadata.get("version", "")


@dataclass(frozen=True)
class Model:
    """A model, ready to decode."""

    header: Header
    network: Recognizer
    normaliser: Normaliser
    classifier: FrameClassifier | None = None       # of feature frames, where it was trained with phone times

    @property
    def config(self) -> Config:
        """The config that the model was trained with."""
        return self.header.config

    def told(self, overrides: Sequence[str]) -> Model:
        """The same model with other settings of `decode`, or another `features.channel`.

        Raises:
            UsageError: as `config.override_decoding`.
        """
        return replace(self, header=replace(self.header, config=override_decoding(self.config, overrides)))

    @property
    def phones(self) -> PhoneSet:
        """The phones that the model knows."""
        return self.header.phones


def load_header(path: Path) -> Header:
    """What the file says of itself; torch is not needed for it.

    Raises:
        AsrError: the file is missing, cut short, or no model; or another version's, which this one would misread.
    """
    from safetensors import SafetensorError, safe_open
    try:
        Path(path).open("rb").close()         # its error is better worded than safetensors'
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, MemoryError) as error:
        raise AsrError(f"{path}: no model, or cut short ({error}): copy it again or train it anew") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "not named")
        raise AsrError(f"{path}: no model of ours: its format is {found!r}, not {FORMAT!r}")
    try:
        phones, provenance = json.loads(metadata["phones"]), json.loads(metadata["provenance"])
        tree, digest = json.loads(metadata["config"]), metadata["sha256"]
        if not (isinstance(phones, list) and all(isinstance(p, str) for p in phones) and isinstance(provenance, dict)):
            raise TypeError
    except (KeyError, ValueError, TypeError, RecursionError):
        raise AsrError(f"{path}: the model's header is damaged: copy the file again or train it anew") from None
    tree, strange = _understood(tree, path, metadata.get("version", ""))
    try:
        return Header(parse_config(tree, str(path)), PhoneSet(phones), provenance, digest, metadata, strange)
    except AsrError as error:
        raise AsrError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _understood(tree: Any, path: Path, version: str) -> tuple[Any, tuple[str, ...]]:
    """The config's tree without what this version does not know and does not need, and the keys left out."""
    tree, strange = without_unknown(tree)
    for key in strange:
        if key.partition(".")[0] not in HARMLESS:
            raise AsrError(f"{path}: was written by {_writer(version)}; this is asr {own_version()}, which does not "
                           f"know '{key}' of its config: install the version that wrote it, or train the model anew")
    return tree, strange


def _writer(version: str) -> str:
    if not version:
        return "a version that left no name"
    return f"another state of asr {version}" if version == own_version() else f"asr {version}"


def own_version() -> str:
    """The version of this package; "unknown" where it runs without having been installed."""
    try:
        return installed.version("asr")
    except installed.PackageNotFoundError:
        return "unknown"


def save_model(path: Path, network: Recognizer, config: Config, phones: PhoneSet, normaliser: Normaliser,
               provenance: Mapping[str, Any], *, classifier: FrameClassifier | None = None, half: bool = False) -> None:
    """Write the model whole or not at all; `half` stores the weights as float16."""
    import torch
    from safetensors.torch import save
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if classifier is not None:
        tensors |= {TIMES + name: tensor.detach().cpu().contiguous()
                    for name, tensor in classifier.state_dict().items()}
    if half:
        tensors = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
    tensors |= {"normaliser.mean": normaliser.mean.float().contiguous(),
                "normaliser.std": normaliser.std.float().contiguous()}
    metadata = {"format": FORMAT, "version": own_version(), "config": json.dumps(config.model_dump()),
                "phones": json.dumps(phones.phones), "provenance": json.dumps(dict(provenance), ensure_ascii=False)}
    metadata["sha256"] = _digest(tensors, metadata)
    with writing(Path(path), "wb") as file:
        file.write(_ordered(save(tensors, metadata)))


def _ordered(data: bytes) -> bytes:
    """The same file with its header's keys sorted: safetensors leaves the metadata in an order of chance."""
    size = int.from_bytes(data[:8], "little")
    tree = json.loads(data[8:8 + size])
    header = json.dumps(tree, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)         # the tensors begin at a multiple of eight bytes
    return b"".join([len(header).to_bytes(8, "little"), header, memoryview(data)[8 + size:]])


def load_model(path: Path, device: str = "cpu") -> Model:
    """Read a model and check it: tensors, shapes, checksum, finite weights.

    Raises:
        AsrError: what is wrong with the file and what to do.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from asr.frontend.fbank import Normaliser, feature_width
    from asr.model.frames import FrameClassifier
    from asr.model.recognizer import Recognizer
    header = load_header(path)
    advice = "copy the file again or train it anew"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise AsrError(f"{path}: cut short or damaged ({error}): {advice}") from error
    if _digest(tensors, header.metadata) != header.sha256:
        raise AsrError(f"{path}: does not match its checksum, the file is damaged: {advice}")
    if header.passed_over:
        keys = ", ".join(header.passed_over)
        print(printable(f"asr: {path}: was written by {_writer(header.version)}: {keys} of its config mean nothing to "
                        "this one and are passed over"), file=sys.stderr)
    width = feature_width(header.config.features)
    held = sum(tensor.numel() for tensor in tensors.values())
    if _fewest_weights(header.config) > held:       # before memory is taken for them
        raise AsrError(f"{path}: holds {held:,} weights, and its config asks for more: {advice}")
    network = Recognizer(header.config, width, len(header.phones))
    classifier = FrameClassifier(header.config.times, width, network.encoder.width, network.encoder.stride,
                                 len(header.phones)) if any(name.startswith(TIMES) for name in tensors) else None
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if classifier is not None:
        expected |= {TIMES + name: tensor.shape for name, tensor in classifier.state_dict().items()}
    expected |= {"normaliser.mean": torch.Size([width]), "normaliser.std": torch.Size([width])}
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in expected or name not in tensors or expected[name] != tensors[name].shape:
            found = list(tensors[name].shape) if name in tensors else "missing"
            wanted = list(expected[name]) if name in expected else "no such tensor"
            raise AsrError(f"{path}: tensor {name!r} is {found}, the model's config says {wanted}: {advice}")
        if not tensors[name].is_floating_point() or not tensors[name].isfinite().all():
            raise AsrError(f"{path}: tensor {name!r} holds values that are no finite numbers: {advice}")
    normaliser = Normaliser(tensors.pop("normaliser.mean").float(), tensors.pop("normaliser.std").float())
    weights = {name: tensor.float() for name, tensor in tensors.items()}
    network.load_state_dict({name: w for name, w in weights.items() if not name.startswith(TIMES)}, assign=True)
    if classifier is not None:
        classifier.load_state_dict({name: weights[TIMES + name] for name in classifier.state_dict()}, assign=True)
        classifier = classifier.to(device).eval()
    return Model(header, network.to(device).eval(), normaliser, classifier)


def _fewest_weights(config: Config) -> int:
    """Weights that a network of this config has at least: those that grow with the product of two of its widths."""
    encoder, attention, decoder = config.encoder, config.attention, config.decoder
    count = len(encoder.pyramid) * 6 * encoder.width ** 2 + 3 * decoder.width * (decoder.width + decoder.embedding)
    count += decoder.output_width * decoder.width
    if attention.kind in ("content", "hybrid"):
        count += 2 * encoder.width * attention.width
    if attention.kind in ("location", "hybrid"):
        count += attention.filters * (attention.taps + attention.width)
    return count + (attention.width * decoder.width if attention.kind != "none" else 0)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over the metadata, and names, types, shapes and bytes of all tensors."""
    import torch
    texts = {key: text for key, text in metadata.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
