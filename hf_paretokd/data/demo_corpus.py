"""An embedded corpus of real text: phrases that Babel formats from Unicode CLDR, parallel in hundreds of locales.

A phrase is a list of one to four items (dates, relative times, units, amounts of money, countries, languages), each said as
the language says it and joined with the language's own list pattern: "in 960 minutes, 2 kilograms, and Akkadian" – "dans
960 minutes, 2 kilogrammes et akkadien". Held-out phrases are new combinations of known words.
"""

import datetime
import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from hf_paretokd.data.seeds import derive_seed
from hf_paretokd.errors import DataError

SIZES = {"fr": 20_000, "ko": 15_000, "bg": 10_000, "el": 8_000, "mk": 3_000, "hi": 2_000, "mr": 1_000, "bs": 500}
HELD_OUT = {"validation": 100, "test": 200}
MEASURES = {
    "area": "hectare square-centimeter square-foot square-kilometer square-meter",
    "digital": "gigabit gigabyte kilobit kilobyte megabit megabyte terabyte",
    "electric": "ampere milliampere ohm volt",
    "energy": "calorie joule kilocalorie kilojoule kilowatt-hour",
    "frequency": "gigahertz hertz kilohertz megahertz",
    "length": "centimeter decimeter kilometer light-year meter micrometer millimeter nanometer nautical-mile",
    "mass": "carat gram kilogram microgram milligram tonne",
    "power": "horsepower kilowatt megawatt milliwatt watt",
    "speed": "kilometer-per-hour meter-per-second mile-per-hour",
    "volume": "centiliter cubic-kilometer cubic-meter deciliter hectoliter liter milliliter",
}
CURRENCIES = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HKD HUF INR JPY KRW MXN NOK NZD PLN RON RUB SEK SGD THB TRY UAH USD ZAR"
DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}
KINDS = ("date", "relative", "measure", "money", "country", "language")
WEIGHTS = (5, 4, 4, 3, 2, 2)
Item = tuple[str, Any, Any]


def write_demo_corpus(
    folder: Path, sizes: Mapping[str, int] = SIZES, held_out: Mapping[str, int] = HELD_OUT, target: str = "en", seed: int = 1
) -> None:
    """Writes `xx-en/SPLIT.LANG` below `folder` for every language: `train`, `validation` and `test`.

    Args:
        folder: made if it is not there; files are replaced.
        sizes: training pairs of each source language.
        held_out: phrases of the other splits, the same phrases for every language and in no training text.
        target: target language.
        seed: of all draws.

    Raises:
        DataError: Babel is not installed.
    """
    phrases = Phrases([*sizes, target])
    taken: set[str] = set()
    kept = {split: phrases.draw(count, target, taken, seed, split) for split, count in held_out.items()}
    with tqdm(total=sum(sizes.values()), desc="writing phrases", unit=" phrases", leave=False, disable=None) as bar:
        for language, size in sizes.items():
            place = folder / f"{language}-{target}"
            place.mkdir(parents=True, exist_ok=True)
            drawn = phrases.draw(size, target, set(taken), seed, language)
            for split, chosen in {"train": drawn, **kept}.items():
                for side in (language, target):
                    lines = [phrases.say(phrase, side) for phrase in chosen]
                    (place / f"{split}.{side}").write_text("\n".join(lines) + "\n", "utf-8")
            bar.update(size)


class Phrases:
    """Draws phrases that exist in all `languages` and says them in any of these."""

    def __init__(self, languages: list[str]) -> None:
        try:
            import babel
        except ImportError as error:
            raise DataError("the demo corpus needs Babel: pip install 'hf_paretokd[demo]'") from error
        self.locales: dict[str, Any] = {language: babel.Locale.parse(language) for language in languages}
        every = list(self.locales.values())
        self.countries = sorted(
            code for code in every[0].territories if len(code) == 2 and all(code in locale.territories for locale in every)
        )
        self.languages = sorted(code for code in every[0].languages if all(code in locale.languages for locale in every))
        self.measures = sorted(
            f"{kind}-{name}"
            for kind, names in MEASURES.items()
            for name in names.split()
            if all(self._known(f"{kind}-{name}", language) for language in languages)
        )
        self.item = lru_cache(maxsize=500_000)(self._item)

    def draw(self, count: int, language: str, taken: set[str], *keys: int | str) -> list[list[Item]]:
        """`count` phrases whose text in `language` is not in `taken`, which they then join."""
        generator = random.Random(derive_seed(*keys, "phrases"))
        found: list[list[Item]] = []
        while len(found) < count:
            phrase = [self._draw_item(generator) for _ in range(generator.choices((1, 2, 3, 4), (1, 3, 4, 3))[0])]
            text = self.say(phrase, language)
            if text not in taken:
                taken.add(text)
                found.append(phrase)
        return found

    def say(self, phrase: list[Item], language: str) -> str:
        """The phrase in one language."""
        from babel.lists import format_list

        return format_list([self.item(item, language) for item in phrase], locale=self.locales[language]).replace("\u202f", " ")

    def _draw_item(self, generator: random.Random) -> Item:
        kind = generator.choices(KINDS, WEIGHTS)[0]
        number = generator.choice((generator.randint(2, 20), generator.randint(2, 999)))
        if kind == "date":
            return kind, generator.randint(715_000, 745_000), generator.choice(("full", "long", "medium"))
        if kind == "relative":
            return kind, number * generator.choice((1, -1)), generator.choice(("second", "minute", "hour", *DAYS))
        if kind == "measure":
            return kind, number, generator.choice(self.measures)
        if kind == "money":
            return kind, number, generator.choice(CURRENCIES.split())
        return kind, generator.choice(self.countries if kind == "country" else self.languages), None

    def _item(self, item: Item, language: str) -> str:
        from babel import dates, numbers, units

        (kind, value, detail), locale = item, self.locales[language]
        if kind == "date":
            return dates.format_date(datetime.date.fromordinal(value), detail, locale=locale)
        if kind == "relative":
            delta = datetime.timedelta(**({f"{detail}s": value} if detail not in DAYS else {"days": value * DAYS[detail]}))
            return dates.format_timedelta(delta, granularity=detail, threshold=1e9, add_direction=True, locale=locale)
        if kind == "measure":
            return units.format_unit(value, detail, "long", locale=locale)
        if kind == "money":
            return numbers.format_currency(value, detail, "#,##0", locale, currency_digits=False, format_type="name")
        return locale.territories[value] if kind == "country" else locale.languages[value]

    def _known(self, measure: str, language: str) -> bool:
        """Whether CLDR has a name for the unit; Babel falls back to its raw key otherwise."""
        return measure not in self._item(("measure", 2, measure), language)
