"""Whether a mail's From was proved: SPF, DKIM and DMARC verdicts of the server that took it, and what they say about From.

Source: RFC 7208 (SPF), 6376 (DKIM), 7489 (DMARC, alignment), 8601 (Authentication-Results). The verdicts are the
provider's; nothing is looked up here. An unproved From is kept as a claim: it never joins or claims a contact.
"""

import re
from dataclasses import dataclass

from ingest.channels.mail_headers import Headers

_COMMENT = re.compile(r"\([^()]*\)")
_METHOD = re.compile(r"(spf|dkim|dmarc)=([a-z]+)", re.IGNORECASE)
_PROPERTY = re.compile(r"(header\.d|header\.i|header\.from|smtp\.mailfrom)=\"?([^\s;\"]+)", re.IGNORECASE)
_SIGNING_DOMAIN = re.compile(r"(?:^|;)\s*d=\s*([^\s;]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the receiving server found: "pass", "fail" and the like, lower-case; None where it did not look.

    `spf_domain` is the domain that SPF spoke about (the envelope sender's), `dkim_domains` those whose signatures hold,
    `dmarc_domain` the author's as the server read it, "" where it does not say.
    """

    spf: str | None = None
    dkim: str | None = None
    dmarc: str | None = None
    spf_domain: str = ""
    dkim_domains: tuple[str, ...] = ()
    dmarc_domain: str = ""

    def as_details(self) -> dict[str, str]:
        """Return the verdicts that are known, for a message's details."""
        named = {"spf": self.spf, "dkim": self.dkim, "dmarc": self.dmarc}
        return {name: value for name, value in named.items() if value}

    def proves(self, domain: str) -> bool:
        """Return whether a sender at this domain is proved: by DMARC, else by SPF or DKIM for the same or a related domain."""
        if self.dmarc == "pass" and self.dmarc_domain in ("", domain):
            return True
        if self.spf == "pass" and _related(self.spf_domain, domain):
            return True
        return any(_related(each, domain) for each in self.dkim_domains)


def domain_of(address: str) -> str:
    """Return the lower-case domain of an address, which may stand in angle brackets; "" where it has none."""
    return address.strip().strip("<>").rpartition("@")[2].lower()


def proved_signers(headers: Headers, dkim: str | None) -> tuple[str, ...]:
    """Return the domain whose DKIM signature holds, where the verdict does not name it.

    Nothing where signatures of several domains are there: the one that holds may be the forger's own.
    """
    found = (_SIGNING_DOMAIN.search(value) for value in headers.all("dkim-signature"))
    domains = tuple({each[1].lower() for each in found if each})
    return domains if dkim == "pass" and len(domains) == 1 else ()


def authentication_results(headers: Headers, authserv_id: str) -> Verdict:
    """Return the verdict of the server that calls itself `authserv_id`; an empty one where it wrote none.

    Only the topmost field of that name counts: servers remove forged ones of their own name, and write above the rest.
    """
    for value in headers.all("authentication-results"):
        plain = _COMMENT.sub(" ", value)
        written_by, _, results = plain.partition(";")
        if authserv_id and written_by.split()[:1] == [authserv_id]:
            return _verdict(results.split(";"))
    return Verdict()


def _verdict(results: list[str]) -> Verdict:
    values: dict[str, str] = {}
    spf_domain, dmarc_domain, dkim_domains = "", "", []
    for result in results:
        method = _METHOD.match(result.strip())
        if method is None:
            continue
        name, value = method[1].lower(), method[2].lower()
        if values.get(name) != "pass":
            values[name] = value
        properties = {key.lower(): domain_of(given) for key, given in _PROPERTY.findall(result)}
        if name == "spf":
            spf_domain = properties.get("smtp.mailfrom", "")
        elif name == "dmarc":
            dmarc_domain = properties.get("header.from", "")
        elif name == "dkim" and value == "pass":
            dkim_domains.append(properties.get("header.d") or properties.get("header.i", ""))
    return Verdict(
        values.get("spf"), values.get("dkim"), values.get("dmarc"), spf_domain, tuple(dkim_domains), dmarc_domain
    )


def _related(proved: str, claimed: str) -> bool:
    """Return whether two domains are the same, or one lies under the other: mail.example.org speaks for example.org."""
    one, other = sorted((proved.lower(), claimed.lower()), key=len)
    return "." in one and (one == other or other.endswith(f".{one}"))
