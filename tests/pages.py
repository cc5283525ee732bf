"""The examples of the documentation."""

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"


def example(page: str, title: str) -> dict[str, Any]:
    """The names that a Python block of a page defines; its first line is the title."""
    names: dict[str, Any] = {"__name__": "example"}
    code = re.search(rf"```python\n(# {re.escape(title)}\n.*?)```", (DOCS / page).read_text(), re.DOTALL)[1]
    exec(compile(code, title, "exec", dont_inherit=True), names)
    return names
