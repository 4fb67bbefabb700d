"""Lists of plausible values, by what they are: names, streets, titles, short texts. All made up."""

from __future__ import annotations

from collections.abc import Sequence

from agentscaler.tasks.plain.facts import Sort

FIRST_NAMES = (
    "Ana", "Ben", "Carla", "Daniel", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Liam", "Mara", "Nils",
    "Olga", "Pavel", "Rosa", "Samir", "Tessa", "Uma", "Viktor", "Wanda", "Yusuf", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Abara", "Berg", "Castillo", "Dimitrov", "Eriksen", "Fontaine", "Garcia", "Hoffman", "Ivanova", "Jansen", "Kowalski",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quinn", "Rossi", "Schmidt", "Tanaka", "Ueda", "Vargas", "Weber",
    "Yilmaz",
)  # fmt: skip
PEOPLE = tuple(f"{first} {LAST_NAMES[(7 * number + 3) % len(LAST_NAMES)]}" for number, first in enumerate(FIRST_NAMES))
MAILS = tuple(f"{name.lower().replace(' ', '.')}@example.org" for name in PEOPLE)
PHONES = tuple(f"+44 20 7946 0{100 + 37 * number % 900}" for number in range(24))
PHONE_DIGITS = tuple(f"0207946{100 + 37 * number % 900:04d}" for number in range(24))
STREETS = (
    "12 Mill Lane", "4 Harbour Road", "87 Orchard Street", "23 Station Road", "9 Castle Hill", "151 Victoria Avenue",
    "36 Elm Grove", "5 Bridge Street", "68 Park Row", "17 Chapel Close", "40 Kingsway", "2 Lower Green", "115 Market Street",
    "31 Linden Walk", "78 North Parade", "6 Quarry Gardens",
)  # fmt: skip
CITIES = (
    "Bristol", "Leeds", "Norwich", "Cardiff", "Exeter", "Glasgow", "Oxford", "Derby", "Lincoln", "York", "Dundee", "Swansea",
    "Bath", "Carlisle", "Plymouth", "Durham",
)  # fmt: skip
POSTCODES = (
    "BS1 4DJ",
    "LS2 8JT",
    "NR3 1AB",
    "CF10 2EQ",
    "EX4 3RN",
    "G1 2FF",
    "OX1 3LU",
    "DE1 1QH",
    "YO1 7LZ",
    "BA2 4BQ",
)
POSTCODE_DIGITS = (
    "10115",
    "20095",
    "50667",
    "60311",
    "70173",
    "80331",
    "04109",
    "01067",
    "28195",
    "90402",
    "99084",
    "24103",
)
COUNTRIES = (
    "Norway",
    "Portugal",
    "Ireland",
    "Canada",
    "Japan",
    "Austria",
    "Chile",
    "Kenya",
    "Greece",
    "Finland",
    "Denmark",
)
COUNTRY_CODES = ("NO", "PT", "IE", "CA", "JP", "AT", "CL", "KE", "GR", "FI", "DK")
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "SEK", "JPY", "CAD")
LANGUAGES = ("English", "Spanish", "German", "French", "Italian", "Dutch", "Polish", "Turkish")
LANGUAGE_CODES = ("en", "es", "de", "fr", "it", "nl", "pl", "tr")
TIMEZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "Asia/Tokyo", "America/Sao_Paulo", "Africa/Nairobi")
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple", "grey", "brown")
COMPANIES = (
    "Northwind Timber", "Bluebell Foods", "Kestrel Logistics", "Marlow and Sons", "Aldgate Printing", "Sunrise Dairy",
    "Peak Outdoor", "Harbour Glass", "Fennel Software", "Oakfield Motors", "Lumen Electric", "Tidewater Shipping",
)  # fmt: skip
NAMES = (
    "Juniper", "Harbour Light", "Blue Heron", "Cedar", "North Star", "Marigold", "Falcon", "Old Mill", "Silver Birch", "Compass",
    "Driftwood", "Evergreen", "Granite", "Hazel", "Ironbridge", "Kingfisher", "Lantern", "Meadow", "Nightingale", "Orchid",
    "Pebble", "Riverside", "Sandpiper", "Thistle", "Windmill", "Yarrow",
)  # fmt: skip
TITLES = (
    "Check the figures for April", "Order new chairs", "Plan for the summer", "Update the price list", "Prepare the kick-off",
    "Call the supplier back", "Tidy up the archive", "New labels for the shelves", "Summary of last week", "Questions for Monday",
    "Replace the old printer", "First draft of the leaflet", "Costs of the move", "Ideas for the open day", "List of all keys",
    "Repair of the front door", "Training for newcomers", "Results of the survey", "Agenda for the board", "Test run on Friday",
    "Delivery from the north", "Changes after the review", "Photos for the brochure", "Safety check of the hall",
)  # fmt: skip
SENTENCES = (
    "Please have a look before Friday", "The figures are not final yet", "This was agreed on the phone", "Waiting for an answer",
    "The first version was too long", "Bring the signed copy along", "Nobody has tested this yet", "It works now, thanks to Ines",
    "The door code changes next week", "Keep this short and friendly", "Two boxes were missing", "Start with the oldest entries",
    "The customer wants it in writing", "All done except for the pictures", "Ask Jonas about the details", "Moved from the old system",
    "We need a second opinion on this", "The meeting room is too small", "Same as last year, but in green", "Prices include delivery",
)  # fmt: skip
REASONS = (
    "It is no longer needed", "The dates did not fit", "It was entered twice", "Something came up", "The plans have changed",
    "It takes too long", "We found a better way", "It was a mistake", "There was a misunderstanding", "Somebody else takes care of it",
)  # fmt: skip
TAGS = (
    "urgent",
    "internal",
    "follow-up",
    "seasonal",
    "draft",
    "reviewed",
    "archive",
    "priority",
    "training",
    "external",
    "winter",
    "pilot",
)
CODES = tuple(f"{'KLMNPRST'[number % 8]}{'ABCDEFGH'[number * 3 % 8]}-{2041 + 173 * number}" for number in range(16))
URLS = tuple(
    f"https://www.example.org/{word}" for word in ("start", "news", "files/7", "about", "plan", "team", "shop", "help")
)
USERS = tuple(f"{name.split()[0].lower()}{10 + 7 * number % 80}" for number, name in enumerate(PEOPLE))
JOBS = (
    "accountant",
    "gardener",
    "nurse",
    "electrician",
    "designer",
    "cook",
    "driver",
    "teacher",
    "developer",
    "librarian",
)
ROOMS = ("Room 12", "Room 4", "Main hall", "Studio 2", "Room 31", "Annexe", "Library", "Room 7")

