"""Exports of contacts: the columns of the file. It can be imported again, in the same form."""

from collections.abc import Sequence

from ingest.domain.fields import FieldDefinition

COLUMNS = (
    "id", "firstName", "lastName", "phone", "email", "countryCode", "language", "profilePic", "tags", "assignee", "lifecycle",
    "status", "blocked", "channels", "createdAt", "lastMessageAt",
)  # fmt: skip


def header(definitions: Sequence[FieldDefinition]) -> list[str]:
    """Return the names of the columns: the standard ones, then the custom fields' slugs."""
    return [*COLUMNS, *(each.slug for each in definitions)]
