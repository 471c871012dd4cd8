"""One CUDA device as the dispatcher sees it: its primary context, its memory, its streams. Through pycuda.

The context is the primary one, retained, so that ONNX Runtime and TensorRT work in the same. Whoever opens a device
uses it on one thread. What fails becomes EngineError; a device that is lost, DeviceLostError: the driver then serves
this process no more, and a new process finds the device well.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from agent.engines.cuda.libcuda import failure
from agent.errors import DeviceLostError, EngineError

log = logging.getLogger(__name__)


class Device:
    """``number``: as CUDA counts. Raises EngineError where there is no pycuda, driver or device of that number."""

    def __init__(self, number: int = 0) -> None:
        self.driver = _driver()
        self.lost = False
        with self.guard("open the device"):
            self.driver.init()
            count = self.driver.Device.count()
            if number >= count:
                raise EngineError(f"cuda: there is no device {number}, only {count}")
            device = self.driver.Device(number)
            self.name = str(device.name())
            self.capability: tuple[int, int] = tuple(device.compute_capability())
            self.integrated = bool(device.get_attribute(self.driver.device_attribute.INTEGRATED))
            self._context: Any = device.retain_primary_context()
            self._context.push()
        atexit.register(self.close)  # pycuda aborts a process that ends with a context in use
        self.allocated = 0

    @contextlib.contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """The driver's errors as ours. ``what``: was being done, for the message."""
        try:
            yield
        except self.driver.Error as error:
            text = " ".join(str(error).split())
            if isinstance(error, self.driver.MemoryError) or "out of memory" in text:
                raise EngineError(f"cuda: out of memory, could not {what}: {text}") from None
            fault = failure(f"cuda: could not {what}: {text}")
            self.lost |= isinstance(fault, DeviceLostError)
            raise fault from None

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        with self.guard("ask for the free memory"):
            free, total = self.driver.mem_get_info()
        return int(free), int(total)

    def stream(self) -> Any:
        """A stream that does not wait for the default one."""
        with self.guard("make a stream"):
            return self.driver.Stream(1)

    def allocate(self, size: int, what: str) -> Buffer:
        """Device memory of that many bytes. Raises EngineError."""
        with self.guard(f"allocate {size:,} bytes for {what}"):
            memory = self.driver.mem_alloc(max(size, 1))
        self.allocated += size
        return Buffer(self, memory, size)

    def close(self) -> None:
        """Let the context go. Safe to call twice."""
        context, self._context = self._context, None
        if context is not None:
            atexit.unregister(self.close)
            with contextlib.suppress(self.driver.Error):
                context.pop()
                context.detach()


class Buffer:
    """Device memory. Freed when told, not when forgotten."""

    def __init__(self, device: Device, memory: Any, size: int) -> None:
        self._device = device
        self._memory = memory
        self.size = size
        self.address = int(memory)

    def free(self) -> None:
        """Give it back. Safe to call twice."""
        memory, self._memory = self._memory, None
        if memory is not None:
            self._device.allocated -= self.size
            with contextlib.suppress(self._device.driver.Error):  # of a lost device nothing is left to free
                memory.free()


def is_there() -> bool:
    """Whether this process could use a CUDA device."""
    try:
        driver = _driver()
        driver.init()
        return int(driver.Device.count()) > 0
    except EngineError:
        return False
    except Exception as error:  # noqa: BLE001 - pycuda's Error is not known where pycuda is not
        log.debug("cuda: %s", error)
        return False


def _driver() -> Any:
    try:
        import pycuda.driver as driver
    except ImportError as error:
        raise EngineError(f"cuda: pycuda cannot be loaded ({error}); install edgewarden[jetson] or pycuda") from None
    return driver
