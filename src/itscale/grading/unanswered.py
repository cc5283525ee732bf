"""One sentence where most samples have no answer: how many, an example, and what would read them."""

from collections import Counter
from collections.abc import Sequence

from itscale.data.records import CUT_OFF
from itscale.grading.answers import extract_answer
from itscale.grading.settings import Grading

FIRST = 16  # samples of a live run after which it is stopped
_TRIED = ("boxed", "hash", "phrase", "choice", "last_number")
_ENOUGH = 1000  # unanswered texts that are tried


def unanswered_sentence(samples: Sequence[tuple[str, str, str | None]], grading: Grading) -> str | None:
    """What to say of samples (text, finish reason, answer) of which more than half have no answer; None where that is not so."""
    silent = [(text, finish) for text, finish, answer in samples if answer is None]
    if 2 * len(silent) <= len(samples):
        return None
    shown = next((text for text, _ in silent if text.strip()), "").strip()
    example = " ".join(shown[-160:].split())[-80:]
    said = f'{len(silent)} of {len(samples)} samples have no answer in the format {grading.answer} (one ends "{example}")'
    return f"{said}: {_advice(silent[:_ENOUGH], grading)}, or go on with --allow-unanswered."


def _advice(silent: list[tuple[str, str]], grading: Grading) -> str:
    """What most of the unanswered samples need."""
    if all(not text.strip() for text, _ in silent):
        return "their texts are empty, so look at what wrote them"
    reasons = Counter()
    for text, finish in silent:
        if not grading.read_cut_off and finish == CUT_OFF:
            reasons["cut"] += 1
        elif not grading.read_cut_off and "<think>" in text.rpartition("</think>")[2]:
            reasons["thought"] += 1
        elif "\x08oxed" in text:
            reasons["backspace"] += 1
        else:
            reasons.update(form for form in _TRIED if extract_answer(text, form=form) is not None)
    if not reasons:
        return "give the format of their answers with --answer (regex:PATTERN or json:KEY for one of your own)"
    best = max(("cut", "thought", "backspace", *_TRIED), key=lambda reason: reasons[reason])
    return {
        "cut": f"{reasons['cut']} were cut off, so raise their limit of tokens (max_tokens), or read them with --read-cut-off",
        "thought": f"{reasons['thought']} end within a thought, so give them more tokens, or read them with --read-cut-off",
        "backspace": f"{reasons['backspace']} hold a backspace where \\boxed should be, so write \\\\boxed in their JSON",
    }.get(best) or f"--answer {best} reads {reasons[best]} of them"
