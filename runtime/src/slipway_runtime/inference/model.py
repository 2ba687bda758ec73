"""A loaded model: its signature, a checked run, the warm-up."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from slipway_runtime.artifact.digest import Digest
from slipway_runtime.artifact.manifest import Manifest
from slipway_runtime.errors import BadRequest, InvalidModel, OutOfMemory, WarmupFailed
from slipway_runtime.inference import columns, labels, typical
from slipway_runtime.inference import session as ort
from slipway_runtime.inference.operators import selecting
from slipway_runtime.inference.providers import Providers
from slipway_runtime.inference.tensors import (
    BF16,
    Array,
    Signature,
    TensorSpec,
    check_names,
    check_shape,
)
from slipway_runtime.settings import CPU_PROVIDER

_MISSING: Final = "missing"
_NAN: Final = "nan"
_MAX_INPUT_BYTES: Final = 1024 * 1024 * 1024
# Models of images halve their sizes some times, or cut borders off: many do not run on one pixel.
_LARGER_SIZES: Final = (32, 224)
_MAX_GUESSED_ELEMENTS: Final = 1024 * 1024
_REMEDY: Final = (
    "; a golden sample, of its package or in spec.golden (SLIPWAY_GOLDEN), or its metadata property"
    " typical tells what it can run on"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelIdentity:
    """What a model is called and which bytes it is; requests may use an alias as its name."""

    name: str
    digest: Digest
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names that requests may use."""
        return (self.name, *self.aliases)

    @property
    def version(self) -> str:
        """The first 12 digits of the digest."""
        return self.digest.version


