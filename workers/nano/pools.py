"""Names and values for generated documents: drawn or coined at random, so nothing is memorised.

Entity names fall into ten buckets by checksum; one bucket is never trained on and only measures.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

ONSETS = (
    "b br c ch cl cr d dr f fl fr g gl gr h j k kl l m n p pl pr qu r s sh sk sl st t th tr v w z"
)
NUCLEI = "a e i o u a e i o u ai ea ie oa au ou"
CODAS = ["l", "m", "n", "r", "s", "t", "x", "ck", "nd", "nt", "rn", "st", "th", "lm", *[""] * 14]
FIRST_NAMES = (
    "Marta Alan Priya Chen Omar Lucia Viktor Hannah Diego Ingrid Kofi Yuki Pavel Elena "
    "Samuel Aisha Tomas Greta Rahul Nora Felix Amara Julian Sofia Bruno Leila Mateo Wendy "
    "Oscar Farah Henry Clara Igor Maya Peter Ruth Simon Tara Ursula Vera Walter Zoe Adam "
    "Beth Carl Dina Erik Fiona Gavin Helen Ivan Joan Keith Laura Mark Nina Paul Rosa Sean "
    "Tina"
)
LAST_NAMES = (
    "Quill Hartman Osei Lindqvist Moreau Takeda Novak Farrell Whitlock Banerjee Castellano "
    "Drummond Eriksen Fontaine Granger Holloway Ibarra Jansen Kowalski Lombard Mercer "
    "Nakamura Oduya Petrov Quintero Rasmussen Sandoval Tanaka Underwood Vasquez Winslow "
    "Yilmaz Zeller Abbott Barlow Crane Dawson Ellery Foster Gallagher Hughes Irving Kendall "
    "Lawson Mendel Norton Ortega Prescott Reyes Stanton Turner Vaughn Walsh Young"
)
COMPANY_SUFFIXES = (
    "Corp Ltd Holdings Group Systems Industries Partners Energy Foods Logistics Bank Labs "
    "Motors Textiles Media Pharma Airlines Steel Software Capital Inc. LLC GmbH Trust "
    "Services Works Mills"
)
PLACE_SUFFIXES = ("", "", "ville", "ton", " City", " Bay", " Falls", " Heights", "ford", " Island")
MONTHS = "January February March April May June July August September October November December"
COLOURS = "red blue green amber violet grey black white silver orange teal maroon ivory navy copper"
MATERIALS = (
    "steel oak aluminium glass cotton leather granite bamboo carbon ceramic brass titanium "
    "nylon walnut"
)
REASONS = (
    "supplier delays|weak demand|higher freight costs|a software fault|staff shortages|"
    "currency losses|a warehouse fire|poor weather|new tariffs|a failed audit|"
    "seasonal demand|lower prices|a product recall|rising wages|a late permit|strong exports|"
    "a data breach|slow approvals|a broken pump|heavy snow|a missing part|"
    "a strike at the port|a change of plan|unpaid invoices"
)
UNITS = ("kg", "metres", "units", "litres", "watts", "tonnes", "km", "hectares", "pages", "mm")
TITLE_WORDS = (
    "Winter Summer Silent Golden Broken Modern Early Hidden Distant Applied Practical Basic"
)
TITLE_NOUNS = (
    "Harbour Garden Methods Bridge Letters Statistics Chemistry Rivers Machines Voices Theory"
)


class Pools:
    """Draws names and values. `held_out`: entity names from the bucket kept for measuring."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out
        self._used: set[str] = set()

    def pick(self, words: str) -> str:
        """One of space-separated words."""
        return self.rng.choice(words.split())

    def word(self, n_syllables: int | None = None) -> str:
        """A coined, pronounceable word."""
        n = n_syllables or self.rng.choice((1, 2, 2, 2, 3))
        return "".join(
            self.pick(ONSETS) + self.pick(NUCLEI) + self.rng.choice(CODAS) for _ in range(n)
        )

    def fresh(self, coin: Callable[[], str]) -> str:
        """A name not used before in this document and from the right bucket."""
        for _ in range(500):
            name = coin()
            bucket = zlib.crc32(name.encode()) % 10
            if name not in self._used and (bucket == 0) == self.held_out:
                break
        self._used.add(name)
        return name

    def entity(self, kind: str) -> str:
        """A fresh name of an entity kind: company, person, place, product, project or title."""
        makers = {
            "company": self.company, "person": self.person, "place": self.place,
            "product": self.product, "project": self.project, "title": self.title,
        }  # fmt: skip
        return self.fresh(makers[kind])

    def person(self) -> str:
        """First and last name, common or coined."""
        first = self.pick(FIRST_NAMES) if self.rng.random() < 0.7 else self.word(2).capitalize()
        last = self.pick(LAST_NAMES) if self.rng.random() < 0.5 else self.word(2).capitalize()
        middle = f" {self.rng.choice('ABCDEFGHJKLMNPRSTW')}." if self.rng.random() < 0.12 else ""
        return f"{first}{middle} {last}"

    def company(self) -> str:
        """A coined firm."""
        return f"{self.word(self.rng.choice((2, 2, 3))).capitalize()} {self.pick(COMPANY_SUFFIXES)}"

    def product(self) -> str:
        """A coined product with a model mark."""
        marks = (
            self.rng.choice("XZTRQMKS") + str(self.rng.randint(1, 99)),
            str(self.rng.randint(10, 999)),
            self.pick("Pro Max Lite Mini Plus One"),
        )
        return self.word(2).capitalize() + self.rng.choice((" ", " ", "-")) + self.rng.choice(marks)

    def place(self) -> str:
        """A coined town."""
        return self.word(2).capitalize() + self.rng.choice(PLACE_SUFFIXES)

    def project(self) -> str:
        """A coined project."""
        return "Project " + self.word(2).capitalize()

    def title(self) -> str:
        """A title of a book or course."""
        return f"{self.pick(TITLE_WORDS)} {self.pick(TITLE_NOUNS)} {self.rng.randint(1, 40)}"

    def value(self, kind: str) -> str:
        """A value of a kind named in genres.toml; `quantity:unit` gives a number with its unit."""
        if kind.startswith("quantity:"):
            return f"{self._size()} {kind.partition(':')[2]}"
        if kind == "any":
            kind = self.rng.choice(
                ("money", "percent", "date", "count", "code", "duration", "decimal", "person",
                 "place", "company", "reason", f"quantity:{self.rng.choice(UNITS)}")
            )  # fmt: skip
            return self.value(kind)
        makers: dict[str, Callable[[], str]] = {
            "money": self._money, "percent": self._percent, "date": self._date,
            "count": lambda: self._number(2, 99999), "code": self._code, "decimal": self._decimal,
            "duration": self._duration, "person": self.person, "place": self.place,
            "company": self.company, "reason": lambda: self.rng.choice(REASONS.split("|")),
            "colour": self._colour, "material": self._material, "email": self._email,
            "coined": lambda: self.word(2) + self.pick("ol ine ate ax mab pril cin"),
            "title": self.title,
        }  # fmt: skip
        return makers[kind]()

    def period(self) -> str:
        """A time, as in `in Q3 2019`."""
        year = self.rng.randint(2001, 2029)
        inside = (
            f"{year}", f"{year}", f"fiscal {year}", f"Q{self.rng.randint(1, 4)} {year}",
            f"{self.pick(MONTHS)} {year}",
        )  # fmt: skip
        return "in " + self.rng.choice(inside)

    def _number(self, low: int, high: int) -> str:
        digits = self.rng.randint(len(str(low)), len(str(high)))
        number = max(low, min(high, self.rng.randint(low, 10**digits - 1)))
        return f"{number:,}" if self.rng.random() < 0.6 else str(number)

    def _decimal(self) -> str:
        fraction = self.rng.randint(0, 99) if self.rng.random() < 0.4 else self.rng.randint(0, 9)
        return f"{self.rng.randint(0, 99)}.{fraction}"

    def _size(self) -> str:
        return self.rng.choice((self._number(2, 9999), self._decimal()))

    def _money(self) -> str:
        currency = self.rng.choice(("$", "$", "$", "€", "£", "USD ", "EUR "))
        if self.rng.random() < 0.5:
            amount = self.rng.choice((self._decimal(), self._number(1, 999)))
            return f"{currency}{amount} {self.rng.choice(('million', 'million', 'billion'))}"
        return f"{currency}{self.rng.randint(100, 999999):,}"

    def _percent(self) -> str:
        return self._decimal() + self.rng.choice(("%", "%", " percent"))

    def _date(self) -> str:
        day, month = self.rng.randint(1, 28), self.rng.randint(0, 11)
        year, name = self.rng.randint(1990, 2030), MONTHS.split()[month]
        return self.rng.choice(
            (f"{name} {day}, {year}", f"{day} {name} {year}", f"{year}-{month + 1:02d}-{day:02d}",
             f"{name} {year}")
        )  # fmt: skip

    def _code(self) -> str:
        letters = "".join(self.rng.choice("ABCDEFGHKLMNPQRSTVWX") for _ in range(2))
        return self.rng.choice(
            (
                f"{letters}-{self.rng.randint(100, 99999)}",
                f"{letters[0]}{self.rng.randint(10, 9999)}",
                f"{self.rng.randint(100, 999)}/{self.rng.randint(10, 99)}",
            )
        )

    def _duration(self) -> str:
        return f"{self.rng.randint(2, 90)} {self.pick('days months years weeks hours minutes')}"

    def _colour(self) -> str:
        second = f" and {self.pick(COLOURS)}" if self.rng.random() < 0.5 else ""
        return self.pick(COLOURS) + second

    def _material(self) -> str:
        return self.rng.choice(
            ("brushed ", "solid ", "recycled ", "polished ", "", "")
        ) + self.pick(MATERIALS)

    def _email(self) -> str:
        return f"{self.word(2)}@{self.word(2)}{self.rng.choice(('.com', '.org', '.net'))}"


def sample(rng: random.Random, items: Sequence[str], n: int) -> list[str]:
    """`n` different items, or all."""
    return rng.sample(list(items), min(n, len(items)))
