"""Three fetchers, one Exchange: wire (Scrapy), browser (Playwright), media (yt-dlp)."""
