"""What the documentation says is so, and the house stands as it is drawn."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from asr.cli import cli
from asr.config import known_keys

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", *sorted(ROOT.glob("recipes/*/README.md"))]
BASE = {"config", "plain", "errors", "files"}
BELOW = {                       # what the modules of each room may import, beside themselves and BASE
    "corpus": set(),
    "frontend": {"corpus"},
    "model": {"frontend", "corpus"},
    "search": {"model", "frontend", "corpus"},
    "training": {"model", "frontend", "corpus"},
    "reporting": {"training", "search", "model", "frontend", "scoring", "formats", "corpus"},
    "scoring": {"corpus"},
    "formats": {"corpus"},
}
WITHOUT_TORCH = ("corpus", "scoring", "formats")


# Commands -----------------------------------------------------------------------------------------------------------

def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Simple commands of a page's code, blocks and spans: (as written, words)."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4}(\S.*)$", rest, re.MULTILINE)
    lines += re.findall(r"`([^`\n]+)`", rest)
    for line in lines:
        for part in re.split(r"\|\||&&|[|;]|(?<=\s)#", line.removeprefix("$ ")):
            try:
                words = shlex.split(part)
            except ValueError:
                continue                # an apostrophe: prose or output, not a command
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)            # VAR=value command
            if words:
                yield part.strip(), words


def documented(*programs: str) -> list[tuple[str, str, list[str]]]:
    """Uses of a program in all pages: (page, as written, its arguments)."""
    uses = []
    for page in READMES:
        for written, words in commands(page):
            launched = next((n for n, word in enumerate(words) if word.removeprefix(".venv/bin/") in programs), None)
            if launched is not None and (launched == 0 or words[0] in ("torchrun", "python")):
                uses.append((str(page.relative_to(ROOT)), written, words[launched + 1:]))
    return uses


@pytest.mark.parametrize(("page", "written", "words"), documented("asr"))
def test_commands_and_options_exist(page: str, written: str, words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            return                      # `asr …`, `asr COMMAND`
        assert name in command.commands, f"{page}: `{written}`: there is no command {name!r}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    known |= {"-h", "--help"}
    for number, word in enumerate(words):
        option = word.partition("=")[0]
        if re.fullmatch(r"-[a-zA-Z]|--[a-z][a-z0-9-]*", option):
            assert option in known, f"{page}: `{written}`: {command.name} has no option {option}"
        key = words[number + 1].partition("=")[0] if option == "-o" and number + 1 < len(words) else ""
        if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", key):
            assert key in known_keys(), f"{page}: `{written}`: the config has no key {key}"


@cache
def help_of(script: str) -> str:
    return subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True,
                          timeout=60).stdout


@pytest.mark.parametrize(("page", "written", "words"), documented("python"))
def test_scripts_and_their_options_exist(page: str, written: str, words: list[str]) -> None:
    if not words or not words[0].endswith(".py"):
        return                          # python -m …, python -c …
    assert (ROOT / words[0]).is_file(), f"{page}: `{written}`: there is no {words[0]}"
    for word in words[1:]:
        if re.fullmatch(r"--[a-z][a-z0-9-]*", word.partition("=")[0]):
            assert word.partition("=")[0] in help_of(words[0]), f"{page}: `{written}`: no option {word}"


def test_named_files_exist() -> None:
    """Paths of the repository in code or links: `conf/x.yaml`, `tools/test`, [results](recipes/x/RESULTS.md)."""
    missing = []
    for page in READMES:
        text = page.read_text(encoding="utf-8")
        words = [word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]
        words += [word for _, words in commands(page) for word in words]
        words += [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in link]
        for word in words:
            word = word.strip("[](),:;")
            inside = re.match(r"(asr|conf|recipes|tests|tools|\.ci)/", word)
            pattern = re.search(r"[*…{}<>]|\b[A-Z]{2,}\b|\.\.\.", word)      # recipes/NAME/prepare.py
            if inside and not pattern and not (ROOT / word).exists() and not (page.parent / word).exists():
                missing.append(f"{page.relative_to(ROOT)}: {word}")
    assert missing == []


def test_every_recipe_explains_itself() -> None:
    for prepare in ROOT.glob("recipes/*/prepare.py"):
        assert prepare.with_name("README.md").exists(), f"{prepare.parent.name} has no README.md"


# The house ----------------------------------------------------------------------------------------------------------

def imports(path: Path) -> set[str]:
    """Everything that a module imports, also inside functions, as dotted names."""
    found: set[str] = set()
    package = path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = [*package[:-node.level], *(node.module or "").split(".")] if node.level else [node.module or ""]
            found |= {".".join([*origin, alias.name]) for alias in node.names}
    return found


def room(module: str) -> str:
    """The part of the house that `asr.x.y` lives in: x."""
    parts = module.split(".")
    return parts[1] if parts[0] == "asr" and len(parts) > 1 else ""


def test_imports_go_down_only() -> None:
    wrong = []
    for path in sorted(ROOT.glob("asr/**/*.py")):
        parts = path.relative_to(ROOT / "asr").parts
        here = Path(parts[0]).stem
        used = {room(module) for module in imports(path)} - {"", here}
        if here in ("cli", "__main__"):
            continue                    # the top: it may see everything
        if here in BASE:
            allowed: set[str] = BASE
        elif len(parts) > 1:
            assert here in BELOW, f"asr/{here} is a new room: give it a line in BELOW"
            allowed = BELOW[here] | BASE
        else:
            allowed = used - {"cli"}    # a stage may use every room and other stages, never the command line
        wrong += [f"asr/{'/'.join(parts)} imports asr.{name}" for name in sorted(used - allowed)]
    assert wrong == []


def test_corpus_scoring_and_formats_work_without_torch() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
               for name in WITHOUT_TORCH for path in sorted(ROOT.glob(f"asr/{name}/**/*.py"))]
    assert len(modules) > 5
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
    for name in WITHOUT_TORCH:          # nor may a function of theirs, which would not show above
        for path in ROOT.glob(f"asr/{name}/**/*.py"):
            assert not {module.split(".")[0] for module in imports(path)} & {"torch", "torchaudio"}, path


def test_nothing_but_a_recipe_imports_the_synthesiser() -> None:
    users = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("**/*.py") if ".venv" not in path.parts
             and any(module.split(".")[0] == "espeakng_loader" for module in imports(path))]
    assert users == ["recipes/espeak/espeak.py"]


def test_the_command_line_answers_before_torch_is_loaded() -> None:
    code = "import sys, asr.cli\nprint(sorted({'torch', 'librosa', 'soundfile', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


# What has no place in the repository ----------------------------------------------------------------------------------

def test_no_registry_and_no_machine_is_named_in_a_tracked_file() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    # written in two halves, so that this file does not find itself
    hosts = ("pypi" + ".org", "python" + "hosted", "registry." + "npmjs", "deb.debian" + ".org")
    paths = ("/" + "work/", "/" + "farm/", "/tmp/" + "team", "/" + "root/", "bash" + "_jobs")
    words = re.compile("|".join(map(re.escape, hosts + paths)).encode())
    tracked = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    assert len(tracked) > 20
    assert [str(path.relative_to(ROOT)) for path in tracked if path.is_file() and words.search(path.read_bytes())] == []
