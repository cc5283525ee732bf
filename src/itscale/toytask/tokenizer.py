"""A tokenizer of symbols for the toy task, saved and loaded as any other Hugging Face tokenizer."""

import re
from typing import TYPE_CHECKING

from itscale.models.prompts import AFTER_PREVIOUS, BEFORE_PREVIOUS, SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The sentence of a re-answer round around the previous answer. It is one symbol on either side, so that such a prompt
# costs a model of a million parameters hardly more than the first one; its text is kept and decodes to itself.
_SPECIAL = {
    "pad_token": "<pad>",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
}
_MARKERS = ["<user>", "<assistant>", SEPARATOR]
_SYMBOLS = [*"0123456789+-*=", "\n", BEFORE_PREVIOUS, AFTER_PREVIOUS, "\\boxed{", "}"]
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<assistant>"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ raise_exception('the toy task knows no role but user and assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer: one token a symbol, exact decoding, a chat template without a system turn."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        pre_tokenizers,
    )
    from transformers import PreTrainedTokenizerFast

    names = [*_SPECIAL.values(), *_MARKERS, *_SYMBOLS]
    core = Tokenizer(
        models.WordLevel(
            {name: index for index, name in enumerate(names)},
            unk_token=_SPECIAL["unk_token"],
        )
    )
    # Longest first: an alternation takes the first that matches.
    pattern = "|".join(re.escape(symbol) for symbol in sorted(_SYMBOLS, key=len, reverse=True))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*_SPECIAL.values(), *_MARKERS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        **_SPECIAL,
        chat_template=_TEMPLATE,
        model_max_length=256,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
