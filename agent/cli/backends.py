"""Which engine a command measures with: ``--backend`` and ``--device``, the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from agent.detection.manifest import Variant
    from agent.detection.model import ModelPackage
    from agent.precision.trial import OpenEngine

Backend = Literal["onnxruntime", "openvino", "tensorrt"]


def backend_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The two options."""
    backend = click.option(
        "--backend",
        type=click.Choice(("onnxruntime", "openvino", "tensorrt")),
        default="onnxruntime",
        show_default=True,
        help="What runs the model: bf16 runs on OpenVINO alone; TensorRT's plans are built where they are missing.",
    )
    device = click.option(
        "--device", type=click.Choice(("cpu", "cuda")), default="cpu", show_default=True, help="ONNX Runtime's."
    )
    return backend(device(command))


def runnable(variants: Sequence[Variant], backend: Backend) -> list[Variant]:
    """Those that it can run here; why not the others goes to stderr."""
    found = []
    for variant in variants:
        if reason := _why_not(variant.precision, backend):
            click.echo(f"{variant.precision}: left out: it {reason}", err=True)
        else:
            found.append(variant)
    return found


def _why_not(precision: str, backend: Backend) -> str:
    from agent.engines.on_processor import BF16, why_not

    if precision != BF16:
        return ""
    return "runs on OpenVINO alone" if backend == "tensorrt" else why_not("openvino", precision)


def opener(package: ModelPackage, backend: Backend, device: str) -> OpenEngine:
    """Loads a precision of the package with it. Raises EngineError where it is not there."""
    if backend != "tensorrt":
        from agent.precision.trial import on_backend

        return on_backend(backend, device)
    from agent.cli.model_build import Shares
    from agent.detection.plans import find_tensorrt
    from agent.engines.plan_store import PlanStore
    from agent.precision.on_gpu import plan_opener

    tensorrt = find_tensorrt()
    return plan_opener(package, tensorrt, PlanStore(), Shares(f"building for {tensorrt.place.where}").tell)
