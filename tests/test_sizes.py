"""How large a module, a class and a function may be. What is larger is named in sizes.toml, and may only shrink."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("config", "workorders", "github_app", "sandboxes")
LISTED = Path(__file__).with_name("sizes.toml")
LIMITS = {"module lines": 400, "class lines": 200, "methods": 15, "function lines": 60, "complexity": 12}
# Each is one more way through a function; an operator with n values is n - 1 of them.
_BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler),
    *(ast.comprehension, ast.match_case),
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sizes_of(name: str, source: str) -> Iterator[tuple[str, str, int]]:
    """Each thing's name, the measure and its size; `file::Class.function` as the defences are named."""
    yield name, "module lines", len(source.splitlines())
    yield from _inside(f"{name}::", ast.parse(source))


def _inside(prefix: str, node: ast.AST) -> Iterator[tuple[str, str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            name = f"{prefix}{child.name}"
            yield name, "class lines", _lines(child)
            yield name, "methods", sum(isinstance(item, _FUNCTIONS) for item in child.body)
            yield from _inside(f"{name}.", child)
        elif isinstance(child, _FUNCTIONS):
            name = f"{prefix}{child.name}"
            yield name, "function lines", _lines(child)
            yield name, "complexity", _complexity(child)
            yield from _inside(f"{name}.", child)
        else:
            yield from _inside(prefix, child)


def _lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _complexity(function: ast.AST) -> int:
    """McCabe's, counted with ternaries, comprehensions and their conditions, and boolean operators; inner functions
    count for themselves.
    """
    ways, nodes = 1, list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            continue
        if isinstance(node, _BRANCHES):
            ways += 1
        if isinstance(node, ast.BoolOp):
            ways += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            ways += len(node.ifs)
        nodes += ast.iter_child_nodes(node)
    return ways


def too_large() -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                name = str(path.relative_to(ROOT))
                for thing, measure, size in sizes_of(name, path.read_text()):
                    if size > LIMITS[measure]:
                        found[thing, measure] = max(size, found.get((thing, measure), 0))
    return found


def listed() -> dict[tuple[str, str], int]:
    rows = tomllib.loads(LISTED.read_text())
    return {(thing, measure): size for measure, things in rows.items() for thing, size in things.items()}


def test_nothing_is_larger_than_it_may_be() -> None:
    known = listed()
    grown = {what: size for what, size in too_large().items() if size > known.get(what, 0)}
    assert grown == {}, "part it; sizes.toml is for what was too large before there were limits"


def test_the_list_shrinks_with_what_it_names() -> None:
    found = too_large()
    smaller = {what: found.get(what) for what, size in listed().items() if found.get(what) != size}
    assert smaller == {}, "write the smaller size into sizes.toml, or take out what keeps its limit now"


@pytest.mark.parametrize(
    ("source", "measure", "size"),
    [
        ("a = 1\n" * 7, "module lines", 7),
        ("class A:\n    def b(self): ...\n    x = 1\n    async def c(self): ...\n", "methods", 2),
        ("class A:\n    def b(self):\n        class C:\n            def d(self): ...\n", "class lines", 4),
        ("def f():\n    return 1\n", "complexity", 1),
        ("def f(a, b):\n    return a if b else (a and b or 1)\n", "complexity", 4),
        ("def f(a):\n    return [x for x in a if x if not x]\n", "complexity", 4),
        ("def f(a):\n    for x in a:\n        while x:\n            pass\n", "complexity", 3),
        (
            "def f(a):\n    try:\n        g()\n    except A:\n        pass\n    except B:\n        pass\n",
            "complexity",
            3,
        ),
        (
            "def f(a):\n    match a:\n        case 1:\n            pass\n        case _:\n            pass\n",
            "complexity",
            3,
        ),
        ("def f(a):\n    def g(b):\n        return b or a\n    return g\n", "complexity", 1),
        ("def f(a):\n    return lambda b: b or a\n", "complexity", 2),
    ],
)
def test_sizes_are_counted(source: str, measure: str, size: int) -> None:
    first = next(found for _thing, of, found in sizes_of("file.py", source) if of == measure)
    assert first == size
