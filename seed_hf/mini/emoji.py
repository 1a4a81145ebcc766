"""Questions about the emoji drawings of `training/data/emoji`, made by rule."""

from __future__ import annotations

import random
from typing import Any


SPLITS = ("train", "validation", "test_drawings", "test_concepts")

# What to call each CLDR sub-group in an answer.
SUBGROUP_NAMES = {
    "face-smiling": "smiling face", "face-affection": "loving face", "face-tongue": "face with tongue",
    "face-hand": "face with hand", "face-neutral-skeptical": "doubtful face", "face-sleepy": "sleepy face",
    "face-unwell": "sick face", "face-hat": "face with hat", "face-glasses": "face with glasses",
    "face-concerned": "worried face", "face-negative": "angry face", "face-costume": "costume face",
    "cat-face": "cat face", "monkey-face": "monkey face", "heart": "heart", "emotion": "emotion",
    "hand-fingers-open": "open hand", "hand-fingers-partial": "hand with some fingers open",
    "hand-single-finger": "pointing hand", "hand-fingers-closed": "closed hand", "hands": "hands",
    "hand-prop": "hand with a thing", "body-parts": "body part", "person": "person",
    "person-gesture": "person making a gesture", "person-role": "person with a job",
    "person-fantasy": "fantasy person", "person-activity": "person doing something", "person-sport": "person in sport",
    "person-resting": "person at rest", "family": "family or couple", "person-symbol": "person symbol",
    "animal-mammal": "mammal", "animal-bird": "bird", "animal-amphibian": "amphibian", "animal-reptile": "reptile",
    "animal-marine": "sea animal", "animal-bug": "bug", "plant-flower": "flower", "plant-other": "plant",
    "food-fruit": "fruit", "food-vegetable": "vegetable", "food-prepared": "food", "food-asian": "Asian food",
    "food-sweet": "sweet food", "drink": "drink", "dishware": "dishes", "place-map": "map or globe",
    "place-geographic": "landscape", "place-building": "building", "place-religious": "religious building",
    "place-other": "place", "transport-ground": "transport on land", "transport-water": "transport on water",
    "transport-air": "transport in the air", "hotel": "hotel", "time": "clock", "sky-weather": "sky and weather",
    "event": "celebration", "award-medal": "award", "sport": "sport", "game": "game", "arts-crafts": "arts and crafts",
    "clothing": "clothing", "sound": "sound", "music": "music", "musical-instrument": "musical instrument",
    "phone": "phone", "computer": "computer", "light-video": "light and video", "book-paper": "book or paper",
    "money": "money", "mail": "mail", "writing": "writing tool", "office": "office supplies", "lock": "lock or key",
    "tool": "tool", "science": "science", "medical": "medicine", "household": "household item",
    "other-object": "object", "transport-sign": "public sign", "warning": "warning sign", "arrow": "arrow",
    "religion": "religious symbol", "zodiac": "zodiac sign", "av-symbol": "player button", "gender": "gender symbol",
    "math": "math symbol", "punctuation": "punctuation", "currency": "currency symbol", "other-symbol": "symbol",
    "keycap": "keycap", "alphanum": "button with letters", "geometric": "shape", "flag": "flag",
    "country-flag": "country flag", "subdivision-flag": "regional flag",
}  # fmt: skip

