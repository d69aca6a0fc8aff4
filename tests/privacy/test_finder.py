"""Tables of texts with their private words, and of texts that only look alike."""

from __future__ import annotations

import pytest

from mmtune.errors import ConfigError
from mmtune.privacy.atoms import read_atoms
from mmtune.privacy.cards import passes_luhn
from mmtune.privacy.finder import PrivateWordFinder
from mmtune.privacy.ibans import is_iban
from mmtune.privacy.private_span import PrivateSpan, replace_spans

FINDER = PrivateWordFinder()


def redacted(text: str, language: str | None = "en", finder: PrivateWordFinder = FINDER) -> str:
    return replace_spans(text, finder.find(text, language))


@pytest.mark.parametrize(
    ("language", "text", "digits"),
    [
        ("en", "four two double one", "4211"),
        ("en", "triple five, oh oh seven double zero", "55500700"),
        ("en", "forty-one eleven twenty two", "411122"),
        ("en", "nine hundred one two three", "900123"),
        ("en", "double forty treble two", "4040222"),
        ("de", "vier doppel sieben doppelvier zwo null dreimal die eins", "4774420111"),
        ("de", "einundzwanzig null null acht", "21008"),
        ("fr", "zéro six quatre-vingt-dix-huit double deux", "069822"),
        ("es", "doble cero siete treinta y cuatro triple uno", "00734111"),
        ("en", "４１ ١٢ 3", "41123"),
    ],
)
def test_spoken_digits(language: str, text: str, digits: str) -> None:
    read = [atom for atom in read_atoms(text, language) if atom.form == "digits"]
    assert "".join(atom.value for atom in read) == digits


@pytest.mark.parametrize(
    ("language", "text", "letters"),
    [
        ("en", "b e double l", "BELL"),
        ("en", "D as in David, alpha x-ray Golf", "DAXG"),
        ("de", "M wie Martha Anton zwo", "MA"),
        ("fr", "B comme Bernard, C", "BC"),
        ("en", "it's a test, I'm Anna's O'Brien", ""),
        ("en", "the hotel in november", ""),
    ],
)
def test_spelled_letters(language: str, text: str, letters: str) -> None:
    read = [atom for atom in read_atoms(text, language) if atom.form == "letter"]
    assert "".join(atom.value for atom in read) == letters


# Numbers of cards that the networks publish for tests.
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CARDS = """
4111111111111111 4012888888881881 5555555555554444 5105105105105100 2223003122003222
378282246310005 371449635398431 6011111111111117 30569309025904 3530111333300000
6200000000000005 6759649826438453
"""
# Examples of the IBAN registry, release 99.
IBANS = """
AD1200012030200359100100 AT611904300234573201 BE68539007547034 CH9300762011623852957
DE89370400440532013000 DK5000400440116243 ES9121000418450200051332 FI2112345600000785
FR1420041010050500013M02606 GB29NWBK60161331926819 GR1601101250000000012300695
IE29AIBK93115212345678 IT60X0542811101000000123456 LU280019400644750000
MT84MALT011000012345MTLCAST001S
NL91ABNA0417164300 NO9386011117947 PL61109010140000071219812874 PT50000201231234567890154
SE4550000000058398257466 TR330006100519786457841326
"""


@pytest.mark.parametrize("number", CARDS.split())
def test_cards_are_found_in_any_grouping(number: str) -> None:
    assert passes_luhn(number)
    wrong = f"{number[:-1]}{(int(number[-1]) + 1) % 10}"
    groups = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    for written in (number, groups, groups.replace(" ", "-"), groups.replace(" ", "\u00a0")):
        assert redacted(f"it is {written}, thanks") == "it is [CARD], thanks"
    assert redacted(f"order {wrong}, thanks") == f"order {wrong}, thanks"
    # A wrong digit that a word calls a card's is private nevertheless: people mishear.
    assert redacted(f"my card is {wrong}, thanks") == "my card is [CARD], thanks"
    spoken = " ".join(DIGITS[int(d)] for d in number)
    assert redacted(f"yes, {spoken}.") == "yes, [CARD]."


