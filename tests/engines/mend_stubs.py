"""Makes the public type stubs of TensorRT 10.13 readable for mypy: ``python tests/engines/mend_stubs.py FOLDER``.

The package (tensorrt-stubs, MIT) has parameters called ``in`` and defaults before what has none, which is no Python,
and where it says ``bool`` its own data type of that name is found.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path


def mended(text: str) -> str:
    """The stub with such parameters renamed and given a default. Raises SyntaxError where that was not all."""
    text = re.sub(r"([(,] ?)in: ", r"\1in_: ", text)
    text = re.sub(r"^( +def add_\w+\(.* = None, \w+: int)\)", r"\1 = ...)", text, flags=re.MULTILINE)
    text = re.sub(r"(-> |: )bool\b", r"\1builtins.bool", text)
    text = text.replace("import annotations\n", "import annotations\nimport builtins\n", 1)
    ast.parse(text)
    return text


if __name__ == "__main__":
    for path in Path(sys.argv[1]).rglob("*.pyi"):
        path.write_text(mended(path.read_text(encoding="utf-8")), encoding="utf-8")
