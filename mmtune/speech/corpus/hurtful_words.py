"""Read the list of words that hurt: profanity, insults and violence."""

from __future__ import annotations

from pathlib import Path

from mmtune.errors import ConfigError
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
    words = _lines(path)
    if not words:
        raise ConfigError(f"{path} has no words", "write one word or phrase a line")
    return words


def _lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} can't be read: {error}", "give a UTF-8 text file: --hurtful FILE"
        ) from None
    lines = (line.strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
