"""A page that shows nothing without scripts: its text and picture come as JSON."""

import json

from osint_pipeline.samples import pictures, words
from osint_pipeline.samples.server import Answer, Asked, html

SHELL = """<!DOCTYPE html>
<html lang="be">
<head><meta charset="utf-8"><title>Загрузка…</title></head>
<body>
<div id="root"></div>
<noscript>You need to enable JavaScript to run this app.</noscript>
<script src="/app.js" defer></script>
</body>
</html>
"""
APP = """'use strict';
(async () => {
  const answer = await fetch('/api/story.json', {headers: {'Accept': 'application/json'}});
  const story = await answer.json();
  document.title = story.title;
  const article = document.createElement('article');
  const heading = document.createElement('h1');
  heading.textContent = story.title;
  article.append(heading);
  const time = document.createElement('time');
  time.dateTime = story.published;
  time.textContent = story.published;
  article.append(time);
  for (const text of story.paragraphs) {
    const paragraph = document.createElement('p');
    paragraph.textContent = text;
    article.append(paragraph);
  }
  const image = document.createElement('img');
  image.src = story.image;
  image.alt = '';
  article.append(image);
  document.getElementById('root').append(article);
})();
"""


def site(asked: Asked) -> Answer:
    """Answer one request."""
    if asked.path in ("/", "/story"):
        return html(SHELL)
    if asked.path == "/app.js":
        return Answer(body=APP.encode(), media_type="application/javascript", coding="gzip")
    if asked.path == "/api/story.json":
        return Answer(body=story(), media_type="application/json")
    if asked.path == "/photo.jpg":
        return Answer(body=pictures.photo(7001), media_type="image/jpeg")
    return html("<html><body>404</body></html>", status=404)


def story() -> bytes:
    """Give what the page's script fetches."""
    told = {
        "title": words.headline("script", "be"),
        "published": "2026-11-19T14:20:00+03:00",
        "paragraphs": words.paragraphs("script", "be"),
        "image": "/photo.jpg",
    }
    return json.dumps(told, ensure_ascii=False).encode()
