"""The pages name only what exists: commands, settings, files, links, verdicts; and no machine."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from mmtune import cli
from mmtune.cli.run_commands import split_settings
from mmtune.config import RunConfig, read_yaml
from mmtune.errors import ConfigError
from mmtune.evaluation.verdict import EXIT_CODES
from mmtune.runs.modalities import find_modality, modality_names
from mmtune.runs.recipes import configure
from mmtune.settings.declare import settings_of
from mmtune.settings.naming import resolve
from mmtune.system.resources import resource

ROOT = Path(__file__).parent.parent
PATTERNS = (
    *("README.md", "CONTRIBUTING.md", "docs/*.md", "eval/README.md", "recipes/*/README.md"),
    *("assets/*/README.md", "tools/starter/README.md"),
)
PAGES = [page for pattern in PATTERNS for page in sorted(ROOT.glob(pattern))]
ANY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.M | re.S)
LAUNCHERS = re.compile(r"^(?:accelerate launch|torchrun)\b.* -m (?=mmtune )")
FILES = {"html", "json", "jsonl", "pid", "py", "tsv", "yaml"}  # what isn't a setting's last part
OF_OTHER_PROGRAMS = {"--signal"}  # Slurm's
FIRST_PERSON = re.compile(r"\b(?:we|us|ours|let's)\b", re.I)


def commands_in(text: str) -> list[str]:
    """Lines of a page's fenced and indented code that start a command, without a prompt."""
    indented = "\n".join(re.findall(r"^    (\S.*)$", FENCED.sub("", text), re.M))
    found = []
    for block in (*FENCED.findall(text), indented):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.split(r"\s+#\s", line.strip().removeprefix("$ "))[0].strip()
            line = LAUNCHERS.sub("", line)
            if re.match(r"(?:mmtune|make|python) ", line):
                found.append(line)
    return found


@cache
def settings_with(modality: str) -> frozenset[str]:
    """Full names of all settings of a modality's recipes."""
    tasks = settings_of(find_modality(modality).options, "task.")
    return frozenset(setting.name for setting in (*settings_of(RunConfig), *tasks))


def check(line: str, copies: dict[str, str]) -> None:
    """Raise an error if a command can't be run as it stands, as far as that needs no files.

    Args:
        copies: recipes that `mmtune init` copied on this page, by their folder; it is changed.
    """
    words = shlex.split(line)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif words[0] == "python":
        check_script(words[1:])
    elif words[1] == "train":
        recipe, settings = split_settings(words[2:])
        recipe = copies.get(recipe.removesuffix("/recipe.yaml"), recipe)
        try:
            configure(read_yaml(resource("recipes", recipe) / "recipe.yaml"), line, settings)
        except ConfigError as error:
            if not re.search("no such (file or )?folder", str(error)):
                raise
    elif words[1:] not in (["--help"], ["--version"]):
        _, options = cli.parse(words[1:])
        for key in getattr(options, "settings", {}):
            assert is_setting(key), f"no setting {key}"
        if words[1] == "init":
            copies[str(options.to or options.recipe)] = options.recipe


def is_setting(key: str) -> bool:
    """Whether the recipes of some modality have a setting of this full or short name."""
    for modality in modality_names():
        try:
            resolve(key, settings_with(modality))
        except ConfigError:
            continue
        return True
    return False


