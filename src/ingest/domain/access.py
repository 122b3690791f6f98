"""Who may do what: one table of actions, and the restrictions that narrow a role."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ingest.domain.refusals import NotAllowed

Role = Literal["owner", "manager", "agent"]
ROLES: tuple[Role, ...] = ("owner", "manager", "agent")

ALL: frozenset[Role] = frozenset(ROLES)
MANAGERS: frozenset[Role] = frozenset({"owner", "manager"})
OWNERS: frozenset[Role] = frozenset({"owner"})

# An action that no row names does not exist: asking for it is a programming error, found by the route matrix test.
PERMISSIONS: Mapping[str, frozenset[Role]] = {
    # One contact, as the inbox shows it.
    "contact.read": ALL,
    "contact.edit": ALL,
    "contact.create": ALL,
    "contact.tag": ALL,
    "contact.comment": ALL,
    "conversation.change": ALL,
    "message.read": ALL,
    "message.send": ALL,
    "suggestion.read": ALL,
    "suggestion.dismiss": ALL,
    "contact.merge": ALL,
    "contact.undo_merge": ALL,
    # The contacts module.
    "contact.list": MANAGERS,
    "contact.merge_any": MANAGERS,
    "contact.unmerge": MANAGERS,
    "contact.merge_history": MANAGERS,
    "contact.remove_channel": MANAGERS,
    "contact.block_one": MANAGERS,
    "contact.block": MANAGERS,
    "contact.delete": MANAGERS,
    "contact.export": MANAGERS,
    "contact.import": MANAGERS,
    "contact.bulk": MANAGERS,
    "segment.read": MANAGERS,
    "segment.edit": MANAGERS,
    "dashboard.read": MANAGERS,
    # The workspace.
    "workspace.read": ALL,
    "workspace.configure": MANAGERS,
    "workspace.integrate": MANAGERS,
    "workspace.users": MANAGERS,
    "workspace.tokens": OWNERS,
    "workspace.limits": OWNERS,
    "usage.read": MANAGERS,
    "audit.read": MANAGERS,
    "workflow.read": ALL,
    "workflow.edit": MANAGERS,
    "workflow.run": ALL,
}

# Calls a second of one endpoint, as long as a workspace's owner has set no other number. Clients of the API are written for
# this many, and hold back by the headers of the answers.
DEFAULT_REQUESTS_PER_SECOND = 5
MAX_REQUESTS_PER_SECOND = 100_000

# What a workspace's setting gives to roles that do not have it.
SWITCHES: Mapping[str, frozenset[str]] = {"agents_may_block": frozenset({"contact.block_one"})}

# What a restriction takes away, whatever the role (owners carry none).
RESTRICTIONS: Mapping[str, frozenset[str]] = {
    "restrict_data_export": frozenset({"contact.export"}),
    "restrict_contact_deletion": frozenset({"contact.delete"}),
    "restrict_space_setting": frozenset({"workspace.configure", "workspace.users"}),
    "restrict_space_integration": frozenset({"workspace.integrate"}),
    "restrict_shortcuts": frozenset(),
    # These two narrow which contacts an agent sees, see `sees_contact`.
    "show_team_contacts": frozenset(),
    "show_only_mine": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a token of a workspace, perhaps acting for one of its users.

    `source` is what their changes are recorded under (api, n8n, make, zapier; user for people in the console).
    """

    workspace_id: int
    role: Role
    source: str = "api"
    token_id: int | None = None
    user_id: int | None = None
    team_id: int | None = None
    restrictions: frozenset[str] = frozenset()
    # What the workspace's switches give beyond the role.
    grants: frozenset[str] = frozenset()
    requests_per_second: int = DEFAULT_REQUESTS_PER_SECOND
    time_zone: str = "UTC"


def may(principal: Principal, action: str) -> bool:
    """Return whether the principal may do the action. Raises KeyError for an action that the table does not have."""
    if principal.role not in PERMISSIONS[action]:
        return action in principal.grants
    if principal.role == "owner":
        return True
    return not any(action in RESTRICTIONS.get(each, frozenset()) for each in principal.restrictions)


def granted(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return the actions that a workspace's settings give beyond the roles."""
    return frozenset(action for switch, given in SWITCHES.items() if settings.get(switch) is True for action in given)


def rate_of(settings: Mapping[str, Any]) -> int:
    """Return how many calls a second of one endpoint a workspace with these settings may make."""
    found = settings.get("api_requests_per_second")
    return found if type(found) is int and 0 < found <= MAX_REQUESTS_PER_SECOND else DEFAULT_REQUESTS_PER_SECOND


def require(principal: Principal, action: str) -> None:
    """Raise NotAllowed unless the principal may do the action."""
    if not may(principal, action):
        raise NotAllowed(f"the role {principal.role} may not do this", details={"action": action})


def sees_contact(principal: Principal, assignee_id: int | None, assignee_team_id: int | None) -> bool:
    """Return whether the principal sees a contact with this assignee: agents may be limited to theirs or their team's."""
    if principal.role != "agent":
        return True
    mine = principal.user_id is not None and assignee_id == principal.user_id
    if "show_only_mine" in principal.restrictions:
        return mine
    if "show_team_contacts" in principal.restrictions:
        return mine or (principal.team_id is not None and assignee_team_id == principal.team_id)
    return True