# For each yes/no question: beginnings of the sub-groups for which the answer is yes, beginnings of those for which it
# can be either (a dog's face is a face and an animal), and captions within the yes sub-groups that are something else.
# Everything else is "no".
KINDS: dict[str, tuple[str, str, str]] = {
    "a flag": ("flag country-flag subdivision-flag", "sport event award phone mail", ""),
    "a face": (
        "face cat-face monkey-face",
        "animal person family emotion body sky event sound heart game award gender",
        "",
    ),
    "a person": (
        "person-gesture person-role person-fantasy person-activity person-sport person-resting person family",
        "face hand body transport-sign warning sport event gender hotel household place other-symbol office game "
        "alphanum clothing monkey light av-symbol religion phone currency heart emotion tool animal",
        "speaking head|fingerprint|footprints|bust in silhouette|busts in silhouette",
    ),
    "an animal": (
        "animal",
        "cat-face monkey-face face person event zodiac food game place sport sound hand household other tool heart "
        "clothing emotion hotel medical science warning computer religion plant sky",
        "paw prints|feather|wing|spider web|spiral shell|microbe|coral",
    ),
    "a plant": (
        "plant",
        "food event sky emotion face animal zodiac place other-symbol arts-crafts money punctuation alphanum",
        "mushroom|empty nest|nest with eggs|white flower|rosette|sheaf of rice",
    ),
    "food": ("food", "drink dishware animal plant event face household body sky medical award person", ""),
    "a drink": ("drink", "dishware food household medical event face place", "ice|teapot|pouring liquid"),
    "a building": (
        "place-building place-religious",
        "place hotel sky event religion transport science clothing alphanum other-symbol money household medical "
        "currency",
        "building construction|brick|rock|wood|Statue of Liberty|shinto shrine|stadium|classical building|wedding",
    ),
    "a vehicle": (
        "transport-ground transport-water transport-air",
        "place person sport event sky transport-sign hotel warning alphanum other mail office tool medical household",
        "fuel pump|construction|station|bus stop|railway track|oil drum|wheel|police car light|vertical traffic light|"
        "horizontal traffic light|stop sign|motorway|anchor|ring buoy|parachute|satellite|seat|manual wheelchair|"
        "motorized wheelchair|skateboard|roller skate|mountain railway|flying saucer|airplane departure|"
        "airplane arrival",
    ),
    "something to wear": (
        "clothing",
        "person face event sport award family hand tool game medical other-object household body computer science sky",
        "folding hand fan|purse|handbag|clutch bag|shopping bags|backpack|hair pick|lipstick|ring|gem stone|"
        "prayer beads|goggles|glasses|sunglasses|crown",
    ),
    "a heart": (
        "heart", "emotion face cat-face family game body person mail place event warning hand award", "love letter",
    ),
    "a musical instrument": ("musical-instrument", "music sound event other tool light household game person", ""),
    "an arrow": (
        "arrow",
        "av-symbol mail alphanum phone office math heart sport tool other-symbol music currency geometric gender "
        "computer zodiac transport sound writing sky event game money science hand emotion",
        "",
    ),
    "a clock": ("time", "tool place science other computer light", "hourglass done|hourglass not done|stopwatch"),
}  # fmt: skip


def _is_in(subgroup: str, beginnings: str) -> bool:
    """Whether `subgroup` equals one of the words or starts with one and a hyphen."""
    return any(subgroup == beginning or subgroup.startswith(beginning + "-") for beginning in beginnings.split())


def _is_kind(row: dict[str, Any], kind: str) -> bool | None:
    """True, False, or None where the rule cannot tell."""
    yes, unclear, exceptions = KINDS[kind]
    if _is_in(row["subgroup"], yes):
        return None if row["caption"] in exceptions.split("|") else True
    return None if _is_in(row["subgroup"], unclear) else False


def make_questions(row: dict[str, Any], rng: random.Random) -> list[tuple[str, str]]:
    """Make questions about one drawing, with answers, by rule from its name and CLDR sub-group.

    At most one question has the answer yes and as many the answer no, so that "yes" is not the better guess.

    Args:
        row (`dict`): A row of the data set; `caption` and `subgroup` are read.
        rng (`random.Random`): Chooses the wrong kind and the order; the same state gives the same questions.

    Returns:
        `list[tuple[str, str]]`: (question, answer) pairs: what it is, what kind of thing, yes/no.

    Example:

    ```python
    >>> import random
    >>> from seed_hf.mini.emoji import make_questions

    >>> row = {"caption": "red apple", "subgroup": "food-fruit"}
    >>> sorted(make_questions(row, random.Random(0)))[-2:]
    [('What is this?', 'red apple'), ('What kind of thing is this?', 'fruit')]
    ```
    """
    questions = [
        ("What is this?", row["caption"]),
        ("What kind of thing is this?", SUBGROUP_NAMES.get(row["subgroup"], row["subgroup"].replace("-", " "))),
    ]
    answers = {kind: _is_kind(row, kind) for kind in KINDS}
    right = [kind for kind, answer in answers.items() if answer]
    wrong = [kind for kind, answer in answers.items() if answer is False]
    if right and wrong:
        questions.append((f"Is this {rng.choice(right)}?", "yes"))
        questions.append((f"Is this {rng.choice(wrong)}?", "no"))
    rng.shuffle(questions)
    return questions


def question_texts() -> list[str]:
    """All that [`make_questions`] can ask and answer, but for names, each with a space before it."""
    return [f" Is this {kind}?" for kind in KINDS] + [f" {name}" for name in SUBGROUP_NAMES.values()]
