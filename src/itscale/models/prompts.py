"""Prompts: the question alone, or with the answer of the round before (MR-Thinking, arXiv 2503.19855); ours, or as released."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any, Literal, get_args

from itscale.errors import UserError

BEFORE_PREVIOUS = "\nThe assistant's previous answer is: $\\boxed{"
AFTER_PREVIOUS = "}$, and please re-answer."
# Stands after every step that a process reward model scores (Qwen2.5-Math-PRM).
SEPARATOR = "<extra_0>"
# The system prompt on the card of Qwen2.5-Math-PRM, which its template has by itself.
CARD_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
# Asks for what the grader reads.
BOX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
# What stands before the question in the released code of OptScale (arXiv 2506.22376), in every round.
RELEASED = (
    "Answer the following questions. You should think step-by-step and put your final answer within $\\boxed{answer}$, "
    "where [answer] is just the final number or expression that solves the problem.\n Question: "
)
Form = Literal["own", "published", "forced"]
# What budget forcing (s1, arXiv 2501.19393) says after a completion that has ended.
WAIT = "\nWait,"
# Where the thought of a model that thinks first ends.
THOUGHT = "</think>"
# Templates that print today's date (Llama 3.2) print this one, which is also what they say without a clock.
DATE = "2024-07-26"
# Of a private area: takes the place of a text until the template is rendered.
_PLACE = "\uf0a7"


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """What stands around a question: `instruction` after it, `system_prompt` before it, and what the chat template is told.

    `template_arguments` go to the template by name (`enable_thinking`); `date` (ISO) is what a template reads for today.
    `form` published is the released prompt: its own instruction stands before the question and `instruction` is not read; a
    round after the first carries the first box of the last output, an empty one where there is none (`first_box`). `form` forced
    is budget forcing: a round after the first goes on in the assistant's turn, behind all completions so far and `wait`.
    """

    instruction: str = ""
    system_prompt: str = ""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str = DATE
    form: Form = "own"
    wait: str = WAIT

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UserError(f"prompt is {self.form!r}: choose own, published or forced.")
        try:
            date.fromisoformat(self.date)
        except ValueError:
            raise UserError(f"date is {self.date!r}: give a day as 2024-07-26.") from None


PLAIN = PromptSettings()


def user_turn(question: str, previous: str | None) -> str:
    """The user's message; `previous` is the latest parsed answer, None in the first round or where there is none so far."""
    if previous is None:
        return question
    return f"{question}{BEFORE_PREVIOUS}{previous}{AFTER_PREVIOUS}"


def message(question: str, previous: str | None, settings: PromptSettings) -> str:
    """The user's message under the settings: with our instruction after the question, or the released one before it."""
    asked = f"{RELEASED}{question}" if settings.form == "published" else question + settings.instruction
    return user_turn(asked, previous)


def first_box(text: str) -> str:
    r"""What the first `\boxed{}` of an output holds, as the released prompt carries it; nothing where no box is closed.

    Ours is what lies between its braces. The released code reads on to the last brace of the line where more follow.
    """
    _, box, rest = text.partition("\\boxed{")
    depth = 1 if box else 0
    for place, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[:place]
    return ""


def split_steps(text: str, step_break: str = "\n") -> list[str]:
    """Steps of a solution: what stands between the breaks (lines, by default), blank ones left out."""
    return [step for step in text.split(step_break) if step.strip()]


def marks(tokenizer: Any) -> re.Pattern:
    """The tokenizer's special tokens and the separator of steps, as they would stand in a text."""
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return re.compile("|".join(re.escape(mark) for mark in sorted(special | {SEPARATOR}, key=len, reverse=True)))


