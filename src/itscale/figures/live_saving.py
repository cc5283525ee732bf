"""What stopping early saved on a real engine: in time against in tokens."""

from pathlib import Path

import numpy as np
import pandas as pd

from itscale.figures.style import figure, look_of

CAPTION = (
    "Live runs on the {benchmark} benchmark: share of the {time} saved against the share of completion tokens saved, each "
    "against the fixed N of the same family on the same engine and questions. Tokens include those that were cut short or came "
    "unused; bars across: 95 % intervals over questions; bars upwards: two readings of the time, each on half of the "
    "questions. On the grey line every saved token is saved time; a point below it paid for its decisions, its verifier or"
    " an engine that was not full. Dotted: 85 % of it."
)


def draw(live: pd.DataFrame, benchmark: str, out: Path) -> None:
    """`live`: a row per engine and method (`itscale step live`); writes `out` as PDF and PNG."""
    rows = live[live["slug"] != live["family"]]  # without the fixed N
    # The clock was read only where nothing else ran.
    name, time = ("wall", "wall-clock time") if rows["wall_saving"].notna().any() else ("processor", "processor time")
    with figure(out, CAPTION.format(benchmark=benchmark, time=time), width=6.6, height=4.4) as (_, axes):
        axis = axes[0]
        top = 100 * max(0.1, rows["token_saving_high"].max())
        ends = np.array([0.0, top])
        axis.plot(ends, ends, color="0.6", lw=1, zorder=0, label="time saved as tokens are")
        axis.plot(ends, 0.85 * ends, color="0.6", lw=1, ls=":", zorder=0, label="85 % of it")
        axis.axhline(0, color="0.8", lw=0.8, zorder=0)
        fills = {name: i == 0 for i, name in enumerate(dict.fromkeys(rows["engine"]))}
        for record in rows.to_dict("records"):
            style = look_of(record["method"])
            saving = 100 * record["token_saving"]
            spread = [[saving - 100 * record["token_saving_low"]], [100 * record["token_saving_high"] - saving]]
            spared, low, high = (100 * record[f"{name}_saving{end}"] for end in ("", "_low", "_high"))
            readings = [[max(spared - low, 0)], [max(high - spared, 0)]]
            axis.errorbar(
                saving,
                spared,
                xerr=spread,
                yerr=readings,
                label=record["method"] + (f", {record['engine']}" if len(fills) > 1 else ""),
                linestyle="none",
                elinewidth=0.8,
                markersize=6,
                markerfacecolor=style["color"] if fills[record["engine"]] else "white",
                **style,
            )
        axis.set_xlabel("completion tokens saved (%)")
        axis.set_ylabel(f"{time} saved (%)")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
