"""List the invented people and places and the real things they deal with: the world's words."""

from __future__ import annotations

import random


def _split(words: str) -> tuple[str, ...]:
    """Values separated by bars, which may themselves hold a space."""
    return tuple(words.split("|"))


_ONSETS = _split("b|br|c|d|dr|f|fl|g|gr|h|j|k|kr|l|m|n|p|pr|r|s|sh|st|t|tr|v|w|z")
_VOWELS = tuple("aeiou")
_CODAS = _split("l|m|n|r|s|th|nd|rk")
_MALE_ENDS = ("an", "or", "ek", "in", "us")
_FEMALE_ENDS = ("a", "ia", "elle", "ina", "eth")
_LAST_ENDS = ("er", "ov", "ard", "wick", "mont", "ley", "sen", "by")
_TOWN_ENDS = ("mora", "ford", "haven", "dal", "burg", "stad", "vale", "mere")

N_FIRST = 60
"""First names of each gender."""
N_LAST = 200
N_TOWNS = 32
"""Towns of one word; half as many again have two."""


def _stem(rng: random.Random) -> str:
    """One invented syllable, perhaps closed by a consonant."""
    syllable = rng.choice(_ONSETS) + rng.choice(_VOWELS)
    return syllable + (rng.choice(_CODAS) if rng.random() < 0.6 else "")


def _invent(kind: str, n: int, ends: tuple[str, ...], taken: set[str]) -> tuple[str, ...]:
    """Invent `n` words that no other list has, always the same ones."""
    rng = random.Random(f"minilm names {kind}")
    words: list[str] = []
    while len(words) < n:
        word = (_stem(rng) + rng.choice(ends)).capitalize()
        if word not in taken:
            taken.add(word)
            words.append(word)
    return tuple(words)


_TAKEN: set[str] = set()
MALE = _invent("male", N_FIRST, _MALE_ENDS, _TAKEN)
FEMALE = _invent("female", N_FIRST, _FEMALE_ENDS, _TAKEN)
LAST = _invent("last", N_LAST, _LAST_ENDS, _TAKEN)
_TOWN_TAILS = ("Bay", "Hill", "Moor", "Cross")
_TOWN_WORDS = _invent("towns", N_TOWNS + N_TOWNS // 2, _TOWN_ENDS, _TAKEN)

TOWNS = _TOWN_WORDS[:N_TOWNS] + tuple(
    f"{word} {_TOWN_TAILS[i % len(_TOWN_TAILS)]}" for i, word in enumerate(_TOWN_WORDS[N_TOWNS:])
)
ANIMALS = _split(
    "otters|badgers|ravens|herons|hedgehogs|goats|donkeys|lizards|beetles|spiders|swans|"
    "pigeons|falcons|rabbits|ferrets|turtles|snakes|horses|crickets|beavers|weasels|cranes|"
    "owls|moths|frogs|hornets|llamas|camels|parrots|lynxes|storks|moles|"
    "red foxes|grey wolves|brown bears|white mice|sea lions|wild boars|barn cats|black rats|"
    "fire ants|snow geese|lake trout|rock doves|pond snails|wood ducks|fruit bats|honey bees"
)
FOODS = _split(
    "honey|bread|lentils|pickles|mustard|porridge|noodles|dumplings|olives|pancakes|sausages|"
    "mushrooms|walnuts|cabbage|custard|ginger|radishes|oysters|popcorn|tofu|garlic|spinach|"
    "waffles|dates|peanuts|cherries|yoghurt|salami|pretzels|figs|quinces|crackers|"
    "barley soup|plum cake|goat cheese|apple jam|onion pie|rye biscuits|nettle tea|pepper stew|"
    "corn beer|lemon sauce|lamb curry|pear cider|leek rings|oat rolls|bean salad|"
    "smoked ham"
)
TOOLS = _split(
    "harps|flutes|cellos|drums|banjos|pianos|violins|trumpets|oboes|bells|lutes|fiddles|zithers|"
    "gongs|tubas|clarinets|cornets|organs|guitars|bugles|whistles|lyres|sitars|bagpipes|"
    "bass horns|snare blocks|steel pans|hand chimes|alto viols|bone rattles|clay pipes|"
    "tin cymbals|low lyras|wood clappers|paper combs|long rattlers"
)
PLANTS = _split(
    "roses|tulips|ferns|lilies|willows|cedars|poppies|daisies|thistles|maples|birches|irises|"
    "orchids|violets|pansies|asters|peonies|cactuses|ivies|mosses|clovers|lupins|heathers|yews|"
    "blue hyssops|dwarf pines|silver firs|water reeds|bog gentians|fan palms|black poplars|"
    "field mints|red salvias|rock elms|white sages|marsh irids"
)
WORKERS = _split(
    "bakers|masons|weavers|tailors|joiners|smiths|potters|tanners|cobblers|plumbers|glaziers|"
    "coopers|millers|painters|drivers|clerks|nurses|cooks|sailors|porters|printers|gardeners|"
    "barbers|butchers|ship wrights|stone cutters|night guards|shop keepers|sail riggers|"
    "wood carvers|day watchers|yard sweepers|tank cleaners|coal haulers|track runners|farm hands"
)
VALUES = {
    "town": TOWNS,
    "animal": ANIMALS,
    "food": FOODS,
    "instrument": TOOLS,
    "plant": PLANTS,
    "worker": WORKERS,
}
"""Every value of each type; about a third are two words, so two tokens. No two of a type begin with
the same word: the rest of a shared beginning would have to be copied, which is hard to learn."""
