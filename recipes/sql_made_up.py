"""Tables drawn from words: so that weights learn to read a schema, and not to know six of them."""

import random
from collections.abc import Callable

from headstart.recipes.sql_tables import NEW_TABLES, TABLES, Columns

__all__ = ["made_up"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_TABLES = _words(
    """
    accounts animals bikes bridges buses cameras cities clients clubs coins courses desserts devices
    doctors drinks engines events farms films games gardens guests hospitals islands jobs lakes
    machines matches medals members museums paintings parks patients plants players ports recipes
    rivers rockets schools servers ships shops stars tickets tools trains trees trips vehicles
    visitors wines workers zoos
    """
)
_TEXTS = _words(
    """
    agent badge brand building captain chef class club coach code color company county crew device
    district driver format gate band hall hotel keeper kind label language level lender maker
    manager material model owner partner planet platform port position product race room_type school
    season section sender series shape site sponsor state supplier surface team theme type unit
    venue version ward zone home_town first_name last_name job_title main_office
    """
)
_NUMBERS = _words(
    """
    area balance beds capacity copies cost depth distance floors fee goals height hours income age
    miles orders points population power profit rank rating score seats sales size speed spending
    staff temperature tons views visits votes wages wins score_before max_speed total_cost num_parts
    first_year days_open
    """
)
_WORDS = _words(
    """
    apple basic bright broken calm clear cheap double early fast final flat fresh gentle green grey
    heavy hidden inner iron large late light local lower lunar major medium metal mixed narrow new
    night open outer paper plain polar prime public quick quiet rapid raw round rural salt sharp
    short silver simple single slow small smart soft solar solid stone strong sweet swift tall thin
    upper urban warm wet wide wild winter wooden yellow young
    """
)
_ONSETS = _words("b br c ch d dr f g gr h j k kl l m n p pr qu r s sh st t th tr v w y z")
_RIMES = _words("a ab ack al an ar as ax e el en er est i ic il in is ist o ol on or os u um un us")

_TEXT_COLUMNS = 4
_NUMBER_COLUMNS = 4
_VALUES = (4, 9)
_TAKEN = {value for table in NEW_TABLES for values in TABLES[table].values() for value in values}
"""Nobody is to know the new tables' values."""


def made_up(chooser: random.Random) -> tuple[str, Columns]:
    """Draw a table's name and its columns, with the values that stand in each."""
    columns = {name: _values(chooser) for name in chooser.sample(_TEXTS, _TEXT_COLUMNS)}
    table = chooser.choice(_TABLES)
    columns["#"] = tuple(chooser.sample(_NUMBERS, _NUMBER_COLUMNS))
    return table, columns


def _values(chooser: random.Random) -> tuple[str, ...]:
    """Draw what stands in one column: values of one form, as in tables of people's own."""
    form = chooser.choice(_FORMS)
    drawn = {form(chooser): None for _ in range(chooser.randint(*_VALUES))}
    return tuple(value for value in drawn if value not in _TAKEN)


def _word(chooser: random.Random) -> str:
    return chooser.choice(_WORDS)


def _name(chooser: random.Random) -> str:
    """A word that no model knows, and can only copy."""
    parts = chooser.randint(1, 3)
    drawn = (chooser.choice(_ONSETS) + chooser.choice(_RIMES) for _ in range(parts))
    return "".join(drawn).capitalize()


_FORMS: tuple[Callable[[random.Random], str], ...] = (
    _word,
    _name,
    lambda chooser: f"{_word(chooser)} {_word(chooser)}",
    lambda chooser: f"{_word(chooser).capitalize()} {_name(chooser)}",
    lambda chooser: f"{_name(chooser)} {_name(chooser)}",
    lambda chooser: f"{_name(chooser)} {_word(chooser).capitalize()} {_name(chooser)}",
    lambda chooser: f"{_name(chooser)} {chooser.randint(2, 400)}",
    lambda chooser: f"{_name(chooser)[:2].upper()}-{chooser.randint(1, 99)}",
    lambda chooser: f"{_name(chooser)[0]}. {_name(chooser)}",
    lambda chooser: f"{_word(chooser)}-{_word(chooser)}",
)
"""Of values: one to three words, codes, numbered and shortened names."""
