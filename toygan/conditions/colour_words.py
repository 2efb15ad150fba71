"""Names of colours in other languages of shop exports, as the column `colour` gives them.

German, French, Spanish, Italian and Dutch. They are read in this column only: in a title, "or" or "rose" may
mean something else. Chinese names are in `toygan.conditions.colour_table`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# the English name of `colour_table`, and the names in the other languages with their endings
_NAMES: Final = {
    "black": "schwarz noir noire negro negra nero nera zwart",
    "grey": "grau gris grise grigio grigia grijs",
    "silver": "silber silbern argent argenté argentée plata plateado plateada argento zilver",
    "white": "weiß weiss blanc blanche blanco blanca bianco bianca wit",
    "cream": "creme crème crema",
    "ivory": "elfenbein ivoire marfil avorio ivoor",
    "red": "rot rouge rojo roja rosso rossa rood",
    "wine red": "bordeaux bordeauxrot weinrot burdeos",
    "orange": "naranja arancione arancio oranje",
    "yellow": "gelb jaune amarillo amarilla giallo gialla geel",
    "gold": "golden doré dorée dorado dorada oro dorato dorata goud",
    "green": "grün gruen vert verte verde groen",
    "olive": "oliv olivgrün olivgruen oliva",
    "turquoise": "türkis tuerkis turquesa turchese turkoois",
    "blue": "blau bleu bleue azul blu blauw",
    "sky blue": "himmelblau celeste azzurro azzurra hemelsblauw",
    "navy": "marineblau dunkelmarine marine",
    "purple": "lila violett morado morada viola paars",
    "pink": "rosa rose roze",
    "brown": "braun brun brune marron marrón marrone bruin",
    "copper": "kupfer cuivre cobre rame koper",
    "transparent": "durchsichtig klar transparente trasparente doorzichtig",
}
# What stands before a name ("dunkelblau", "hell-grün") or behind it ("bleu foncé", "azul claro").
_BEFORE: Final = {
    "dunkel": "dark",
    "donker": "dark",
    "hell": "light",
    "licht": "light",
    "transparent": "trans",
}
_BEHIND: Final = {
    **dict.fromkeys(("foncé", "foncée", "oscuro", "oscura", "scuro", "scura"), "dark"),
    **dict.fromkeys(("clair", "claire", "claro", "clara", "chiaro", "chiara"), "light"),
    **dict.fromkeys(("transparent", "transparente", "trasparente"), "trans"),
}
_ENGLISH: Final[Mapping[str, str]] = MappingProxyType(
    {name: english for english, names in _NAMES.items() for name in names.split()}
)


def english_name(name: str) -> str | None:
    """Returns the English name of a colour in lower case, such as "dark blue" for "dunkelblau".

    Returns None for a name that is in none of the languages.
    """
    if name in _ENGLISH:
        return _ENGLISH[name]
    for word, change in _BEFORE.items():
        rest = name.removeprefix(word).lstrip(" -")
        if name.startswith(word) and rest in _ENGLISH:
            return f"{change} {_ENGLISH[rest]}"
    base, _, word = name.rpartition(" ")
    if word in _BEHIND and base in _ENGLISH:
        return f"{_BEHIND[word]} {_ENGLISH[base]}"
    return None
