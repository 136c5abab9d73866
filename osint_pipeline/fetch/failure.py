"""How a fetch that got no usable answer is told to the crawl."""


class FetchFailed(Exception):
    """The browser or the media fetcher got no usable answer; `refused` where the platform said no."""

    def __init__(self, url: str, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.url, self.why, self.refused = url, why, refused
