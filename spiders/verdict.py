"""What a page is, whatever its status says: content, shell, bot check, login wall, consent wall, refusal or grave."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from lxml.etree import _Element as Element

from spiders.page import Verdict
from spiders.reading import text_of, tree_of

Where = Literal["url", "markup", "heading", "opening"]
_OPENING = 300  # characters of the text that may hold a refusal's sentence
_FEW = 25  # words: below this a page with scripts may be a shell
_VISIBLE_MEDIA = "//video[@src or source]|//audio[@src or source]|//iframe[@src]|//object[@data]|//body//img[@src]"
_ROOTS = {
    "root",
    "app",
    "__next",
    "__nuxt",
    "gatsby",
    "___gatsby",
    "react-root",
    "main-app",
    "application",
    "mount_0_0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A sign of a refusal. It holds only on pages of at most `words` words of text, so that an article may quote it.

    A heading is the title or an h1 and must be hardly longer than the sign; an opening is the text's first characters.
    """

    verdict: Verdict
    reason: str
    where: Where
    words: int
    pattern: re.Pattern[str]


def _rule(verdict: Verdict, reason: str, where: Where, words: int, *signs: str) -> Rule:
    return Rule(
        verdict=verdict, reason=reason, where=where, words=words, pattern=re.compile("|".join(signs), re.IGNORECASE)
    )


_CHALLENGE_WORDS = (
    *(
        r"just a moment",
        r"checking your browser",
        r"verif(?:y|ying) (?:that )?you are (?:a )?human",
        r"are you a robot",
    ),
    *(
        r"attention required! \| cloudflare",
        r"security check",
        r"confirm (?:that )?you(?:'|’)?(?:re| are) not a (?:ro)?bot",
    ),
    *(
        r"один момент",
        r"подождите немного",
        r"проверка (?:вашего )?браузера",
        r"подтвердите, что вы (?:не робот|человек)",
    ),
    *(r"вы не робот", r"проверяем, человек ли вы", r"зачекайте", r"перевірка (?:вашого )?браузера", r"що ви не робот"),
    *(r"адзін момант", r"пачакайце", r"праверка (?:вашага )?браўзера", r"што вы не робат", r"jeszcze chwilk?a"),
    *(
        r"cierpliwości",
        r"sprawdzanie (?:twojej )?przeglądarki",
        r"że nie jesteś robotem",
        r"ddos-guard",
        r"проверяем, что вы не робот",
    ),
)
_LOGIN_WORDS = (
    *(
        r"\b(?:log|sign) in(?:to)? (?:to|or|with|first|\|)",
        r"please (?:log|sign) in",
        r"^(?:log|sign) ?in$",
        r"login required",
    ),
    *(
        r"войдите",
        r"авторизуйтесь",
        r"необходима авторизация",
        r"^вход(?: на сайт| \||$)",
        r"^авторизация",
        r"требуется вход",
    ),
    *(
        r"увійдіть",
        r"авторизуйтеся",
        r"потрібно увійти",
        r"^вхід(?: \||$)",
        r"^авторизація",
        r"увайдзіце",
        r"аўтарызуйцеся",
    ),
    *(r"^уваход(?: \||$)", r"^аўтарызацыя", r"zaloguj się", r"^logowanie", r"musisz (?:być zalogowany|się zalogować)"),
)
_CONSENT_WORDS = (
    *(
        r"before you continue",
        r"we value your privacy",
        r"we care about your privacy",
        r"your privacy choices",
        r"accept (?:all )?cookies",
    ),
    *(r"прежде чем перейти", r"прежде чем продолжить", r"мы ценим вашу конфиденциальность", r"согласие на обработку"),
    *(
        r"перш ніж перейти",
        r"перш ніж продовжити",
        r"ми цінуємо вашу конфіденційність",
        r"перш чым (?:перайсці|працягнуць)",
    ),
    *(
        r"мы цэнім вашу прыватнасць",
        r"zanim przejdziesz",
        r"zanim będziesz kontynuować",
        r"(?:szanujemy|cenimy) (?:twoją|państwa) prywatność",
    ),
)
_BLOCKED_WORDS = (
    *(
        r"(?:not|isn(?:'|’)t) available in your (?:country|region|location)",
        r"unavailable (?:for|due to) legal reasons",
        r"^access denied",
    ),
    *(
        r"blocked in your (?:country|region)",
        r"sorry, you have been blocked",
        r"access (?:to this \w+ )?(?:is|has been) (?:restricted|blocked)",
    ),
    *(
        r"(?:не ?доступ\w+|недоступ\w+|заблокирован\w*) (?:в|на территории) ваш\w+ (?:стран|регион)",
        r"доступ (?:к \S+ \S+ )?(?:ограничен|запрещ[её]н|заблокирован)",
    ),
    *(
        r"недоступн\w+ (?:у|в) (?:вашій|вашому) (?:країн|регіон)",
        r"доступ (?:до \S+ )?(?:обмежено|заборонено|заблоковано)",
    ),
    *(r"недаступн\w+ ў ваш\w+ (?:краін|рэгіён)", r"доступ (?:да \S+ )?(?:абмежаван|забаронен|заблакаван)\w*"),
    *(
        r"niedostępn\w+ w (?:twoim|państwa) (?:kraju|regionie)",
        r"dostęp (?:został )?(?:ograniczony|zabroniony|zablokowany)",
        r"^odmowa dostępu",
    ),
)
_GONE_WORDS = (
    *(
        r"^(?:error |ошибка |памылка |помилка |błąd )?(?:404|410)\b",
        r"\b404 (?:not found|error|ошибка)",
        r"\b(?:error|ошибка|памылка|помилка|błąd) (?:404|410)\b",
    ),
    *(
        r"page (?:was |could )?not (?:be )?found",
        r"page (?:doesn(?:'|’)t|does not) exist",
        r"can(?:'|’)t find (?:that|the|this) page",
        r"^not found$",
    ),
    *(
        r"(?:this |the )?(?:post|article|page|content|material) (?:has been|was) (?:deleted|removed)",
        r"no longer (?:available|exists)",
        r"^gone$",
    ),
    *(
        r"(?:страниц\w|материал|запись|статья|публикация|новость) не найден",
        r"(?:страниц\w|материал|запись|статья) (?:был\w? )?удал[её]н",
        r"такой страницы (?:не существует|нет)",
        r"(?:страница|материал|запись|статья) не существует",
    ),
    *(
        r"сторінк\w не (?:знайдено|існує)",
        r"сторінку не знайдено",
        r"(?:сторінку|матеріал|запис|допис) (?:було )?видалено",
        r"такої сторінки не існує",
    ),
    *(
        r"старонк\w не (?:знойдзен|існуе)",
        r"(?:старонк\w|матэрыял|запіс|артыкул) (?:быў |была )?(?:выдален|не знойдзен)",
        r"такой старонкі (?:не існуе|няма)",
    ),
    *(
        r"(?:strona|strony) nie (?:została )?(?:znalezion|istnieje)",
        r"nie znaleziono (?:strony|artykułu)",
        r"(?:artykuł|wpis|strona|materiał) (?:został[ay]? )?usunięt",
        r"taka strona nie istnieje",
    ),
)
_SCRIPT_WORDS = (
    *(
        r"enable (?:java ?script|js)\b",
        r"turn on java ?script",
        r"(?:requires?|needs?|without) java ?script",
        r"java ?script is (?:disabled|required|not enabled)",
    ),
    *(
        r"включ\w+ (?:поддержку )?java ?script",
        r"без (?:поддержки )?java ?script",
        r"(?:требуется|необходим|нужен) java ?script",
    ),
    *(
        r"(?:увімкн\w+|ввімкн\w+|включ\w+) java ?script",
        r"потріб\w+ java ?script",
        r"(?:уключ\w+|укл\w+) java ?script",
        r"патрэб\w+ java ?script",
    ),
    *(
        r"włącz\w* (?:obsługę )?java ?script",
        r"wymaga\w* (?:obsługi )?java ?script",
        r"java ?script (?:отключ[её]н|вимкнено|адключаны|jest wyłączon)",
    ),
)

