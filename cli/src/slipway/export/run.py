"""Writing the file: one exporter after the other, until one gives a model that holds."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from slipway import files
from slipway.errors import ExportFailed, InvalidArguments, InvalidModel, SlipwayError
from slipway.export import missing_values, rounding
from slipway.export.attempt import Attempt, Exportable
from slipway.export.obstacles import recognise, summary
from slipway.model import graph as graphs
from slipway.model import names, typical
from slipway.model.facts import gather
from slipway.model.signature import inputs_of, outputs_of
from slipway.validation import check
from slipway.validation.cases import Case
from slipway.validation.check import Outcome
from slipway.validation.compare import Tolerance

_TIES = (
    "in {} of the rows compared two classes are as likely as each other, and the file names the"
    " other one: go by the probabilities where that matters"
)


@dataclass(frozen=True)
class Exported:
    """Which exporter made the file, what it warned of, and the comparison, if one was made."""

    exporter: str
    warnings: Sequence[str]
    failures: Sequence[str]
    outcome: Outcome | None


def export(
    exportable: Exportable,
    target: Path,
    cases: Sequence[Case],
    tolerance: Tolerance,
    metadata: Mapping[str, str],
    *,
    keep_frozen: bool,
) -> Exported:
    """Write the model to ``target`` once an exporter's file loads and was compared.

    A file that was compared and differs is not written to ``target``; the outcome's ``close`` says
    so. ``keep_frozen`` takes files of which the exporter says that branches were frozen.

    Raises:
        InvalidArguments: columns or labels do not fit the model.
        ExportFailed: no exporter made a model that can be served; the message has every error.
    """
    # Before minutes are spent on a large model; what an exporter makes of them is checked again.
    names.check(exportable.columns, exportable.inputs, names.COLUMNS)
    failures: list[str] = []
    hints: list[str] = []
    rejected: Exported | None = None
    with tempfile.TemporaryDirectory(dir=target.resolve().parent, prefix=".slipway-") as folder:
        for attempt in exportable.attempts:
            path = Path(folder) / attempt.name / target.name
            path.parent.mkdir()
            try:
                warned = _attempt(attempt, path, keep_frozen=keep_frozen)
                _sign(path, exportable, attempt, metadata)
                outcome = None
                if cases:
                    outcome = check.compare(
                        path,
                        cases,
                        exportable.reference,
                        exportable.framework,
                        tolerance,
                        exportable.choices,
                    )
            except InvalidArguments:
                raise
            except SlipwayError as error:
                known = recognise(error.message)
                failures.append(f"{attempt.name}: {error.message}")
                hints.append(known.remedy if known else error.hint)
                continue
            done = Exported(attempt.name, warned, failures, outcome)
            if outcome is not None and not outcome.close:
                rejected = rejected or done
                failures.append(f"{attempt.name}: the file computes something else")
                continue
            compared = (path, exportable, cases, tolerance)
            holds = missing_values.same(*compared)
            noted = [
                *exportable.warnings,
                *([missing_values.DIFFERS] if holds is False else ()),
                *([_TIES.format(outcome.ties)] if outcome is not None and outcome.ties else ()),
                *rounding.warnings(*compared),
            ]
            if holds:
                _add_metadata(path, {missing_values.PROPERTY: missing_values.TAKEN_AS_NAN})
            files.place(path, target, graphs.files_beside(target))
            return replace(done, warnings=[*warned, *noted])
    if rejected is not None:
        return rejected
    raise ExportFailed(
        "no exporter could make a model that holds:\n    " + "\n    ".join(failures),
        next((hint for hint in hints if hint), ""),
    )


def _attempt(attempt: Attempt, path: Path, *, keep_frozen: bool) -> Sequence[str]:
    try:
        warned = attempt.write(path)
    except SlipwayError:
        raise
    except Exception as error:  # exporters raise everything there is
        known = recognise(f"{type(error).__name__} {error}")
        said = summary(error)
        raise ExportFailed(
            f"{known.name} ({said})" if known else said, known.remedy if known else ""
        ) from error
    if warned and not keep_frozen:
        known = recognise(warned[0])
        raise ExportFailed(
            f"tracing has frozen what depends on the input: {warned[0]}",
            known.remedy if known else "write it with tensor operations",
        )
    facts = gather(path)
    for finding in facts.findings:
        if finding.level == "error":
            known = recognise(finding.message)
            raise InvalidModel(
                f"{finding.message}{f': {known.name}' if known else ''}",
                known.remedy if known else finding.remedy,
            )
    check.check_form(path)
    return warned


def _sign(
    path: Path, exportable: Exportable, attempt: Attempt, metadata: Mapping[str, str]
) -> None:
    """Write into the model where it comes from."""
    model = graphs.read(path)
    told = {entry.key: entry.value for entry in model.metadata_props}
    told |= {**exportable.metadata, "exporter": attempt.name, **metadata}
    for key, given, tensors in (
        (names.COLUMNS, exportable.columns, inputs_of(model.graph)),
        (names.LABELS, exportable.labels, outputs_of(model.graph)),
    ):
        names.check(given, tensors, key)
        if given:
            told[key] = names.encode(given)
    if values := typical.encode(exportable.inputs):
        told[typical.PROPERTY] = values
    _write(model, told, path)


def _add_metadata(path: Path, more: Mapping[str, str]) -> None:
    model = graphs.read(path)
    _write(model, {entry.key: entry.value for entry in model.metadata_props} | dict(more), path)


def _write(model: onnx.ModelProto, metadata: Mapping[str, str], path: Path) -> None:
    del model.metadata_props[:]
    for key, value in sorted(metadata.items()):
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    path.write_bytes(model.SerializeToString())
