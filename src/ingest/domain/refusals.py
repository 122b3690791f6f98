"""Refusals: requests that are answered at once, each with a word for machines and the field it is about.

`web.api` gives each its HTTP status; the CLI prints the text. Texts hold no message, phone or email.
"""

from collections.abc import Mapping
from typing import Any

from ingest.errors import Rejected


class Refused(Rejected):
    """The root of the refusals. `word` is for programs, `field` names what was wrong, `details` says more."""

    word = "refused"

    def __init__(
        self,
        message: str,
        *,
        word: str | None = None,
        field: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.word = word or type(self).word
        self.field = field
        self.details = details


class Invalid(Refused):
    """A value is missing or wrong."""

    word = "invalid"


class NotProved(Refused):
    """Whoever asks has not proved who they are."""

    word = "unauthorized"


class NotAllowed(Refused):
    """The role or a restriction of whoever asks forbids it."""

    word = "forbidden"


class NotFound(Refused):
    """It does not exist, or is another workspace's: both answer alike."""

    word = "not_found"


class Conflict(Refused):
    """It contradicts what is there."""

    word = "conflict"


class Gone(Refused):
    """It was there and is being removed."""

    word = "gone"


class TooMany(Refused):
    """More calls than are allowed; `details["retry_after"]` says how many seconds to wait."""

    word = "rate_limited"
