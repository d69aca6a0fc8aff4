"""Registration: names are listed without loading, and one broken plugin breaks nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.errors import ConfigError
from mmtune.system.plugins import PluginError, Registry

GROUP = "mmtune.tests"


def install(folder: Path, package: str, module: str, code: str, **names: str) -> None:
    """What pip leaves behind: a module, and metadata with its entry points."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in names.items())
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}")


def registry() -> Registry[object]:
    return Registry("thing", GROUP, {"number": 7, "name": "mmtune.errors:ConfigError"})


def test_built_in_values_are_objects_or_names_to_import() -> None:
    known = registry()
    assert list(known) == ["number", "name"]
    assert known["number"] == 7
    assert known["name"] is ConfigError
    assert "other" not in known
    assert known.get("other") is None
    with pytest.raises(
        ConfigError, match=r"recipe: unknown thing 'numbr'\n.*did you mean number\?"
    ):
        known.find("numbr", "recipe")


def test_a_plugin_is_listed_and_loaded_when_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "good", "good_plugin", "VALUE = 'hello'", added="good_plugin:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    known = registry()
    assert list(known) == ["number", "name", "added"]
    assert "good_plugin" not in sys.modules
    assert known["added"] == "hello"
    assert known.third_party() == ["added"]


@pytest.mark.parametrize(
    "code", ["import no_such_package", "raise RuntimeError('gone wrong')", "OTHER = 1", "1 +"]
)
def test_a_broken_plugin_is_named_and_breaks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    install(tmp_path, "broken-things", "broken_plugin", code, added="broken_plugin:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    known = registry()
    assert list(known) == ["number", "name", "added"]
    assert known["number"] == 7
    with pytest.raises(PluginError, match=r"'added'.*broken-things 1\.0.*\n.*pip uninstall"):
        known.find("added")
    with pytest.warns(RuntimeWarning, match="broken-things"):
        assert dict(known.usable()) == {"number": 7, "name": ConfigError}


def test_two_plugins_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "one", "one_plugin", "VALUE = 1", added="one_plugin:VALUE")
    install(tmp_path, "two", "two_plugin", "VALUE = 2", added="two_plugin:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    known = registry()
    assert list(known) == ["number", "name", "added"]
    with pytest.raises(PluginError, match=r"one 1\.0 and two 1\.0"):
        known.find("added")


def test_no_plugin_replaces_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "taker", "taker_plugin", "VALUE = 1", number="taker_plugin:VALUE")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning, match=r"taker 1\.0.*'number'.*mmtune"):
        assert registry()["number"] == 7


def test_a_value_can_be_added_in_the_same_process() -> None:
    known = registry()
    known.add("more", 8)
    assert known["more"] == 8
    assert known.third_party() == ["more"]
    with pytest.raises(ConfigError, match="'more' is registered already"):
        known.add("more", 9)
    known.remove("more")
    assert "more" not in known


def test_help_works_beside_broken_plugins(tmp_path: Path) -> None:
    install(tmp_path, "broken", "broken_plugin", "raise SystemError", added="broken_plugin:VALUE")
    entry = tmp_path / "broken-1.0.dist-info" / "entry_points.txt"
    groups = ("modalities", "metrics", "export_formats.speech", "merge_methods")
    entry.write_text("".join(f"[mmtune.{g}]\nadded = broken_plugin:V\n" for g in groups))
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n"
        "from mmtune import cli\n"
        "for words in (['export', '--help'], ['compose', '--help'], ['check', '--help']):\n"
        "    try: cli.parse(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "cli.main([])\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "added" in done.stdout
