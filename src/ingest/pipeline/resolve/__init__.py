"""Step `resolve`: parse a batch, find or create the contacts, drop the blocked, store the messages, all as sets.

One batch is one transaction, and the number of its statements does not depend on the batch's size. The order of work:

1. read (`reading`): decode the rows, parse each request; what cannot be read becomes a dead letter, its neighbours go on.
2. people (`people`): look up the senders' identities, make those that are missing, lock the contacts in id order, and
   look again: whoever owns an identity under the lock, owns the message.
3. store (`storing`): drop what is from blocked contacts, store the messages, open conversations, move the contacts on.
4. effects (`aftermath`): statuses, edits, unsends, reactions, consent.
5. count what became of every item, and add the follow-up jobs.
"""

from ingest.pipeline.resolve.batch import Batch, Resolver
from ingest.pipeline.resolve.step import apply_late_effects, resolve_requests

__all__ = ["Batch", "Resolver", "apply_late_effects", "resolve_requests"]
