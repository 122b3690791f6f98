"""The Celery application's settings, pinned: what keeps bells cheap and a worker's end harmless.

A Celery message only says that a queue has work; no message carries data and none is the truth. Whoever can write to the
broker can run registered tasks, so only JSON is accepted and remote control stays off.
"""

from typing import Any

from celery import Celery
from kombu import Exchange, Queue, disable_insecure_serializers
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ingest.errors import BadSetting
from ingest.jobs.queues import QUEUES

OLDEST_REDIS = (6, 2)
HARD_LIMIT_SECONDS = 120
SOFT_SHUTDOWN_SECONDS = 20

PINNED: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    "task_ignore_result": True,
    "result_backend": None,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_create_missing_queues": False,
    "task_time_limit": HARD_LIMIT_SECONDS,
    "task_send_sent_event": False,
    "worker_send_task_events": False,
    "worker_prefetch_multiplier": 1,
    "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_SECONDS,
    "worker_enable_soft_shutdown_on_idle": True,
    "worker_eta_task_limit": 100,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A task is a bell, and draining a queue may take thousands of them a minute: memory decides, in KiB.
    "worker_max_tasks_per_child": 100_000,
    "worker_max_memory_per_child": 240_000,
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # RabbitMQ's: a consumer whose connection is gone without a word hears of it after two of them.
    "broker_heartbeat": 5,
    "enable_utc": True,
    "timezone": "UTC",
}


def make_celery(broker_url: str, prefix: str, role: str) -> Celery:
    """Return the Celery application for a role: "publisher" gives up on a dead broker within a second, "worker" waits.

    `prefix` goes before every key on Redis and Valkey; on RabbitMQ a virtual host keeps installations apart.
    """
    # Whatever a library registers later is still refused.
    disable_insecure_serializers(["json"])
    app = Celery("ingest", broker=broker_url, set_as_current=role == "worker")
    app.conf.update(
        PINNED,
        task_queues=[Queue(name, Exchange(name, type="direct"), routing_key=name, durable=True) for name in QUEUES],
        task_default_queue=QUEUES[-1],
        # A Redis client opens a new connection by itself; one to RabbitMQ that broke is only replaced for a second attempt.
        task_publish_retry=broker_url.startswith("amqp"),
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0},
        broker_connection_timeout=1 if role == "publisher" else 5,
        broker_transport_options=transport_options(broker_url, prefix, role),
    )
    return app


def transport_options(broker_url: str, prefix: str, role: str) -> dict[str, Any]:
    """Return the transport's options: short waits for those who publish, quick restoring for those who consume."""
    if broker_url.startswith("amqp"):
        # Whoever rings waits for the answer: over a connection whose other end is gone without a word, bells would vanish for
        # as long as the process lives.
        return {
            "confirm_publish": True,
            "connect_timeout": 1,
            "read_timeout": 1 if role == "publisher" else 5,
            "write_timeout": 1,
        }
    return {
        # Waiting for bells has a limit of its own, so this is how long a worker stands still over a connection whose other
        # end is gone without a word.
        "socket_timeout": 1 if role == "publisher" else 5,
        "socket_connect_timeout": 1,
        "socket_keepalive": not broker_url.startswith("redis+socket"),
        "health_check_interval": 5,
        "visibility_timeout": 2 * HARD_LIMIT_SECONDS,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "retry_on_timeout": False,
        "global_keyprefix": f"{prefix}:",
    }


def require_sound_broker(broker_url: str) -> str:
    """Return what was found: "sound", "away", or "unknown" where the broker does not tell.

    Raises BadSetting for a Redis or Valkey that throws keys away when its memory is full, or is too old for Celery.
    """
    if broker_url.startswith("amqp"):
        return "unknown"
    url = broker_url.replace("redis+socket://", "unix://").replace("virtual_host=", "db=")
    try:
        with Redis.from_url(
            url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0), decode_responses=True
        ) as broker:
            version = str(broker.info("server")["redis_version"])
            policy = broker.config_get("maxmemory-policy").get("maxmemory-policy", "")
    except ResponseError:
        # Hosted ones often keep CONFIG to themselves.
        return "unknown"
    except RedisError:
        return "away"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise BadSetting(f"the broker is version {version}: Celery needs 6.2 or newer")
    if policy != "noeviction":
        raise BadSetting(
            f"the broker's maxmemory-policy is {policy}: it must be noeviction, or queues vanish when memory is short"
        )
    return "sound"


def require_pinned(app: Celery) -> None:
    """Raise BadSetting when a pinned setting was changed, by a plug-in or an environment of Celery's own."""
    changed = [name for name, value in PINNED.items() if app.conf.get(name) != value]
    if changed:
        raise BadSetting(f"Celery settings must stay as pinned, but these differ: {', '.join(changed)}")
