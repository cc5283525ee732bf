"""Stand-ins for models of the hub: the same architectures and file names, with random weights and the toy task's tokenizer."""

from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
)

from itscale.models.prompts import CARD_PROMPT
from itscale.models.verifier import Qwen2ForProcessRewardModel
from itscale.toytask.tokenizer import build_tokenizer

FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def sizes(tokenizer, window: int) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": window,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def language_model(folder: Path, family: str) -> Path:
    """A causal language model of a family."""
    tokenizer = build_tokenizer()
    config, cls = FAMILIES[family]
    torch.manual_seed(0)
    cls(config(**sizes(tokenizer, 512))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def reward_model(folder: Path, *, published: bool, window: int = 4096) -> Path:
    """A process reward model in Qwen2 form: a token classifier, or with the two-layer head of Qwen2.5-Math-PRM."""
    tokenizer = build_tokenizer()
    config: PretrainedConfig = Qwen2Config(**sizes(tokenizer, window), num_labels=2)
    torch.manual_seed(1)
    if published:  # its template has the system prompt of its card
        tokenizer.chat_template = f"{{{{ {CARD_PROMPT!r} }}}}" + tokenizer.chat_template
    (Qwen2ForProcessRewardModel if published else Qwen2ForTokenClassification)(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
