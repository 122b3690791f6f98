"""A running system whose steps share one process, with channels of any code."""

from collections.abc import Iterable

from ingest.pipeline import administer
from ingest.store.sealing import Sealer
from ingest.supervise import ProcessLine
from tests.signed_requests import CHANNELS, secrets_of
from tests.system import System


class CompactSystem(System):
    """A system for tests of what comes in: one worker process for all queues that it passes."""

    def _lines(self) -> list[ProcessLine]:
        commands = {"web": "ingest web", "workers": "ingest worker resolve detect react upkeep", "beat": "ingest beat"}
        return [ProcessLine(name, tuple(command.split())) for name, command in commands.items()]

    def add_channels(self, codes: Iterable[str]) -> dict[str, str]:
        """Add a channel of each code; return their webhooks' paths by code."""
        sealer = Sealer([self.secret_key])
        with self.engine.begin() as tx:
            return {
                code: administer.add_channel(
                    tx, self.workspace_id, code, code, CHANNELS[code].settings, secrets_of(code), sealer
                ).url_path
                for code in codes
            }