@pytest.mark.parametrize("code", IBANS.split())
def test_ibans_are_found_in_any_grouping(code: str) -> None:
    assert is_iban(code)
    assert not is_iban(code[:-1])
    groups = " ".join(code[i : i + 4] for i in range(0, len(code), 4))
    for written in (code, groups, code.lower(), groups.replace(" ", "-")):
        assert redacted(f"pay to {written} today") == "pay to [IBAN] today"
    spoken = " ".join(DIGITS[int(c)] if c.isdigit() else c for c in code)
    assert redacted(f"sure, {spoken}, bye") == "sure, [IBAN], bye"


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "call +1 (202) 555-0143 x22 now", "call [PHONE] now"),
        ("en", "(020) 7946 0958 or 07700 900123", "[PHONE] or [PHONE]"),
        ("en", "oh two oh, seven nine four six, oh nine five eight", "[PHONE]"),
        ("en", "my phone is plus four four twenty seven nine oh", "my phone is [PHONE]"),
        ("de", "unter null drei null zwei drei eins zwei fünf null eins zwei", "unter [PHONE]"),
        ("fr", "le 06 12 34 56 78 s'il vous plaît", "le [PHONE] s'il vous plaît"),
        ("es", "llámeme al seis uno dos treinta y cuatro cincuenta y seis setenta y ocho",
         "llámeme al [PHONE]"),
        ("en", "write to j.smith+x@mail.example.co.uk.", "write to [EMAIL]."),
        ("en", "j dot smith at example dot co dot uk", "[EMAIL]"),
        ("en", "it's a n n a underscore 22 at gmail.com", "it's [EMAIL]"),
        ("de", "an k punkt sommer ät gmx punkt de bitte", "an [EMAIL] bitte"),
        ("fr", "c'est m point durand arobase orange point fr", "c'est [EMAIL]"),
        ("es", "es ana guion bajo ruiz arroba hotmail punto es", "es [EMAIL]"),
        ("en", "born on the second of march nineteen eighty four", "born on [BIRTH DATE]"),
        ("en", "DOB 7/19/88, dob oh seven nineteen eighty eight",
         "DOB [BIRTH DATE], dob [BIRTH DATE]"),
        ("en", "1984-03-12 is fine", "[BIRTH DATE] is fine"),
        ("de", "geboren am ersten vierten dreiundsiebzig", "geboren am [BIRTH DATE]"),
        ("fr", "né le premier mai mille neuf cent soixante-huit", "né le [BIRTH DATE]"),
        ("es", "nací el doce de octubre de mil novecientos sesenta y uno", "nací el [BIRTH DATE]"),
        ("en", "account number 5577 9911, PIN one two three four",
         "account number [ACCOUNT], PIN [ACCOUNT]"),
        ("en", "double seven triple eight is my customer number",
         "[ACCOUNT] is my customer number"),
        ("en", "SSN 078-05-1120 and MRN 00482913", "SSN [ACCOUNT] and MRN [ACCOUNT]"),
        ("de", "Kundennummer sieben sieben null eins vier", "Kundennummer [ACCOUNT]"),
        (None, "meine Karte ist vier eins eins eins eins eins eins eins eins eins eins eins eins "
         "eins eins eins", "meine Karte ist [CARD]"),
    ],
)  # fmt: skip
def test_private_words(language: str | None, text: str, expected: str) -> None:
    assert redacted(text, language) == expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "four two double one"),
        ("en", "order 4111 1111 1111 1112 costs $4111.11 since 2019"),
        ("en", "the order number is eight one one seven oh three five five oh one nine eight"),
        ("en", "extension four four two, room 204, flight BA 2490, page 245"),
        ("en", "it cost two thousand, one hundred and eighty dollars in 2022"),
        ("en", "the technician comes on March 14, 2026 at half past ten"),
        ("en", "a customer since nineteen ninety, with 84,000 miles and 7,800,000,000 others"),
        ("en", "look at example dot com, she looked at me. dot com bubble"),
        ("en", "IP 192.168.10.254, version 2.11.0, ISBN 978-3-16-148410-0"),
        ("de", "die Bestellung 20255501433 kommt am dritten Mai zweitausendsechsundzwanzig"),
        ("fr", "il coûte quatre-vingt-dix-neuf euros en deux mille vingt-quatre"),
        ("es", "son mil doscientos pesos en tres pagos desde dos mil quince"),
    ],
)
def test_look_alikes_stay(language: str, text: str) -> None:
    assert redacted(text, language) == text


def test_a_number_goes_on_from_turn_to_turn() -> None:
    turns = [
        "Card number?",
        "four one one one",
        "mm-hmm",
        "eleven eleven",
        "okay",
        "1111 1111. Yes",
    ]
    spans = FINDER.find_in_turns(turns, "en")
    assert [replace_spans(t, s) for t, s in zip(turns, spans, strict=True)] == [
        *("Card number?", "[CARD]", "mm-hmm", "[CARD]", "okay", "[CARD]. Yes"),
    ]


def test_a_question_tells_what_its_answer_is() -> None:
    turns = ["What's your customer number?", "My order is 8842913.", "It's seven seven one four."]
    spans = FINDER.find_in_turns(turns, "en")
    assert spans == [[], [], [PrivateSpan(5, 25, "account")]]


def test_regions_kinds_and_own_words() -> None:
    number = "9 1234 5678"
    assert redacted(number) == number
    assert redacted(number, "en", PrivateWordFinder(regions=["SG"])) == number  # not a whole one
    assert redacted("6123 4567", "en", PrivateWordFinder(regions=["SG"])) == "[PHONE]"
    text = "locker 4471, card 4111 1111 1111 1111"
    assert redacted(text) == "locker 4471, card [CARD]"
    own = PrivateWordFinder(account_words=["locker"])
    assert redacted(text, "en", own) == "locker [ACCOUNT], card [CARD]"
    assert redacted(text, "en", PrivateWordFinder(kinds=["iban"])) == text
    with pytest.raises(ConfigError, match="'ja'"):
        FINDER.find(text, "ja")
    with pytest.raises(ConfigError, match="passport"):
        PrivateWordFinder(kinds=["passport"])
    with pytest.raises(ConfigError, match="XX"):
        PrivateWordFinder(regions=["XX"])
