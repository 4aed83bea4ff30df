"""ONNX by torch's `dynamo` exporter. The older tracing exporter is not offered: it writes files
that run on the example's shape only, without saying so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.errors import ExportError
from holdfast.export.formats.artifact import Artifact, FormatOptions, Reloaded
from holdfast.export.libraries import INTERNAL_WARNINGS, explaining, extra_module, hushed, quiet
from holdfast.export.prepare import Prepared
from holdfast.export.runtime import EXTRA, new_session
from holdfast.export.signature import Axis, Signature
from holdfast.export.stored_weights import tensor_digest
from holdfast.export.tracing import nested

_ONE_FILE_BYTES = 1_500_000_000
_WARNINGS = (*INTERNAL_WARNINGS, r"# The axis name: \w+ will not be used")


class OnnxFormat:
    """`<stem>.onnx`, with `<stem>.onnx.data` beside it if the weights lie apart."""

    name = "onnx"
    suffix = ".onnx"
    legacy: str | None = None

    def write(
        self, prepared: Prepared, folder: Path, stem: str, options: FormatOptions
    ) -> Artifact:
        """Convert the exported program, so that both formats are one graph."""
        for needed in ("onnx", "onnxscript", "onnxruntime"):
            extra_module(needed, EXTRA)
        signature = prepared.graph.signature
        program = prepared.program
        apart = options.external_data
        if apart is None:
            apart = sum(t.nbytes for t in prepared.weights.values()) > _ONE_FILE_BYTES
        with explaining("convert to ONNX", stem), quiet(*_WARNINGS), hushed("torch.onnx"):
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=options.opset,
                input_names=[one.name for one in signature.inputs],
                output_names=list(signature.outputs),
                dynamic_shapes=nested(prepared.graph.module, _axis_names(signature)),
            )
            if converted is None:
                raise ExportError("The exporter returned nothing", where=f"graph {stem}")
            digests = _converted(converted)
            converted.model.metadata_props["holdfast.card"] = options.card.decode()
            converted.save(folder / f"{stem}.onnx", external_data=apart)
        files = (f"{stem}.onnx", f"{stem}.onnx.data") if apart else (f"{stem}.onnx",)
        return Artifact(stem, self.name, files, facts=_facts(folder / files[0]), converted=digests)

    def reload(self, folder: Path, artifact: Artifact) -> Reloaded:
        """A session of ONNX Runtime on the CPU, and the weights and nodes of the file."""
        onnx = extra_module("onnx", EXTRA)
        with explaining("load the ONNX model", artifact.graph), quiet(*_WARNINGS):
            session = new_session(folder / artifact.files[0], threads=torch.get_num_threads())
            model = onnx.load(str(folder / artifact.files[0]))
            weights = {
                initializer.name: torch.from_numpy(np.copy(array))
                for initializer in model.graph.initializer
                if (array := _as_array(onnx, initializer)) is not None
            }
        names = [value.name for value in session.get_inputs()]

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            feed = {
                name: tensor.detach().cpu().numpy()
                for name, tensor in zip(names, inputs, strict=True)
            }
            return tuple(torch.from_numpy(np.copy(out)) for out in session.run(None, feed))

        return Reloaded(run, weights, _training_nodes(onnx, model))


def _axis_names(signature: Signature) -> tuple[dict[int, str], ...]:
    return tuple(
        {
            index: axis.name
            for index, axis in enumerate(one.axes)
            if isinstance(axis, Axis) and not axis.fixed
        }
        for one in signature.inputs
    )


def _facts(path: Path) -> dict[str, Any]:
    onnx = extra_module("onnx", EXTRA)
    model = onnx.load(str(path), load_external_data=False)
    return {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "ir": model.ir_version,
        "nodes": len(model.graph.node),
    }


def _converted(made: Any) -> dict[str, bytes]:
    """Digest by name of every initializer as the converter left it."""
    arrays = {
        name: value.const_value.numpy()
        for name, value in made.model.graph.initializers.items()
        if value.const_value is not None
    }
    return {
        name: tensor_digest(torch.from_numpy(np.array(array, order="C")))
        for name, array in arrays.items()
        if array.dtype.name in _NUMPY_DTYPES
    }


def _as_array(onnx: Any, initializer: Any) -> Any:
    """The initializer as an array; None for dtypes that NumPy lacks."""
    array = onnx.numpy_helper.to_array(initializer)
    return array if array.dtype.kind in "biuf" and array.dtype.name in _NUMPY_DTYPES else None


_NUMPY_DTYPES = frozenset(
    ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
)


def _training_nodes(onnx: Any, model: Any) -> Sequence[str]:
    """Dropout and batch normalisation that the file asks to run as in training."""
    constants = {
        one.name: _as_array(onnx, one) for one in model.graph.initializer if one.data_type == 9
    }
    found = []
    for node in model.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2:
            mode = constants.get(node.input[2])
            if mode is None or bool(mode):
                found.append(f"active dropout: {node.name}")
        elif node.op_type == "BatchNormalization" and any(
            attribute.name == "training_mode" and attribute.i for attribute in node.attribute
        ):
            found.append(f"batch normalisation in training mode: {node.name}")
        elif node.op_type in ("RandomNormal", "RandomUniform", "Bernoulli", "RandomNormalLike"):
            found.append(f"random numbers: {node.name}")
    return found
