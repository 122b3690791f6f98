"""Every table that refers to a contact, and what a merge, an unmerge and a deletion do with its rows.

A contract test walks the schema: a table with a reference that is not named here fails the build. So a new table
cannot be forgotten by the acts that must be exact.
"""

from dataclasses import dataclass
from typing import Literal

# move: the rows go to the kept contact and, by their recorded ids, back. stay: they remain with the absorbed contact,
# whose row lives on behind the redirect. own: the merge has rules of its own for them (keys, tags, suggestions).
OnMerge = Literal["move", "stay", "own"]
# purge: rows go with their contact. own: the deletion has rules of its own. keep: rows hold no more than an id, by
# design (see the reason beside each).
OnDelete = Literal["purge", "own", "keep"]


@dataclass(frozen=True, slots=True)
class ContactReference:
    """A column that holds a contact's id."""

    table: str
    column: str
    on_merge: OnMerge
    on_delete: OnDelete


REFERENCES = (
    ContactReference("message", "contact_id", "move", "own"),
    ContactReference("contact_event", "contact_id", "move", "purge"),
    ContactReference("conversation", "contact_id", "move", "purge"),
    ContactReference("comment", "contact_id", "move", "purge"),
    ContactReference("identity", "contact_id", "move", "own"),
    ContactReference("contact_tag", "contact_id", "own", "purge"),
    # Kept by a trigger on contact.fields.
    ContactReference("contact_field_value", "contact_id", "own", "purge"),
    ContactReference("contact_key", "contact_id", "own", "purge"),
    ContactReference("dropped_message", "contact_id", "stay", "purge"),
    ContactReference("merge_suggestion", "low_contact_id", "own", "purge"),
    ContactReference("merge_suggestion", "high_contact_id", "own", "purge"),
    ContactReference("workflow_run", "contact_id", "stay", "purge"),
    ContactReference("enrolment", "contact_id", "stay", "purge"),
    ContactReference("merge_record", "kept_contact_id", "own", "purge"),
    ContactReference("merge_record", "absorbed_contact_id", "own", "purge"),
    ContactReference("deletion_failure", "contact_id", "stay", "own"),
    ContactReference("contact", "merged_into", "own", "own"),
    # Whose a row was when it was written: goes and comes with its row.
    ContactReference("message", "origin_contact_id", "stay", "own"),
    ContactReference("contact_event", "origin_contact_id", "stay", "purge"),
    ContactReference("conversation", "origin_contact_id", "stay", "purge"),
    ContactReference("comment", "origin_contact_id", "stay", "purge"),
    ContactReference("identity", "origin_contact_id", "stay", "own"),
    ContactReference("contact_key", "origin_contact_id", "stay", "purge"),
    # The ledger of billing cycles is append-only and outlives the contact: an id, a cycle, a channel.
    ContactReference("active_contact", "contact_id", "stay", "keep"),
    # What says that a contact was deleted.
    ContactReference("tombstone", "contact_id", "stay", "keep"),
    # The ids that an act was about, kept with its result.
    ContactReference("bulk_act", "contact_ids", "stay", "keep"),
    ContactReference("deletion_batch", "contact_ids", "stay", "keep"),
)

# Tables that hang on a row of those above and go with it.
DEPENDENTS = {
    "message_effect": "message",
    "attachment_content": "message",
    "identity_link": "identity",
    "merge_moved": "merge_record",
}


def moving_tables() -> tuple[str, ...]:
    """Return the tables whose rows a merge moves to the kept contact, in the order of their statements."""
    return tuple(each.table for each in REFERENCES if each.on_merge == "move")


def purged_references() -> tuple[ContactReference, ...]:
    """Return the references by which a deletion removes rows: first those whose tables others refer to last."""
    return tuple(each for each in REFERENCES if each.on_delete == "purge" and each.column != "origin_contact_id")
