"""Read the list of words that hurt: profanity, insults and violence."""

from __future__ import annotations

from mmtune.errors import ConfigError
from mmtune.speech.corpus.line_list import read_entries
from mmtune.speech.speech_options import SpeechOptions
from mmtune.system.resources import resource


def hurtful_words(options: SpeechOptions) -> tuple[str, ...]:
    """The words of `task.hurtful`, or of mmtune's own list of the language; empty without one.

    A line that begins with # is a comment.

    Raises:
        ConfigError: the file is missing, empty or not text.
    """
    path = options.hurtful
    if path is None:
        own = {each.stem: each for each in resource("assets", "hurtful").glob("*.txt")}
        path = own.get(options.language)
        if path is None:
            return ()
    words = read_entries(path, "give a UTF-8 text file: --hurtful FILE")
    if not words:
        raise ConfigError(f"{path} has no words", "write one word or phrase a line")
    return tuple(dict.fromkeys(words))
