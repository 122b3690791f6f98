"""`ingest simulate`."""

import asyncio
import itertools
import signal
from collections.abc import Iterator

import click

from ingest.cli.groups import ExampleCommand
from ingest.cli.opened import opened
from ingest.cli.output import as_json_option, print_record
from ingest.errors import BadSetting
from ingest.pipeline.administer import list_channels
from ingest.simulators.registry import CODES
from ingest.simulators.traffic import Delivery, Plan, Report, Target, deliveries, send_traffic
from ingest.store.channels import Endpoint, list_endpoints

# Up to here requests are made before the clock starts, so that making them takes nothing from the server under test.
PREBUILT_REQUESTS = 200_000


@click.command(
    cls=ExampleCommand,
    example="ingest simulate --rate 50 --seconds 10\ningest simulate --channel 3 --rate 0 --count 20000 --senders 20000 --json",
)
@click.option(
    "--rate", type=click.FloatRange(min=0), default=10.0, show_default=True, help="Requests a second; 0: all it takes."
)
@click.option("--seconds", type=click.FloatRange(min=0), help="How long; until stopped by default.")
@click.option("--count", type=click.IntRange(min=1), help="How many requests.")
@click.option("--senders", type=click.IntRange(min=1), default=100, show_default=True, help="How many people write.")
@click.option(
    "--channel", "channel_ids", type=int, multiple=True, help="Channel to write to; all that can be by default."
)
@click.option("--workspace", "workspace_id", type=int, help="Only this workspace's channels.")
@click.option("--duplicates", type=click.FloatRange(0, 0.99), default=0.0, show_default=True, help="Share sent again.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same messages.")
@click.option("--run", default="", help="Prefix of the message ids; by default no two runs share any.")
@click.option(
    "--connections", type=click.IntRange(1, 2000), default=64, show_default=True, help="Kept-alive connections."
)
@click.option("--url", help="Where to send to; INGEST_PUBLIC_URL by default.")
@as_json_option
def simulate(
    *,
    rate: float,
    seconds: float | None,
    count: int | None,
    senders: int,
    channel_ids: tuple[int, ...],
    workspace_id: int | None,
    duplicates: float,
    seed: int,
    run: str,
    connections: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Send signed traffic as providers do, and print what was accepted, rejected and how quickly.

    Requests start when they are due, whether or not earlier ones were answered; latency counts from that moment.
    """
    targets = _targets(channel_ids, workspace_id, url)
    plan = Plan(rate or None, seconds, count, senders, seed, duplicates, connections, run)
    report = asyncio.run(_play(targets, plan))
    print_record(report.summary(), as_json)
    if not report.accepted and (report.failed or report.rejected):
        origin = targets[0].url.split("/webhooks/")[0]
        raise BadSetting(
            f"nothing was accepted by {origin}: does `ingest web` listen there? --url says where to send to"
        )


def _targets(channel_ids: tuple[int, ...], workspace_id: int | None, url: str | None) -> list[Target]:
    """Return the channels to write to. Raises BadSetting where there is none that can be simulated."""
    with opened() as runtime, runtime.begin() as tx:
        base = (url or runtime.settings.public_url).rstrip("/")
        wanted = [
            each.id
            for each in list_channels(tx, workspace_id, runtime.sealer)
            if not channel_ids or each.id in channel_ids
        ]
        found = list_endpoints(tx, runtime.sealer, wanted, []).values()
    targets = [_target(each, base) for each in found if each.code in CODES]
    if not targets:
        raise BadSetting(f"no channel to write to: add one of {', '.join(CODES)} with `ingest channel add`")
    return targets


def _target(endpoint: Endpoint, base: str) -> Target:
    newest = {name: values[0] for name, values in endpoint.secrets.items() if values}
    path = f"/webhooks/{endpoint.channel_id}"
    return Target(endpoint.code, endpoint.channel_id, base + path, {**endpoint.settings, **newest})


async def _play(targets: list[Target], plan: Plan) -> Report:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    return await send_traffic(_requests(targets, plan), plan, stop=stop)


def _requests(targets: list[Target], plan: Plan) -> Iterator[Delivery]:
    """Return the requests: made now where their number is known and bearable, else each when it is due."""
    requests = deliveries(targets, plan)
    number = plan.count if plan.seconds is None or plan.rate is None else int(plan.rate * plan.seconds) + 1
    if number is None or number > PREBUILT_REQUESTS:
        return requests
    return iter(list(itertools.islice(requests, number)))
