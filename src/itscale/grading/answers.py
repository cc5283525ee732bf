"""The answer of a solution: what its last complete \\boxed{} holds."""

_OPEN = "\\boxed{"


def extract_answer(text: str) -> str | None:
    """Content of the last complete `\\boxed{...}`, braces nested as they may be; None without one or if it is blank."""
    start = text.rfind(_OPEN)
    while start >= 0:
        depth = 1
        for end in range(start + len(_OPEN), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[start + len(_OPEN) : end].strip() or None
        start = text.rfind(_OPEN, 0, start)
    return None
