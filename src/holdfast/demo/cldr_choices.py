"""Which entries of the locale data the generated sentences use, and their few own words.

German inflects: names that need an article, and nouns whose accusative differs from the
nominative, are kept out here so that every frame can take every value.
"""

from __future__ import annotations


def _codes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NO_COUNTRY = frozenset(_codes("AC CP CQ DG EA EU EZ IC QO TA UN XA XB ZZ"))

NO_BARE_PLACE = frozenset(
    _codes(
        "AQ AX BS BV CC CH CK CX EH FK FO IQ IR KM KY LB MH MN MP MV NE NF NL PH PN SB SC SD SK "
        "SN SS TD TR UA US VA YE"
    )
)

NO_LANGUAGE = frozenset(_codes("mis mul root und zxx"))

CURRENCIES = _codes(
    "AUD BRL CAD CHF CNY CZK DKK EUR GBP HUF ILS INR ISK JPY KRW MXN NOK NZD PLN RON SEK THB TRY "
    "UAH USD VND ZAR"
)

SUBJECTS = (
    ("Anna", "Anna"),
    ("Ben", "Ben"),
    ("Clara", "Clara"),
    ("David", "David"),
    ("Emil", "Emil"),
    ("Frieda", "Frieda"),
    ("Jonas", "Jonas"),
    ("Lena", "Lena"),
    ("Maria", "Maria"),
    ("Paul", "Paul"),
    ("Frau Weber", "Ms. Weber"),
    ("Herr Schmidt", "Mr. Schmidt"),
    ("mein Bruder", "my brother"),
    ("meine Schwester", "my sister"),
    ("mein Nachbar", "my neighbor"),
    ("meine Tochter", "my daughter"),
    ("unser Sohn", "our son"),
    ("unsere Lehrerin", "our teacher"),
    ("der Arzt", "the doctor"),
    ("die Chefin", "the boss"),
    ("sein Onkel", "his uncle"),
    ("ihre Tante", "her aunt"),
    ("ein Freund von mir", "a friend of mine"),
    ("die Studentin", "the student"),
)

THINGS = (
    ("das Auto", "the car"),
    ("das Bett", "the bed"),
    ("das Bild", "the picture"),
    ("das Buch", "the book"),
    ("das Fahrrad", "the bicycle"),
    ("das Hemd", "the shirt"),
    ("das Klavier", "the piano"),
    ("das Paket", "the parcel"),
    ("das Sofa", "the sofa"),
    ("das Zelt", "the tent"),
    ("die Vase", "the vase"),
    ("die Gitarre", "the guitar"),
    ("die Jacke", "the jacket"),
    ("die Kamera", "the camera"),
    ("die Lampe", "the lamp"),
    ("die Maschine", "the machine"),
    ("die Tasche", "the bag"),
    ("die Uhr", "the clock"),
)

# kind of quantity -> units of it: CLDR name, smallest, largest, step
UNITS: dict[str, tuple[tuple[str, float, float, float], ...]] = {
    "duration": (
        ("duration-second", 2, 59, 1),
        ("duration-minute", 1, 59, 1),
        ("duration-hour", 1, 23, 1),
        ("duration-day", 1, 30, 1),
        ("duration-week", 1, 12, 1),
        ("duration-month", 1, 11, 1),
        ("duration-year", 1, 40, 1),
    ),
    "journey": (
        ("duration-minute", 2, 59, 1),
        ("duration-hour", 1, 14, 1),
    ),
    "distance": (
        ("length-kilometer", 1, 30, 0.5),
        ("length-kilometer", 1, 999, 1),
        ("length-mile", 1, 99, 0.5),
        ("length-meter", 50, 950, 50),
    ),
    "length": (
        ("length-meter", 1, 12, 0.1),
        ("length-centimeter", 1, 250, 1),
        ("length-millimeter", 1, 99, 0.5),
        ("length-foot", 1, 40, 0.5),
    ),
    "height": (("length-meter", 300, 8800, 1), ("length-foot", 500, 28_000, 1)),
    "mass": (
        ("mass-kilogram", 1, 90, 0.1),
        ("mass-gram", 5, 995, 5),
        ("mass-pound", 1, 60, 0.5),
        ("mass-tonne", 1, 40, 0.5),
    ),
    "volume": (
        ("volume-liter", 1, 90, 0.1),
        ("volume-milliliter", 5, 995, 5),
        ("volume-deciliter", 1, 9, 0.5),
        ("volume-gallon", 1, 30, 0.5),
        ("volume-cubic-meter", 1, 60, 0.5),
    ),
    "spoons": (
        ("volume-cup", 1, 6, 1),
        ("volume-tablespoon", 1, 12, 1),
        ("volume-teaspoon", 1, 9, 1),
        ("volume-milliliter", 5, 750, 5),
        ("mass-gram", 5, 750, 5),
    ),
    "speed": (
        ("speed-kilometer-per-hour", 5, 320, 1),
        ("speed-mile-per-hour", 5, 200, 1),
        ("speed-meter-per-second", 1, 90, 0.5),
        ("speed-knot", 1, 60, 1),
    ),
    "temperature": (
        ("temperature-celsius", -30, 45, 0.5),
        ("temperature-fahrenheit", 0, 110, 1),
    ),
    "area": (
        ("area-square-meter", 10, 500, 1),
        ("area-square-kilometer", 1, 900, 0.5),
        ("area-hectare", 1, 90, 0.5),
        ("area-square-foot", 100, 4000, 10),
    ),
    "storage": (
        ("digital-byte", 100, 999, 1),
        ("digital-kilobyte", 1, 999, 1),
        ("digital-megabyte", 1, 99, 0.1),
        ("digital-gigabyte", 1, 64, 0.5),
        ("digital-terabyte", 1, 20, 0.5),
    ),
    "power": (
        ("power-watt", 5, 995, 5),
        ("power-kilowatt", 1, 90, 0.5),
        ("power-megawatt", 1, 900, 0.5),
        ("power-horsepower", 50, 700, 1),
    ),
    "electric": (
        ("electric-volt", 1, 400, 0.5),
        ("electric-ampere", 1, 60, 0.5),
        ("energy-kilowatt-hour", 1, 900, 1),
        ("frequency-megahertz", 80, 900, 0.5),
        ("pressure-hectopascal", 950, 1050, 1),
    ),
}
