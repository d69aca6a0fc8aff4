"""Write the generated half of the redaction corpus: dialogues with private words, made with Faker.

    pip install Faker==40.63.0 num2words==0.5.14
    python benchmarks/private_dialogues.py > benchmarks/data/private_generated.jsonl

There are 300 dialogues of call centres in four languages. Each has one item of every kind (card,
iban, phone, email, birth, account, name), half of them in digits and letters, half in spoken words,
and look-alikes that aren't private: order numbers that fail Luhn, years, prices, extensions, dates
of appointments. An item is marked in its turn as [[kind:words]]; parts of one item that stand in
several turns share a number: [[card#1:four one one one]]. The stored file is the corpus; this
script documents how it was made. With --first 1000 it makes others of the same kind.
"""

import argparse
import json
import random
import sys
import unicodedata
from collections.abc import Callable
from datetime import date

from faker import Faker
from num2words import num2words

KINDS = ("card", "iban", "phone", "email", "birth", "account", "name")
LOCALES = ["en_US"] * 75 + ["en_GB"] * 75 + ["de_DE"] * 50 + ["fr_FR"] * 50 + ["es_ES"] * 50
LETTER_WORDS = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar "
    "papa quebec romeo sierra tango uniform victor whiskey x-ray yankee zulu"
)
NATO = {word[0]: word for word in LETTER_WORDS.split()}
TWICE = {"en": "double", "de": "doppel", "fr": "double", "es": "doble"}
THRICE = {"en": "triple", "de": "dreimal", "fr": "triple", "es": "triple"}
FILLERS = {"en": "uh", "de": "äh", "fr": "euh", "es": "eh"}
AT = {"en": "at", "de": "at", "fr": "arobase", "es": "arroba"}
DOT = {"en": "dot", "de": "Punkt", "fr": "point", "es": "punto"}
MARKS = {
    "en": {"_": "underscore", "-": "dash"},
    "de": {"_": "Unterstrich", "-": "Bindestrich"},
    "fr": {"_": "tiret bas", "-": "tiret"},
    "es": {"_": "guion bajo", "-": "guion"},
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
    "diciembre",
}
ASKS = {
    "en": {
        "card": ["Can I have the long number on the card?", "What is your card number?"],
        "iban": ["Which account should we pay into?", "Could you read me the IBAN?"],
        "phone": ["What number can we reach you on?", "And your phone number, please?"],
        "email": ["Where shall I send the confirmation?", "What is your e-mail address?"],
        "birth": ["For security, your date of birth?", "When were you born?"],
        "account": ["Do you have your customer number?", "What is the account number?"],
        "name": ["Who am I speaking with?", "May I have your name?"],
    },
    "de": {
        "card": ["Wie lautet die Nummer Ihrer Kreditkarte?", "Die Kartennummer bitte?"],
        "iban": ["Auf welches Konto sollen wir überweisen?", "Wie ist Ihre IBAN?"],
        "phone": ["Unter welcher Nummer erreichen wir Sie?", "Ihre Telefonnummer bitte?"],
        "email": ["Wohin darf ich die Bestätigung schicken?", "Ihre E-Mail-Adresse?"],
        "birth": ["Zur Sicherheit Ihr Geburtsdatum?", "Wann sind Sie geboren?"],
        "account": ["Haben Sie Ihre Kundennummer?", "Wie lautet die Vertragsnummer?"],
        "name": ["Mit wem spreche ich?", "Wie ist Ihr Name?"],
    },
    "fr": {
        "card": ["Quel est le numéro de votre carte ?", "Le numéro de carte, s'il vous plaît ?"],
        "iban": ["Sur quel compte faut-il verser ?", "Pouvez-vous me lire l'IBAN ?"],
        "phone": ["À quel numéro peut-on vous joindre ?", "Votre numéro de téléphone ?"],
        "email": ["Où puis-je envoyer la confirmation ?", "Votre adresse e-mail ?"],
        "birth": ["Votre date de naissance ?", "Vous êtes né quand ?"],
        "account": ["Avez-vous votre numéro de client ?", "Quel est le numéro de dossier ?"],
        "name": ["À qui ai-je l'honneur ?", "Quel est votre nom ?"],
    },
    "es": {
        "card": ["¿Me dice el número de su tarjeta?", "¿Cuál es el número de tarjeta?"],
        "iban": ["¿En qué cuenta hacemos el abono?", "¿Me lee el IBAN?"],
        "phone": ["¿En qué número le localizamos?", "¿Su número de teléfono?"],
        "email": ["¿Adónde envío la confirmación?", "¿Su correo electrónico?"],
        "birth": ["¿Su fecha de nacimiento?", "¿Cuándo nació?"],
        "account": ["¿Tiene su número de cliente?", "¿Cuál es el número de póliza?"],
        "name": ["¿Con quién hablo?", "¿Cuál es su nombre?"],
    },
}
ANSWERS = {
    "en": {
        "card": ["It's {}, expires next year.", "Yes, {}.", "Okay so that's {}."],
        "iban": ["It is {}.", "Sure, {}.", "The IBAN is {}, thank you."],
        "phone": ["You can call me on {}.", "It's {}.", "My mobile is {}."],
        "email": ["Please send it to {}.", "It's {}.", "My email is {}, thanks."],
        "birth": ["I was born on {}.", "{}.", "My date of birth is {}."],
        "account": ["My customer number is {}.", "Account number {}.", "It's {}, I think."],
        "name": ["My name is {}.", "This is {} speaking.", "{}, I called this morning."],
    },
    "de": {
        "card": ["Das ist die {}.", "Ja, {}.", "Moment, {}."],
        "iban": ["Die lautet {}.", "Gerne, {}.", "Meine IBAN ist {}."],
        "phone": ["Rufen Sie mich an unter {}.", "Das ist die {}.", "Meine Handynummer ist {}."],
        "email": ["Bitte an {}.", "Das ist {}.", "Meine Mailadresse ist {}."],
        "birth": ["Ich bin am {} geboren.", "{}.", "Mein Geburtsdatum ist der {}."],
        "account": ["Meine Kundennummer ist {}.", "Vertragsnummer {}.", "Das ist die {}."],
        "name": ["Mein Name ist {}.", "Hier spricht {}.", "{}, ich hatte schon angerufen."],
    },
    "fr": {
        "card": ["C'est le {}.", "Oui, {}.", "Alors, {}."],
        "iban": ["C'est {}.", "Bien sûr, {}.", "Mon IBAN est {}."],
        "phone": ["Vous pouvez m'appeler au {}.", "C'est le {}.", "Mon portable est le {}."],
        "email": ["Envoyez-la à {}.", "C'est {}.", "Mon adresse est {}, merci."],
        "birth": ["Je suis née le {}.", "Le {}.", "Ma date de naissance est le {}."],
        "account": ["Mon numéro de client est le {}.", "Dossier numéro {}.", "C'est le {}."],
        "name": ["Je m'appelle {}.", "{} à l'appareil.", "C'est {}, j'ai appelé ce matin."],
    },
    "es": {
        "card": ["Es el {}.", "Sí, {}.", "A ver, {}."],
        "iban": ["Es {}.", "Claro, {}.", "Mi IBAN es {}."],
        "phone": ["Llámeme al {}.", "Es el {}.", "Mi móvil es el {}."],
        "email": ["Envíela a {}.", "Es {}.", "Mi correo es {}, gracias."],
        "birth": ["Nací el {}.", "El {}.", "Mi fecha de nacimiento es el {}."],
        "account": ["Mi número de cliente es {}.", "Póliza número {}.", "Es el {}."],
        "name": ["Me llamo {}.", "Soy {}.", "Habla {}, llamé esta mañana."],
    },
}
# Look-alikes: o an order number, y a year, p a price, x an extension, a an appointment.
OTHERS = {
    "en": [
        "The order number is {o}, from {y}.",
        "It cost {p} dollars and came with order {o}.",
        "My colleague is on extension {x}, since {y}.",
        "The technician comes on {a}, order {o}.",
    ],
    "de": [
        "Die Bestellnummer ist {o}, aus dem Jahr {y}.",
        "Das hat {p} Euro gekostet, Bestellung {o}.",
        "Meine Kollegin hat die Durchwahl {x}, seit {y}.",
        "Der Techniker kommt am {a}, Bestellung {o}.",
    ],
    "fr": [
        "Le numéro de commande est le {o}, de {y}.",
        "Ça a coûté {p} euros, commande {o}.",
        "Ma collègue est au poste {x}, depuis {y}.",
        "Le technicien vient le {a}, commande {o}.",
    ],
    "es": [
        "El número de pedido es {o}, del año {y}.",
        "Costó {p} euros, pedido {o}.",
        "Mi compañera está en la extensión {x}, desde {y}.",
        "El técnico viene el {a}, pedido {o}.",
    ],
}


