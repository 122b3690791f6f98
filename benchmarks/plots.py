"""The plots of the report, drawn from its results."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Draw = Callable[[Axes, Mapping[str, Any]], None]
COLOURS = {"naive": "#b0b0b0", "floor": "#7fa8d1", "ours": "#1f5fa8"}
# The same results give the same bytes.
mpl.rcParams["svg.hashsalt"] = "benchmarks"


def draw_plots(results: Mapping[str, Any], out: Path) -> dict[str, list[str]]:
    """Draw what the scenarios give, and return the files' names by scenario."""
    drawn: dict[str, list[str]] = {}
    for name, draw in PLOTS.items():
        if results.get(name, {}).get("series"):
            draw_plot(draw, results[name], out / f"{name}.svg")
            drawn[name] = [f"{name}.svg"]
    return drawn


def draw_plot(draw: Draw, scenario: Mapping[str, Any], path: Path) -> None:
    """Draw one plot into a file."""
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    draw(axes, scenario)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _throughput(axes: Axes, scenario: Mapping[str, Any]) -> None:
    medians = scenario["series"]["stored_per_second"]
    bars = axes.bar(
        list(medians), list(medians.values()), color=[COLOURS.get(each, COLOURS["ours"]) for each in medians]
    )
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set(ylabel="stored messages/s", title=scenario["title"])


def _latency(axes: Axes, scenario: Mapping[str, Any]) -> None:
    points = scenario["series"]["over_load"]
    for percent in ("50", "95", "99"):
        axes.plot(
            [each["rate"] for each in points], [each[percent] for each in points], marker="o", label=f"p{percent}"
        )
    axes.set(xlabel="requests due/s", ylabel="answer, ms", yscale="log", title="Latency over load")
    axes.legend()


def _stored(axes: Axes, scenario: Mapping[str, Any]) -> None:
    costs: dict[int, list[float]] = defaultdict(list)
    for point in scenario["series"]["over_size"]:
        if point["label"] in {"empty", "on the way", "full"}:
            costs[point["contacts"]].append(sum(spent for name, spent in point["cpu_us"].items() if name != "load"))
    sizes = sorted(costs)
    axes.plot(sizes, [statistics.median(costs[size]) for size in sizes], marker="o", color=COLOURS["ours"])
    axes.set(xlabel="contacts stored", ylabel="CPU µs a message", ylim=(0, None), title="Cost over stored size")


def _deletion(axes: Axes, scenario: Mapping[str, Any]) -> None:
    series = scenario["series"]
    axes.plot(
        *zip(*((at, 1000 * latency) for at, latency in series["samples"]), strict=True),
        ".",
        ms=2,
        color=COLOURS["ours"],
    )
    for place, (begins, ends) in enumerate(series["windows"]):
        axes.axvspan(begins, ends, color="#e8b0a0", alpha=0.5, label="deletion" if not place else None)
    axes.set(xlabel="seconds", ylabel="answer, ms", yscale="log", title="Inbound messages beside a deletion")
    axes.legend()


def _scaling(axes: Axes, scenario: Mapping[str, Any]) -> None:
    points = scenario["series"]["over_load"]
    for name, style in (("answer_50", ":"), ("answer_95", "-."), ("stored_50", "--"), ("stored_95", "-")):
        label = name.replace("_", ", p").replace("answer", "answered")
        axes.plot([each["rate"] for each in points], [each[name] for each in points], style, label=label)
    measured = [run for run in scenario["runs"] if run["rate"]]
    for percent in ("50", "95"):
        axes.plot([run["rate"] for run in measured], [run["latency_ms"][percent] for run in measured], "kx", ms=5)
    axes.set(
        xlabel="messages/s, one web process and one worker on two cores (x: answers as measured)",
        ylabel="ms", yscale="log", title="The model: latency over load",
    )  # fmt: skip
    axes.legend()


def _fairness(axes: Axes, scenario: Mapping[str, Any]) -> None:
    samples = scenario["series"]["p95_ms"]
    bars = axes.bar(list(samples), [statistics.median(each) for each in samples.values()], color=COLOURS["ours"])
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set(ylabel="accepted → stored, p95, ms", title=scenario["title"])


def _memory(axes: Axes, scenario: Mapping[str, Any]) -> None:
    samples = scenario["series"]["megabytes"]
    for name in samples[0][1]:
        axes.plot([at for at, _ in samples], [megabytes[name] for _, megabytes in samples], label=name)
    axes.set(xlabel="seconds", ylabel="MB", ylim=(0, None), title="Resident memory at half the maximum rate")
    axes.legend()


PLOTS: dict[str, Draw] = {
    "known": _throughput,
    "new": _throughput,
    "workers": _throughput,
    "latency": _latency,
    "stored": _stored,
    "deletion": _deletion,
    "memory": _memory,
    "scaling": _scaling,
    "fairness": _fairness,
}
