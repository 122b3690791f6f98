"""The scenarios: one function for each question that is measured, by the name that `--only` takes."""

from collections.abc import Callable

from benchmarks.bench import Bench, Found
from benchmarks.scenarios.acts import deletion, merge
from benchmarks.scenarios.fairness import fairness
from benchmarks.scenarios.imports import imports
from benchmarks.scenarios.latency import latency
from benchmarks.scenarios.lists import lists
from benchmarks.scenarios.memory import memory
from benchmarks.scenarios.scaling import scaling
from benchmarks.scenarios.stored import stored
from benchmarks.scenarios.throughput import brokers, known, new, workers

SCENARIOS: dict[str, tuple[str, Callable[[Bench], Found]]] = {
    "known": ("Messages of known senders, beside naive and floor", known),
    "new": ("Every sender new, beside naive and floor", new),
    "latency": ("Latency over load, and until the API and the suggestions show it", latency),
    "stored": ("The same load on a database that is full already", stored),
    "deletion": ("Deleting 10,000 contacts beside inbound messages", deletion),
    "import": ("Importing 200,000 contacts beside inbound messages", imports),
    "merge": ("Merging two contacts with 10,000 messages each", merge),
    "lists": ("Contact list, filter and search over a million contacts", lists),
    "workers": ("One, two and four resolve workers", workers),
    "brokers": ("Valkey and RabbitMQ", brokers),
    "fairness": ("Others beside a tenant's backlog and a sender's flood", fairness),
    "scaling": ("What a message costs, and how well the model foretells", scaling),
    "memory": ("Resident memory under a sustained load", memory),
}
