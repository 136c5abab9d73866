"""What a spider may ask of the archive before it asks the site: answers only, whoever gives them."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from spiders.page import Page
from spiders.span import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What an earlier visit wanted and did not get; `kind` is that of its capture: page, rendered, file or media."""

    url: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A piece of a channel's history to ask for: from the ids below `before`, so many pages; None: until known ground.

    `aside`: a page is looked at once more; what it shows below the known ids is no step back in time.
    """

    before: int
    pages: int | None = None
    aside: bool = False


class Known(Protocol):
    """What the archive has of a source."""

    overlap_pages: int  # how many pages of known posts are asked behind the first one, for edits

    def page(self, url: str, updated_at: datetime | None) -> bool:
        """Tell whether an article or page need not be asked; `updated_at` is when its site says that it changed."""
        ...

    def files(self, page: Page) -> Set[str]:
        """Name the addresses of a page's files that need not be asked."""
        ...

    def ground(self, page: Page) -> bool:
        """Tell whether a channel's page shows nothing that an earlier visit had not looked at."""
        ...

    def onward(self, page: Page) -> bool:
        """Tell whether the list of an outlet goes on to its older page although nothing on this one is new."""
        ...

    def feeds(self) -> Sequence[str]:
        """Name the feeds and sitemaps that earlier visits found."""
        ...

    def missing(self) -> Sequence[Missing]:
        """List what is to be asked again."""
        ...

    def slices(self, channel: str, looked: Sequence[Span]) -> Sequence[Slice]:
        """List the pieces of a channel's history to ask for once its new posts are read; `looked` is this visit's part."""
        ...


class Nothing:
    """An archive that has nothing: all is asked."""

    overlap_pages = 0

    def page(self, url: str, updated_at: datetime | None) -> bool:
        return False

    def files(self, page: Page) -> Set[str]:
        return frozenset()

    def ground(self, page: Page) -> bool:
        return False

    def onward(self, page: Page) -> bool:
        return True

    def feeds(self) -> Sequence[str]:
        return ()

    def missing(self) -> Sequence[Missing]:
        return ()

    def slices(self, channel: str, looked: Sequence[Span]) -> Sequence[Slice]:
        return ()
