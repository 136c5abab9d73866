"""A video platform of pages with one progressive film each, and of the ways in which a film is not to be had."""

from osint_pipeline.samples import clips, pictures, words
from osint_pipeline.samples.server import HTML, Answer, Asked, html, redirect

FRAMES, FILM = 30, (480, 360)
TITLES = {"1": "Сведчанне: затрыманне каля рынку", "2": "Свидетельство: обыск в редакции", "3": "Lost film"}


class Video:
    """Answers one request. `base` is its own address, known once it is served."""

    def __init__(self) -> None:
        self.base = ""

    def __call__(self, asked: Asked) -> Answer:
        """Answer one request: /v/1 and /v/2 have a film, /v/3 a film that is missing, /r/1 leads to /v/1."""
        top, _, name = asked.path.strip("/").partition("/")
        if not top:
            return html("".join(f'<p><a href="/v/{key}">{title}</a></p>\n' for key, title in TITLES.items()))
        if top == "v" and name in TITLES:
            return html(self.page(name))
        if top == "v" and name == "login":
            return html(LOGIN)
        if top == "r" and name in TITLES:
            return redirect(f"/v/{name}", 301)
        if top == "film" and name in ("1.mp4", "2.mp4"):
            return Answer(body=film(int(name[0])), media_type="video/mp4", ranges=True)
        if top == "poster":
            return Answer(body=pictures.photo(8001), media_type="image/jpeg")
        return Answer(status=404, body="Старонкі няма".encode(), media_type=HTML)

    def page(self, name: str) -> str:
        """Draw a film's page."""
        about = words.message(f"film-{name}", "ru" if name == "2" else "be").replace("\n", " ")
        address = f"{self.base}/film/{name}.mp4"
        return f"""<!DOCTYPE html>
<html lang="be">
<head>
<meta charset="utf-8">
<title>{TITLES[name]}</title>
<meta property="og:type" content="video.other">
<meta property="og:title" content="{TITLES[name]}">
<meta property="og:description" content="{about}">
<meta property="og:image" content="{self.base}/poster/{name}.jpg">
<meta property="og:video" content="{address}">
<meta property="og:video:type" content="video/mp4">
</head>
<body>
<h1>{TITLES[name]}</h1>
<video src="{address}" poster="/poster/{name}.jpg" controls width="480" height="360" preload="none"></video>
<p>{about}</p>
<time datetime="2026-11-18T19:05:00+03:00">18 лістапада 2026</time>
</body>
</html>
"""


LOGIN = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Log in</title></head>
<body><form action="/login" method="post"><h1>Log in to watch this video</h1>
<input name="user"><input name="password" type="password"><button>Log in</button></form></body></html>
"""


def film(number: int) -> bytes:
    """Give a film's bytes, more than 300 KB."""
    return clips.mp4(9000 + number, FRAMES, FILM)
