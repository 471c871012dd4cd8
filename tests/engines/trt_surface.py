"""Walks our code with TensorRT's recorded surface at hand: which names of which version does a module use?

One version at a time: tests such as ``hasattr(trt, "IProgressMonitor")`` are answered from the record, and only the
code that would run there is looked at. Types are followed from annotations, constructors and recorded signatures.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

OTHER_NAMES = {"IParserError": "ParserError"}
"""What a signature calls by its C++ name."""
ENUM_NAMES = {"__members__", "name", "value"}


class Known(NamedTuple):
    """What an expression is: the module, a class, an instance or a method that gives one. ``name``: of the class."""

    kind: str
    name: str


MODULE = Known("module", "trt")
Types = dict[str, Known]


class Surface:
    """The names of one version of TensorRT's Python bindings."""

    def __init__(self, path: Path) -> None:
        record = json.loads(path.read_text(encoding="utf-8"))
        self.version: str = record["version"]
        self.classes: Mapping[str, Any] = record["classes"]
        self.names = set(record["module_names"]) | set(self.classes)

    def has(self, owner: Known, name: str) -> bool:
        """Whether ``owner.name`` exists."""
        if owner == MODULE:
            return name in self.names
        return name in self.attributes(owner.name) or name in self.members(owner.name) or name in ENUM_NAMES

    def attributes(self, name: str) -> Mapping[str, str]:
        """Signatures (or ``rw``, ``ro``) by name."""
        found: Mapping[str, str] = self.classes.get(name, {}).get("attrs", {})
        return found

    def members(self, name: str) -> Mapping[str, int]:
        """An enum's."""
        found: Mapping[str, int] = self.classes.get(name, {}).get("members", {})
        return found

    def what(self, owner: Known, name: str) -> Known | None:
        """What ``owner.name`` is, as far as the record says."""
        if owner == MODULE:
            return Known("class", name) if name in self.classes else None
        if name in self.members(owner.name):
            return Known("instance", owner.name)
        match = re.search(r"-> ([\w.:]+)$", self.attributes(owner.name).get(name, ""))
        if match is None:
            return None
        result = re.split(r"[.:]+", match[1])[-1]
        result = OTHER_NAMES.get(result, result)
        return Known("method", result) if result in self.classes else None

    def distinctive(self) -> set[str]:
        """Names that only TensorRT's classes have: whoever uses one on something unknown escapes the walk."""
        names = {name for kind in self.classes for name in self.attributes(kind)}
        return {name for name in names if "_" in name.strip("_") and not name.startswith("_")}


class Use(NamedTuple):
    """A name of TensorRT that is used, and whether the version has it."""

    line: int
    owner: str
    name: str
    there: bool


