"""Which of our five languages a text is in (be, ru, uk, pl, en), by letters and common words alone."""

import re
from collections import Counter

_NOISE = re.compile(r"https?://\S+|\bwww\.\S+|[@#]\w+|[^\s@]{1,64}@\S+")
_WORD = re.compile(r"[^\W\d_]+(?:['’ʼ][^\W\d_]+)*")
_LATIN = re.compile(r"[a-zà-öø-ÿĀ-ſ]")
_CYRILLIC = re.compile(r"[Ѐ-ӿ]")
_STRANGE = re.compile(r"[ђћјљњџѓќѕәғқңөұүһæøåäöüßñõãçêèàâîşğışřěůťďțăőű]")

# What one occurrence says for each language; letters that a language lacks speak against it.
_LETTERS = {
    "ў": {"be": 5.0, "ru": -5.0, "uk": -5.0},
    "і": {"be": 1.5, "ru": -4.0, "uk": 1.5},
    "ї": {"be": -4.0, "ru": -4.0, "uk": 5.0},
    "є": {"be": -4.0, "ru": -4.0, "uk": 5.0},
    "ґ": {"be": -1.0, "ru": -4.0, "uk": 3.0},
    "и": {"be": -3.0, "ru": 0.6, "uk": 0.5},
    "ы": {"be": 1.0, "ru": 1.0, "uk": -4.0},
    "э": {"be": 1.0, "ru": 0.5, "uk": -4.0},
    "ё": {"be": 1.0, "ru": 0.5, "uk": -4.0},
    "ъ": {"be": -4.0, "ru": 3.0, "uk": -4.0},
    "щ": {"be": -4.0, "ru": 0.6, "uk": 0.6},
    "’": {"be": 1.0, "ru": -2.0, "uk": 1.0},
    "ŭ": {"be": 5.0, "pl": -5.0, "en": -5.0},
    **{letter: {"pl": 3.0, "en": -3.0} for letter in "ąęłńśźż"},
    **{letter: {"pl": 1.0, "en": -1.0} for letter in "óć"},
    **{letter: {"pl": -1.0, "en": 0.3} for letter in "vqx"},
}
_COMMON = {
    "be": "што гэта гэтага гэты гэтым але яго яе быў была былі ад або таксама каб дзе яны ён яна таму зараз больш менш "
    "пасля пры праз калі супраць вельмі ёсць ужо яшчэ толькі сёння учора ўчора затрымалі людзей каля хто які якая",
    "ru": "и что это этого этот но его её еще ещё был была были от или также чтобы где они он она о об из с к же "
    "после при когда против очень есть уже только сегодня вчера задержали задержан людей около кто который как не в во",
    "uk": "що це цього цей його її був була були від або також щоб де вони він вона й із з та тому зараз більше після "
    "при через коли проти дуже є вже ще тільки сьогодні вчора затримали людей біля хто який яка як але не в",
    "pl": "w i z na nie się że to do jest jak po przez od dla oraz został została był była było były ale za który "
    "która o jego jej ich są już tylko dziś wczoraj osób gdy przy czy tym roku po co we ze",
    "en": "the of and to in a is was for on that with by at from has have had not are were his her their after this "
    "be an it as he she they who which been will would people today yesterday its or but about",
}
# Runs of letters that one language's spelling has and its neighbours' has not; each counts once a time it stands.
_RUNS = {
    "be": re.compile(r"[аыі]лі\b|шч|рэ|тэ|дэ|чы|жы|шы|дз[еёіяь]|цца|цц|ць\b|дл[яі]|навін|палітвяз|свабод|арышт|затрым"),
    "ru": re.compile(r"ть\b|новост|обыск|свобод[аы]\b|полит|арест|задерж|ого\b|ция\b"),
    "uk": re.compile(r"ння\b|ськ|політв|новин|обшук|затрим|арешт|ти\b|ція\b"),
    "pl": re.compile(r"sz|cz|rz|dz|ych\b|ego\b|owa[nł]|ww"),
    "en": re.compile(r"th|sh|wh|ed\b|ing\b|ea|oo|ly\b|tion|ists?\b|ck"),
}
_SAYS: dict[str, tuple[str, ...]] = {}
for _language, _words in _COMMON.items():
    for _word in _words.split():
        _SAYS[_word] = (*_SAYS.get(_word, ()), _language)


def language_of(text: str | None) -> str | None:
    """Tell be, ru, uk, pl or en; None where the text is too short, undecided or in another language."""
    plain = _NOISE.sub(" ", (text or "")[:8000])[:4000].casefold().replace("'", "’").replace("ʼ", "’")
    cyrillic, latin = len(_CYRILLIC.findall(plain)), len(_LATIN.findall(plain))
    if cyrillic + latin < 3:
        return None
    among = ("be", "ru", "uk") if cyrillic * 1.5 >= latin else ("pl", "en", "be")
    scores = _scores(plain, among)
    if cyrillic and among[0] == "be" and "і" not in plain:
        scores["ru"] += cyrillic / 30  # every sixteenth letter of Belarusian and Ukrainian is an і
    (best, most), (_, second) = sorted(scores.items(), key=lambda item: -item[1])[:2]
    return best if most >= 0.5 and most - second >= 0.5 else None


def _scores(plain: str, among: tuple[str, ...]) -> dict[str, float]:
    words = _WORD.findall(plain)
    letters = Counter("".join(words))
    strange = sum(letters[letter] for letter in letters if _STRANGE.match(letter))
    scores = dict.fromkeys(among, -3.0 * strange)
    for language in among:
        scores[language] += len(_RUNS[language].findall(plain))
    for letter, says in _LETTERS.items():
        for language in among:
            scores[language] += says.get(language, 0.0) * letters[letter]
    for word in words:
        speakers = _SAYS.get(word, ())
        for language in among:
            scores[language] += 2.0 / len(speakers) if language in speakers else 0.0
    return scores
