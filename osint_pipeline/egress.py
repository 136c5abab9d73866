"""The way out: only the proxy that the settings name, never one of the environment; and nobody is asked but the sources."""

from scrapy.downloadermiddlewares import cookies
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from tldextract import TLDExtract

# Scrapy's own would fetch the list of public suffixes from the internet at the first cookie; the package carries one
cookies._split_domain = TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


class NamedProxy(HttpProxyMiddleware):
    """Scrapy's proxy middleware without http_proxy and its like: a way out that nobody set would go undeclared."""

    def __init__(self, auth_encoding: str | None = "latin-1") -> None:
        super().__init__(auth_encoding)
        self.proxies = {}
