"""Behaviours on invented pages in a real Chromium: each does what it says, writes it down, and cannot be led away or held up."""

import asyncio
import io
import ipaddress
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import browsersite
import pytest
from PIL import Image

from osint_pipeline.errors import UserError
from osint_pipeline.fetch.behaving import Behaving, behaving_of
from osint_pipeline.fetch.behaviours import BehaviourFault, behaviours_of, read_behaviours, shipped
from osint_pipeline.fetch.browser import Browser
from osint_pipeline.fetch.cdp import Recorder
from osint_pipeline.fetch.guard import Guard
from osint_pipeline.fetch.stage import BehaviourLimits
from settings.service import load
from storage.exchange import RecordRef, RecordType, Stored
from storage.ids import new_id

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
GUARD = Guard(allow=(ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("::1/128")))
DATA = Path(__file__).parent.parent / "osint_pipeline" / "data"
RULES = (DATA / "behaviours.toml").read_text("utf-8")
HERE = RULES.replace('hosts = ["t.me"', 'hosts = ["127.0.0.1"').replace('hosts = ["vk.com"', 'hosts = ["127.0.0.1"')
ALL = Behaving(behaviours=read_behaviours(HERE, "behaviours.toml"))
PICTURES = {f"/late{n}.png": (200, "image/png", browsersite.png(n)) for n in range(20)}


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.resources = {}

    def exchange(self, exchange, capture):
        if isinstance(exchange.response, Stored):
            exchange.response.path.unlink()
        self.urls.append(exchange.url)
        return ref(exchange.record_id, RecordType.RESPONSE, exchange.url)

    def resource(self, resource, capture):
        self.resources[resource.url.split(":")[1]] = resource
        return ref(resource.record_id, RecordType.RESOURCE, resource.url)

    @property
    def info(self) -> dict:
        return json.loads(self.resources["pageinfo"].body)

    def steps(self, behaviour: str) -> list[dict]:
        return [step for step in self.info["steps"] if step["behaviour"] == behaviour]

    def picture(self, what: str) -> Image.Image:
        return Image.open(io.BytesIO(self.resources[what].body))


def ref(record_id, kind, url) -> RecordRef:
    return RecordRef(record_id=record_id, type=kind, url=url, date="", warc="", offset_bytes=0, length_bytes=0, record_sha256="", block_sha256="")  # fmt: skip


class Lab:
    """One browser in a loop of its own thread; `show` serves a page and visits it."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.loop = scratch, asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(90)

    def visit(self, url: str, behaving: Behaving = ALL, timeout_seconds: float = 20):
        kept = Kept()
        self.browser.behaving = behaving
        return self.run(self.browser.fetch(url, new_id(), kept, timeout_seconds=timeout_seconds, limit_bytes=64 << 20)), kept  # fmt: skip

    def show(self, body: str, *, path: str = "/page", only: str = "", files=None, **bounds):
        behaving = Behaving(
            behaviours=ALL.behaviours.only([only] if only else []),
            bounds=replace(BehaviourLimits(seconds=60), **bounds),
        )
        page = (200, "text/html; charset=utf-8", ("<!doctype html><html lang=be>" + body).encode())
        with browsersite.running(
            {path: page, "/other": (200, "text/html", b"<p>another page")} | (files or {})
        ) as site:
            seen, kept = self.visit(site.url + path, behaving)
            kept.asked = [one.path for one in site.log]
        return seen, kept

    async def start(self) -> None:
        self.browser = Browser(Path(CHROMIUM or ""), GUARD, scratch=self.scratch, block=())
        await self.browser.__aenter__()

    def stop(self) -> None:
        self.run(self.browser.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("scratch"))
    lab.thread.start()
    lab.run(lab.start())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("osint_pipeline.fetch.visit.QUIET_SECONDS", 0.15)  # nothing here is slow to begin
        patch.setattr("osint_pipeline.fetch.stage.PATIENCE_SECONDS", 15.0)  # but all of it on a busy machine
        patch.setattr("osint_pipeline.fetch.stage.GROW_SECONDS", 0.6)
        patch.setattr("osint_pipeline.fetch.stage.CALL_SECONDS", 15.0)
        yield lab
    lab.stop()


FEED = """<style>body{margin:0}p{height:300px;margin:0}</style><div id=feed></div><script>
let page = 0; const feed = document.getElementById('feed');
const add = () => { for (let i = 0; i < 5; i++) { const p = document.createElement('p'); p.textContent = `post ${page}.${i}`; feed.append(p); } page++; };
add(); let busy = false;
addEventListener('scroll', async () => { if (busy || page >= LAST || scrollY + innerHeight < document.documentElement.scrollHeight - 50) return;
  busy = true; await fetch('/api/get?page=' + page); add(); busy = false; });
