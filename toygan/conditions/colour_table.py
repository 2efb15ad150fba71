"""The table of colours: their English and Chinese names, and their labels in layouts.

The values are close to the medians of the XKCD colour survey (CC0), in which people named colours. Bright
screen colours are toned down to colours that plastic can have. The colour names of a model take precedence,
see `toygan.conditions.main_colour`.
"""

from dataclasses import dataclass
from typing import Final

LAYOUT_LABELS: Final = (
    "background",
    "black",
    "dark grey",
    "light grey",
    "white",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple or pink",
    "brown or tan",
    "transparent",
    "metallic",
)


@dataclass(frozen=True)
class NamedColour:
    """One colour with its names in lower case. Chinese names are simplified and have no final 色."""

    hex: str  # #RRGGBB
    label: str  # one of LAYOUT_LABELS
    english: tuple[str, ...]
    chinese: tuple[str, ...] = ()


COLOURS: Final = (
    NamedColour("#141414", "black", ("black",), ("黑",)),
    NamedColour("#343837", "black", ("charcoal", "anthracite"), ("炭黑", "炭灰")),
    NamedColour("#85888A", "light grey", ("grey", "gray"), ("灰",)),
    NamedColour("#B9BDBF", "metallic", ("silver",), ("银", "银灰")),
    NamedColour("#F6F6F4", "white", ("white",), ("白",)),
    NamedColour(
        "#F7F5E6", "white", ("off white", "off-white", "ivory", "eggshell"), ("米白", "象牙白", "乳白")
    ),
    NamedColour("#F7EFC2", "white", ("cream",), ("奶油", "奶白")),
    NamedColour("#C8141A", "red", ("red",), ("红",)),
    NamedColour("#B00A28", "red", ("crimson",), ("绯红",)),
    NamedColour("#BE0119", "red", ("scarlet",), ("猩红", "朱红")),
    NamedColour("#650021", "red", ("maroon", "burgundy", "wine red"), ("酒红", "枣红")),
    NamedColour("#F26A1B", "orange", ("orange",), ("橙", "橘", "桔")),
    NamedColour("#F03F1C", "orange", ("orange red",), ("橙红", "橘红", "桔红")),
    NamedColour("#FC5A50", "orange", ("coral",), ("珊瑚", "珊瑚红")),
    NamedColour("#FF796C", "orange", ("salmon",), ("鲑鱼红",)),
    NamedColour("#FFB07C", "orange", ("peach", "apricot"), ("杏", "蜜桃")),
    NamedColour("#FACD14", "yellow", ("yellow",), ("黄",)),
    NamedColour("#F5E663", "yellow", ("lemon yellow",), ("柠檬黄",)),
    NamedColour("#DBB40C", "metallic", ("gold", "golden"), ("金", "金黄")),
    NamedColour("#CEA301", "yellow", ("mustard", "mustard yellow"), ("芥末黄", "姜黄")),
    NamedColour("#138A36", "green", ("green",), ("绿",)),
    NamedColour("#A4CC1E", "green", ("lime", "lime green"), ("青柠", "青柠绿", "柠檬绿", "荧光绿")),
    NamedColour("#3F9B0B", "green", ("grass green",), ("草绿",)),
    NamedColour("#93D46B", "green", ("apple green",), ("果绿", "苹果绿", "嫩绿")),
    NamedColour("#06470C", "green", ("forest green", "bottle green"), ("墨绿", "森林绿")),
    NamedColour("#6E750E", "green", ("olive", "olive green", "army green"), ("橄榄绿", "军绿")),
    NamedColour("#9FE8C5", "green", ("mint", "mint green"), ("薄荷绿",)),
    NamedColour("#01A049", "green", ("emerald", "emerald green"), ("翠绿", "祖母绿")),
    NamedColour("#0F8B8D", "green", ("teal",), ("水鸭", "蓝绿", "孔雀蓝")),
    NamedColour("#14B8AA", "blue", ("turquoise", "aqua"), ("青绿", "绿松石", "湖蓝")),
    NamedColour("#17BECF", "blue", ("cyan",), ("青",)),
    NamedColour("#1F57B5", "blue", ("blue",), ("蓝",)),
    NamedColour("#58B4E0", "blue", ("azure", "sky blue"), ("天蓝", "天空蓝")),
    NamedColour("#A9D3F5", "blue", ("baby blue",), ("粉蓝", "婴儿蓝")),
    NamedColour("#2444B8", "blue", ("royal blue", "cobalt blue"), ("宝蓝", "宝石蓝", "皇家蓝", "钴蓝")),
    NamedColour("#101E44", "blue", ("navy", "navy blue"), ("藏青", "藏蓝", "海军蓝")),
    NamedColour("#38208C", "purple or pink", ("indigo",), ("靛蓝", "靛青", "靛")),
    NamedColour("#752399", "purple or pink", ("purple",), ("紫",)),
    NamedColour("#7F3FBF", "purple or pink", ("violet",), ("紫罗兰",)),
    NamedColour("#C29BE8", "purple or pink", ("lilac", "lavender"), ("丁香紫", "薰衣草紫", "香芋紫")),
    NamedColour("#C2187A", "purple or pink", ("magenta", "fuchsia"), ("品红", "洋红", "紫红")),
    NamedColour("#F58CC0", "purple or pink", ("pink",), ("粉", "粉红")),
    NamedColour("#F0308E", "purple or pink", ("hot pink", "rose red"), ("玫红", "玫瑰红", "桃红", "玫粉")),
    NamedColour("#653B14", "brown or tan", ("brown", "coffee brown"), ("棕", "褐", "咖啡", "咖")),
    NamedColour("#D1B27A", "brown or tan", ("tan",), ("浅棕", "驼")),
    NamedColour("#E0CFA5", "brown or tan", ("beige",), ("米", "米黄")),
    NamedColour("#AAA06A", "brown or tan", ("khaki",), ("卡其",)),
    NamedColour("#3D1C08", "brown or tan", ("chocolate", "chocolate brown"), ("巧克力",)),
    NamedColour("#8C6A2F", "metallic", ("bronze",), ("古铜", "青铜", "铜")),
    NamedColour("#B66325", "metallic", ("copper",), ("紫铜",)),
    NamedColour("#F4CDB4", "brown or tan", ("nude", "skin"), ("肤", "肉")),
    NamedColour("#FCFCFC", "transparent", ("clear", "transparent", "translucent"), ("透明", "半透明")),
)

