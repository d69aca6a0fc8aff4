"""The language of speech: names, codes and tags become Whisper's code, once, where they enter."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from mmtune.errors import did_you_mean

# Whisper's codes (of large-v3) and English names, as openai/whisper's tokenizer has them.
LANGUAGES: dict[str, str] = dict(
    pair.replace("_", " ").split(":")
    for pair in """
        af:afrikaans am:amharic ar:arabic as:assamese az:azerbaijani ba:bashkir be:belarusian
        bg:bulgarian bn:bengali bo:tibetan br:breton bs:bosnian ca:catalan cs:czech cy:welsh
        da:danish de:german el:greek en:english es:spanish et:estonian eu:basque fa:persian
        fi:finnish fo:faroese fr:french gl:galician gu:gujarati ha:hausa haw:hawaiian he:hebrew
        hi:hindi hr:croatian ht:haitian_creole hu:hungarian hy:armenian id:indonesian is:icelandic
        it:italian ja:japanese jw:javanese ka:georgian kk:kazakh km:khmer kn:kannada ko:korean
        la:latin lb:luxembourgish ln:lingala lo:lao lt:lithuanian lv:latvian mg:malagasy mi:maori
        mk:macedonian ml:malayalam mn:mongolian mr:marathi ms:malay mt:maltese my:myanmar ne:nepali
        nl:dutch nn:nynorsk no:norwegian oc:occitan pa:punjabi pl:polish ps:pashto pt:portuguese
        ro:romanian ru:russian sa:sanskrit sd:sindhi si:sinhala sk:slovak sl:slovenian sn:shona
        so:somali sq:albanian sr:serbian su:sundanese sv:swedish sw:swahili ta:tamil te:telugu
        tg:tajik th:thai tk:turkmen tl:tagalog tr:turkish tt:tatar uk:ukrainian ur:urdu uz:uzbek
        vi:vietnamese yi:yiddish yo:yoruba yue:cantonese zh:chinese
    """.split()  # noqa: SIM905
)

# Other names, as openai/whisper and the CLDR give them.
NAMES: dict[str, str] = {name: code for code, name in LANGUAGES.items()} | {
    "burmese": "my",
    "valencian": "ca",
    "flemish": "nl",
    "haitian": "ht",
    "letzeburgesch": "lb",
    "pushto": "ps",
    "panjabi": "pa",
    "moldavian": "ro",
    "moldovan": "ro",
    "sinhalese": "si",
    "castilian": "es",
    "mandarin": "zh",
    "farsi": "fa",
    "filipino": "tl",
    "bokmal": "no",
    "norwegian bokmål": "no",
    "norwegian nynorsk": "nn",
}

# Whisper's code where it isn't the language's own in BCP 47, or covers a closely related one.
OWN_CODES = {"jv": "jw", "nb": "no", "fil": "tl"}


@lru_cache(maxsize=4096)
def language_code(text: str) -> str | None:
    """Return Whisper's code of a language; None if Whisper has none.

    Args:
        text: a name ("German"), a code of ISO 639 ("de", "deu", "ger", also withdrawn: "iw"), a
            tag ("de-AT", "zh_TW", "<|de|>"), in any case. Tags are read as BCP 47 by langcodes;
            "cmn" and other parts of a macrolanguage become the macrolanguage.

    Example:
        >>> language_code("German"), language_code("nb-NO"), language_code("sdh")
        ('de', 'no', None)
    """
    word = text.strip().removeprefix("<|").removesuffix("|>").partition("(")[0].strip().casefold()
    if word in LANGUAGES:
        return word
    if word in NAMES:
        return NAMES[word]
    import langcodes

    try:
        tag = langcodes.standardize_tag(word.replace("_", "-"))
    except ValueError:  # langcodes.tag_parser.LanguageTagError
        return None
    plain, whole = (
        langcodes.standardize_tag(tag, macro=macro).partition("-")[0] for macro in (False, True)
    )
    found = (OWN_CODES.get(code, code) for code in (plain, whole))
    return next((code for code in found if code in LANGUAGES), None)


def known_language(text: str) -> str:
    """Return Whisper's code of a language, as `language_code`.

    Raises:
        ValueError: Whisper has no such language; names similar ones.
    """
    code = language_code(text)
    if code is None:
        hint = did_you_mean(text.casefold(), [*NAMES, *LANGUAGES])
        raise ValueError(f"{text!r} is no language that Whisper knows: {hint}")
    return code


Language = Annotated[str, AfterValidator(known_language)]
"""A language in a model of pydantic: any name, code or tag; the value is Whisper's code."""