class Model:
    """An ONNX model in a session of ONNX Runtime; `infer` may be called from any thread.

    ``providers`` are those of the session, ``passed_over`` the preferred ones that it lacks, each
    with the reason. ``selects`` tells that values decide how many rows some outputs have.
    ``takes_missing`` is what the metadata property ``missing`` says: where it is ``nan``, fractions
    that are missing in named columns are NaN. ``free_size`` is a size of symbolic dimensions behind
    the first on which the model runs, as far as the warm-up could tell.
    """

    def __init__(
        self,
        identity: ModelIdentity,
        session: ort.OrtSession,
        manifest: Manifest | None = None,
        *,
        selects: bool = False,
    ) -> None:
        self.identity = identity
        self._ordinary = ort.run_options()
        self._use(session)
        self.open_profiled: Callable[[Path], ort.OrtSession] | None = None
        self.providers = session.get_providers()
        self.passed_over: Mapping[str, str] = {}
        self.on_cpu = self.providers == [CPU_PROVIDER]
        inputs = tuple(ort.input_spec(arg) for arg in session.get_inputs())
        batches = {arg.shape[0] for arg in session.get_inputs() if arg.shape}
        outputs: list[TensorSpec] = []
        self._not_served: dict[str, str] = {}
        for arg in session.get_outputs():
            spec = ort.tensor_spec(arg)
            if spec is None:
                self._not_served[arg.name] = arg.type
                logger.warning("output %r is %s and is not served", arg.name, arg.type)
            else:
                counted = selects and spec.batchable and arg.shape[0] not in batches
                outputs.append(replace(spec, has_rows=not counted))
        if not outputs:
            raise InvalidModel(
                f"none of the model's outputs can be served ({self._not_served}): export it with"
                " tensor outputs (scikit-learn: zipmap=False)"
            )
        if manifest is not None:
            outputs = labels.given(manifest.labels, outputs)
        self.signature = Signature(inputs, tuple(outputs))
        properties = cast("Mapping[str, str]", session.get_modelmeta().custom_metadata_map)
        listed = columns.given(manifest.columns, inputs) if manifest is not None else None
        self.columns = listed or columns.read(properties, inputs)
        self.typical = typical.read(properties, inputs)
        self.takes_missing = properties.get(_MISSING) == _NAN
        self.free_size = 1
        self._all_outputs = self.signature.output_names
        self._outputs_by_name = {spec.name: spec for spec in outputs}
        self._bf16_inputs = [spec.name for spec in inputs if spec.datatype.name == BF16]
        self._bf16_outputs = {spec.name for spec in outputs if spec.datatype.name == BF16}
        if self._bf16_outputs and any(spec.datatype.kind == "O" for spec in inputs):
            # Such outputs need OrtValues on both sides, and Python can make none of strings.
            raise InvalidModel(
                "the model has both string inputs and bfloat16 outputs, which ONNX Runtime's"
                " Python binding cannot run: cast the outputs to float32 in the graph"
            )

    def _use(self, session: ort.OrtSession) -> None:
        self._session = session
        self._plain_run = ort.plain_run(session)

    def profile(self, prefix: Path) -> Callable[[], Path]:
        """Run in a second session from now on, which is profiled.

        Returns what goes back to the first one, writes the profile (JSON of Chrome's trace viewer)
        to a path that begins with ``prefix``, and returns that path. Meanwhile the model is in
        memory twice.

        Raises:
            Failure: the second session cannot be had.
        """
        assert self.open_profiled is not None
        ordinary, profiled = self._session, self.open_profiled(prefix)
        self._use(profiled)

        def end() -> Path:
            self._use(ordinary)
            return Path(profiled.end_profiling())

        return end

    def infer(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        options: Any = None,
    ) -> dict[str, Array]:
        """Run the model once.

        ``inputs`` holds one array per input, of its dtype and of a shape that its specification
        allows. ``outputs`` names what is wanted, in the order of the answer; None means all in
        the model's order. The arrays returned are views owned by ONNX Runtime. ``options`` are
        of `run_options`.

        Raises:
            BadRequest: the model cannot run on these inputs.
            InferenceFailed: ONNX Runtime failed for another reason.
        """
        names = self._all_outputs if outputs is None else outputs
        try:
            values = self._execute(names, inputs, options)
        except Exception as error:
            raise ort.run_failure(error) from error
        return {
            name: value
            if type(value) is np.ndarray
            else _as_array(self._outputs_by_name[name], value)
            for name, value in zip(names, values, strict=True)
        }

    def run_options(self) -> Any:
        """Return options of one run, which ends soon once their ``terminate`` is set."""
        return ort.run_options()

    def _execute(
        self, names: Sequence[str], inputs: Mapping[str, Array], options: Any = None
    ) -> Sequence[object]:
        options = options or self._ordinary
        if not self._bf16_inputs and not self._bf16_outputs:
            return self._plain_run(names, inputs, options)
        feeds: dict[str, Any] = dict(inputs)
        for name in self._bf16_inputs:
            feeds[name] = ort.bfloat16_value(inputs[name])
        if self._bf16_outputs.isdisjoint(names):
            return self._session.run(names, feeds, options)
        for name, array in inputs.items():
            if name not in self._bf16_inputs:
                feeds[name] = ort.value(array)
        values = self._session.run_with_ort_values(names, feeds, options)
        return [ort.array_of(value) for value in values]

    def check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Check names, ranks and fixed dimensions of a request's arrays.

        Raises:
            BadRequest: naming the input and why.
        """
        check_names(self.signature, list(inputs))
        for spec in self.signature.inputs:
            check_shape(spec, inputs[spec.name].shape)

    def check_outputs(self, names: Sequence[str]) -> None:
        """Check that the outputs that a request wants exist, each wanted once.

        Raises:
            BadRequest: naming the output and what there is.
        """
        for name in names:
            if name in self._not_served:
                raise BadRequest(
                    f"output {name!r} is {self._not_served[name]}, which cannot be served: export"
                    " the model with tensor outputs (scikit-learn: zipmap=False)"
                )
            if name not in self._outputs_by_name:
                listed = ", ".join(repr(known) for known in self._all_outputs)
                raise BadRequest(f"the model has no output {name[:200]!r}; it has {listed}")
            if names.count(name) > 1:
                raise BadRequest(f"output {name!r} is requested {names.count(name)} times")

    def output_spec(self, name: str) -> TensorSpec:
        """Return the specification of an output that exists."""
        return self._outputs_by_name[name]

    def warm_up(self, inputs: Mapping[str, Array] | None = None) -> Mapping[str, Array]:
        """Run once on these inputs and learn the labels of maps; return the inputs.

        Without inputs these are zeros, or the first of an input's typical values, each symbolic
        dimension being 1. If the model does not run on that, those behind the first are larger:
        `free_size` tells what they are.

        Raises:
            WarmupFailed: the run failed.
            OutOfMemory: the run could not be allocated.
        """
        if inputs:
            return self._run_first(inputs, "a golden sample")
        values_of = "typical values" if self.typical else "zeros"
        try:
            return self._run_first(self._made_up(1), values_of, _REMEDY)
        except WarmupFailed:
            for size in self._larger_sizes():
                with contextlib.suppress(WarmupFailed, OutOfMemory):
                    feeds = self._run_first(self._made_up(size), values_of)
                    logger.info("the model does not run on sizes of 1, but on those of %d", size)
                    self.free_size = size
                    return feeds
            raise

    def _run_first(
        self, feeds: Mapping[str, Array], values_of: str, remedy: str = ""
    ) -> Mapping[str, Array]:
        try:
            values = self._execute(self._all_outputs, feeds)
        except Exception as error:
            text = ort.describe(error)
            if isinstance(error, MemoryError) or ort.is_out_of_memory(text):
                raise OutOfMemory(
                    f"there is not enough memory for a first run: {text}; raise the memory limit"
                ) from error
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise WarmupFailed(
                f"the model loads, but a first run on {values_of} of the shapes {shapes} fails:"
                f" {text}{remedy}"
            ) from error
        self._learn_labels(dict(zip(self._all_outputs, values, strict=True)))
        return feeds

    def _larger_sizes(self) -> Iterator[int]:
        """Return sizes to guess for symbolic dimensions behind the first, if there are such."""
        specs = self.signature.inputs
        if all(spec.smallest(1) == spec.smallest(2) for spec in specs):
            return
        for size in _LARGER_SIZES:
            elements = sum(math.prod(spec.smallest(size)) for spec in specs)
            if elements <= _MAX_GUESSED_ELEMENTS:
                yield size

    def _made_up(self, free_size: int) -> dict[str, Array]:
        zeros = {spec.name: _zeros(spec, free_size) for spec in self.signature.inputs}
        return zeros | {
            name: typical.filled(values, zeros[name].shape) for name, values in self.typical.items()
        }

    def _learn_labels(self, values: Mapping[str, object]) -> None:
        outputs: list[TensorSpec] = []
        for spec in self.signature.outputs:
            if spec.is_map:
                names = labels.labels_of(cast("labels.MapPerRow", values[spec.name]))
                outputs.append(replace(spec, labels=names, shape=(None, len(names))))
            else:
                outputs.append(spec)
        self.signature = replace(self.signature, outputs=tuple(outputs))
        self._outputs_by_name = {spec.name: spec for spec in outputs}


def load(
    identity: ModelIdentity,
    path: Path,
    providers: Sequence[str],
    *,
    preferred: Sequence[str] = (),
    intra_op_threads: int,
    inter_op_threads: int,
    provider_options: Mapping[str, Mapping[str, str]] | None = None,
    tuning: ort.Tuning | None = None,
    manifest: Manifest | None = None,
) -> Model:
    """Load a model by its path; it is not warm yet.

    ``providers`` are required, those ``preferred`` come before them where they can be had.
    ``manifest`` is that of its package: names columns and labels.

    Raises:
        InvalidModel: columns or labels do not fit the graph.
        Failure: what `open_session` raises.
    """

    def open_session(preferred: Sequence[str], tuning: ort.Tuning) -> ort.OrtSession:
        return ort.open_session(
            path,
            providers,
            preferred=preferred,
            intra_op_threads=intra_op_threads,
            inter_op_threads=inter_op_threads,
            provider_options=provider_options,
            tuning=tuning,
        )

    tuning = tuning or ort.Tuning()
    wanted = Providers(providers, preferred, ort.available_providers())
    session, passed_over = wanted.open(lambda chosen: open_session(chosen, tuning))
    model = Model(identity, session, manifest, selects=selecting(path) is not None)
    model.passed_over = passed_over
    had = [name for name in preferred if name not in passed_over]
    model.open_profiled = lambda prefix: open_session(had, replace(tuning, profile_prefix=prefix))
    return model


def _zeros(spec: TensorSpec, free_size: int) -> Array:
    shape = spec.smallest(free_size)
    size = math.prod(shape) * spec.datatype.dtype.itemsize
    if size > _MAX_INPUT_BYTES:
        raise WarmupFailed(
            f"input {spec.name!r} has the shape {spec.wire_shape}, so one row of it takes {size}"
            f" bytes; up to {_MAX_INPUT_BYTES} can be served: export the model with smaller inputs"
        )
    if spec.datatype.kind == "O":
        return np.full(shape, "", dtype=np.object_)
    return np.zeros(shape, dtype=spec.datatype.dtype)


def _as_array(spec: TensorSpec, value: object) -> Array:
    if spec.is_map:
        return labels.to_matrix(spec, cast("labels.MapPerRow", value))
    # A scalar output may come as a NumPy scalar, and an absent optional one as None.
    if isinstance(value, np.ndarray):
        return cast("Array", value)
    if value is None:
        return np.empty((0,), dtype=spec.datatype.dtype)
    return np.asarray(value)
