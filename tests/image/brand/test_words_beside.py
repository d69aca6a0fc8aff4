"""Prompts with forbidden words are refused, by the user's guide or by the adapter's."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmtune
from mmtune.errors import ConfigError
from mmtune.image.brand.brand_guide import read_guide
from mmtune.image.brand.forbidden_words import refuse_words
from mmtune.image.brand.words_beside import GUIDE_FILE, words_of, write_words


def guide(path: Path, *words: str) -> Path:
    path.write_text(f"brand: Acme\nforbidden_words: [{', '.join(words)}]\n")
    return path


def test_an_adapter_carries_the_words_of_its_guide(tmp_path: Path) -> None:
    adapter, plain = tmp_path / "adapter", tmp_path / "plain"
    adapter.mkdir()
    plain.mkdir()
    path = guide(tmp_path / "brand.yaml", "cheap", "low cost")
    write_words(read_guide(path), adapter)
    assert words_of(None, [adapter, plain]) == {adapter / GUIDE_FILE: ("cheap", "low cost")}
    other = guide(tmp_path / "other.yaml", "gun")
    assert words_of(other, [adapter]) == {other: ("gun",)}
    (tmp_path / "trigger.yaml").write_text("trigger: acme icon\n")
    write_words(read_guide(tmp_path / "trigger.yaml"), plain)
    assert list(plain.iterdir()) == []


def test_a_prompt_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    brand = guide(tmp_path / "brand.yaml", "cheap")
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "image": "a.png", "caption": "CHEAP car"}\n')
    (tmp_path / "a.png").touch()
    for given in ({"prompts": ["a car", "a cheap car"]}, {"rows": tmp_path / "rows.jsonl"}):
        with pytest.raises(ConfigError, match=r"(?i)cheap car' has 'cheap', which .*forbids"):
            mmtune.generate(**given, base=str(tmp_path), brand=brand, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_message_names_all_words_and_the_cure() -> None:
    with pytest.raises(ConfigError, match="has 'cheap', 'gun'") as error:
        refuse_words(["a cheap gun"], ["gun-metal", "cheap", "gun"], "brand.yaml")
    assert "--brand FILE" in error.value.cure