def encode_text(tokenizer: Any, text: str, special: re.Pattern) -> list[int]:
    """Token ids of a text of which nothing is a special token: where it writes out one of `marks`, that is spelt as text."""
    cuts = [match.start() + 1 for match in special.finditer(text)]
    pieces = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)])]
    return [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def can_read(tokenizer: Any, text: str) -> bool:
    """Whether a tokenizer has tokens for all of a text; one of symbols (the toy task's) has not."""
    return tokenizer.unk_token_id is None or tokenizer.unk_token_id not in tokenizer(text, add_special_tokens=False)["input_ids"]


def render(tokenizer: Any, question: str, previous: str | None, settings: PromptSettings = PLAIN) -> list[int]:
    """Token ids of the chat prompt, with the opening of the assistant's turn.

    Without a chat template (base models) the prompt is plain: system prompt and blank line, the user's turn, a line break.

    Raises:
        UserError: the template refuses the system prompt or an argument; the published prompt is asked of a model of symbols.
    """
    if settings.form == "published" and not can_read(tokenizer, RELEASED):
        raise UserError("engine.prompt is published, and the model's tokenizer has no letters for it: choose own.")
    if settings.form == "forced" and previous is not None:
        return forced(tokenizer, question, previous, settings)
    content, special = message(question, previous, settings), marks(tokenizer)
    if not tokenizer.chat_template:
        before = f"{settings.system_prompt}\n\n" if settings.system_prompt else ""
        return tokenizer(before)["input_ids"] + encode_text(tokenizer, f"{content}\n", special)
    if not special.search(content):
        return tokenizer(rendered(tokenizer, content, settings), add_special_tokens=False)["input_ids"]
    around = rendered(tokenizer, _PLACE, settings).split(_PLACE)
    ids = tokenizer(around[0], add_special_tokens=False)["input_ids"]
    for after in around[1:]:
        ids += encode_text(tokenizer, content, special) + tokenizer(after, add_special_tokens=False)["input_ids"]
    return ids


def asked_again(tokenizer: Any, question: str, text: str, asked: str, settings: PromptSettings = PLAIN) -> list[int]:
    """Token ids of a question's first prompt, the answer's text as the assistant's turn, and one more turn of the user.

    Raises:
        UserError: as `render`, or the template leaves out what the assistant said.
    """
    if not tokenizer.chat_template:
        return render(tokenizer, question, None, settings) + encode_text(tokenizer, f"{text}\n{asked}\n", marks(tokenizer))
    turns = [("user", _PLACE), ("assistant", _PLACE), ("user", asked)]
    around = _rendered(tokenizer, [{"role": role, "content": content} for role, content in turns], settings).split(_PLACE)
    if len(around) != 3:
        raise UserError("the model's chat template does not show what the assistant said before: score with another model.")
    said = (message(question, None, settings), text, "")
    ids: list[int] = []
    for piece, content in zip(around, said, strict=True):
        ids += tokenizer(piece, add_special_tokens=False)["input_ids"] + encode_text(tokenizer, content, marks(tokenizer))
    return ids


def forced(tokenizer: Any, question: str, so_far: str, settings: PromptSettings) -> list[int]:
    """Token ids of a first round's prompt and of what the assistant has said so far, `settings.wait` included.

    Raises:
        UserError: the model's tokenizer has no letters for `settings.wait`.
    """
    if not can_read(tokenizer, settings.wait):
        raise UserError(f"engine.wait is {settings.wait!r}, and the model's tokenizer has no letters for it: choose another.")
    return render(tokenizer, question, None, settings) + encode_text(tokenizer, so_far, marks(tokenizer))


def rendered(tokenizer: Any, content: str, settings: PromptSettings = PLAIN) -> str:
    """The text of the chat prompt of one user's turn.

    Raises:
        UserError: the template refuses the system prompt or an argument.
    """
    return _rendered(tokenizer, [{"role": "user", "content": content}], settings)


def _rendered(tokenizer: Any, turns: list[dict[str, str]], settings: PromptSettings) -> str:
    from jinja2 import TemplateError

    day = date.fromisoformat(settings.date)
    system = [{"role": "system", "content": settings.system_prompt}] if settings.system_prompt else []
    try:
        return tokenizer.apply_chat_template(
            [*system, *turns],
            add_generation_prompt=True,
            tokenize=False,
            **{"strftime_now": day.strftime, **settings.template_arguments},
        )
    except TemplateError as error:
        raise UserError(
            f"the model's chat template refuses the prompt ({error}): change system_prompt or template_arguments."
        ) from None
