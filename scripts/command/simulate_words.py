"""What simulated histories came to, in lines of text, and the commands that play them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filoray.cluster.simulation.faults import TROUBLES
from filoray.cluster.simulation.great_loss import LossSize, Phase
from filoray.cluster.simulation.history import HistoryShape
from filoray.cluster.simulation.tally import Tally

_SEEDS_SHOWN = 10


def replay_command(seed: int, shape: HistoryShape) -> str:
    """Plays that one history again."""
    return campaign_command(shape, range(seed, seed + 1))


def campaign_command(shape: HistoryShape, seeds: Sequence[int]) -> str:
    """Plays those histories again."""
    words = ["filoray simulate", f"--seed {seeds[0]}", f"--histories {len(seeds)}"]
    if shape.node_count is not None:
        words.append(f"--nodes {shape.node_count}")
    words.append(f"--shards {shape.num_shards}")
    if shape.num_replicas not in (None, 1):
        words.append(f"--replicas {shape.num_replicas}")
    if shape.has_standby:
        words.append("--database")
    if shape.duration_ms is not None:
        words.append(f"--minutes {shape.duration_ms / 60_000:g}")
    if shape.faults_max is not None:
        words.append(f"--faults {shape.faults_max}")
    if shape.chosen_faults:
        words.append(f"--only-faults {','.join(map(str, sorted(shape.chosen_faults)))}")
    if shape.without:
        names = [name.replace("_", "-") for name in TROUBLES if name in shape.without]
        words.append(f"--without {'all' if len(names) == len(TROUBLES) else ','.join(names)}")
    return " ".join(words)


def loss_command(seed: int, size: LossSize) -> str:
    """Plays that loss again."""
    copies = f" --replicas {size.num_replicas}" if size.num_replicas > 1 else ""
    copies += " --database" if size.is_in_database else ""
    return (
        f"filoray simulate --nodes {size.node_count} --shards {size.num_shards}{copies} --lose {size.lost_count} "
        f"--seed {seed}"
    )


def phase_line(phase: Phase, cpu_s: float) -> str:
    return f"{cpu_s:7.1f} s of one core, {phase.lasted_ms / 1000:6.2f} s of the cluster's: {phase.what}"


def tally_lines(tally: Tally, elapsed_s: float) -> Iterator[str]:
    gaps = tally.gaps
    histories = "1 history" if tally.histories == 1 else f"{tally.histories:,} histories"
    yield (
        f"{histories} in {in_time(elapsed_s)}, {tally.histories / max(elapsed_s, 1e-9):.1f}/s: "
        f"{in_time(tally.lasted_ms / 1000)} of the clusters' time, {tally.faults.total():,} faults"
    )
    for rule, checks in tally.checks.items():
        seeds = tally.broken.get(rule, [])
        held = f"held    {checks:>12,} checks" if checks else "not put to the test"
        verdict = f"BROKEN  by seed {_listed(seeds)}" if seeds else f"{held:<27}"
        yield f"  {verdict}  {rule}"
    yield (
        f"without an owner: {gaps.count:,} times a shard; median {gaps.median_ms / 1000:.2f} s, "
        f"p99 {gaps.p99_ms / 1000:.2f} s, longest {gaps.max_ms / 1000:.2f} s; {gaps.total_ms / 1000:,.0f} shard-seconds"
    )
    yield f"moves: {tally.moves:,} (a shard given out anew)"
    if tally.spread is not None:
        yield (
            f"spread in the end: {tally.spread.fewest} to {tally.spread.most} shards a node; "
            f"in one cluster at most {max(tally.spreads)} apart"
        )
    if tally.faults:
        yield "faults: " + ", ".join(f"{kind} {count:,}" for kind, count in tally.faults.most_common())
    if tally.troubles:
        kinds = ", ".join(f"{name.replace('_', '-')} {count:,}" for name, count in tally.troubles.most_common())
        yield f"troubles that came by themselves, in how many histories: {kinds}"


def in_time(seconds: float) -> str:
    """With the two largest units that say anything."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def _listed(seeds: list[int]) -> str:
    shown = ", ".join(map(str, seeds[:_SEEDS_SHOWN]))
    return shown if len(seeds) <= _SEEDS_SHOWN else f"{shown} and {len(seeds) - _SEEDS_SHOWN} more"