</script>"""
STYLE = "<style>body{margin:0;font:16px sans-serif}p{height:200px}</style>"


@needs_chromium
class TestScroll:
    def test_a_feed_is_scrolled_until_it_grows_no_more(self, lab):
        seen, kept = lab.show(FEED.replace("LAST", "4"))
        assert "post 3.4" in seen.text
        (step,) = kept.steps("scroll")
        assert step["ended"] == "the page grows no more" and step["times"] >= 6
        assert step["what"] == "scrolled down" and step["where"].endswith(" pixels of 6000")
        assert [one for one in kept.asked if "page=" in one] == [f"/api/get?page={n}" for n in (1, 2, 3)]
        assert kept.picture("screenshot").size == (1280, 6000)
        assert any(line.startswith("behaviour scroll: scrolled down ") for line in seen.alterations)

    @pytest.mark.parametrize(
        ("bounds", "ended"),
        [
            ({"scroll_pixels": 2500}, "the bound of 2500 pixels"),
            pytest.param({"scroll_steps": 4}, "the bound of 4 steps", marks=pytest.mark.soak),
        ],
    )
    def test_a_feed_without_an_end_ends_at_a_bound(self, lab, bounds, ended):
        _, kept = lab.show(FEED.replace("LAST", "1e9"), only="scroll", **bounds)
        assert kept.steps("scroll")[0]["ended"] == ended

    def test_a_page_that_grows_faster_than_it_is_scrolled_ends_in_time(self, lab):
        grows = (
            STYLE
            + "<script>setInterval(() => { for (let i = 0; i < 9; i++) document.body.append(document.createElement('p')); }, 30)</script>"
        )
        _, kept = lab.show(grows, only="scroll", seconds=1, scroll_pixels=10**6, scroll_steps=10**6)
        assert kept.info["steps"][-1]["ended"] == "the bound of 1 s"
        assert kept.steps("scroll")[0]["ended"] == "the time was up"

    def test_the_part_that_scrolls_in_the_place_of_the_page_is_scrolled(self, lab):
        app = "<style>html,body{margin:0;height:100%;overflow:hidden}main{height:100%;overflow:auto}p{height:900px;margin:0}</style><main><p>a<p>b<p>c<p id=d>d</main>"
        app += "<script>document.querySelector('main').addEventListener('scroll', e => { document.getElementById('d').textContent += ' ' + Math.round(e.target.scrollTop) })</script>"
        seen, kept = lab.show(app, only="scroll")
        assert "a part of the page scrolls by itself" in seen.omissions[0]
        assert kept.steps("scroll")[0]["where"] == "2800 pixels of 3600"

    def test_the_page_is_brought_back_to_where_it_stood(self, lab):
        sticky = (
            STYLE
            + "<p id=o>top"
            + "<p>x" * 30
            + "<script>addEventListener('scroll', () => document.title = scrollY)</script>"
        )
        seen, _ = lab.show(sticky, only="scroll")
        assert "<title>0</title>" in seen.html


@needs_chromium
class TestLazyPictures:
    def test_pictures_that_wait_for_the_view_are_loaded_and_seen(self, lab):
        lazy = STYLE + "".join(
            f"<p>text {n}</p><img loading=lazy width=400 height=300 src=/late{n}.png>" for n in range(20)
        )
        _, kept = lab.show(lazy, files=PICTURES)
        assert {f"/late{n}.png" for n in range(20)} <= set(kept.asked)
        (step,) = kept.steps("lazy-images")
        assert step["ended"] == "all have come" and step["times"] > 0
        picture = kept.picture("screenshot").convert("RGB")
        assert picture.height > 9000
        assert picture.getpixel((200, picture.height - 150)) == (
            19,
            0,
            0,
        )  # the last one is drawn in the picture of the page

    def test_pictures_named_in_data_src_are_revealed_by_the_pages_own_script(self, lab):
        lazy = STYLE + "".join(f"<p>text {n}</p><img data-src=/late{n}.png width=40 height=30>" for n in range(12))
        lazy += "<script>const o = new IntersectionObserver(all => all.forEach(e => { if (e.isIntersecting) { e.target.src = e.target.dataset.src; o.unobserve(e.target); } })); document.querySelectorAll('img').forEach(i => o.observe(i));</script>"
        _, kept = lab.show(lazy, only="lazy-images", files=PICTURES)
        assert {f"/late{n}.png" for n in range(12)} <= set(kept.asked)
        assert kept.steps("lazy-images")[0]["ended"] == "all have come"

    def test_pictures_that_do_not_come_are_counted(self, lab):
        _, kept = lab.show(STYLE + "<p>x" * 30 + "<img loading=lazy width=40 height=40 src=/nothing.png>", only="lazy-images")  # fmt: skip
        assert kept.steps("lazy-images")[0]["ended"] == "1 pictures have not come"


MORE = {
    "be": "Паказаць яшчэ", "ru": "Показать ещё 10", "uk": "Читати далі…", "pl": "Pokaż więcej", "en": "→ Read more",
}  # fmt: skip


LEFT_ALONE = [
    "<a href=/other>Read more</a>",
    "<a href='http://localhost:9/'>Read more</a>",
    "<a href='?page=2'>Show more</a>",
    "<a href=''>Show more</a>",
    "<a href=\"javascript:location='/other'\">Show more</a>",
    "<a href='#x' target=_blank>Show more</a>",
    "<a href=/other><button>Show more</button></a>",
    "<a href=/other><span role=button>Show more</span></a>",
    "<form action=/other><button>Show more</button></form>",
    "<form id=f action=/other></form><button form=f>Show more</button>",
    "<form action=/other><span role=button onclick='parentNode.submit()'>Show more</span></form>",
    "<form action=/other><input type=submit value='Show more'></form>",
    "<input type=image alt='Show more' role=button title='Show more'>",
    "<label role=button>Show more<input type=checkbox></label>",
    "<button>Show more comments</button>",
    "<button>Показать ещё комментарии</button>",
    "<button>Показать ещё 3 ответа</button>",
    "<button>Паказаць яшчэ каментары</button>",
    "<button>Показати ще відповіді</button>",
    "<button>Pokaż więcej komentarzy</button>",
    "<button aria-label='Show more comments'>Show more</button>",
    "<section class=Comments-list><button>Show more</button></section>",
    "<div class='wall_module'><div class=replies><button>Показать ещё</button></div></div>",
    "<nav><button>More</button></nav>",
    "<div class=login-box><button>More</button></div>",
    "<button>Log in to read more</button>",
    "<button>Show more: subscribe</button>",
    "<button aria-expanded=true>More</button>",
    "<button disabled>More</button>",
    "<button style='visibility:hidden'>More</button>",
    "<button style='opacity:0'>More</button>",
    "<button>More</button><div style='position:absolute;inset:0'>over it</div>",
    "<button>Buy</button><button>Send</button><button>Войти</button>",
]  # fmt: skip


@needs_chromium
class TestShowMore:
    def test_more_is_shown_in_five_languages_by_real_clicks(self, lab):
        body = "".join(f"<p>short</p><button type=button onclick=\"this.remove(); document.body.append(' rest-{language}-' + event.isTrusted)\">{text}</button>" for language, text in MORE.items())  # fmt: skip
        seen, kept = lab.show(body, only="show-more")
        assert all(f"rest-{language}-true" in seen.text for language in MORE)
        steps = kept.steps("show-more")
        assert len(steps) == 5 and all((step["what"], step["times"], step["ended"]) == ("clicked", 1, "the page changed") for step in steps)  # fmt: skip
        assert steps[0]["where"] == 'button "паказаць яшчэ"'

    def test_what_loads_more_is_clicked_as_long_as_it_brings_more_up_to_a_bound(self, lab):
        body = """<div id=list></div><a href="#" onclick="more(); return false">Загрузить ещё</a><script>let n = 0;
        const more = async () => { await fetch('/api/get?n=' + n); const p = document.createElement('p'); p.textContent = 'part ' + n++; list.append(p); }</script>"""
        seen, kept = lab.show(body, only="show-more", clicks=5)
        assert "part 4" in seen.text and "part 5" not in seen.text
        clicked, bound = kept.steps("show-more")
        assert clicked["times"] == 5
        assert bound["ended"] == "the bound of 5 clicks of a page"

    def test_what_leads_away_sends_something_or_opens_comments_is_not_clicked(self, lab):
        script = "<style>body>div{position:relative;height:60px}</style><script>addEventListener('click', e => { document.body.append('CLICKED' + e.target.outerHTML); e.preventDefault() }, true)</script>"
        seen, kept = lab.show(
            script + "".join(f"<div>{body}</div>" for body in LEFT_ALONE), only="show-more", clicks=99
        )
        assert "CLICKED" not in seen.text
        assert all(step["times"] == 0 for step in kept.info["steps"])
        based, _ = lab.show(script + "<base href=/other><a href='#x'>Show more</a>", only="show-more")
        assert "CLICKED" not in based.text


BANNERS = {
    "OneTrust": '<div id=onetrust-banner-sdk class=b><button id=onetrust-accept-btn-handler>Accept all</button><button id=onetrust-reject-all-handler>Reject all</button></div>',
    "OneTrust in two parts": '<div id=onetrust-banner-sdk class=b><button id=onetrust-accept-btn-handler>OK</button><button id=onetrust-pc-btn-handler data-next>Settings</button></div><template><div class=b><button class=ot-pc-refuse-all-handler>Reject all</button></div></template>',
    "Cookiebot": '<div id=CybotCookiebotDialog class=b><button id=CybotCookiebotDialogBodyLevelButtonLevelOptinAllowAll>Allow all</button><button id=CybotCookiebotDialogBodyButtonDecline>Deny</button></div>',
    "Didomi": '<div id=didomi-host><div id=didomi-notice class=b><button id=didomi-notice-agree-button>Akceptuję</button><button id=didomi-notice-disagree-button>Nie zgadzam się</button></div></div>',
    "Quantcast": '<div id=qc-cmp2-ui class="qc-cmp2-container b"><div class=qc-cmp2-summary-buttons><button mode=secondary data-next>MORE OPTIONS</button><button mode=primary>AGREE</button></div></div><template><div class=b><div class=qc-cmp2-buttons-desktop><button data-keep>REJECT ALL</button><button>ACCEPT ALL</button></div><div class=qc-cmp2-footer><button mode=primary>SAVE &amp; EXIT</button></div></div></template>',
    "Usercentrics": '<div id=usercentrics-root data-shadow=\'<div style="position:fixed;bottom:0"><button data-testid=uc-accept-all-button>Accept All</button><button data-testid=uc-deny-all-button>Deny</button></div>\'></div>',
    "Google Funding Choices": '<div class="fc-consent-root b"><button class="fc-button fc-cta-consent">Consent</button><button class="fc-button fc-cta-do-not-consent">Do not consent</button></div>',
    "be": '<div class="cookie-notice b"><button>Прыняць усё</button><button>Адхіліць усё</button></div>',
    "ru": '<div id=cookies class=b><button>Принять</button><button>Только необходимые</button></div>',
    "uk": '<div role=dialog aria-label="cookie" class=b><button>Прийняти всі</button><button>Відхилити</button></div>',
    "pl": '<div class="rodo b"><button>Akceptuję</button><button>Odrzuć wszystkie</button></div>',
    "en": '<div class="gdpr b"><button>Accept</button><button>Only necessary cookies</button></div>',
}  # fmt: skip
QUICK = ("OneTrust in two parts", "Usercentrics", "ru")  # the others take their second each, in `make soak`
BANNER_PAGE = """<style>.b{position:fixed;bottom:0;left:0;right:0;height:200px;background:#fd6}</style><h1>Навіны</h1><p>the page itself</p>BANNER<script>
for (const host of document.querySelectorAll('[data-shadow]')) host.attachShadow({mode: 'open'}).innerHTML = host.dataset.shadow;
addEventListener('click', e => { const b = e.composedPath()[0]; if (b.localName != 'button') return;
  document.cookie = 'chose=' + encodeURIComponent(b.textContent); fetch('/seen?' + b.textContent);
  if ('keep' in b.dataset) return; (b.closest('.b') || b.getRootNode().host).remove(); const t = document.querySelector('template');
  if ('next' in b.dataset) setTimeout(() => document.body.append(t.content.cloneNode(true)), 150); });</script>"""


@needs_chromium
class TestCookieBanners:
    @pytest.mark.parametrize(
        "kind", [name if name in QUICK else pytest.param(name, marks=pytest.mark.soak) for name in BANNERS]
    )
    def test_cookies_are_refused_and_the_choice_recorded(self, lab, kind):
        seen, kept = lab.show(BANNER_PAGE.replace("BANNER", BANNERS[kind]), only="cookie-banner")
        steps = kept.steps("cookie-banner")
        assert steps and all(step["times"] == 1 for step in steps)
        assert {steps[0]["ended"], steps[-1]["ended"]} == {"the page changed"}
        choice = "necessary" if kind in ("ru", "en") else "reject"
        assert all(step["what"].startswith(f"chose {choice} (") for step in steps)
        if len(kind) > 2:
            assert kind.split(" in ")[0] in steps[0]["what"] or "(any)" in steps[0]["what"]
        assert len(steps) == {"OneTrust in two parts": 2, "Quantcast": 3}.get(kind, 1)
        assert "class=b" not in seen.html.partition("<template")[0] and not any(word in seen.text for word in ("Accept", "AGREE", "Прын", "Прин", "Akcept"))  # fmt: skip
        assert any("chose " in line for line in seen.alterations)
        before, after = kept.picture("view").convert("RGB"), kept.picture("screenshot").convert("RGB")
        if kind != "Usercentrics":
            assert before.getpixel((1000, 700)) == (255, 221, 102)  # as first seen: with the banner
        assert after.getpixel((1000, min(700, after.height - 1))) == (255, 255, 255)

    def test_a_banner_that_cannot_be_refused_is_left_as_it_is(self, lab):
        banners = """<div class='cookie-wall b'><button>Accept all</button><button>Subscribe without cookies</button></div><div class='cookies b'><form action=/other><button>Reject all</button></form></div>
        <div class='cookies b'><a href=/other>Reject all</a></div><div id=onetrust-banner-sdk class=b><button id=onetrust-reject-all-handler>Accept all</button></div>"""
        _, kept = lab.show(BANNER_PAGE.replace("BANNER", banners), only="cookie-banner")
        (step,) = kept.steps("cookie-banner")
        assert step["what"] == "left #onetrust-banner-sdk as it is" and step["times"] == 0
        assert not any(one.startswith(("/seen", "/other")) for one in kept.asked)

    def test_words_in_the_text_of_a_page_are_no_banner(self, lab):
        body = "<article class=about-cookies><p>How we bake</p><button onclick=\"document.body.append('CLICKED')\">Reject</button></article><div id=onetrust-banner-sdk style='display:none'><button id=onetrust-reject-all-handler>Reject</button></div>"
        seen, kept = lab.show(body)
        assert "CLICKED" not in seen.text and kept.info["steps"] == []


@needs_chromium
class TestMedia:
    def test_a_sound_is_played_without_sound_and_its_bytes_are_kept(self, lab):
        body = "<audio preload=none controls src=/tone.wav></audio><p id=o></p><script>document.querySelector('audio').onplaying = e => o.textContent = 'muted ' + e.target.muted</script>"
        seen, kept = lab.show(body, only="play-media", media_seconds=3)
        (step,) = kept.steps("play-media")
        assert step["times"] == 1 and "muted true" in seen.text
        assert any(one.endswith("/tone.wav") for one in kept.urls)

    def test_playing_is_bounded(self, lab):
        body = "<audio preload=none src=/hang></audio>" + "<audio preload=none src=/tone.wav></audio>" * 5
        _, kept = lab.show(body, only="play-media", media=2, media_seconds=0.5)
        (step,) = kept.steps("play-media")
        assert step["times"] == 2 and step["ended"].startswith("the bound of 0.5 s")


TELEGRAM = """<style>body{margin:0}.tgme_widget_message{height:300px}</style><main class=tgme_main><section class="tgme_channel_history js-message_history">
<div class=js-messages_more_wrap><a class="tme_messages_more js-messages_more" href="/s/channel?before=80" data-before=80></a></div><div id=m></div></section></main><script>
let first = 80; const box = document.getElementById('m');
const put = (from, to) => { for (let i = to; i >= from; i--) { const d = document.createElement('div'); d.className = 'tgme_widget_message'; d.textContent = 'message ' + i; box.prepend(d); } };
put(80, 99); scrollTo(0, 1e9); let busy = false;
addEventListener('scroll', async () => { const link = document.querySelector('.js-messages_more[data-before]'); if (!link || busy || scrollY > innerHeight * 3) return;
  busy = true; await fetch('/s/channel?before=' + first, {method: 'POST'}); const to = first - 1; first -= 20; put(first, to); link.dataset.before = first; if (first <= 20) link.remove(); busy = false; });
</script>"""
WALL = """<style>body{margin:0}.post{height:500px}</style><div id=page_wall_posts></div><script>let n = 0; const wall = document.getElementById('page_wall_posts');
const add = () => { for (let i = 0; i < 4; i++) { const d = document.createElement('div'); d.className = 'post'; d.innerHTML = `<p>запіс ${n++}</p><button class=show_more onclick="this.outerHTML = ' цалкам'">Показать ещё</button><div class=replies><button onclick="document.body.append('OPENED')">Показать ещё</button></div>`; wall.append(d); } };
add(); addEventListener('scroll', () => { if (n < 16 && scrollY + innerHeight > document.documentElement.scrollHeight - 300) fetch('/api/get?wall').then(add); });</script>"""


@needs_chromium
class TestSites:
    def test_a_telegram_preview_is_scrolled_up_until_there_is_nothing_more(self, lab):
        seen, kept = lab.show(TELEGRAM, path="/s/channel", files={"/s/channel?": (200, "text/html", b"")})
        assert "message 99" in seen.text and "message 20" in seen.text
        (step,) = kept.info["steps"]
        assert (step["behaviour"], step["what"], step["ended"]) == (
            "telegram-up",
            "scrolled up",
            "there is nothing more",
        )

    def test_a_telegram_preview_is_scrolled_up_to_a_bound(self, lab):
        seen, kept = lab.show(TELEGRAM.replace("first <= 20", "false"), path="/s/channel", scroll_steps=6)
        assert kept.info["steps"][0]["ended"] == "the bound of 6 steps"
        assert "message 60" in seen.text and "message -" not in seen.text

    def test_a_wall_is_scrolled_and_its_comments_stay_closed(self, lab):
        seen, kept = lab.show(WALL)
        assert "запіс 15" in seen.text and "OPENED" not in seen.text
        assert kept.steps("vk-wall")[0]["ended"] == "the page grows no more" and kept.steps("scroll") == []
        assert seen.text.count("цалкам") == 16
        assert sum(step["times"] for step in kept.steps("show-more")) == 16


WIPES = (
    "history.back()",
    "document.write(1)",
    "document.open()",
    "location = 'javascript:`1`'",
    "document.body.remove()",
)
LEADS = ("location.reload()", "location.replace('/other')", "location = '/file'", "location = 'mailto:a@b.invalid'", "history.pushState(1, '', '/x'); location = '/other'", "const a = document.createElement('a'); a.href = '/other'; a.click()")  # fmt: skip


@needs_chromium
class TestHostilePages:
    def test_a_button_that_leads_away_is_stopped_declared_and_the_last(self, lab):
        body = "<p>the evidence</p><button onclick=\"location = '/other'\">Show more</button><button onclick=\"document.body.append('CLICKED')\">Show more</button>"
        seen, kept = lab.show(body)
        assert seen.final_url.endswith("/page") and "the evidence" in seen.text and "CLICKED" not in seen.text
        assert seen.main.url.endswith("/page") and seen.status == 200
        (step,) = kept.steps("show-more")
        assert step["ended"].startswith("it wanted to lead to http://127.0.0.1:") and step["ended"].endswith(
            "/other, which was not let out"
        )
        assert kept.resources["dom"].about == seen.main.record_id

    def test_a_button_that_leads_away_later_is_stopped_too(self, lab):
        body = "<p>the evidence</p><button onclick=\"setTimeout(() => location = '/other', 400)\">Show more</button>" + "<p style='height:900px'>tall" * 4  # fmt: skip
        seen, _ = lab.show(body)
        assert "the evidence" in seen.html and seen.final_url.endswith("/page") and seen.main.url.endswith("/page")

    def test_windows_are_closed_and_dialogs_and_beforeunload_hold_nothing_up(self, lab):
        body = "<p>the evidence</p><button onclick=\"for (let i = 0; i < 5; i++) window.open('/other'); alert(1); confirm(2); prompt(3); onbeforeunload = e => { e.preventDefault(); return 'stay' }; location = '/other'\">Show more</button>"
        seen, _ = lab.show(body)
        assert "the evidence" in seen.html and seen.final_url.endswith("/page")
        assert sum("a window that the page opened was closed" in line for line in seen.alterations) in range(1, 6)
        assert [line for line in seen.alterations if "a dialog" in line][:3] == [f"a dialog of the page was dismissed ({kind})" for kind in ("alert", "confirm", "prompt")]  # fmt: skip

    def test_a_button_that_never_returns_is_freed_and_the_page_kept(self, lab, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.stage.CLICK_SECONDS", 1.0)
        seen, kept = lab.show("<p>the evidence</p><button onclick='for (;;);'>Show more</button>")
        assert "the evidence" in seen.html and "screenshot" in kept.resources
        assert "; the script that it ran was ended" in kept.steps("show-more")[0]["ended"]

    @pytest.mark.parametrize("wipes", [wipe if wipe in ("history.back()", "document.write(1)") else pytest.param(wipe, marks=pytest.mark.soak) for wipe in WIPES])  # fmt: skip
    def test_a_button_that_wipes_the_page_wipes_no_evidence(self, lab, wipes):
        seen, _ = lab.show(f'<p>the evidence</p><button onclick="{wipes}">Show more</button>')
        assert "the evidence" in seen.html and "the evidence" in seen.text
        assert any(line.startswith("DOM and text after the last click: ") for line in seen.omissions)
        assert seen.main.url.endswith("/page")

    @pytest.mark.parametrize("leads", ["f.submit()", *(pytest.param(one, marks=pytest.mark.soak) for one in LEADS)])
    def test_a_button_that_sends_a_form_or_leads_away_sends_nothing(self, lab, leads):
        body = f'<p>the evidence</p><form id=f action=/other method=post></form><button onclick="{leads}">Show more</button>'
        seen, kept = lab.show(body)
        assert "the evidence" in seen.html and "screenshot" in kept.resources and seen.final_url.endswith("/page")
        assert kept.asked.count("/page") == 1 and not set(kept.asked) & {"/other", "/file"}

    @pytest.mark.parametrize("target", ["_blank", "inner"])
    def test_a_form_that_a_click_sends_elsewhere_is_held_up_and_named(self, lab, target):
        form = f"<iframe name=inner></iframe><form id=f method=post action=/other target={target}></form>"
        seen, kept = lab.show(f'<p>the evidence</p>{form}<button onclick="f.submit()">Show more</button>')
        assert "the evidence" in seen.html and "/other" not in kept.asked
        (step,) = kept.steps("show-more")
        assert step["ended"].startswith("it wanted to send POST http") and step["ended"].endswith("/other, which was not let out")  # fmt: skip

    def test_a_form_that_a_playing_sound_sends_is_held_up_and_named(self, lab):
        form = "<form id=f method=post action=/other target=_blank></form>"
        _, kept = lab.show(f"<audio preload=none src=/tone.wav onplay='f.submit()'></audio>{form}", only="play-media", media_seconds=2)  # fmt: skip
        assert "/other" not in kept.asked
        assert "it wanted to send POST http" in kept.steps("play-media")[0]["ended"]

    def test_a_button_that_leads_away_again_and_again_leads_nowhere_while_the_page_is_left(self, lab, monkeypatch):
        leave = Recorder.leave

        async def slowly(recorder: Recorder) -> None:
            await asyncio.sleep(0.6)  # as where a body is still coming
            await leave(recorder)

        monkeypatch.setattr(Recorder, "leave", slowly)
        body = "<p>the evidence</p><button onclick=\"setInterval(() => location = '/other', 150)\">Show more</button>"
        seen, kept = lab.show(body, only="show-more")
        assert "the evidence" in seen.html and "/other" not in kept.asked
        assert kept.steps("show-more")[0]["ended"].endswith("/other, which was not let out")

    def test_a_button_that_waits_for_ever_leaves_what_was_there_before(self, lab, monkeypatch):
        monkeypatch.setattr("osint_pipeline.fetch.stage.CLICK_SECONDS", 1.0)
        seen, kept = lab.show("<p>the evidence</p><button onclick=\"const x = new XMLHttpRequest(); x.open('GET', '/hang', false); x.send()\">Show more</button>")  # fmt: skip
        assert "the evidence" in seen.html and "view" in kept.resources
        (step,) = kept.steps("show-more")
        assert step["ended"].startswith("the page did not take the click within 1 s; ") and step["seconds"] < 15

    def test_buttons_that_throw_move_and_vanish_on_a_page_that_clobbers_names(self, lab):
        body = """<script>Element.prototype.closest = Document.prototype.querySelectorAll = Array.prototype.map = () => { throw 1 }; window.osint = 1;</script>
        <form name=querySelectorAll><input name=closest><input name=getAttribute></form><img name=scripts>
        <button onclick="throw new Error('no')">Show more</button><button style="position:absolute;top:200px;animation:moves 3s linear infinite">Show more</button><button onmouseover="this.remove()">Show more</button>
        <button onclick="this.remove(); document.body.append('and the rest ' + osint)">Read more</button><style>@keyframes moves { from { left: 0 } to { left: 900px } }</style>"""
        seen, kept = lab.show(body, only="show-more")
        assert "and the rest 1" in seen.text
        ended = [step["ended"] for step in kept.steps("show-more")]
        assert (
            ended[:2] == ["nothing changed", "not clicked: it does not stand still"] and ended[-1] == "the page changed"
        )

    def test_what_comes_under_the_pointer_at_the_last_moment_is_not_clicked(self, lab):
        body = "<style>button{display:block;height:40px}</style><button onmouseover='this.remove()'>Show more</button><button onclick=\"document.body.append('BOUGHT')\">Buy it</button><a href=/other>Send</a>"
        seen, kept = lab.show(body, only="show-more")
        assert "BOUGHT" not in seen.text
        assert kept.steps("show-more")[0]["ended"] == 'not clicked: button "buy it" came under the pointer'

    @pytest.mark.parametrize("count", [5000, pytest.param(100_000, marks=pytest.mark.soak)])
    def test_a_hundred_thousand_buttons_are_clicked_up_to_the_bound(self, lab, count):
        body = f"<script>const count = {count}</script><p id=n>0</p><div id=all></div><script>all.innerHTML = '<button>Show more</button>'.repeat(count); let n = 0; addEventListener('click', () => document.getElementById('n').textContent = ++n)</script>"
        seen, kept = lab.show(body, only="show-more", clicks=3, seconds=15)
        assert sum(step["times"] for step in kept.steps("show-more")) <= 3
        assert seen.text.split()[0] in ("0", "1", "2", "3")

    def test_a_page_that_goes_on_by_itself_is_followed(self, lab):
        body = STYLE + "<p>x" * 30 + "<script>addEventListener('scroll', () => location = '/other')</script>"
        seen, kept = lab.show(body)
        assert seen.text == "another page" and seen.final_url.endswith("/other")
        assert kept.info["steps"][-1]["ended"] == "the page went to another document"


@needs_chromium
class TestPage:
    def test_nothing_is_touched_when_behaviours_are_off(self, lab):
        body = (
            FEED.replace("LAST", "9")
            + BANNER_PAGE.replace("BANNER", BANNERS["OneTrust"])
            + "<button>Show more</button><audio preload=none src=/tone.wav></audio><script>for (const kind of ['scroll', 'click', 'play', 'mousemove']) addEventListener(kind, () => document.title += kind, true)</script>"
        )
        with browsersite.running({"/page": (200, "text/html", body.encode())}) as site:
            seen, kept = lab.visit(site.url + "/page", Behaving(behaviours=ALL.behaviours.only(["off"])))
            assert [one.path for one in site.log if "page=" in one.path] == []
        assert seen.alterations == () and kept.info["steps"] == []
        assert kept.info["behaviours"] == {"set": "off", "looked_for": []}
        assert "<title>" not in seen.html

    def test_our_script_changes_nothing_in_the_page(self, lab):
        body = (
            STYLE
            + "<p>x" * 30
            + "<button>More</button><script>let n = 0; new MutationObserver(all => window.n += all.length).observe(document, {subtree: true, childList: true, attributes: true, characterData: true}); setTimeout(() => 0)</script>"
        )
        off, _ = lab.show(body, only="play-media")
        on, _ = lab.show(body)
        assert on.html == off.html

    def test_address_dom_and_text_are_those_of_one_document(self, lab):
        body = "<p>first<script>addEventListener('resize', () => location = '/other')</script>"
        with browsersite.running({"/page": (200, "text/html", b"<!doctype html>" + body.encode()), "/other": (200, "text/html", b"<p>another page")}) as site:  # fmt: skip
            seen, kept = lab.visit(site.url + "/page", Behaving())
        assert ("another page" in seen.html) == ("another page" in seen.text) == seen.final_url.endswith("/other")
        assert seen.main.url == seen.final_url and ("dom" in kept.resources) == ("text" in kept.resources) == bool(seen.html)  # fmt: skip

    def test_a_dom_without_end_is_cut_and_declared(self, lab, monkeypatch):
        for module in ("look", "visit"):
            monkeypatch.setattr(f"osint_pipeline.fetch.{module}.DOM_CHARACTERS", 5000)
        seen, kept = lab.show("<form name=documentElement></form><p hidden id=p><script>p.textContent = 'y'.repeat(9000)</script>", only="play-media")  # fmt: skip
        assert len(seen.html) == 5000 == len(kept.resources["dom"].body) and seen.html.startswith(
            "<!DOCTYPE html><html"
        )
        assert "DOM or text after the first 5000 characters" in seen.omissions

    def test_page_info_holds_what_its_document_says(self, lab):
        frames = "<p>page</p><iframe srcdoc='<p>inner text'></iframe><iframe src=/other></iframe><iframe src='http://localhost:OTHER/frame.html'></iframe>"
        seen, kept = lab.show(frames)
        info, text = kept.info, (DATA.parent.parent / "docs" / "page-info.md").read_text("utf-8")
        assert info["format"] == "osint.pageinfo/1"
        for name in [*info, *(key for kind in ("made", "frames", "resources", "steps") for one in info[kind] for key in one), *info["behaviours"]]:  # fmt: skip
            assert f"`{name}`" in text, name
        assert info["main"] == str(seen.main.record_id)
        assert {one["what"] for one in info["made"]} >= {
            "view",
            "screenshot",
            "dom",
            "text",
            "frame-1",
            "frame-2",
            "frame-3",
        }
        assert {one["record"] for one in info["made"]} < {str(one.record_id) for one in seen.records}
        assert b"inner text" in kept.resources["frame-1"].body and b"another page" in kept.resources["frame-2"].body
        assert kept.resources["frame-3"].about == seen.main.record_id
        assert kept.picture("view").size == (1280, 800)

    def test_a_page_whose_time_was_up_says_that_nothing_was_done(self, lab):
        with browsersite.running({"/page": (200, "text/html", b"<p>here<img src=/hang><button>Show more")}) as site:
            seen, _ = lab.visit(site.url + "/page", timeout_seconds=3)
        assert seen.timed_out and "behaviours: the page's time was up before them" in seen.omissions

    def test_every_selector_of_the_file_is_one(self, lab):
        rules = shipped().rules
        selectors = [*shipped().never.within]
        for rule in rules:
            selectors += [*rule.present, *(one for name in ("candidates", "overlays", "shadow", "lazy", "media", "more") for one in getattr(rule, name, ()))]  # fmt: skip
            for choice in getattr(rule, "choices", ()):
                selectors += [*choice.within, *(one for step in choice.steps for one in step)]
        body = f"<p id=o></p><script>const bad = []; for (const s of {json.dumps(selectors)}) try {{ document.querySelector(s) }} catch (e) {{ bad.push(s) }} o.textContent = JSON.stringify(bad)</script>"
        assert lab.show(body, only="play-media")[0].text == "[]"


GOOD = 'format = 1\n[words.w]\nbe = ["больш"]\n[never]\nwords = ["w"]\nwithin = ["nav"]\n'
RULE = '[[behaviour]]\nname = "one"\nabout = ""\n'


@pytest.mark.parametrize(
    ("text", "behaviour", "field"),
    [
        ("format = ", "", ""),
        ("format = 2", "", "format"),
        ("format = 1\nother = 1", "", "other"),
        ('format = 1\n[never]\nwords = []', "", "never.within"),
        (GOOD.replace('["w"]', '["x"]'), "", "never.words"),
        (GOOD.replace("больш", "Больш"), "", "words.w"),
        (GOOD + RULE + 'kind = "jump"', "one", "kind"),
        (GOOD + RULE + 'kind = "scroll"\nsteeps = 1', "one", "steeps"),
        (GOOD + RULE + 'kind = "scroll"\nsteps = "x"', "one", "steps"),
        (GOOD + RULE + 'kind = "scroll"\nsteps = 0', "one", "steps"),
        (GOOD + RULE + 'kind = "scroll"\ninstead_of = ["two"]', "one", "instead_of"),
        (GOOD + RULE.replace("one", "o n") + 'kind = "scroll"', "o n", "name"),
        (GOOD + RULE + 'kind = "scroll"\n' + RULE + 'kind = "scroll"', "one", "name"),
        (GOOD + RULE + 'kind = "click"\ncandidates = ["a"]\nwords = ["x"]', "one", "words"),
        (GOOD + RULE + 'kind = "choose"\nchoices = [{choice = "a", manager = "b", stepz = []}]', "one", "choices[0].stepz"),
        (GOOD + RULE + 'kind = "choose"\nchoices = [{choice = "a", manager = "b"}]', "one", "choices[0]"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_file_behaviour_and_field(text, behaviour, field):
    with pytest.raises(BehaviourFault) as caught:
        read_behaviours(text, "mine.toml")
    fault = caught.value
    assert (fault.file, fault.behaviour, fault.field) == ("mine.toml", behaviour, field)
    assert "mine.toml" in str(fault) and (not field or field in str(fault))


def test_settings_choose_behaviours_and_bounds(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text(GOOD + RULE + 'kind = "scroll"', "utf-8")
    environ = {"OSINT_HOME": str(tmp_path)}
    assert [rule.name for rule in behaving_of(load(environ).service).behaviours.rules] == [
        rule.name for rule in shipped().rules
    ]
    some = behaving_of(load(environ | {"OSINT_BEHAVIOURS": "scroll,show-more", "OSINT_PAGE_CLICKS": "7"}).service)
    assert [rule.name for rule in some.behaviours.rules] == ["scroll", "show-more"] and some.bounds.clicks == 7
    assert not behaving_of(load(environ | {"OSINT_BEHAVIOURS": "off"}).service).on
    assert [
        rule.name for rule in behaving_of(load(environ | {"OSINT_BEHAVIOUR_FILE": str(own)}).service).behaviours.rules
    ] == ["one"]
    with pytest.raises(UserError, match="there is no behaviour 'jump'"):
        behaviours_of(None, ["jump"])
    with pytest.raises(BehaviourFault, match=r"nothing\.toml"):
        behaviours_of(tmp_path / "nothing.toml")
