"""A verified plan as an engine: TensorRT's runtime on this machine's first GPU.

Imported only where a plan is there to be run. That the plan may be run is the store's word (plan_store.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.engines.cuda.device import Device
from agent.engines.cuda.engine import CudaEngine
from agent.engines.cuda.tensorrt import TensorRtNetwork
from agent.engines.store import cache_dir
from agent.errors import EngineError

if TYPE_CHECKING:
    from agent.engines.flavour import Flavour


def open_plan(plan: bytes, flavour: Flavour) -> CudaEngine:
    """Load it; the calling thread owns it from now on. Raises EngineError, also where another library is loaded."""
    device = Device()
    try:
        network = TensorRtNetwork(device, plan)
        if not network.backend.startswith(flavour.backend):
            raise EngineError(f"the plan is of {flavour.backend}, here runs {network.backend}")
    except BaseException:
        device.close()
        raise
    return CudaEngine(device, network, cache=cache_dir() / "kernels")
