"""Names: the forms of a list, and those that a model of spaCy finds."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from mmtune.errors import ConfigError, MissingExtra
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.names import read_names
from mmtune.privacy.private_span import replace_spans

LIST = ["Anna Müller", "O'Brien", "Jean-Luc Castaigne", "Zoë", "Will Short", "王小明", "Łukasz Øre"]
FINDER = PrivateWordFinder(names=LIST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna Müller, ANNA MÜLLER, anna müller", "[NAME], [NAME], [NAME]"),
        ("Anna Muller and anna mueller", "[NAME] and [NAME]"),
        ("Müller, Anna", "[NAME]"),
        ("Anna Müller's file, Annas Akte, the Müllers", "[NAME]'s file, [NAME] Akte, the [NAME]"),
        ("mr o'brien, O’Brien, OBrien, O'BRIEN's", "mr [NAME], [NAME], [NAME], [NAME]'s"),
        ("Jean Luc Castaigne or jean-luc castaigne", "[NAME] or [NAME]"),
        ("zoe called Zoë", "[NAME] called [NAME]"),
        ("Lukasz Ore, łukasz øre", "[NAME], [NAME]"),
        ("she's M U L L E R or m as in mike u l l e r", "she's [NAME] or [NAME]"),
        ("it's mike uniform double lima echo romeo", "it's [NAME]"),
        ("王小明说", "[NAME]说"),
        # A part of a name counts with a capital, or where nothing has one.
        ("Will Short: will you call short stories?", "[NAME]: will you call short stories?"),
        ("will called", "[NAME] called"),
        ("annabel mullered it, Zoey", "annabel mullered it, Zoey"),
    ],
)  # fmt: skip
def test_forms_of_a_name(text: str, expected: str) -> None:
    assert replace_spans(text, FINDER.find(text, "en")) == expected


def test_a_list_is_read(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeff# callers\nAnna Müller\n\n  O'Brien \n", encoding="utf-8")
    assert read_names(path) == ("Anna Müller", "O'Brien")
    path.write_text("# none\n", encoding="utf-8")
    for wrong in (path, tmp_path / "missing.txt", tmp_path):
        with pytest.raises(ConfigError, match=wrong.name):
            read_names(wrong)


def test_without_spacy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingExtra, match=r"mmtune\[ner\]"):
        PrivateWordFinder(name_model="en_core_web_md")


def test_without_phonenumbers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtune.privacy.phone_numbers import load_phonenumbers

    load_phonenumbers.cache_clear()
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(MissingExtra, match=r"mmtune\[privacy\]"):
        PrivateWordFinder()


def test_a_model_s_persons_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entity:
        def __init__(self, text: str, word: str, label: str) -> None:
            self.start_char = text.find(word)
            self.end_char = self.start_char + len(word)
            self.label_ = label

    class Model:
        pipe_names = ("ner",)

        def __call__(self, text: str) -> SimpleNamespace:
            people = {"Grace Hopper": "PERSON", "Acme": "ORG", "NAME": "PER"}
            return SimpleNamespace(
                ents=[Entity(text, word, label) for word, label in people.items() if word in text]
            )

    spacy = SimpleNamespace(load=lambda name: Model())
    monkeypatch.setitem(sys.modules, "spacy", cast("ModuleType", spacy))
    finder = PrivateWordFinder(name_model="any")
    text = "Grace Hopper of Acme"
    assert replace_spans(text, finder.find(text, "en")) == "[NAME] of Acme"


@pytest.mark.slow
def test_a_model_of_spacy(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    model = spacy.blank("en")
    model.to_disk(tmp_path / "no-entities")
    ruler = model.add_pipe("entity_ruler")
    ruler.add_patterns([
        {"label": "PERSON", "pattern": "Grace Hopper"},
        {"label": "ORG", "pattern": "Acme"},
        {"label": "PERSON", "pattern": [{"LOWER": "name"}]},  # it mustn't find what is replaced
    ])  # fmt: skip
    model.to_disk(tmp_path / "model")
    finder = PrivateWordFinder(name_model=str(tmp_path / "model"))
    assert finder.searches_unlisted_names
    text = "Grace Hopper of Acme, card 4111 1111 1111 1111, and Zoë"
    expected = "[NAME] of Acme, card [CARD], and Zoë"
    assert replace_spans(text, finder.find(text, "en")) == expected
    assert finder.find(expected, "en") == []
    for name in ("no-entities", "missing"):
        with pytest.raises(ConfigError, match=name):
            PrivateWordFinder(name_model=str(tmp_path / name))
