"""How much memory training a model takes, by part, from its shape: what `itscale plan` says before anything runs.

For decoders of the Llama kind (Llama, Qwen, Mistral): RMS norms, rotary positions, grouped keys, a gated feed-forward layer.
Bytes are of tensors; a GPU's context and the allocator's slack come on top (`RESERVE` of a GPU's memory).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from itscale.errors import UserError

# Share of a GPU that no tensor gets: context, libraries' workspaces, what the allocator cannot place.
RESERVE = 0.08
# Of a weight, with moments in 8 bits: two bytes, and two float32 scales for each block of 256 weights.
_MOMENTS_IN_8_BITS = 2 + 2 * 4 / 256
# Tile of logits that TRL's output layer makes: tokens x words of the vocabulary. Its kernel on a GPU holds one, torch on a CPU
# eight at the most (measured).
_TILE = 4096, 32768
_TILES_ON_CPU = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths of a decoder: `queries` and `keys` of all heads together; `tied`: the output layer is the embedding."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    queries: int
    keys: int
    tied: bool = False
    bias: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any], where: str) -> "Shape":
        """From a model's config.json.

        Raises:
            UserError: it lacks a width.
        """
        try:
            heads = config["num_attention_heads"]
            width = config.get("head_dim") or config["hidden_size"] // heads
            return cls(
                hidden=config["hidden_size"],
                layers=config["num_hidden_layers"],
                intermediate=config["intermediate_size"],
                vocabulary=config["vocab_size"],
                queries=heads * width,
                keys=(config.get("num_key_value_heads") or heads) * width,
                tied=config.get("tie_word_embeddings", False),
                bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
            )
        except KeyError as error:
            raise UserError(
                f"{where} lacks {error.args[0]!r}, which the memory of a training is reckoned from: state it."
            ) from None

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        biases = (self.queries + 2 * self.keys) * self.bias
        return attention + biases + 3 * self.hidden * self.intermediate + 2 * self.hidden

    @property
    def embedding(self) -> int:
        """Parameters of the embedding."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA in every linear layer but the output."""
        ends = [(self.hidden, self.queries), (self.hidden, self.keys), (self.hidden, self.keys), (self.queries, self.hidden)]
        ends += [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return self.layers * rank * sum(a + b for a, b in ends)


def training_memory(
    shape: Shape,
    *,
    rows: int,
    prompt: int,
    completion: int,
    algorithm: str = "grpo",
    mixed: bool = True,
    checkpointing: bool = True,
    rank: int | None = None,
    reference: bool = True,
    eight_bit: bool = False,
    gpu: bool = True,
) -> dict[str, float]:
    """Bytes by part at the highest point of a training step with `rows` rows a pass of prompt + completion tokens.

    `rank` is LoRA's. `eight_bit` are AdamW's moments, but for embeddings. `gpu`: output layer and attention's kernels as on a
    GPU; a CPU's hold more tiles.
    """
    tokens, half = rows * (prompt + completion), 2 if mixed else 4
    trained = shape.parameters if rank is None else shape.adapters(rank)
    frozen = 0 if rank is None else shape.parameters
    linear = shape.layers * shape.layer + shape.embedding
    parts: dict[str, float] = {
        "weights": 4.0 * trained + half * frozen,
        "gradients": 4.0 * trained,
        "moments": _moments(trained, shape.embedding if rank is None else 0, eight_bit),
    }
    if reference and rank is None and algorithm != "sft":
        parts["reference"] = float(half * shape.parameters)
    critic = shape.parameters - (0 if shape.tied else shape.embedding)
    if algorithm == "ppo":
        parts["critic"] = 8.0 * critic + _moments(critic, shape.embedding, eight_bit) + (2.0 * critic if mixed else 0)
    if mixed and rank is None:
        parts["weights in bfloat16"] = 2.0 * linear
    one = tokens * _kept_by_a_layer(shape, mixed, rank)
    stream = 4 if not (mixed and rank is not None) else 2
    kept = stream * shape.hidden * tokens
    parts["activations"] = float(shape.layers * kept + one if checkpointing else shape.layers * one)
    if algorithm == "ppo":
        parts["activations"] *= 2
    # SFT's rows on a CPU have scores at the prompt's tokens too.
    scored = tokens if algorithm == "sft" and not gpu else rows * completion
    tile = min(scored, _TILE[0]) * min(shape.vocabulary, _TILE[1]) * half * (1 if gpu else _TILES_ON_CPU)
    parts["output layer"] = float(tile + (4 * shape.embedding if rank is None else 0) + 4 * shape.hidden * scored)
    return parts


def _moments(trained: int, embeddings: int, eight_bit: bool) -> float:
    """Bytes of AdamW's two moments for `trained` weights, `embeddings` of them in embeddings."""
    return 8.0 * embeddings + (_MOMENTS_IN_8_BITS if eight_bit else 8.0) * (trained - embeddings)


def _kept_by_a_layer(shape: Shape, mixed: bool, rank: int | None) -> float:
    """Bytes of a token that one layer keeps for its backward pass; attention's own kernel keeps no probabilities."""
    s = 2 if mixed else 4
    norms = 2 * (4 + 4 + (2 if mixed else 0)) * shape.hidden  # computed in float32
    attention = s * 5 * shape.queries  # queries, keys and values for every head, what comes out, and what goes on
    forward = s * 4 * shape.intermediate
    # What adapters read is cast to their precision.
    lora = 4 * (3 * shape.hidden + shape.queries + shape.intermediate) if rank is not None and mixed else 0
    return norms + attention + forward + lora
