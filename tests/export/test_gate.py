"""What the gate lets through, and every fault it must catch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from export_world import LONGEST, QUICK, SIGNATURE, VOCABULARY, WIDTH, Tagger, new_tagger, posing_as

from holdfast.errors import GateError, HoldfastWarning
from holdfast.export import Input, Signature
from holdfast.export.formats import FORMATS, Artifact, FormatOptions
from holdfast.export.gate import GateReport, inspect
from holdfast.export.prepare import Prepared

pytestmark = pytest.mark.xdist_group("export")

Copied = Callable[[str], tuple[Path, Artifact]]


def _inspected(tagger: Prepared, name: str, folder: Path, artifact: Artifact) -> GateReport:
    return inspect(tagger, FORMATS[name], folder, artifact)[0]


def _passed_off(tagger: Prepared, fake: Prepared, name: str, folder: Path) -> GateReport:
    """Export `fake`, and show the gate the result as the tagger's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        artifact = FORMATS[name].write(fake, folder, "model", FormatOptions())
    return _inspected(tagger, name, folder, artifact)


@pytest.mark.parametrize("name", QUICK)
def test_a_faithful_artifact_passes_on_every_shape(
    tagger: Prepared, copied: Copied, name: str
) -> None:
    """Read back from disk it gives eager's answers at every end of every range."""
    report = _inspected(tagger, name, *copied(name))
    assert report.passed, report.problems
    assert {"everything shortest", "padded in every row", "unlike the example"} <= {
        case.name for case in report.cases
    }
    assert any(case.sizes["length"] == LONGEST for case in report.cases)
    assert any(case.sizes == {"batch": 1, "length": 1} for case in report.cases)
    assert report.worst.absolute < 1e-5
    assert report.worst.agreement == 1.0


@pytest.mark.parametrize("name", QUICK)
def test_train_mode_is_caught(tagger: Prepared, tmp_path: Path, name: str) -> None:
    """Dropout that is still active, or statistics of the batch, do not pass."""
    model = new_tagger().train()
    report = _passed_off(tagger, posing_as(tagger, model), name, tmp_path)
    assert any("training mode" in problem or "dropout" in problem for problem in report.problems)
    with pytest.raises(GateError, match="not what the model is"):
        report.require()


@pytest.mark.parametrize("name", ["program", "onnx"])
def test_a_baked_in_shape_is_caught(tagger: Prepared, tmp_path: Path, name: str) -> None:
    """An artifact that runs on the example's shape only fails on all others."""
    example = tagger.cases[0].inputs[0].shape
    frozen = Signature(
        (Input("ids", tuple(example), "int64", 0, VOCABULARY - 1, 0),), SIGNATURE.outputs
    )
    fake = posing_as(tagger, new_tagger().eval(), signature=frozen)
    report = _passed_off(tagger, fake, name, tmp_path)
    failed = [case for case in report.cases if case.problem is not None]
    assert len(failed) >= len(report.cases) - 2
    assert all("it fails" in str(case.problem) for case in failed)


@pytest.mark.parametrize("name", ["program", "torchscript-trace"])
def test_a_dropped_buffer_is_caught(tagger: Prepared, tmp_path: Path, name: str) -> None:
    """A buffer that lost its values changes the answers, and is named."""
    model = new_tagger().eval()
    model.positions.zero_()
    report = _passed_off(tagger, posing_as(tagger, model), name, tmp_path)
    assert any("logits differs" in problem for problem in report.problems)
    assert any(problem.startswith("positions is not") for problem in report.problems)


def test_a_buffer_dropped_from_onnx_is_caught(tagger: Prepared, copied: Copied) -> None:
    """The same in a file whose names are its own."""
    folder, artifact = copied("onnx")
    model = onnx.load(str(folder / artifact.files[0]))
    lost = next(one for one in model.graph.initializer if list(one.dims) == [LONGEST, WIDTH])
    lost.raw_data = bytes(len(lost.raw_data))
    onnx.save(model, str(folder / artifact.files[0]))
    report = _inspected(tagger, "onnx", folder, artifact)
    assert f"{lost.name} in the file is not what the converter made" in report.problems
    assert any("logits differs" in problem for problem in report.problems)


def test_a_wrong_dtype_is_caught(tagger: Prepared, tmp_path: Path) -> None:
    """Outputs of another dtype are refused even where their values agree."""
    model = new_tagger().eval().double()
    report = _passed_off(tagger, posing_as(tagger, model), "torchscript-trace", tmp_path)
    assert any("logits is float64, the model's is float32" in text for text in report.problems)


def test_weights_rounded_to_another_dtype_are_caught(tagger: Prepared, tmp_path: Path) -> None:
    """Weights that went through bfloat16 are not the model's."""
    model = copy.deepcopy(new_tagger().eval())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
    report = _passed_off(tagger, posing_as(tagger, model), "torchscript-trace", tmp_path)
    assert any("inner.weight is not the model's" in problem for problem in report.problems)


def test_one_perturbed_weight_is_caught_in_a_program(tagger: Prepared, tmp_path: Path) -> None:
    """A change too small for any output tolerance is found in the stored weights."""
    model = new_tagger().eval()
    with torch.no_grad():
        model.inner.weight[0, 0] += 1e-6
    report = _passed_off(tagger, posing_as(tagger, model), "program", tmp_path)
    assert report.problems[0].startswith("inner.weight is not the model's: 1 of 64 numbers differ")


def test_one_perturbed_weight_is_caught_in_onnx(tagger: Prepared, copied: Copied) -> None:
    """ONNX renames weights, so the file must hold what left the converter, bit for bit."""
    folder, artifact = copied("onnx")
    model = onnx.load(str(folder / artifact.files[0]))
    initializer = next(one for one in model.graph.initializer if one.data_type == 1 and one.dims)
    data = bytearray(initializer.raw_data)
    data[0] ^= 1
    initializer.raw_data = bytes(data)
    onnx.save(model, str(folder / artifact.files[0]))
    report = _inspected(tagger, "onnx", folder, artifact)
    assert report.problems == (f"{initializer.name} in the file is not what the converter made",)


@pytest.mark.parametrize("name", QUICK)
def test_a_truncated_artifact_is_caught(tagger: Prepared, copied: Copied, name: str) -> None:
    """Half a file cannot be read back, and the reason is said."""
    folder, artifact = copied(name)
    file = folder / artifact.files[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    report = _inspected(tagger, name, folder, artifact)
    assert len(report.problems) == 1
    assert report.problems[0].startswith("it cannot be read back: ")


def test_missing_external_data_is_caught(tagger: Prepared, copied: Copied) -> None:
    """ONNX weights in a file of their own must be there."""
    folder, artifact = copied("onnx")
    assert artifact.files == ("model.onnx", "model.onnx.data")
    (folder / "model.onnx.data").unlink()
    report = _inspected(tagger, "onnx", folder, artifact)
    assert report.problems == ("the file model.onnx.data is missing",)


def test_truncated_external_data_is_caught(tagger: Prepared, copied: Copied) -> None:
    """Half of the weights are not the weights."""
    folder, artifact = copied("onnx")
    data = folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:100])
    assert not _inspected(tagger, "onnx", folder, artifact).passed


def test_an_artifact_of_another_model_is_caught(tagger: Prepared, tmp_path: Path) -> None:
    """Another seed's weights of the same shapes do not pass."""
    torch.manual_seed(99)
    fake = posing_as(tagger, Tagger().eval())
    assert not _passed_off(tagger, fake, "torchscript-trace", tmp_path).passed
