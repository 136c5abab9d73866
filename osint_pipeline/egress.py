"""The way out on the wire: the run's own, never a proxy of the environment; and nobody is asked but the sources."""

from typing import Any

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares import cookies
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from tldextract import TLDExtract

from settings.exits import Exit

# Scrapy's own would fetch the list of public suffixes from the internet at the first cookie; the package carries one
cookies._split_domain = TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


class NamedProxy(HttpProxyMiddleware):
    """Sends every request the run's way out, robots.txt too; http_proxy and its like are not looked at.

    A SOCKS5 exit is no business of Scrapy's: the wire fetcher goes through it.
    """

    def __init__(self, exit: Exit | None) -> None:
        super().__init__()
        self.proxies = {}
        self.proxy, self.login = None, None
        if exit is not None and exit.scheme == "http":
            self.proxy = f"http://{exit.place}"
            self.login = self._basic_auth_header(exit.user, exit.password) if exit.user else None

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> "NamedProxy":
        from osint_pipeline.crawl import run_of

        return cls(run_of(crawler).way.exit)

    def process_request(self, request: Request, spider: Any = None) -> None:
        """Set the run's proxy, whatever an earlier hop or anyone else set."""
        self._set_proxy_and_creds(request, self.proxy, self.login, None)
