"""The toy models that come with the package: half precision in the file, float32 in use, SHA-256 beside them.

They came out of one training run of this code with the default seed (docs/reproducing.md). Training is chaotic across processors
and sampling hardly is, so that with the same weights every machine draws the same pools but for rare rounding.
"""

import shutil
from pathlib import Path

from itscale.data.records import write_folder
from itscale.models.hub import SUMS, model_files, sums

WEIGHTS = Path(__file__).parent / "weights"
MODELS = ("language_model", "reward_model", "weak_reward_model")


def pack(source: Path, out: Path) -> None:
    """A model folder with its weights in float16 and the SHA-256 of every file; its configuration still says float32.

    Raises:
        UserError: the folder cannot be read, or `out` is there already.
    """
    import torch
    from safetensors.torch import load_file, save_file

    with model_files(source), write_folder(out) as folder:
        for file in sorted(p for p in source.iterdir() if p.suffix in (".json", ".jinja")):
            shutil.copyfile(file, folder / file.name)
        weights = {name: tensor.to(torch.float16) for name, tensor in load_file(source / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / SUMS).write_text(sums(folder))


def unpack(out: Path, source: Path = WEIGHTS) -> None:
    """Copy the three models of the folder `source` to the folder `out`.

    Raises:
        UserError: a model is missing or incomplete, a file's SHA-256 differs, or `out` has such a model already.
    """
    for name in MODELS:
        with model_files(source / name), write_folder(out / name) as folder:
            for file in sorted((source / name).iterdir()):
                if not file.name.startswith("."):
                    shutil.copyfile(file, folder / file.name)
