"""Answers that go wrong, each at an address that says how."""

import threading

from osint_pipeline.samples.server import Answer, Asked, Framing, html, redirect

TEXT = "text/plain; charset=utf-8"
LOGIN = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Увайсці</title></head>
<body><h1>Увайдзіце, каб праглядзець гэту старонку</h1><form action="/login" method="post">
<label>Лагін <input name="login" autocomplete="username"></label>
<label>Пароль <input name="password" type="password" autocomplete="current-password"></label>
<button type="submit">Увайсці</button></form></body></html>
"""
CHALLENGE = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>Just a moment...</title></head>
<body><h1>Checking your browser before accessing the site</h1><div class="g-recaptcha" data-sitekey="sample"></div></body></html>
"""
LONG = "".join(f"Радок {number}: нічога асаблівага.\n" for number in range(400))
NAMES = (
    "chain", "loop", "missing", "gone", "forbidden", "login", "challenge", "busy", "tired", "cut", "cut-chunked",
    "empty", "drip", "huge-header", "inside", "inside-decimal", "no-length", "no-content", "wrong-type", "bomb",
)  # fmt: skip


class Trouble:
    """Answers one request. What works at the second try counts tries per address; `reset` forgets them."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Forget every try, so that /busy and /tired refuse once more."""
        with self._lock:
            self._tries.clear()

    def __call__(self, asked: Asked) -> Answer:
        """Answer one request; `/` lists all addresses."""
        name = asked.path.strip("/")
        if not name:
            return html("".join(f'<p><a href="/{one}">{one}</a></p>\n' for one in NAMES))
        if name in ("busy", "tired"):
            return self._second_time(asked.target, name)
        if name == "bomb":  # 32 MiB in 32 KB
            return Answer(body=bytes(32 << 20), media_type=TEXT, coding="gzip")
        return CALM.get(name) or html("<html><body>Не знойдзена</body></html>", status=404)

    def _second_time(self, target: str, name: str) -> Answer:
        with self._lock:
            self._tries[target] = tries = self._tries.get(target, 0) + 1
        if tries > 1:
            return html(f"<html><body><p>Цяпер можна: {name}</p></body></html>")
        status = 429 if name == "busy" else 503
        more = (("Retry-After", "1"),) if name == "busy" else ()
        return Answer(status=status, body="Пазней".encode(), media_type=TEXT, headers=more)


def _calm() -> dict[str, Answer]:
    long = LONG.encode()
    return {
        "chain": redirect("/chain-2", 301),
        "chain-2": redirect("chain-3", 302),
        "chain-3": redirect("/chain-end", 307),
        "chain-end": html("<html><body><p>Канец ланцуга</p></body></html>"),
        "loop": redirect("/loop-2"),
        "loop-2": redirect("/loop"),
        "missing": html("<html><body>Старонка не знойдзена</body></html>", status=404),
        "gone": html("<html><body>Старонка выдалена</body></html>", status=410),
        "forbidden": html("<html><body>Забаронена</body></html>", status=403),
        "login": html(LOGIN),
        "challenge": html(CHALLENGE),
        "cut": Answer(body=long, media_type=TEXT, cut_bytes=2000),
        "cut-chunked": Answer(body=long, media_type=TEXT, cut_bytes=6000, framing=Framing.CHUNKED),
        "empty": html(""),
        "drip": Answer(body=long[:600], media_type=TEXT, drip_seconds=0.25, drip_bytes=10),
        "huge-header": html("<html><body>Вялікі загаловак</body></html>", headers=(("X-Padding", "x" * 200_000),)),
        "inside": redirect("http://169.254.169.254/latest/meta-data/"),
        "inside-decimal": redirect("http://2852039166/latest/meta-data/"),
        "no-length": Answer(body=long, media_type=TEXT, framing=Framing.CLOSE),
        "no-content": Answer(status=204, media_type=""),
        "wrong-type": Answer(body=b"\x00\x01\x02 not a picture", media_type="image/jpeg"),
    }


CALM = _calm()
