"""Draw docs/house.svg from the imports as they are: `python docs/draw_house.py`."""

import sys
from pathlib import Path

import grimp
import networkx as nx

from itscale.report.graph import draw

# What everybody may import, and the door that imports everything, would only add lines.
LEFT_OUT = {"errors", "progress", "cli", "__main__"}
STYLE = (
    "rect{fill:#fff;stroke:#333}text{font:13px sans-serif;text-anchor:middle}"
    ".note{font-size:10px;fill:#666}path{fill:none;stroke:#888;stroke-width:1.2}"
)


def rooms() -> nx.DiGraph:
    """Rooms and who imports whom, from the lower room to the upper."""
    imports = grimp.build_graph("itscale", cache_dir=None)
    pairs = {
        tuple(name.split(".")[1] if "." in name else "" for name in (other, module))
        for module in imports.modules
        for other in imports.find_modules_directly_imported_by(module)
    }
    return nx.DiGraph(sorted(pair for pair in pairs if len({*pair} - {"", *LEFT_OUT}) == 2))


def picture() -> str:
    svg = draw(rooms(), {}, "rooms of the package and who imports whom")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f"><style>{STYLE}</style>", 1) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("house.svg")
    target.write_text(picture())
