"""Prompts: the question alone, or with the answer of the round before (MR-Thinking, arXiv 2503.19855)."""

from typing import Any

BEFORE_PREVIOUS = "\nThe assistant's previous answer is: $\\boxed{"
AFTER_PREVIOUS = "}$, and please re-answer."
# Stands after every step that a process reward model scores (Qwen2.5-Math-PRM).
SEPARATOR = "<extra_0>"


def user_turn(question: str, previous: str | None) -> str:
    """The user's message; `previous` is the latest parsed answer, None in the first round or where there is none so far."""
    if previous is None:
        return question
    return f"{question}{BEFORE_PREVIOUS}{previous}{AFTER_PREVIOUS}"


def split_steps(text: str, step_break: str = "\n") -> list[str]:
    """Steps of a solution: what stands between the breaks (lines, by default), blank ones left out."""
    return [step for step in text.split(step_break) if step.strip()]


def render(tokenizer: Any, question: str, previous: str | None) -> list[int]:
    """Token ids of the chat prompt, with the opening of the assistant's turn."""
    messages = [{"role": "user", "content": user_turn(question, previous)}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]
