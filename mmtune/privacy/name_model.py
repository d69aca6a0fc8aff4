"""Names that a spaCy model finds, beside those of the user's list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmtune.errors import ConfigError, MissingExtra, first_line

PERSONS = frozenset({"PERSON", "PER", "persName"})  # labels of persons in spaCy's models


class NameModel:
    """A spaCy model that is installed, or lies in a folder. Nothing is downloaded.

    Args:
        name: such as en_core_web_md, or a folder.

    Raises:
        MissingExtra: spaCy isn't installed.
        ConfigError: there is no such model, or it finds no entities.
    """

    def __init__(self, name: str) -> None:
        try:
            import spacy
        except ImportError:
            raise MissingExtra("spacy", "ner", f"the model of names {name}") from None
        try:
            self._model: Any = spacy.load(name)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(
                f"--name-model {name} can't be loaded: {first_line(error)}",
                f"install it: python -m spacy download {name}; or give another model's name",
            ) from None
        if not {"ner", "entity_ruler", "span_ruler"} & set(self._model.pipe_names):
            raise ConfigError(
                f"--name-model {name} finds no names: its parts are "
                f"{', '.join(self._model.pipe_names) or 'none'}",
                "give a model with a part 'ner'",
            )

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Find the places of persons' names in a text."""
        for entity in self._model(text).ents:
            if entity.label_ in PERSONS:
                yield entity.start_char, entity.end_char
