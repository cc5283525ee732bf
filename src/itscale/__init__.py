"""How many samples, rounds and votes a question deserves: OptScale, MarkovScale and OptPO.

What follows is for scripts, and is imported when it is first asked for:

    from itscale import EngineSettings, make_policy, open_engine, read_questions, solve

    with open_engine(EngineSettings("results/models/language_model")) as engine:
        run = solve(read_questions("my.jsonl"), engine, make_policy("vote_lead", lead=3, n_max=16))
    print(run.answers, run.summary(), sep="\\n")
"""

import importlib
from typing import Any

_HOME = {
    "EngineSettings": "engines",
    "Problem": "data.records",
    "Sampling": "engines.protocol",
    "Stopper": "drivers.stopper",
    "Verifier": "models.verifier",
    "as_policy": "policies.scalar",
    "make_policy": "policies",
    "open_engine": "engines",
    "read_questions": "sources.samples",
    "replay": "drivers.replay",
    "solve": "drivers.live",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'itscale' has no attribute {name!r}")
    return getattr(importlib.import_module(f"itscale.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
