"""What the parent of a worker does with a bell whose acknowledgement does not get through.

Kombu counts a message as delivered until Redis has taken its acknowledgement. Where the network swallows that one answer,
Celery writes "Couldn't ack" and goes on, and the worker, which takes one bell at a time, waits for ever for a credit that
nobody gives back: it hears no bell any more while its connection is sound.
"""

from typing import Any

from celery import Task
from celery.worker.request import Request
from kombu.message import Message
from kombu.transport import virtual


def give_credit_back(message: Message) -> None:
    """Take a message that could not be acknowledged off what was delivered. The broker delivers it once more, later.

    A bell that rings twice finds nothing the second time. RabbitMQ needs nothing of this: a channel whose
    acknowledgement fails is closed, and its messages are delivered again.
    """
    qos, tag = getattr(message.channel, "qos", None), message.delivery_tag
    if isinstance(qos, virtual.QoS) and tag is not None and not message.acknowledged:
        virtual.QoS.ack(qos, tag)


class BellRequest(Request):
    """A bell that is being answered."""

    def acknowledge(self) -> None:
        """Acknowledge it, or at least let the next one come."""
        super().acknowledge()
        give_credit_back(self.message)

    def reject(self, requeue: bool = False) -> None:
        """Reject it, or at least let the next one come."""
        super().reject(requeue)
        give_credit_back(self.message)


class Bell(Task[Any, Any]):
    """A task that only says that a queue has work."""

    Request: Any = BellRequest
