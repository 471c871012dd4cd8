"""CUDA graphs: what a stream was given, captured once and launched as a whole. pycuda has no calls for it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from agent.engines.cuda.libcuda import check, libcuda
from agent.errors import EngineError

THREAD_LOCAL = 1


class Graph:
    """An executable graph. Freed when told."""

    def __init__(self, executable: ctypes.c_void_p) -> None:
        self._executable: ctypes.c_void_p | None = executable

    def launch(self, stream: int) -> None:
        """Run it on a stream, by its handle. Raises EngineError."""
        if self._executable is None:
            raise EngineError("cuda: this graph was freed")
        check(libcuda().cuGraphLaunch(self._executable, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def free(self) -> None:
        """Safe to call twice."""
        executable, self._executable = self._executable, None
        if executable is not None:
            libcuda().cuGraphExecDestroy(executable)


def capture(stream: int, work: Callable[[], None]) -> Graph:
    """What ``work`` gives the stream, as a graph; it is not run. Raises EngineError when it cannot be captured."""
    cuda = libcuda()
    handle = ctypes.c_void_p(stream)
    check(cuda.cuStreamBeginCapture_v2(handle, THREAD_LOCAL), "cuStreamBeginCapture")
    graph = ctypes.c_void_p()
    try:
        work()
    except BaseException:
        cuda.cuStreamEndCapture(handle, ctypes.byref(graph))
        if graph:
            cuda.cuGraphDestroy(graph)
        raise
    check(cuda.cuStreamEndCapture(handle, ctypes.byref(graph)), "cuStreamEndCapture")
    try:
        executable = ctypes.c_void_p()
        made = cuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        check(made, "cuGraphInstantiate")
    finally:
        cuda.cuGraphDestroy(graph)
    return Graph(executable)
