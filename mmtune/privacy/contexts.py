"""Words that say what the number near them is: a phone's, an account's, an order's."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mmtune.privacy.atoms import Reading
from mmtune.privacy.private_span import REPLACED, REPLACEMENTS, hide_replaced

Meaning = Literal["card", "iban", "phone", "birth", "account", "other"]

# For each language, which words announce which kind. "other" announces numbers that aren't private.
# A hyphen or an apostrophe may stand where a pattern has a space.
WORDS: dict[str, dict[Meaning, str]] = {
    "en": {
        "card": r"cards?|visa|master ?card|amex|american express|credit|debit|long number",
        "phone": r"(?:tele)?phones?|mobile|cell(?: ?phone)?|land ?line|fax|whats ?app|area code|"
        r"(?:call|ring|reach|text|phone) (?:me|us|him|her|them|you|back)|my number|"
        r"(?:contact|best) number|numbers? (?:to|can|could|should|may|we|for)",
        "birth": r"born|births?|birth ?(?:day|date)s?|dob|d\.o\.b\.?",
        "account": r"accounts?|acct|(?:customer|client|patient) (?:number|no|id)|medical record|"
        r"member(?:ship)?(?: (?:number|no|id))?|polic(?:y|ies)|record(?: number)?|mrn|nhs|"
        r"social(?: security)?|ssn|(?:national )?insurance|passport|licen[cs]e|tax (?:id|number)|"
        r"routing|sort code|pin(?: code)?|security code|cvv|cvc|case(?: number)?|claim|contract|"
        r"group (?:number|id)|file number",
        "other": r"orders?|invoice|tracking|tickets?|extension|ext|room|flight|page|model|product|"
        r"confirmation|reference|ref|serial|chapter|gate|zip(?: ?code)?|since|total|quantity|"
        r"version",
    },
    "de": {
        "card": r"\w*kart(?:e|en)\w*|visa|master ?card",
        "phone": r"telefon\w*|handy\w*|mobil\w*|festnetz\w*|fax\w*|rückruf\w*|\w*rufnummer|"
        r"zurück ?rufen|anrufen|rufen sie|ruf mich|erreich\w+|meine nummer|vorwahl",
        "birth": r"geboren\w*|geburts\w+",
        "account": r"konto\w*|kunden(?:nummer|nr)\w*|vertrag\w*|versicherung\w*|police\w*|"
        r"mitglied\w*|patient\w*|akten\w*|fallnummer|schaden\w*|steuer\w*|ausweis\w*|"
        r"pass(?:nummer)?|führerschein\w*|pin|prüfziffer|prüfnummer|sicherheitscode|cvc|cvv|"
        r"bankleitzahl|blz",
        "other": r"bestell\w*|auftrag\w*|rechnung\w*|durchwahl|sendung\w*|paket\w*|seite|zimmer|"
        r"referenz\w*|artikel\w*|modell\w*|seit|jahr|ticket\w*|postleitzahl|plz|hausnummer",
    },
    "fr": {
        "card": r"cartes?|visa|master ?card",
        "phone": r"téléphones?|tél|portable|mobile|fixe|fax|joindre|indicatif|"
        r"(?:r?appel|m.appel)(?:er|ez|le au)|mon numéro (?:est|c)",
        "birth": r"n[ée]+e? (?:le|en|quand)|naissance|suis n[ée]+e?|êtes n[ée]+e?|anniversaire",
        "account": r"comptes?|numéro (?:de )?client|clients? numéro|dossiers?|contrat|police|"
        r"assurance|adhérent|sécurité sociale|sécu|passeport|permis|carte d.identité|"
        r"numéro fiscal|cryptogramme|code (?:pin|secret|de sécurité)|cvv|sinistre|patient",
        "other": r"commandes?|factures?|suivi|poste|référence|chambre|page|produit|modèle|depuis|"
        r"bureau|vol|colis|code postal|année",
    },
    "es": {
        "card": r"tarjetas?|visa|master ?card",
        "phone": r"teléfonos?|móvil|celular|fijo|fax|ll[aá]m(?:ar?|e|ad)\w*|localiza\w*|marque|"
        r"prefijo|mi número es",
        "birth": r"nac[íi]|nació|nacid[oa]|nacimiento|cumpleaños",
        "account": r"cuentas?|número (?:de )?cliente|cliente número|p[óo]lizas?|contrato|"
        r"expediente|historia(?:l)?|afiliad[oa]|asegurad[oa]|socio|seguridad social|dni|nie|nif|"
        r"pasaporte|licencia|carné|pin|código de seguridad|cvv|siniestro|paciente",
        "other": r"pedidos?|facturas?|seguimiento|extensión|referencia|habitación|página|producto|"
        r"modelo|desde|año|vuelo|paquete|código postal|despacho",
    },
}
# Between a number and the word that explains it: "5577 is my account number", "am 3. Mai geboren".
_EXPLAINS = re.compile(
    r" |[^\w\n]*(?:that\W)?(?:is|was|s|are|ist|war|est|es|era)\b[^\d\n.!?]*", re.IGNORECASE
)


@dataclass(frozen=True)
class Context:
    """A word that announces a number.

    Attributes:
        start: place of its first character.
        end: place after its last character.
        meaning: what it announces.
    """

    start: int
    end: int
    meaning: Meaning


def find_contexts(text: str, language: str, account_words: Iterable[str] = ()) -> list[Context]:
    """Find all announcing words of a text, in order; where two overlap, the longer one counts.

    Args:
        text: the text.
        language: one of `WORDS`.
        account_words: further words that announce account and record numbers.
    """
    patterns = {"iban": "iban", **WORDS[language]}
    if own := "|".join(re.escape(word).replace("\\ ", " ") for word in account_words):
        patterns["account"] = f"{patterns['account']}|{own}"
    found: list[Context] = []
    hidden = hide_replaced(text)
    for meaning, pattern in patterns.items():
        pattern = pattern.replace(" ", r"[\s'’-]")
        places = re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", hidden, re.IGNORECASE)
        found += [Context(*match.span(), meaning) for match in places]
    found.sort(key=lambda each: (each.start, -each.end))
    kept: list[Context] = []
    for each in found:
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
    return kept


NEAR = 10  # words between an announcing word and its number, in one turn; digits don't count
FAR = 240  # characters between a question and its answer
TURNS = 4  # changes of turns between a question and its answer
AFTER = 30  # characters between a number and the word that explains it


_ANNOUNCED_BY: dict[str, Meaning] = {
    REPLACEMENTS["card"]: "card",
    REPLACEMENTS["iban"]: "iban",
    REPLACEMENTS["phone"]: "phone",
    REPLACEMENTS["birth"]: "birth",
    REPLACEMENTS["account"]: "account",
}


class OpenContexts:
    """The announcing words of a text that no number has answered yet, while it is read in order."""

    def __init__(self, reading: Reading, contexts: Sequence[Context]) -> None:
        self._text = reading.text
        self._words = [atom.start for atom in reading.atoms if atom.form == "word"]
        self._open = list(contexts)
        self._all = tuple(contexts)
        for tag in REPLACED.finditer(self._text):  # what redaction has replaced was announced, too
            meaning = _ANNOUNCED_BY.get(tag[0])
            if meaning is not None:
                context = self.before(tag.start(), meaning, once=True)
                self.answer(context if context and context.meaning == meaning else None)

    def before(self, start: int, *meanings: Meaning, once: bool = False) -> Context | None:
        """The word that announces what begins at `start`.

        It is the nearest word of the same turn, whatever it means. Without one it is the last
        question of earlier turns that means one of `meanings` and wasn't answered.

        Args:
            start: where the number begins.
            meanings: what a question may ask for.
            once: whether a word of the same turn announces one number alone.
        """
        line = self._text.rfind("\n", 0, start) + 1
        own = [c for c in self._all if line <= c.start and c.end <= start]
        if own and not (once and own[-1] not in self._open):
            place = bisect_left(self._words, own[-1].end)
            if bisect_left(self._words, start) - place <= NEAR:
                return own[-1]
        for context in reversed([c for c in self._open if c.end <= line]):
            between = self._text[context.end : start]
            if len(between) > FAR or between.count("\n") > TURNS:
                break
            if context.meaning in meanings:
                return context
        return None

    def after(self, end: int, *meanings: Meaning) -> Context | None:
        """The word that explains what ends at `end`: "5577 is my account number"."""
        for context in self._all:
            if 0 <= context.start - end <= AFTER and context.meaning in meanings:
                between = self._text[end : context.start]
                return context if _EXPLAINS.fullmatch(between) else None
        return None

    def answer(self, context: Context | None) -> None:
        """Take a word out, with all earlier ones of its meaning: its number was found."""
        if context is not None:
            self._open = [
                c for c in self._open if c.start > context.start or c.meaning != context.meaning
            ]
