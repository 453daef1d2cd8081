"""What an evaluation leaves in its folder: numbers for programs, tables for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from samseg_ros import __version__
from samseg_ros.evaluation.compare import Comparison, compare, comparison_markdown, titles, told_apart
from samseg_ros.evaluation.dataset_table import retention
from samseg_ros.evaluation.measures import Scored
from samseg_ros.evaluation.own_files import replaced
from samseg_ros.evaluation.plan import Result
from samseg_ros.evaluation.resumable import Outcome
from samseg_ros.evaluation.summary import summarize, totals, write_scores
from samseg_ros.provenance import revision

SLUG_BYTES = 120
"""Of the name of a folder; file systems take 255 of it."""

Summary = Mapping[str, Any]
Compared = tuple[Sequence[Scored], Sequence[Comparison]]
"""Who was on the same frames, and what each has over the first of them."""


def write_evaluation(out: Path, results: Sequence[Result]) -> str:
    """Write every file but the report in the place of an earlier evaluation's; return the text of table.md.

    ``metrics.json`` and ``table.md`` lie in ``out``. The files of a result (``metrics.json``, ``per_class.csv``,
    ``confusion.csv``, ``result.jsonl``, and ``config.yaml`` of a model that was run) lie there too where it is the only
    one, else in a folder of its own, named by what tells it from the others: model, dataset, sensors, corruption.

    Raises:
        InputError: as `own_files.replaced`.
    """
    there = [(result, result.scored) for result in results if result.scored is not None]
    summaries = [_described(result, scored) for result, scored in there]
    compared = [(group, compare(group)) for group in comparable([s for _, s in there])]
    text = "\n".join(_tables(results, [s for _, s in there], summaries, compared))
    with replaced(out) as new:
        for (result, scored), folder, summary in zip(
            there, _folders(new, [s for _, s in there]), summaries, strict=True
        ):
            folder.mkdir(parents=True, exist_ok=True)
            write_scores(folder, scored.measures, scored.labels)
            _write_json(folder / "metrics.json", summary)
            if not result.entrant.outputs:  # how a node was set up that was recorded, nobody knows
                (folder / "config.yaml").write_text(_settings(result))
        if len(results) > 1:
            failed = [_failed(result) for result in results if result.scored is None]
            told = [row for place, row in enumerate(failed) if row not in failed[:place]]
            _write_json(new / "metrics.json", {"results": [*summaries, *told], "comparisons": _comparisons(compared)})
        (new / "table.md").write_text(text)
    return text


def _write_json(path: Path, content: Summary) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def comparable(scored: Sequence[Scored]) -> list[list[Scored]]:
    """Return groups of two and more that saw the same frames, by the same classes, under the same stress."""
    groups: dict[tuple[object, ...], list[Scored]] = {}
    for one in scored:
        key = (one.dataset, one.corruption, one.severity, one.labels.names, one.measures.names)
        groups.setdefault(key, []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def _described(result: Result, scored: Scored) -> dict[str, Any]:
    facts: dict[str, Any] = {"model": scored.model, "dataset": scored.dataset, "label_set": scored.labels.name}
    if scored.corruption:
        facts |= {"corruption": scored.corruption, "severity": scored.severity}
    if scored.sensors:
        facts["given"] = scored.sensors
    summary = facts | summarize(scored.measures, scored.labels)
    if len(result.outcomes) > 1:
        summary["recordings"] = {outcome.job.source.path: _recording(outcome) for outcome in result.outcomes}
    if result.errors:
        summary["errors"] = result.errors
    return summary | {"version": __version__, "revision": revision()}


def _recording(outcome: Outcome) -> dict[str, Any]:
    if outcome.measures is None:
        return {"error": outcome.refused}
    summary = totals(outcome.measures)
    return {name: summary[name] for name in ("frames", "dropped", "miou", "miou_interval", "accuracy")}


def _failed(result: Result) -> dict[str, Any]:
    job = result.outcomes[0].job
    return {"model": result.entrant.name, "dataset": job.source.shown, "errors": result.errors}


def _settings(result: Result) -> str:
    tree = {"/**": {"ros__parameters": result.entrant.config.model_dump()}}
    return f"# samseg {__version__}, revision {revision() or 'unknown'}\n" + yaml.safe_dump(tree, sort_keys=False)


def _comparisons(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    return [
        {"dataset": group[0].dataset, "first": titles(group)[0], "others": [row.row() for row in rows]}
        for group, rows in compared
    ]


def _folders(out: Path, scored: Sequence[Scored]) -> list[Path]:
    """Return a folder for each: of model, dataset, sensors and corruption what is not the same for all."""
    if len(scored) < 2:
        return [out] * len(scored)
    columns = [
        [s.model for s in scored],
        [s.dataset for s in scored],
        [s.sensors or "all" for s in scored],
        [f"{s.corruption}-{s.severity}" if s.corruption else "as-it-is" for s in scored],
    ]
    told = [column for column in columns if len(set(column)) > 1]
    rows = list(zip(*told, strict=True)) or [("result",)] * len(scored)
    paths = ["/".join(_slug(part) for part in parts) for parts in rows]
    return [out / path for path in told_apart(paths, "-{}")]


def _slug(name: str) -> str:
    """Return a name for a folder; the end of a long path tells more than its beginning."""
    plain = re.sub(r"[^\w.+]+", "-", name).encode()[-SLUG_BYTES:].decode(errors="ignore")
    return plain.strip("-.") or "result"


def _tables(
    results: Sequence[Result], scored: Sequence[Scored], summaries: Sequence[Summary], compared: Sequence[Compared]
) -> Iterator[str]:
    names = titles(scored) if scored else []
    yield from _overall(names, summaries)
    for group, rows in compared:
        where = f"{group[0].dataset}{f', {group[0].corruption} {group[0].severity}' if group[0].corruption else ''}"
        yield f"On the same frames ({where}):\n\n{comparison_markdown(group, rows)}"
    plain = [(name, s, summary) for name, s, summary in zip(names, scored, summaries, strict=True) if not s.corruption]
    for labels in dict.fromkeys(s.labels.names for _, s, _ in plain):
        same = [(name, summary) for name, s, summary in plain if s.labels.names == labels]
        yield from _columns("class", same, "iou", lambda value: value)
        for head, part in (("condition", "conditions"), ("difficulty", "difficulties"), ("distance", "bands")):
            if part != "bands" or any(_has_distances(summary) for _, summary in same):
                yield from _columns(head, same, part, lambda value: value["miou"])
    for name, summary in zip(names, summaries, strict=True):
        yield from _recordings(name, summary)
    yield from _retained(plain)
    failures = dict.fromkeys(failure for result in results for failure in result.errors.items())
    yield from (f"**failed** {name}: {text}\n" for name, text in failures)


def _has_distances(summary: Summary) -> bool:
    """Say whether any pixel's distance is known."""
    *known, _ = summary["bands"].values()  # the last one is of those whose distance is not
    return any(band["pixels"] for band in known)


