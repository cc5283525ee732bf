"""Packed layers against a model that is not packed."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from itscale.engines.packed import PackedLinear, pack, take_weights

pytestmark = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor does not multiply bfloat16: nothing is packed"
)


def small_model(seed, dtype=torch.bfloat16, *, tied=True):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


@torch.inference_mode()
def logits(model, rows=5):
    return model(torch.arange(rows * 7).view(rows, 7) % 300).logits.float()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 64])
def test_a_packed_model_computes_the_same_and_takes_over_weights(rows, tied):
    model, other = small_model(0, tied=tied), small_model(1, tied=tied)
    before, to_be = logits(model), logits(other)
    assert (before - to_be).abs().max() > 0.1
    pack(model, rows)
    assert sum(isinstance(layer, PackedLinear) for layer in model.modules()) == 2 * 7 + 1
    torch.testing.assert_close(logits(model), before, atol=0.02, rtol=0.02)
    take_weights(model, other)
    torch.testing.assert_close(logits(model), to_be, atol=0.02, rtol=0.02)


def test_a_model_in_float32_stays_as_it_is():
    model = small_model(0, torch.float32)
    pack(model, 64)
    assert not any(isinstance(layer, PackedLinear) for layer in model.modules())


def test_weights_of_another_shape_are_refused():
    model, deeper = small_model(0), small_model(1)
    deeper.model.layers.append(deeper.model.layers[0])
    pack(model, 1)
    with pytest.raises(ValueError, match="differ"):
        take_weights(model, deeper)