class Walk(ast.NodeVisitor):
    """Every use in one module as it would run with one version."""

    def __init__(self, surface: Surface, tree: ast.Module) -> None:
        self.surface = surface
        self.uses: list[Use] = []
        self.unknown: list[tuple[int, str]] = []
        self._types: Types = {}
        self._answers: dict[str, bool] = {}
        self._results: Types = {}
        self._own: dict[str, Types] = {}
        self._class = ""
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (known := self._annotated(node.returns)):
                self._results[node.name] = known
            if isinstance(node, ast.ImportFrom) and any(alias.name == "trt" for alias in node.names):
                self._types["trt"] = MODULE
            if isinstance(node, ast.Import):
                self._types |= {alias.asname or "": MODULE for alias in node.names if alias.name == "tensorrt"}
        for body in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            self._own[body.name] = dict(self._own_types(body))
        self._block(tree.body)

    def _own_types(self, body: ast.ClassDef) -> Iterator[tuple[str, Known]]:
        """Attributes of ``self`` whose type is said: ``self._context: trt.IExecutionContext = …``."""
        for node in ast.walk(body):
            if isinstance(node, ast.AnnAssign) and (known := self._annotated(node.annotation)):
                if isinstance(node.target, ast.Attribute):
                    yield node.target.attr, known
                elif isinstance(node.target, ast.Name):
                    yield node.target.id, known

    def _block(self, statements: Sequence[ast.stmt]) -> bool:
        """Walk statements up to one that leaves; whether one does."""
        return any(self._statement(statement) for statement in statements)

    def _statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.If):
            return self._choice(node)
        if isinstance(node, ast.FunctionDef):
            self._function(node)
            return False
        if isinstance(node, ast.ClassDef):
            self._subclass(node)
            return False
        self.visit(node)
        return isinstance(node, ast.Return | ast.Raise | ast.Continue | ast.Break)

    def _choice(self, node: ast.If) -> bool:
        self.visit(node.test)
        answer = self._answer(node.test)
        taken = [node.body, node.orelse] if answer is None else [node.body if answer else node.orelse]
        leaves = [self._block(branch) for branch in taken]
        return all(leaves)

    def _function(self, node: ast.FunctionDef) -> None:
        before, answers = dict(self._types), dict(self._answers)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            self._types.pop(argument.arg, None)
            if known := self._annotated(argument.annotation):
                self._types[argument.arg] = known
        self._block(node.body)
        self._types, self._answers = before, answers

    def _subclass(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            known = self._known(base)
            self.visit(base)
            if known is not None and known.kind == "class":
                overridden = [one.name for one in node.body if isinstance(one, ast.FunctionDef)]
                for name in overridden:
                    if not name.startswith("_"):  # a misspelt one would never be called
                        self._use(node.lineno, known, name)
        outer, self._class = self._class, node.name
        self._block(node.body)
        self._class = outer

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._block(node.body)
        self._block(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._block(node.body)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
        self._block(node.body)

    def visit_Try(self, node: ast.Try) -> None:
        for body in (node.body, *(handler.body for handler in node.handlers), node.orelse, node.finalbody):
            self._block(body)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self._bind(node.target, node.value, self._annotated(node.annotation))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        answer = self._answer(node.test)
        for branch, taken in ((node.body, answer is not False), (node.orelse, answer is not True)):
            if taken:
                self.visit(branch)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit(node.value)
        owner = self._known(node.value)
        if owner is None or owner.kind == "method":
            self.unknown.append((node.lineno, node.attr))
        else:
            self._use(node.lineno, owner, node.attr)

    def _use(self, line: int, owner: Known, name: str) -> None:
        self.uses.append(Use(line, owner.name, name, self.surface.has(owner, name)))

    def _bind(self, target: ast.expr, value: ast.expr, said: Known | None = None) -> None:
        if not isinstance(target, ast.Name):
            return
        known, answer = said or self._known(value), self._answer(value)
        self._types.pop(target.id, None)
        self._answers.pop(target.id, None)
        if known is not None:
            self._types[target.id] = known
        if answer is not None:
            self._answers[target.id] = answer

    def _known(self, node: ast.expr) -> Known | None:
        if isinstance(node, ast.Name):
            return self._types.get(node.id)
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                return self._own.get(self._class, {}).get(node.attr)
            owner = self._known(node.value)
            return None if owner is None or owner.kind == "method" else self.surface.what(owner, node.attr)
        if isinstance(node, ast.Call):
            return self._result(node.func)
        return None

    def _result(self, function: ast.expr) -> Known | None:
        if isinstance(function, ast.Name) and function.id in self._results:
            return self._results[function.id]
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "self":
            return self._results.get(function.attr)
        known = self._known(function)
        return Known("instance", known.name) if known is not None and known.kind in ("class", "method") else None

    def _annotated(self, node: ast.expr | None) -> Known | None:
        """``trt.Builder``, also as ``trt.Builder | None`` or in quotes."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node = ast.parse(node.value, mode="eval").body
        if isinstance(node, ast.BinOp):
            return self._annotated(node.left) or self._annotated(node.right)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "trt":
            return Known("instance", node.attr)
        return None

    def _answer(self, node: ast.expr) -> bool | None:
        """What a feature test says with this version; None for what is no such test."""
        if isinstance(node, ast.Name):
            return self._answers.get(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            answer = self._answer(node.operand)
            return None if answer is None else not answer
        if isinstance(node, ast.BoolOp):
            answers = [self._answer(value) for value in node.values]
            decisive = isinstance(node.op, ast.Or)
            if decisive in answers:
                return decisive
            return None if None in answers else not decisive
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            return self._has(node.args[0], node.args[1])
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            members = node.comparators[0]
            if isinstance(members, ast.Attribute) and members.attr == "__members__":
                return self._has(members.value, node.left)
        return None

    def _has(self, owner: ast.expr, name: ast.expr) -> bool | None:
        known = self._known(owner)
        if known is None or not isinstance(name, ast.Constant):
            return None
        return self.surface.has(known, str(name.value))


def tensorrt_modules(root: Path) -> list[Path]:
    """Every module of ours that uses TensorRT."""
    pattern = re.compile(r"^\s*from agent\.engines\.flavour import .*\btrt\b", re.MULTILINE)
    return sorted(path for path in root.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8")))


def walked(surface: Surface, source: str) -> Walk:
    """The walk of one module's text."""
    return Walk(surface, ast.parse(source))