def luhn(digits: str) -> bool:
    """Whether the check digit of a card number is right."""
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


class Speaker:
    """Say items as a person says them, by a seeded choice among the ways that people use."""

    def __init__(self, language: str, draw: random.Random) -> None:
        self.language = language
        self.draw = draw

    def number(self, value: int) -> str:
        return num2words(value, lang=self.language)

    def digits(self, digits: str) -> str:
        """Say digits: one by one, with "double" and "triple", or in pairs; some with a filler."""
        way = self.draw.choice(["singles", "repeats", "pairs"])
        words: list[str] = []
        place = 0
        while place < len(digits):
            rest = digits[place:]
            run = next(n for n in range(1, len(rest) + 1) if rest[: n + 1] != rest[0] * (n + 1))
            if way == "repeats" and run >= 2:
                run = min(run, 3)
                words += [(TWICE if run == 2 else THRICE)[self.language], self.digit(rest[0])]
                place += run
            elif way == "pairs" and len(rest) > 1 and rest[0] != "0":
                words.append(self.number(int(rest[:2])))
                place += 2
            else:
                words.append(self.digit(rest[0]))
                place += 1
            if place < len(digits) and self.draw.random() < 0.12:
                words[-1] += ","
            if place < len(digits) and self.draw.random() < 0.03:
                words.append(FILLERS[self.language] + ",")
        return " ".join(words)

    def digit(self, digit: str) -> str:
        if digit == "0" and self.language == "en":
            return self.draw.choice(["zero", "oh"])
        return "eins" if (digit, self.language) == ("1", "de") else self.number(int(digit))

    def letters(self, text: str) -> str:
        """Spell a word: by its letters, or by NATO words (also the marks of e-mail addresses)."""
        nato = self.draw.random() < 0.4
        plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())
        said = [(NATO[c] if nato else c.upper()) if c in NATO else self.digit(c) for c in plain]
        return " ".join(said)

    def code(self, code: str) -> str:
        """Say letters and digits in turn, as of an IBAN."""
        parts: list[str] = []
        while code:
            same = next(
                (n for n, c in enumerate(code) if c.isdigit() != code[0].isdigit()), len(code)
            )
            part, code = code[:same], code[same:]
            parts.append(self.digits(part) if part.isdigit() else self.letters(part))
        return " ".join(parts)

    def email(self, address: str) -> str:
        local, domain = address.split("@")
        words, part = [], ""
        for c in f"{local} ":
            if c.isalpha():
                part += c
                continue
            if part:
                words.append(self.letters(part) if self.draw.random() < 0.3 else part)
                part = ""
            if c.isdigit():
                words.append(self.digit(c))
            elif c != " ":
                words.append(DOT[self.language] if c == "." else MARKS[self.language][c])
        labels = [
            f" {MARKS[self.language]['-']} ".join(label.split("-")) for label in domain.split(".")
        ]
        return f"{' '.join(words)} {AT[self.language]} {f' {DOT[self.language]} '.join(labels)}"

    def date(self, day: int, month: int, year: int) -> str:
        name = MONTHS[self.language].split()[month - 1]
        spoken_year = num2words(year, to="year", lang=self.language)
        if self.language == "en":
            ordinal = num2words(day, to="ordinal")
            return self.draw.choice([
                f"the {ordinal} of {name} {spoken_year}",
                f"{name} {ordinal} {spoken_year}",
                f"{name} the {ordinal}, {spoken_year}",
            ])  # fmt: skip
        if self.language == "de":
            return f"{num2words(day, to='ordinal', lang='de')}n {name} {spoken_year}"
        if self.language == "fr":
            return f"{'premier' if day == 1 else self.number(day)} {name} {spoken_year}"
        return f"{self.number(day)} de {name} de {spoken_year}"