_BY_WORD: tuple[tuple[str, Sequence[str]], ...] = (
    ("email mail", MAILS),
    ("phone tel telephone mobile fax", (*PHONES, *PHONE_DIGITS)),
    ("url website link uri homepage webhook", URLS),
    ("username login handle nickname", USERS),
    ("street address", STREETS),
    ("city town place origin destination", CITIES),
    ("postcode postal zip zipcode", (*POSTCODES, *POSTCODE_DIGITS)),
    ("country nationality", (*COUNTRIES, *COUNTRY_CODES)),
    ("currency", CURRENCIES),
    ("language locale lang", (*LANGUAGES, *LANGUAGE_CODES)),
    ("timezone tz", TIMEZONES),
    ("colour color", COLOURS),
    ("company organisation organization employer vendor supplier", COMPANIES),
    ("room venue location", ROOMS),
    ("job profession occupation role position", JOBS),
    ("tag tags keyword label", TAGS),
    ("reason", REASONS),
)


def pool_for(words: Sequence[str], sort: Sort, is_person: bool) -> Sequence[str] | None:
    """By the words of a parameter's and its column's names; None where those say nothing."""
    every = set(words)
    if every & {"firstname", "given"} or {"first", "name"} <= every:
        return FIRST_NAMES
    if every & {"lastname", "surname", "family"} or {"last", "name"} <= every:
        return LAST_NAMES
    if sort is Sort.PERSON:
        return PEOPLE
    for keys, pool in _BY_WORD:
        if every & set(keys.split()):
            return pool
    if sort is Sort.TEXT:
        return SENTENCES
    if sort is Sort.TITLE:
        return NAMES if "name" in every and not is_person else TITLES
    return CODES if sort is Sort.CODE else None