RULES = (
    _rule(Verdict.CHALLENGE, "Cloudflare's check", "markup", 80, r"cf-chl", r"cf_chl_opt", r"id=.challenge-(?:form|running|error-text)", r"cf-turnstile"),
    _rule(Verdict.CHALLENGE, "DDoS-Guard's check", "markup", 80, r"/\.well-known/ddos-guard/", r"check\.ddos-guard\.net", r"data-ddg-"),
    _rule(Verdict.CHALLENGE, "VK's check", "markup", 80, r"challenge\.html\?hash429", r"hash429=", r"solution429"),
    _rule(Verdict.CHALLENGE, "VK's check", "url", 150, r"//(?:m\.)?vk\.(?:com|ru)/(?:challenge|429)\.html"),
    _rule(Verdict.CHALLENGE, "Yandex's check", "url", 150, r"/showcaptcha\?", r"//[^/]*smartcaptcha"),
    _rule(Verdict.CHALLENGE, "a bot check's script", "markup", 40, r"_incapsula_resource", r"px-captcha", r"captcha-delivery\.com", r"aws-?waf-?(?:token|captcha)", r"/__qrator/", r"sucuri_cloudproxy_js", r"data-qrator"),
    _rule(Verdict.CHALLENGE, "a captcha and hardly any text", "markup", 40, r"hcaptcha\.com/1/api\.js", r"class=.h-captcha", r"class=.g-recaptcha", r"smartcaptcha\.yandexcloud"),
    _rule(Verdict.CHALLENGE, "words of a bot check", "heading", 150, *_CHALLENGE_WORDS),
    _rule(Verdict.CHALLENGE, "words of a bot check", "opening", 60, *_CHALLENGE_WORDS),
    _rule(Verdict.CONSENT_WALL, "a consent page's address", "url", 2_000, r"//consent\.(?:youtube|google|yahoo)\.", r"//guce\.", r"//[^/]+/(?:privacy|cookie)-?(?:gate|wall|consent)\b"),
    _rule(Verdict.CONSENT_WALL, "words of a consent page", "heading", 500, *_CONSENT_WORDS),
    _rule(Verdict.CONSENT_WALL, "words of a consent page", "opening", 150, *_CONSENT_WORDS),
    _rule(Verdict.BLOCKED, "words of a regional or legal block", "heading", 200, *_BLOCKED_WORDS),
    _rule(Verdict.BLOCKED, "words of a regional or legal block", "opening", 60, *_BLOCKED_WORDS),
    _rule(Verdict.GONE, "words of a missing page", "heading", 300, *_GONE_WORDS),
    _rule(Verdict.GONE, "words of a missing page", "opening", 40, *_GONE_WORDS),
    _rule(Verdict.LOGIN_WALL, "words of a login page", "heading", 150, *_LOGIN_WORDS),
    _rule(Verdict.LOGIN_WALL, "words of a login page", "opening", 60, *_LOGIN_WORDS),
)  # fmt: skip
_SCRIPTS = re.compile("|".join(_SCRIPT_WORDS), re.IGNORECASE)
_STATUS = {
    401: (Verdict.LOGIN_WALL, "status 401"),
    404: (Verdict.GONE, "status 404"),
    410: (Verdict.GONE, "status 410"),
    451: (Verdict.BLOCKED, "status 451"),
}


