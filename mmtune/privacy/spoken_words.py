"""The words of each language in which numbers, letters, addresses and dates are spoken."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass


def plain(word: str) -> str:
    """Fold case and take the marks off the letters: "Março" is "marco", "Straße" is "strasse"."""
    letters = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c)).translate(_NO_MARKS)


_NO_MARKS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"})


def _letters(words: str) -> dict[str, str]:
    return {plain(word): plain(word)[0].upper() for word in words.split()}


# The ICAO's words, with the spellings that transcripts have.
NATO = _letters(
    "alpha alfa bravo charlie delta echo foxtrot golf hotel india juliett juliet juliette kilo "
    "lima mike november oscar papa quebec romeo sierra tango uniform victor whiskey whisky xray "
    "yankee zulu"
)
# DIN 5009, of before 2022 and after.
_GERMAN = _letters(
    "anton berta cäsar dora emil friedrich gustav heinrich ida julius kaufmann konrad ludwig "
    "martha nordpol otto paula quelle richard samuel siegfried theodor ulrich viktor wilhelm "
    "xanthippe ypsilon zacharias zeppelin aachen berlin chemnitz düsseldorf essen frankfurt goslar "
    "hamburg ingelheim jena köln leipzig münchen nürnberg offenbach potsdam quickborn rostock "
    "salzwedel tübingen unna völklingen wuppertal xanten zwickau"
)


def word_set(words: str) -> frozenset[str]:
    """The `plain` words of a text."""
    return frozenset(plain(word) for word in words.split())


def _months(names: str) -> dict[str, int]:
    """Numbers of the months; the names of one month stand between commas."""
    months = enumerate(names.split(","), start=1)
    return {plain(name): number for number, many in months for name in many.split()}


@dataclass(frozen=True)
class SpokenWords:
    """How a language says what private words consist of; all words are `plain`.

    Attributes:
        repeats: words before a digit or letter that is said several times at once.
        repeat_prefixes: the same as the first part of a compound word ("doppelvier").
        articles: words between a repeating word and what it repeats.
        zeros: words for 0 beside the numeral.
        not_digits: forms of one that are articles and no digits.
        letters: words that stand for a letter.
        spelled_like: words between a letter and a word that begins with it ("D as in David").
        decimal: words of a decimal point.
        hundreds: words after which single digits may be digits of their own.
        fillers: words within a number that add nothing to it.
        at: words for @.
        signs: words for the other signs of an e-mail address.
        months: numbers of the months.
        date_links: words between day, month and year.
        no_local_part: words that can't be the first part of an e-mail address.
        units: words after an amount, such as currencies.
    """

    months: Mapping[str, int]
    at: frozenset[str]
    signs: Mapping[str, str]
    repeats: Mapping[str, int]
    fillers: frozenset[str]
    units: frozenset[str]
    no_local_part: frozenset[str]
    date_links: frozenset[str]
    repeat_prefixes: Mapping[str, int]
    articles: frozenset[str]
    zeros: frozenset[str]
    not_digits: frozenset[str]
    letters: Mapping[str, str]
    spelled_like: tuple[tuple[str, ...], ...]
    decimal: frozenset[str]
    hundreds: frozenset[str]


# What people say while another person dictates, and between groups of digits.
_ANY_FILLERS = "uh um er erm mm hm hmm mhm uhm ok okay"

LANGUAGES: dict[str, SpokenWords] = {
    "en": SpokenWords(
        months=_months(
            "January Jan,February Feb,March Mar,April Apr,May,June Jun,July Jul,August Aug,"
            "September Sept Sep,October Oct,November Nov,December Dec"
        ),
        at=word_set("at"),
        signs={
            **dict.fromkeys(("dot", "period", "point"), "."),
            **dict.fromkeys(("dash", "hyphen", "minus"), "-"),
            "underscore": "_",
            "plus": "+",
        },
        repeats={"double": 2, "triple": 3, "treble": 3, "quadruple": 4},
        repeat_prefixes={},
        articles=frozenset(),
        zeros=word_set("oh o nought naught nil"),
        not_digits=word_set("a"),
        letters=NATO,
        spelled_like=(("as", "in"), ("for",), ("like",)),
        decimal=word_set("point"),
        hundreds=word_set("hundred thousand"),
        fillers=word_set(
            f"{_ANY_FILLERS} ah eh yeah yes yep right then dash hyphen space slash apostrophe"
        ),
        units=word_set(
            "dollar dollars cent cents pound pounds pence euro euros percent bucks miles minutes "
            "hours days weeks months years volts hertz milligrams grams kilos oclock pm am"
        ),
        no_local_part=word_set(
            "is was at it its to me us you him her them my our your his their the a an and or on "
            "in of for by with from this that here there i we they he she so well okay yes no yeah "
            "email mail address e look site website page shop online visit order ordered found "
            "buy write send sent write reach contact please office team available as be sure not "
            "s m re ve ll d t"
        ),
        date_links=word_set("of the in"),
    ),
    "de": SpokenWords(
        months=_months(
            "Januar Jänner Jan,Februar Feber Feb,März Mär,April Apr,Mai,Juni Juno Jun,"
            "Juli Julei Jul,August Aug,September Sept Sep,Oktober Okt,November Nov,Dezember Dez"
        ),
        at=word_set("at ät klammeraffe"),
        signs={
            **dict.fromkeys(("punkt", "dot"), "."),
            **dict.fromkeys(("bindestrich", "minus", "strich"), "-"),
            **dict.fromkeys(("unterstrich", "underscore"), "_"),
            "plus": "+",
        },
        repeats={"doppel": 2, "doppelt": 2, "doppelte": 2, "zweimal": 2, "dreimal": 3},
        repeat_prefixes={"doppel": 2, "zweimal": 2, "dreimal": 3},
        articles=word_set("die der das"),
        zeros=frozenset(),
        not_digits=word_set("ein eine einen einem einer eines"),
        letters=NATO | _GERMAN,
        spelled_like=(("wie",), ("von",), ("fur",)),
        decimal=word_set("komma punkt"),
        hundreds=frozenset(),
        fillers=word_set(
            f"{_ANY_FILLERS} äh ähm öh ja genau dann und strich bindestrich schrägstrich "
            "leerzeichen"
        ),
        units=word_set(
            "euro cent franken rappen prozent uhr tage wochen monate jahre stunden minuten meter "
            "kilometer kilo gramm volt"
        ),
        no_local_part=word_set(
            "ist war an am auf bei von und oder die der das den dem ein eine es mir mich uns "
            "ihnen sie ich wir mein meine ihre unsere adresse mailadresse mail email e lautet "
            "unter seite bitte schreiben senden also ja nein gerne moment"
        ),
        date_links=word_set("der den dem am im"),
    ),
    "fr": SpokenWords(
        months=_months(
            "janvier,février,mars,avril,mai,juin,juillet,août,septembre,octobre,novembre,décembre"
        ),
        at=word_set("arobase arrobase at chez"),
        signs={
            **dict.fromkeys(("point", "dot"), "."),
            **dict.fromkeys(("tiret", "trait"), "-"),
            **dict.fromkeys(("souligne", "underscore"), "_"),
            "plus": "+",
        },
        repeats={"double": 2, "triple": 3},
        repeat_prefixes={},
        articles=word_set("le la"),
        zeros=frozenset(),
        not_digits=word_set("une"),
        letters=NATO,
        spelled_like=(("comme",),),
        decimal=word_set("virgule point"),
        hundreds=frozenset(),
        fillers=word_set(f"{_ANY_FILLERS} euh ben oui voilà puis tiret espace apostrophe"),
        units=word_set(
            "euro euros centime centimes franc francs dollars pour pourcent heures jours semaines "
            "mois ans minutes metres kilometres kilos grammes volts"
        ),
        no_local_part=word_set(
            "est c et ou a au aux le la les l un une de des du sur mon ma mes votre notre moi nous "
            "vous je j il elle adresse mail email e courriel envoyez ecrivez alors oui non voila "
            "merci s m d qu site page"
        ),
        date_links=word_set("le du de en"),
    ),
    "es": SpokenWords(
        months=_months(
            "enero,febrero,marzo,abril,mayo,junio,julio,agosto,septiembre setiembre,octubre,"
            "noviembre,diciembre"
        ),
        at=word_set("arroba at"),
        signs={
            **dict.fromkeys(("punto", "dot"), "."),
            **dict.fromkeys(("guion", "menos"), "-"),
            **dict.fromkeys(("subrayado", "underscore"), "_"),
            **dict.fromkeys(("mas", "plus"), "+"),
        },
        repeats={"doble": 2, "triple": 3},
        repeat_prefixes={},
        articles=word_set("el la"),
        zeros=frozenset(),
        not_digits=word_set("un una"),
        letters=NATO,
        spelled_like=(("de",), ("como",)),
        decimal=word_set("coma punto"),
        hundreds=frozenset(),
        fillers=word_set(f"{_ANY_FILLERS} eh este pues sí vale luego guion espacio"),
        units=word_set(
            "euro euros centimo centimos peso pesos dolar dolares por horas dias semanas meses "
            "años minutos metros kilómetros kilos gramos voltios"
        ),
        no_local_part=word_set(
            "es y o u a al el la los las un una de del en mi mis su sus nuestro me nos le se yo "
            "correo email mail e direccion envie enviela escriba pues claro si no gracias pagina"
        ),
        date_links=word_set("de del el en"),
    ),
}
