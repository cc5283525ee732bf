"""Which source files a command runs, so that an edited module reruns the rules that depend on it, and no others.

Commands import what they need when they are called, and a file holds several: only what a command's own function (and the
functions of the command files that it uses) imports counts, with all that this imports in turn.
"""

import ast
from functools import cache
from pathlib import Path

import grimp

PACKAGE = Path(__file__).parent
_COMMANDS = "itscale.cli."


@cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("itscale", cache_dir=None)


def file_of(module: str) -> Path:
    """The file of a module of this package."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def files_of(*modules: str) -> list[Path]:
    """The files of modules and of all that they import, with the packages that these lie in."""
    found = set(modules).union(*(_graph().find_upstream_modules(module) for module in modules))
    packages = {module.rpartition(".")[0] for module in found} - {"itscale"}
    return sorted(map(file_of, found | packages))


def command_files(name: str) -> list[Path]:
    """The files of a command (`itscale NAME`).

    Raises:
        ValueError: there is no such command.
    """
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for function in ast.parse(path.read_text()).body:
            if isinstance(function, ast.FunctionDef) and name in _command_names(function):
                files, modules = set(), set()
                _collect(f"{_COMMANDS}{path.stem}", function.name, files, modules, set())
                return sorted(files | set(files_of(*modules)))
    raise ValueError(f"itscale has no command {name!r}")


def _command_names(function: ast.FunctionDef) -> set[str]:
    """The name that a function has as a command: as its decorator gives it, or its own; empty for what is no command."""
    calls = [d for d in function.decorator_list if isinstance(d, ast.Call) and getattr(d.func, "attr", "") == "command"]
    given = {a.value for call in calls for a in call.args if isinstance(a, ast.Constant)}
    return given or ({function.name.replace("_", "-")} if calls else set())


def _collect(module: str, function: str, files: set[Path], modules: set[str], seen: set[tuple[str, str]]) -> None:
    """Add the command files, and the modules that they import, of a function and of the functions that it names."""
    if (module, function) in seen:
        return
    seen.add((module, function))
    files.add(file_of(module))
    tree = ast.parse(file_of(module).read_text())
    bodies = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    above = {alias.asname or alias.name: found for node in tree.body for alias, found in _imports(node)}
    body = bodies.get(function)
    if body is None:  # a constant
        return
    inside = {alias.asname or alias.name: found for node in ast.walk(body) for alias, found in _imports(node)}
    used = {node.id for node in ast.walk(body) if isinstance(node, ast.Name)}
    modules |= {found for found in inside.values() if not found.startswith(_COMMANDS)}
    for name in used:
        found = above.get(name, module if name in bodies else None)
        if found is not None and found.startswith(_COMMANDS):
            _collect(found, name, files, modules, seen)
        elif found is not None:
            modules.add(found)


def _imports(node: ast.AST) -> list[tuple[ast.alias, str]]:
    """(name, module) of what a statement imports from this package; a name that is a module itself counts as that."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("itscale"):
        return []
    known = _graph().modules
    return [(a, f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in known else node.module) for a in node.names]
