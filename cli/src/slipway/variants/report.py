"""The report of what variants gain and lose: as a JSON document, and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click
import numpy as np

from slipway import terminal
from slipway.variants.measure import Agreement
from slipway.variants.run import Candidate, Outcome, Variant


def as_json(outcome: Outcome, target: str) -> dict[str, Any]:
    """Return the report; ``page.render`` draws it, and programs read it. Times in milliseconds."""
    plan, kept = outcome.plan, outcome.kept
    return {
        "model": str(outcome.model),
        "kept": None
        if kept is None
        else {"method": kept.candidate.method, "file": target, "digest": kept.candidate.digest},
        "processor": {"name": outcome.processor.name, "int8": list(outcome.processor.int8)},
        "threads": plan.threads,
        "batchSize": plan.batch_size,
        "rounds": plan.rounds,
        "comparedOn": {
            "origin": plan.compared_on.origin or "random inputs",
            "random": plan.compared_on.random,
            "batches": len(plan.compared_on.batches),
            "labelled": plan.compared_on.labels is not None,
        },
        "calibratedOn": None
        if plan.calibrated_on is None
        else {
            "origin": plan.calibrated_on.origin or "random inputs",
            "random": plan.calibrated_on.random,
        },
        "bounds": {
            "maxSize": plan.bounds.max_size,
            "minSpeedUp": plan.bounds.min_speed_up,
            "minTop1": plan.bounds.min_top1,
            "minCosine": plan.bounds.min_cosine,
            "minColumn": plan.bounds.min_column,
            "maxAccuracyLoss": plan.bounds.max_accuracy_loss,
            "maxClassLoss": plan.bounds.max_class_loss,
        },
        "original": _candidate(outcome.original),
        "variants": [_variant(variant) for variant in outcome.variants],
        "refused": dict(outcome.refused),
        "warnings": warnings(outcome),
    }


def warnings(outcome: Outcome) -> list[str]:
    """Return what somebody who reads the figures must know."""
    plan = outcome.plan
    told: list[str] = []
    if plan.calibrated_on is not None and plan.calibrated_on.random:
        told.append(
            "calibrated on random inputs: size and speed are true, the differences mean little,"
            " and the model is not to be served"
        )
    if plan.compared_on.random:
        told.append(
            "compared on random inputs: give typical ones with --samples, or labelled ones with"
            " --labelled"
        )
    labels, accuracy = plan.compared_on.labels, outcome.original.accuracy
    if labels is not None and accuracy is not None:
        commonest = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
        if accuracy.rows <= commonest:
            told.append(
                f"the labels hardly belong to what the model answers: the original is right in"
                f" {accuracy.rows:.2%} of rows, and who always names the commonest class in"
                f" {commonest:.2%}; they are numbers of the classes from 0 on, in the model's order"
            )
    told += [
        f"{variant.candidate.method} is slower than the original on this processor:"
        f" {variant.speed_up.median:.2f} times as fast on {outcome.processor}"
        for variant in outcome.variants
        if variant.slower
    ]
    return told


def show(document: Mapping[str, Any]) -> None:
    """Print the report for a person."""
    original, variants = document["original"], document["variants"]
    terminal.print_table(
        ("", "size", "load", "latency", "times as fast", "accuracy", ""),
        [
            _row("original", original, "", ""),
            *(
                _row(v["method"], v, _interval(v["speedUp"]), _judged(v, document["kept"]))
                for v in variants
            ),
        ],
        title=(
            f"batch {document['batchSize']}, {document['threads']} thread(s), median of"
            f" {document['rounds']} paired rounds, {document['processor']['name']}"
        ),
    )
    terminal.print_table(
        ("variant", "output", "max abs", "cosine", "lowest", "worst column", "top-1 agreement"),
        [
            (
                v["method"],
                item["output"],
                "not finite" if item["maxAbsolute"] is None else f"{item['maxAbsolute']:.3g}",
                _number(item["cosine"], ".5f"),
                _number(item["lowestCosine"], ".5f"),
                _number(item["lowestColumn"], ".5f"),
                _number(item["top1"], ".2%"),
            )
            for v in variants
            for item in v["outputs"]
        ],
        title=f"difference to the original, on {document['comparedOn']['origin']}",
    )
    for v in variants:
        for failure in v["failures"]:
            click.echo(f"{v['method']} is not kept: {failure}", err=True)
    for method, why in document["refused"].items():
        click.echo(f"{method} could not be made: {why}", err=True)
    for text in document["warnings"]:
        terminal.warn(text)


def _row(name: str, entry: Mapping[str, Any], speed: str, judged: str) -> tuple[str, ...]:
    latency = entry["latency"]
    low, high = latency["quartilesMs"]
    return (
        name,
        terminal.size(entry["size"]),
        f"{entry['loadMs']:.0f} ms",
        f"{latency['medianMs']:.3g} ms ({low:.3g} to {high:.3g})",
        speed,
        _number(entry["accuracy"], ".2%"),
        judged,
    )


def _judged(variant: Mapping[str, Any], kept: Mapping[str, Any] | None) -> str:
    if variant["failures"]:
        return "REFUSED"
    return "kept" if kept is not None and kept["method"] == variant["method"] else "holds"


def _interval(speed: Mapping[str, float]) -> str:
    return f"{speed['median']:.2f} ({speed['lower']:.2f} to {speed['upper']:.2f})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _variant(variant: Variant) -> dict[str, Any]:
    return {
        "method": variant.candidate.method,
        **_candidate(variant.candidate),
        "speedUp": vars(variant.speed_up),
        "outputs": [_agreement(item) for item in variant.agreements],
        "failures": list(variant.failures),
        "slower": variant.slower,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "digest": candidate.digest,
        "size": candidate.size,
        "loadMs": candidate.load_ms,
        "latency": candidate.latency.as_json(),
        "accuracy": None if candidate.accuracy is None else candidate.accuracy.rows,
        "accuracyOverClasses": None if candidate.accuracy is None else candidate.accuracy.classes,
    }


def _agreement(item: Agreement) -> dict[str, Any]:
    return {
        "output": item.output,
        "maxAbsolute": item.max_absolute if math.isfinite(item.max_absolute) else None,
        "cosine": item.cosine,
        "lowestCosine": item.lowest_cosine,
        "top1": item.top1,
        "commonestClass": item.commonest,
        "lowestColumn": item.lowest_column,
    }