def judge(
    html: bytes | str, url: str, text: str, status: int = 200, *, tree: Element | None = None
) -> tuple[Verdict, str]:
    """Tell what a page is and by which sign; `text` is what its reader could read of it.

    `tree` saves parsing again. A refusal by status alone (403, 429, 5xx) whose page does not tell why is UNDECIDED.
    """
    source = html.decode("utf-8", "replace") if isinstance(html, bytes) else html
    tree = tree if tree is not None else tree_of(source.encode("utf-8", "replace"))
    if status in _STATUS:
        return _STATUS[status]
    if found := _by_rule(source, url, text, tree):
        return found.verdict, found.reason
    if status >= 400:
        return Verdict.UNDECIDED, f"status {status}"
    return _by_substance(text, tree)


def _by_rule(source: str, url: str, text: str, tree: Element | None) -> Rule | None:
    words = len(text.split())
    opening, headings = " ".join(text[: 2 * _OPENING].split())[:_OPENING], _headings(tree)
    return next((rule for rule in RULES if words <= rule.words and _holds(rule, source, url, opening, headings)), None)


def _holds(rule: Rule, source: str, url: str, opening: str, headings: Iterable[str]) -> bool:
    if rule.where == "url":
        return bool(rule.pattern.search(url))
    if rule.where == "markup":
        return bool(rule.pattern.search(source))
    if rule.where == "opening":
        return bool(rule.pattern.search(opening))
    return any((hit := rule.pattern.search(line)) and len(line) <= len(hit.group()) + 40 for line in headings)


def _headings(tree: Element | None) -> tuple[str, ...]:
    if tree is None:
        return ()
    found = (" ".join("".join(tag.itertext()).split())[:200] for tag in tree.iter("title", "h1"))
    return tuple(line for line in islice(found, 5) if line)


def _by_substance(text: str, tree: Element | None) -> tuple[Verdict, str]:
    words = len(text.split())
    if tree is None:
        return (Verdict.CONTENT, "text") if words else (Verdict.EMPTY, "no markup and no text")
    if words < _FEW and tree.find(".//script") is not None and (sign := _shell(words, tree)):
        return Verdict.SHELL, sign
    if words:
        return Verdict.CONTENT, f"{words} words of text"
    seen = next(iter(tree.xpath(_VISIBLE_MEDIA)), None)
    return (Verdict.CONTENT, f"no text, but <{seen.tag}>") if seen is not None else (Verdict.EMPTY, "no text, no media")


def _shell(words: int, tree: Element) -> str | None:
    """Name the sign that a page's content comes by script, or None."""
    asks = (" ".join("".join(tag.itertext()).split())[:2_000] for tag in islice(tree.iter("noscript"), 20))
    if any(_SCRIPTS.search(line) for line in asks):
        return "a noscript text asks for scripts"
    if _SCRIPTS.search(" ".join(text_of(tree)[:5_000].split())) and words:
        return "the text asks for scripts"
    roots = (tag for tag in tree.iter("div", "main", "section") if (tag.get("id") or "").lower() in _ROOTS)
    for tag in islice(roots, 20):
        if not "".join(tag.itertext()).strip():
            return f"an empty root element #{tag.get('id')}"
    return "scripts and no text" if not words and not tree.xpath(_VISIBLE_MEDIA) else None
