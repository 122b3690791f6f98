"""Contact list, filter and search: the program `benchmarks.contacts_list` on a database of its own."""

import os
import re
import subprocess
import sys

import psycopg

from benchmarks.bench import Bench, Found, Row

CONTACTS = 1_000_000
LINE = re.compile(r"^(.+?)\s+p50\s+([\d.]+) ms\s+p95\s+([\d.]+) ms", re.MULTILINE)


def lists(bench: Bench) -> Found:
    """Return the p95 over all queries, and the slowest query's."""
    contacts = bench.options.scaled(CONTACTS)
    servers = bench.servers.postgres
    with psycopg.connect(servers.url_of("postgres").replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("create database bench_lists")
    command = [sys.executable, "-m", "benchmarks.contacts_list", "--contacts", str(contacts)]
    environment = {**os.environ, "DATABASE_URL": servers.url_of("bench_lists")}
    told = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    print(told, flush=True)
    found = {name: (float(p50), float(p95)) for name, p50, p95 in LINE.findall(told)}
    whole = found.pop("all of the above")[1]
    slowest = max(found, key=lambda name: found[name][1])
    what = f"over {contacts:,} contacts"
    return Found(
        [
            Row(f"contact list, filter and search {what}, p95", f"{whole:.0f} ms", "≤ 100 ms", whole <= 100),
            Row(f"the slowest of the {len(found)} queries, p95", f"{found[slowest][1]:.0f} ms ({slowest})"),
        ],
        series={"queries_ms": found},
    )
