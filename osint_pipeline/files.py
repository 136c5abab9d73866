"""Ties the files that posts name to the captures of those files."""

from collections.abc import Iterable
from uuid import UUID

from storage.rows import Batch, CaptureRow, CaptureState, Committed, MediaResult, MediaRow, MediaState, StoredMedia


class MediaFiles:
    """Knows which media rows wait for which URL. A result is due once both the row and the file's capture are known.

    The catalogue may keep an earlier row in place of the one given (the post is the same as before), so a result waits
    until the commit has said which.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[UUID]] = {}
        self._finished: dict[str, CaptureRow] = {}
        self._due: list[tuple[UUID, CaptureRow]] = []
        self._stored: dict[UUID, StoredMedia] = {}

    def named(self, rows: Iterable[MediaRow]) -> None:
        """Note files that a page names."""
        for row in rows:
            if row.url is None:
                continue
            if done := self._finished.get(row.url):
                self._due.append((row.id, done))
            else:
                self._waiting.setdefault(row.url, []).append(row.id)

    def expect(self, url: str, media: Iterable[UUID]) -> None:
        """Note rows of the catalogue that wait for a file which is asked for again."""
        for media_id in media:
            if media_id in self._stored:  # asked for twice: the other request stands
                continue
            self._stored[media_id] = StoredMedia(id=media_id, state=MediaState.FAILED, file_capture_id=None)
            self._waiting.setdefault(url, []).append(media_id)

    def captured(self, url: str, row: CaptureRow) -> None:
        """Note the end of a file's capture, asked for at `url`."""
        self._finished[url] = row
        self._due += [(media_id, row) for media_id in self._waiting.pop(url, ())]

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Learn which rows the catalogue keeps for those given."""
        self._stored.update(committed.media)
        for page_media in batch.media:
            row = page_media.media
            self._stored[row.id] = StoredMedia(id=row.id, state=row.state, file_capture_id=row.file_capture_id)

    def results(self) -> tuple[MediaResult, ...]:
        """Take the results that can be written now."""
        ready = [(media_id, row) for media_id, row in self._due if media_id in self._stored]
        self._due = [one for one in self._due if one[0] not in self._stored]
        stored = [(self._stored.pop(media_id), row) for media_id, row in ready]
        return tuple(_result(one.id, row) for one, row in stored if one.state is not MediaState.CAPTURED)


def _result(media_id: UUID, row: CaptureRow) -> MediaResult:
    good = row.state is CaptureState.CAPTURED and (row.status or 0) < 400
    return MediaResult(
        media_id=media_id,
        state=MediaState.CAPTURED if good else MediaState.FAILED,
        why=None if good else row.reason or f"status {row.status}",
        file_capture_id=row.id,
        payload_sha256=row.payload_sha256 if good else None,
    )
