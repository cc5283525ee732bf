"""Which precision is asked of the processor; a file's size is made without its content."""

import pytest
import torch

from itscale.models.precision import precision

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the file decides")


def folder(path, size):
    path.mkdir()
    with open(path / "model.safetensors", "wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    ("able", "large"),
    [
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "avx2": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_a_large_model_has_what_the_processor_multiplies_and_a_small_one_float32(tmp_path, monkeypatch, able, large):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert precision(folder(tmp_path / "large", 65 << 20)) == large
    assert precision(folder(tmp_path / "small", 6 << 20)) == "float32"
    for asked in ("float32", "bfloat16", "float16"):
        assert precision(tmp_path / "large", asked) == precision(tmp_path / "small", asked) == asked
