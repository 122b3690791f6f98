"""What the caller does next: answer, retry, or set aside.

Every exception of this package that crosses a module boundary is one of three kinds. An outcome that
is expected (a duplicate, a dropped message) is a value, not an exception.
"""


class IngestError(Exception):
    """The root of this package's exceptions. Its text is safe to log: no message text, phone or address."""


class Rejected(IngestError):
    """The request is refused and answered at once; repeating it unchanged cannot help."""


class Transient(IngestError):
    """Something outside is away or busy: repeat later, with backoff."""


class Permanent(IngestError):
    """The work can never succeed: it becomes a dead letter at once, with this text as its reason."""


class BadSignature(Rejected):
    """The request is not proved to be the provider's. Answered 401 (or what the provider expects); nothing is stored."""


class BadPayload(Permanent):
    """A proved request that cannot be read. It is kept as a dead letter with its raw bytes."""


class BadShape(Rejected):
    """A request in one of our own formats (custom channel, web chat) that breaks it. Answered 400, naming the field."""


class BadSetting(Rejected):
    """A setting is missing or unusable. The text names the setting and says what to put there."""