def grouped(text: str, draw: random.Random, size: int = 4) -> str:
    """Write a number in groups, or in one piece."""
    mark = draw.choice([" ", "-", ""])
    return mark.join(text[i : i + size] for i in range(0, len(text), size))


def written_date(language: str, day: int, month: int, year: int, draw: random.Random) -> str:
    name = MONTHS[language].split()[month - 1]
    forms = {
        "en": [f"{month:02d}/{day:02d}/{year}", f"{name} {day}, {year}", f"{day} {name} {year}"],
        "de": [f"{day:02d}.{month:02d}.{year}", f"{day}. {name} {year}"],
        "fr": [f"{day:02d}/{month:02d}/{year}", f"{day} {name} {year}"],
        "es": [f"{day:02d}/{month:02d}/{year}", f"{day} de {name} de {year}"],
    }
    return draw.choice([*forms[language], f"{year}-{month:02d}-{day:02d}"])


def written_name(name: str, language: str, draw: random.Random) -> str:
    """A name as a transcript writes it: in small letters, without diacritics, as a possessive."""
    way = draw.choice(["as it is", "small", "bare", "possessive"])
    if way == "small":
        return name.lower()
    if way == "bare":
        return "".join(
            c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)
        )
    return f"{name}'s" if way == "possessive" and language == "en" else name


