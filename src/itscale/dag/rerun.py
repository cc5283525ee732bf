"""Which source files a command runs, so that an edited module reruns the rules that depend on it, and no others.

Commands import what they need when they are called, and a file holds several: only what a command's own function (and the
functions of the command files that it uses) imports counts, with all that this imports in turn.
"""

import ast
from functools import cache
from pathlib import Path

import grimp

PACKAGE = Path(__file__).parents[1]
_COMMANDS = "itscale.cli."


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("itscale", cache_dir=None)


@cache
def file_of(module: str) -> Path:
    """The file of a module of this package."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def files_of(*modules: str) -> list[Path]:
    """The files of modules and of all that they import, with the packages that these lie in."""
    found = set(modules).union(*(_graph().find_upstream_modules(module) for module in modules))
    packages = {module.rpartition(".")[0] for module in found} - {"itscale"}
    return sorted(map(file_of, found | packages))


@cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    return tuple(ast.parse(file_of(module).read_text()).body)


@cache
def _commands() -> dict[str, tuple[str, str]]:
    """(module, function) of every command by its name."""
    return {
        name: (module, function.name)
        for module in sorted(m for m in _graph().modules if m.startswith(_COMMANDS))
        for function in _statements(module)
        if isinstance(function, ast.FunctionDef)
        for name in _command_names(function)
    }


def command_files(name: str) -> list[Path]:
    """The files of a command (`itscale NAME`): those of its function and of the functions of command files that it names.

    Raises:
        ValueError: there is no such command.
    """
    if name not in _commands():
        raise ValueError(f"itscale has no command {name!r}")
    modules: set[str] = set()
    waiting, seen = [_commands()[name]], set()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        imported, named = _used_by(*place)
        modules |= imported
        waiting += named
    return sorted({file_of(module) for module, _ in seen} | set(files_of(*modules)))


@cache
def _used_by(module: str, function: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Of a function of a command file: the modules that it uses, and the (module, name) of what it names in command files."""
    body = next((s for s in _statements(module) if getattr(s, "name", None) == function), None)
    if body is None:  # a constant
        return set(), []
    nodes, known = list(ast.walk(body)), _known_in(module)
    places = [(known[name], name) for name in {node.id for node in nodes if isinstance(node, ast.Name)} & known.keys()]
    modules = {found for node in nodes for _, found in _imports(node)} | {found for found, _ in places}
    return {m for m in modules if not m.startswith(_COMMANDS)}, [p for p in places if p[0].startswith(_COMMANDS)]


@cache
def _known_in(module: str) -> dict[str, str]:
    """The module of every name that a command file defines or imports."""
    known = {s.name: module for s in _statements(module) if hasattr(s, "name")}
    return known | {alias.asname or alias.name: found for s in _statements(module) for alias, found in _imports(s)}


def _command_names(function: ast.FunctionDef) -> set[str]:
    """The name that a function has as a command: as its decorator gives it, or its own; empty for what is no command."""
    calls = [d for d in function.decorator_list if isinstance(d, ast.Call) and getattr(d.func, "attr", "") == "command"]
    given = {a.value for call in calls for a in call.args if isinstance(a, ast.Constant)}
    return given or ({function.name.replace("_", "-")} if calls else set())


def _imports(node: ast.AST) -> list[tuple[ast.alias, str]]:
    """(name, module) of what a statement imports from this package; a name that is a module itself counts as that."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("itscale"):
        return []
    known = _graph().modules
    return [(a, f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in known else node.module) for a in node.names]
