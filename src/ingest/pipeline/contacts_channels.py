"""Channels taken off a contact: the history stays, and the next message from that address makes a new contact."""

from ingest.domain.refusals import NotFound
from ingest.pipeline.contacts import Editor, lock_live
from ingest.store.contact_channels import remove_identities
from ingest.store.contact_edits import NewEvent, add_contact_events
from ingest.store.unit_of_work import UnitOfWork


def remove_channel(uow: UnitOfWork, editor: Editor, contact_id: int, channel_id: int) -> None:
    """Take the channel off the contact. Its messages stay, its phone and email too. Raises NotFound."""
    lock_live(uow, editor.workspace_id, contact_id)
    if not remove_identities(uow.tx, editor.workspace_id, contact_id, channel_id, uow.now):
        raise NotFound("the contact is not on this channel", word="channel_not_found", field="channelId")
    add_contact_events(
        uow.tx,
        editor.workspace_id,
        "channel.removed",
        [NewEvent(contact_id, {"channel_id": channel_id})],
        source=editor.source,
        actor_id=editor.user_id,
        now=uow.now,
    )