def _overall(names: Sequence[str], summaries: Sequence[Summary]) -> Iterator[str]:
    if not summaries:
        return
    heads = ("frames", "dropped", "mIoU [95 %]", "absent = 0", "accuracy", "boundary F", "ECE")
    yield f"| | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}"
    for name, s in zip(names, summaries, strict=True):
        low, high = s["miou_interval"]
        interval = f" [{_percent(low)}, {_percent(high)}]" if s["frames"] > 1 else ""
        cells = [_percent(s[key]) for key in ("miou_absent_zero", "accuracy", "boundary_f", "ece")]
        title = name if len(names) > 1 else f"{s['model']} on {s['dataset']}"
        yield f"| {title} | {s['frames']} | {s['dropped']} | {_percent(s['miou'])}{interval} | {' | '.join(cells)} |"
    yield ""


def _columns(head: str, summaries: Sequence[tuple[str, Summary]], key: str, value_of: Any) -> Iterator[str]:
    """Yield a table with a row a class (or condition) and a column a result."""
    rows = dict.fromkeys(row for _, summary in summaries for row in summary[key])
    if not rows:
        return
    what = "IoU" if key == "iou" else "mIoU"
    heads = [what] if len(summaries) == 1 else [f"{what}, {name}" for name, _ in summaries]
    yield f"| {head} | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}"
    for row in rows:
        cells = [_percent(value_of(s[key][row]) if row in s[key] else None) for _, s in summaries]
        yield f"| {row} | {' | '.join(cells)} |"
    yield ""


def _recordings(name: str, summary: Summary) -> Iterator[str]:
    if "recordings" not in summary:
        return
    yield f"| recording ({name}) | frames | dropped | mIoU |\n|---|---|---|---|"
    for path, row in summary["recordings"].items():
        yield f"| {path} | " + (
            "failed | | |" if "error" in row else f"{row['frames']} | {row['dropped']} | {_percent(row['miou'])} |"
        )
    yield ""


def _retained(plain: Sequence[tuple[str, Scored, Summary]]) -> Iterator[str]:
    """Yield what each model keeps of its mIoU on the first dataset on the others."""
    for model in dict.fromkeys(s.model for _, s, _ in plain):
        own = [(s, summary["miou"] or 0.0) for _, s, summary in plain if s.model == model and not s.sensors]
        if len(own) > 1:
            yield "\n".join(retention([(s.dataset, 100 * share) for s, share in own])) + "\n"


def _percent(share: float | None) -> str:
    return "–" if share is None or np.isnan(share) else f"{100 * share:.1f}"