def check_script(words: list[str]) -> None:
    """A script or module exists, and its text names each option."""
    if words[0] == "-m":
        found = importlib.util.find_spec(words[1])
        assert found is not None, words[1]
        file = Path(str(found.origin))
        if file.name == "__init__.py":
            file = file.with_name("__main__.py")
        words = words[1:]
    else:
        file = ROOT / words[0]
    text = file.read_text()
    for option in (word.partition("=")[0] for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in text, f"{file}: no option {option}"


def fault_of(line: str, copies: dict[str, str]) -> str:
    """What is wrong with a command; empty if nothing is."""
    try:
        check(line, copies)
    except (Exception, SystemExit) as error:
        return repr(error)
    return ""


@ANY_PAGE
def test_commands_in_code_exist_with_their_options(page: Path) -> None:
    copies: dict[str, str] = {}
    wrong = {
        line: fault for line in commands_in(page.read_text()) if (fault := fault_of(line, copies))
    }
    assert wrong == {}


WRONG = {
    "a command": "mmtune translate call.wav",
    "an option": "mmtune export runs/a --format kohya --out b --quality high",
    "a setting": "mmtune train dialect --lerning_rate 1",
    "a setting of evaluate": "mmtune evaluate runs/a --retentoin x",
    "a recipe": "mmtune train poetry",
    "a target": "make coffee",
    "a script": "python benchmarks/nothing.py",
    "a script's option": "python benchmarks/terms.py --nothing 1",
    "a module": "python -m tests.nothing",
    "a module's option": "python -m tests.fuzz --nothing",
    "after a launcher": "torchrun --nproc-per-node 2 -m mmtune evaluate runs/a --sute b",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_command_is_found(what: str) -> None:
    for text in (f"```\n$ {WRONG[what]}  # why\n```\n", f"So:\n\n    {WRONG[what]}\n"):
        (line,) = commands_in(text)
        assert fault_of(line, {})


def test_a_copied_recipe_is_one() -> None:
    copies: dict[str, str] = {}
    train = "mmtune train ours/recipe.yaml --lr 1e-3"
    assert fault_of(train, {}), "nothing was copied"
    assert not fault_of("mmtune init terminology --to ours", copies)
    assert not fault_of(train, copies)


@ANY_PAGE
def test_commands_in_sentences_exist(page: Path) -> None:
    """`mmtune x --y` in a sentence may lack arguments; the command and each option exist."""
    for code in re.findall(r"(?<!`)`(mmtune [^`]+)`(?!`)", FENCED.sub("", page.read_text())):
        words = code.replace("[", " ").replace("]", " ").split()
        names = words[1].split("|")
        for name in names:
            assert name.startswith("-") or name in cli.COMMANDS or name.isupper(), code
        if len(names) == 1 and names[0] in cli.COMMANDS:
            for word in words[2:]:
                option = word.partition("=")[0]
                assert not option.startswith("--") or exists(names[0], option), code


def exists(command: str, option: str) -> bool:
    """Whether a command has an option, or takes the setting of that name."""
    if command in ("train", "evaluate") and is_setting(option.removeprefix("--")):
        return True
    return option_in(option, help_of(command))


def option_in(option: str, text: str) -> bool:
    return re.search(rf"{re.escape(option)}(?![\w-])", text) is not None


@cache
def help_of(command: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        cli.parse([command, "--help"])
    return printed.getvalue()


@ANY_PAGE
def test_settings_in_sentences_exist(page: Path) -> None:
    sections = "data|lora|train|report|task"
    for key in re.findall(rf"`(?:--)?((?:{sections})\.[a-z_.]+)[`: ]", page.read_text()):
        assert is_setting(key) or is_section(key) or key.rpartition(".")[2] in FILES, key


def is_section(key: str) -> bool:
    names = [name for modality in modality_names() for name in settings_with(modality)]
    return any(name.startswith(f"{key}.") for name in names)


@ANY_PAGE
def test_options_in_sentences_exist(page: Path) -> None:
    """`--x` alone in a sentence is an option of some command or script, or a setting."""
    for option in re.findall(r"`(--[a-z][\w.-]*)[` =]", FENCED.sub("", page.read_text())):
        known = is_setting(option.removeprefix("--")) or option in OF_OTHER_PROGRAMS
        known = known or f'"{option}"' in scripts()
        assert known or any(option_in(option, help_of(name)) for name in cli.COMMANDS), option


@cache
def scripts() -> str:
    """The text of all scripts, and of the test modules that have options."""
    files = [
        f for folder in ("benchmarks", "tools", "recipes") for f in (ROOT / folder).rglob("*.py")
    ]
    files += [f for name in ("faults", "fuzz") for f in (ROOT / "tests" / name).glob("*.py")]
    return "".join(file.read_text() for file in files)


@ANY_PAGE
def test_files_in_sentences_exist(page: Path) -> None:
    folders = "mmtune|tests|benchmarks|tools|eval|recipes|assets|docs"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*[\w/])[`:]", page.read_text()):
        assert (ROOT / name).exists(), name


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: list[str] = []
    for title in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.M):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return set(found)


@ANY_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            file = (page.parent / target) if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), f"{target}#{anchor}"


def test_what_does_not_exist_is_told_from_what_does() -> None:
    assert (is_setting("task.keep_base"), is_setting("task.keep")) == (True, False)
    assert (is_section("task.mix"), is_section("task.mi")) == (True, False)
    assert (exists("export", "--scale"), exists("export", "--sca")) == (True, False)
    assert (exists("train", "--lr"), exists("export", "--lr")) == (True, False)
    assert anchors("# `A b`: C, d\n```\n# no\n```\n## E\n### E\n") == {"a-b-c-d", "e", "e-1"}


def test_the_table_of_exit_codes_is_the_code_s() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    _, _, table = page.partition("| exit code | verdict |\n|---|---|\n")
    found = dict(re.findall(r"^\| (\d) \| (.+) \|$", table.partition("\n\n")[0], re.M))
    by_code = {str(code): set[str]() for code in (2, *EXIT_CODES.values())}
    for decision, code in EXIT_CODES.items():
        by_code[str(code)].add(decision)
    assert found.pop("2") == "none: an error"
    del by_code["2"]
    assert {code: set(text.split(", or ")) for code, text in found.items()} == by_code


def test_the_table_of_verdicts_is_the_code_s() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    _, _, table = page.partition("| verdict | when |\n|---|---|\n")
    found = re.findall(r"^\| ([a-z ]+) \|", table.partition("\n\n")[0], re.M)
    assert sorted(found) == sorted(EXIT_CODES)


@ANY_PAGE
def test_no_page_speaks_of_us_or_of_a_machine(page: Path) -> None:
    text = page.read_text()
    assert str(ROOT) not in text
    assert str(Path.home()) + "/" not in text
    assert FIRST_PERSON.findall(re.sub(r"`[^`]*`", "", FENCED.sub("", text))) == []
