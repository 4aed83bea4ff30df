"""The sentences of the embedded corpus, with slots for values from CLDR.

Each frame says the same in German and in English; a digit after a slot's name tells two values of
one kind apart. Frames only use a slot where its German form is right without inflection.
"""

from __future__ import annotations

FRAMES: tuple[tuple[str, str], ...] = (
    # Plain values
    ("{full_date}", "{full_date}"),
    ("{interval}", "{interval}"),
    ("{relative}", "{relative}"),
    ("{money}", "{money}"),
    ("{languages}", "{languages}"),
    ("{territories}", "{territories}"),
    ("{speed}", "{speed}"),
    ("{storage}", "{storage}"),
    ("{electric}", "{electric}"),
    ("Zeitzone: {zone}", "Time zone: {zone}"),
    ("Schrift: {script}, Sprache: {language}", "Script: {script}, language: {language}"),
    ("Land: {territory}, Währung: {currency}", "Country: {territory}, currency: {currency}"),
    ("Zeitraum: {interval}", "Period: {interval}"),
    ("{quarter}, {territory}", "{quarter}, {territory}"),
    ("Teilnehmende Länder: {territories}", "Participating countries: {territories}"),
    ("{weekday}, {time} Uhr: {city}", "{weekday}, {time}: {city}"),
    # Travel
    (
        "Der Zug nach {city} fährt {future} um {time} Uhr ab.",
        "The train to {city} leaves {future} at {time}.",
    ),
    (
        "Der Flug von {city} nach {city2} dauert {journey}.",
        "The flight from {city} to {city2} takes {journey}.",
    ),
    (
        "{subject} ist {past} aus {country} zurückgekommen.",
        "{subject} came back from {country} {past}.",
    ),
    ("{subject} fliegt {future} nach {country}.", "{subject} is flying to {country} {future}."),
    ("Wie weit ist es von {city} nach {city2}?", "How far is it from {city} to {city2}?"),
    ("Von {city} nach {city2} sind es {distance}.", "It is {distance} from {city} to {city2}."),
    ("Warst du schon einmal in {country}?", "Have you ever been to {country}?"),
    ("{subject} war {past} in {city}.", "{subject} was in {city} {past}."),
    (
        "Unser Hotel in {city} kostet {money} pro Nacht.",
        "Our hotel in {city} costs {money} per night.",
    ),
    ("Der Bus nach {city} hat {journey} Verspätung.", "The bus to {city} is {journey} late."),
    ("Wir bleiben bis zum {day_month} in {city}.", "We are staying in {city} until {day_month}."),
    ("{subject} wohnt seit {since} in {city}.", "{subject} has lived in {city} for {since}."),
    ("Die nächste Station ist {city}.", "The next stop is {city}."),
    ("Das Paket nach {country} kommt {future} an.", "The parcel to {country} arrives {future}."),
    ("Wir waren in {countries}.", "We have been to {countries}."),
    ("{subject} hat Freunde in {countries}.", "{subject} has friends in {countries}."),
    ("Auf unserer Reise besuchen wir {cities}.", "On our trip we are visiting {cities}."),
    # Time
    ("Die Sitzung beginnt {future} um {time} Uhr.", "The meeting starts {future} at {time}."),
    (
        "Das Geschäft ist von {time} bis {time2} Uhr geöffnet.",
        "The shop is open from {time} to {time2}.",
    ),
    ("{subject} hat am {day_month} Geburtstag.", "{subject} has a birthday on {day_month}."),
    ("{subject} wurde am {date} geboren.", "{subject} was born on {date}."),
    (
        "Das Museum in {city} ist im {month} geschlossen.",
        "The museum in {city} is closed in {month}.",
    ),
    ("Die Frist endet am {date}.", "The deadline is {date}."),
    (
        "Der Vertrag gilt vom {day_month} bis zum {date}.",
        "The contract is valid from {day_month} to {date}.",
    ),
    ("Können wir uns am {weekday} um {time} Uhr treffen?", "Can we meet on {weekday} at {time}?"),
    (
        "{subject} arbeitet von {weekday} bis {weekday2}.",
        "{subject} works from {weekday} to {weekday2}.",
    ),
    ("In {city} ist es jetzt {time} Uhr.", "It is now {time} in {city}."),
    (
        "Der Film dauert {journey} und beginnt um {time} Uhr.",
        "The film lasts {journey} and starts at {time}.",
    ),
    ("{subject} hat {past} angerufen.", "{subject} called {past}."),
    ("{subject} kommt {future} zurück.", "{subject} is coming back {future}."),
    ("{subject} hat {duration} gewartet.", "{subject} waited for {duration}."),
    ("Der Unterricht ist am {weekdays} um {time} Uhr.", "Classes are on {weekdays} at {time}."),
    (
        "Die Konferenz findet {future} in {city} statt.",
        "The conference takes place in {city} {future}.",
    ),
    ("{subject} hat {thing} {past} gekauft.", "{subject} bought {thing} {past}."),
    ("{subject} hat {thing} {past} verloren.", "{subject} lost {thing} {past}."),
    ("Ich habe {thing} seit {since} nicht gesehen.", "I have not seen {thing} for {since}."),
    # Money and shares
    ("{thing} kostet {money}.", "{thing} costs {money}."),
    ("{subject} hat {money} für {thing} bezahlt.", "{subject} paid {money} for {thing}."),
    (
        "{subject} will {thing} für {money} verkaufen.",
        "{subject} wants to sell {thing} for {money}.",
    ),
    ("Der Preis ist um {percent} gestiegen.", "The price has risen by {percent}."),
    ("Die Miete in {city} beträgt {money} im Monat.", "The rent in {city} is {money} a month."),
    ("{subject} verdient {money} im Jahr.", "{subject} earns {money} a year."),
    ("{subject} schuldet mir {money}.", "{subject} owes me {money}."),
    ("{percent} der Befragten sprechen {language}.", "{percent} of those asked speak {language}."),
    ("{city} hat {compact} Einwohner.", "{city} has {compact} inhabitants."),
    ("{number} Menschen leben in {city}.", "{number} people live in {city}."),
    # Quantities
    ("{thing} wiegt {mass}.", "{thing} weighs {mass}."),
    ("{thing} ist {length} breit.", "{thing} is {length} wide."),
    (
        "Der Tisch ist {length} lang und {length2} breit.",
        "The table is {length} long and {length2} wide.",
    ),
    ("Der Wind in {city} weht mit {speed}.", "The wind in {city} is blowing at {speed}."),
    (
        "Für das Rezept brauchen wir {spoons} Zucker und {spoons2} Mehl.",
        "For the recipe we need {spoons} of sugar and {spoons2} of flour.",
    ),
    ("In {city} sind es heute {temperature}.", "It is {temperature} in {city} today."),
    ("Die Datei ist {storage} groß.", "The size of the file is {storage}."),
    (
        "Das Kraftwerk in {country} liefert {power}.",
        "The power plant in {country} delivers {power}.",
    ),
    ("Die Wohnung in {city} hat {area}.", "The apartment in {city} has {area}."),
    ("{subject} läuft jeden {weekday} {distance}.", "{subject} runs {distance} every {weekday}."),
    ("Der Berg in {country} ist {height} hoch.", "The mountain in {country} is {height} high."),
    ("Der Tank enthält {volume} Wasser.", "The tank holds {volume} of water."),
    # Languages
    ("{subject} spricht {languages}.", "{subject} speaks {languages}."),
    (
        "{subject} lernt seit {since} {language}.",
        "{subject} has been learning {language} for {since}.",
    ),
    ("Sprichst du {languages_or}?", "Do you speak {languages_or}?"),
    ("Wie sagt man das auf {language}?", "How do you say that in {language}?"),
    ("{subject} möchte {language} lernen.", "{subject} wants to learn {language}."),
    ("Die Anleitung gibt es auf {languages}.", "The manual is available in {languages}."),
    (
        "Kannst du diesen Brief auf {language} schreiben?",
        "Can you write this letter in {language}?",
    ),
    (
        "Das Buch ist {past} auf {language} erschienen.",
        "The book was published in {language} {past}.",
    ),
    (
        "{subject} kommt aus {country} und spricht {language}.",
        "{subject} is from {country} and speaks {language}.",
    ),
)
