"""The way out: only the proxy that the settings name, never one of the environment."""

from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware


class NamedProxy(HttpProxyMiddleware):
    """Scrapy's proxy middleware without http_proxy and its like: a way out that nobody set would go undeclared."""

    def __init__(self, auth_encoding: str | None = "latin-1") -> None:
        super().__init__(auth_encoding)
        self.proxies = {}