def dialogue(number: int, locale: str) -> dict[str, object]:
    """Make one dialogue: seven questions with answers in random order, and two look-alikes."""
    draw = random.Random(f"dialogue {number}")
    fake = Faker(locale)
    fake.seed_instance(number)
    language = locale[:2]
    say = Speaker(language, draw)
    birth = fake.date_between_dates(date(1930, 1, 1), date(2007, 12, 31))
    born = (birth.day, birth.month, birth.year)
    card, iban = fake.credit_card_number(), fake.iban()
    account = draw.choice(["", "", fake.random_uppercase_letter()]) + str(
        draw.randrange(10 ** draw.randint(5, 9), 10**10)
    )
    phone, email, name = (
        fake.phone_number(),
        fake.free_email(),
        f"{fake.first_name()} {fake.last_name()}",
    )
    forms: dict[str, tuple[Callable[[], str], Callable[[], str]]] = {
        "card": (lambda: grouped(card, draw), lambda: say.digits(card)),
        "iban": (lambda: grouped(iban, draw), lambda: say.code(iban)),
        "phone": (lambda: phone, lambda: said_phone(phone, say)),
        "email": (lambda: email, lambda: say.email(email)),
        "birth": (
            lambda: written_date(language, *born, draw),
            lambda: say.date(*born),
        ),
        "account": (lambda: account, lambda: say.code(account)),
        "name": (
            lambda: written_name(name, language, draw),
            lambda: f"{name}, {say.letters(name.split()[-1])}",
        ),
    }
    turns: list[list[str]] = []
    order = list(KINDS)
    draw.shuffle(order)
    for kind in order:
        spoken = draw.random() < 0.5
        words = forms[kind][spoken]()
        turns.append(["agent", draw.choice(ASKS[language][kind])])
        turns.append(["caller", draw.choice(ANSWERS[language][kind]).format(f"[[{kind}:{words}]]")])
    for template in draw.sample(OTHERS[language], 2):
        turns.insert(2 * draw.randint(0, len(turns) // 2), ["caller", look_alike(template, say)])
    return {
        "id": f"generated-{number:03d}",
        "language": language,
        "region": locale[3:],
        "names": [name],
        "turns": turns,
    }


def said_phone(phone: str, say: Speaker) -> str:
    number, _, extension = phone.partition("x")
    plus = "plus " if number.startswith("+") else ""
    said = plus + say.digits("".join(c for c in number.replace("(0)", "") if c.isdigit()))
    return f"{said} extension {say.digits(extension)}" if extension else said


def look_alike(template: str, say: Speaker) -> str:
    """Fill a template with numbers that aren't private, written or spoken."""
    draw, language = say.draw, say.language
    spoken = draw.random() < 0.5
    order = str(draw.randrange(10**7, 10 ** draw.choice([8, 10, 16])))
    if len(order) > 11 and luhn(order):
        order = order[:-1] + str((int(order[-1]) + 1) % 10)
    year, price, extension = (
        draw.randint(2008, 2026),
        draw.randint(3, 2999),
        draw.randint(100, 9999),
    )
    day, month = draw.randint(1, 28), draw.randint(1, 12)
    appointment = f"{day} {MONTHS[language].split()[month - 1]}"
    values = {"o": order, "y": str(year), "p": str(price), "x": str(extension), "a": appointment}
    if spoken:
        values["o"] = say.digits(order)
        values["y"] = num2words(year, to="year", lang=language)
        values["p"] = say.number(price)
        values["x"] = say.digits(str(extension))
    return template.format(**values)


def main() -> None:
    """Print all dialogues as JSONL."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--first", type=int, default=0, help="number of the first dialogue")
    options = parser.parse_args()
    for place, locale in enumerate(LOCALES):
        made = dialogue(options.first + place, locale)
        sys.stdout.write(json.dumps(made, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
