"""Tables to ask about, and databases of them in which a condition that is nearly right shows."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["NEW_TABLES", "TABLES", "Columns", "Condition", "Row", "Schema", "database"]

Row = list[str | int]
Columns = Mapping[str, tuple[str, ...]]
"""Of a table: the values of each text column, and under `#` the names of those with numbers."""

TABLES: dict[str, Columns] = {
    "employees": {
        "name": ("Ana", "Ben", "Chen", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun"),
        "city": ("Berlin", "Lagos", "Lima", "Osaka", "Oslo"),
        "department": ("sales", "research", "support", "legal"),
        "#": ("age", "salary", "years_employed"),
    },
    "products": {
        "name": ("lamp", "chair", "desk", "clock", "shelf", "mirror", "vase", "rug"),
        "category": ("office", "kitchen", "garden", "bedroom"),
        "brand": ("Arbo", "Lumen", "Nordi", "Solva"),
        "#": ("price", "stock", "weight"),
    },
    "flights": {
        "airline": ("Aero", "Blue Wing", "Cirrus", "Delphi"),
        "origin": ("Rome", "Cairo", "Quito", "Seoul", "Perth"),
        "destination": ("Paris", "Delhi", "Accra", "Miami", "Tunis"),
        "#": ("distance", "duration", "passengers"),
    },
    "books": {
        "title": ("Dawn", "Echo", "Ferry", "Gale", "Harbor", "Inlet", "Jade", "Kite"),
        "author": ("Abe", "Borges", "Calvino", "Duras", "Eco"),
        "genre": ("crime", "poetry", "history", "travel"),
        "#": ("pages", "year", "copies_sold"),
    },
    "students": {
        "name": ("Aya", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hugo"),
        "major": ("physics", "law", "music", "biology"),
        "country": ("Chile", "Ghana", "India", "Norway", "Spain"),
        "#": ("age", "credits", "grade"),
    },
    "orders": {
        "customer": ("Adler", "Baum", "Cole", "Diaz", "Engel", "Ford"),
        "status": ("open", "shipped", "returned", "paid"),
        "region": ("north", "south", "east", "west"),
        "#": ("amount", "quantity", "discount"),
    },
    "houses": {
        "street": ("Elm Road", "Mill Lane", "High Street", "Park Way"),
        "style": ("cottage", "villa", "loft", "cabin"),
        "town": ("Ashford", "Benton", "Colby", "Dunmore"),
        "#": ("price", "rooms", "year_built"),
    },
    "songs": {
        "title": ("Amber", "Blue", "Cold", "Drift", "Ember", "Fade", "Glow"),
        "artist": ("Kora", "Lumo", "Mira", "Nilo"),
        "genre": ("jazz", "rock", "folk", "soul"),
        "#": ("length", "plays", "year"),
    },
}
NEW_TABLES = ("houses", "songs")
"""No question to train on is about these."""

_ROWS = (40, 60)
_NEAR = 0.4
"""Share of rows that lie at the bounds of a question."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A table with some of its columns."""

    table: str
    values: Mapping[str, tuple[str, ...]]
    """Of each text column."""
    numbers: tuple[str, ...]

    @classmethod
    def drawn(cls, table: str, columns: Columns, chooser: random.Random) -> "Schema":
        """Choose some of a table's columns, and their order."""
        texts = chooser.sample([name for name in columns if name != "#"], chooser.randint(2, 3))
        numbers = chooser.sample(columns["#"], chooser.randint(2, 3))
        return cls(table, {name: columns[name] for name in texts}, tuple(numbers))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    def ddl(self) -> str:
        columns = [f"{name} TEXT" for name in self.texts]
        columns += [f"{name} INTEGER" for name in self.numbers]
        return f"CREATE TABLE {self.table} (id INTEGER PRIMARY KEY, {', '.join(columns)})"


@dataclass(frozen=True, slots=True)
class Condition:
    """What rows must have: a text, or a number above or below a bound."""

    name: str
    sign: str
    value: str | int

    @property
    def said(self) -> str:
        word = {"=": "", ">": "above ", "<": "below "}[self.sign]
        return f"have {self.name.replace('_', ' ')} {word}{self.value}"

    @property
    def where(self) -> str:
        value = f"'{self.value}'" if self.sign == "=" else self.value
        return f"{self.name} {self.sign} {value}"


def database(schema: Schema, conditions: Sequence[Condition], chooser: random.Random) -> list[Row]:
    """Draw rows, many of them with numbers at the bounds of the conditions, or next to these."""
    rows: list[Row] = []
    for number in range(1, chooser.randint(*_ROWS) + 1):
        texts = {name: chooser.choice(values) for name, values in schema.values.items()}
        numbers = {name: chooser.randint(1, 99) for name in schema.numbers}
        if chooser.random() < _NEAR:
            for each in conditions:
                if isinstance(each.value, int):
                    numbers[each.name] = each.value + chooser.randint(-2, 2)
                elif chooser.random() < 0.7:
                    texts[each.name] = each.value
        rows.append([number, *texts.values(), *numbers.values()])
    return rows