# Names of colours that are also names of things, such as orange. Between other words of a title such a name
# may mean the thing.
THINGS: Final = frozenset(
    {
        "apricot",
        "charcoal",
        "chocolate",
        "clear",
        "copper",
        "coral",
        "cream",
        "emerald",
        "ivory",
        "lavender",
        "lilac",
        "lime",
        "mint",
        "mustard",
        "nude",
        "olive",
        "peach",
        "salmon",
        "skin",
        "violet",
    }
)

# Words that change the colour named after them, mapped to the kind of change. "" means no change.
ENGLISH_MODIFIERS: Final = {
    "dark": "dark",
    "deep": "dark",
    "light": "light",
    "pale": "light",
    "pastel": "light",
    "soft": "light",
    "bright": "bright",
    "vivid": "bright",
    "medium": "medium",
    "mid": "medium",
    "sand": "sand",
    "dusty": "sand",
    "bluish": "bluish",
    "reddish": "reddish",
    "yellowish": "yellowish",
    "greenish": "greenish",
    "neon": "neon",
    "fluorescent": "neon",
    "trans": "trans",
    "transparent": "trans",
    "translucent": "trans",
    "clear": "trans",
    "metallic": "metallic",
    "pearl": "pearl",
    "pearlescent": "pearl",
    "chrome": "chrome",
    "matte": "",
    "matt": "",
    "glossy": "",
    "shiny": "",
}
CHINESE_MODIFIERS: Final = {
    "深": "dark",
    "暗": "dark",
    "浅": "light",
    "淡": "light",
    "亮": "bright",
    "鲜": "bright",
    "中": "medium",
    "沙": "sand",
    "灰": "sand",
    "红": "reddish",
    "荧光": "neon",
    "透明": "trans",
    "半透明": "trans",
    "金属": "metallic",
    "珠光": "pearl",
    "哑光": "",
    "亮面": "",
    "磨砂": "",
    "纯": "",
    "大": "",
    "正": "",
}
# After these modifiers, a name of one character needs no final 色. So 深灰 is a colour, but 大白 (a robot)
# is not.
CHINESE_DEPTHS: Final = ("深", "暗", "浅", "淡", "亮")
TRADITIONAL: Final = str.maketrans(
    "紅黃綠藍銀淺鮮屬鮭魚檸蘋軍鴨鈷嬰羅蘭膚銅棗純啞熒螢寶顏",
    "红黄绿蓝银浅鲜属鲑鱼柠苹军鸭钴婴罗兰肤铜枣纯哑荧荧宝颜",
)

# Finishes that can be part of a colour's name. Two names with different finishes mean different colours.
FINISH_WORDS: Final = frozenset({"trans", "metallic", "pearl", "chrome", "neon"})


def label_of(name: str) -> int | None:
    """Returns the label, 1..255, that `name` stands for; None for an unknown name.

    `name` is the English or Chinese name of a colour, the name of a label, or the number of a label. Numbers
    are for layouts that do not use LAYOUT_LABELS.
    """
    words = " ".join(name.lower().translate(TRADITIONAL).split())
    if words.isdecimal() and words.isascii():
        number = int(words[:4])
        return number if 1 <= number <= 255 else None
    if words in LAYOUT_LABELS[1:]:
        return LAYOUT_LABELS.index(words)
    chinese = words.removesuffix("色") or words
    found = (each for each in COLOURS if words in each.english or chinese in each.chinese)
    colour = next(found, None)
    return None if colour is None else LAYOUT_LABELS.index(colour.label)
