"""The workflow's rules as a picture: layers from what needs nothing down to the figures, as inline SVG."""

import html
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

_BOX = (154, 34)
_GAP = (16, 26)
_LANE = 12  # width of a long edge that passes a layer
_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class _Place:
    x: float
    y: float
    width: float


def merged(graph: nx.DiGraph, prefix: str, name: str) -> nx.DiGraph:
    """The graph with all nodes that begin with `prefix` as one node."""
    one = nx.DiGraph()
    rename = {node: name if node.startswith(prefix) else node for node in graph}
    one.add_nodes_from(rename.values())
    one.add_edges_from((rename[u], rename[v]) for u, v in graph.edges if rename[u] != rename[v])
    return one


def draw(graph: nx.DiGraph, notes: dict[str, str], label: str = "rules of the workflow") -> str:
    """SVG of an acyclic graph, edges that others imply left out; `notes` is a second line of some boxes, `label` its title."""
    reduced = nx.DiGraph()
    reduced.add_nodes_from(graph)
    reduced.add_edges_from(sorted(nx.transitive_reduction(graph).edges))  # in an order of its own from run to run
    graph = reduced
    layers, chains = _layers(graph)
    places = _places(layers)
    width = max(p.x + p.width / 2 for p in places.values())
    height = len(layers) * (_BOX[1] + _GAP[1]) - _GAP[1]
    size = f'viewBox="-4 -4 {width + 8:.0f} {height + 8}" style="max-width: {width + 8:.0f}px"'
    parts = [f'<svg class="rules" {size} role="img" aria-label="{html.escape(label)}">']
    parts += [_edge([places[node] for node in chain]) for chain in chains]
    for node in graph:
        place, note = places[node], notes.get(node, "")
        middle = place.y + _BOX[1] / 2
        parts.append(f'<rect x="{place.x - _BOX[0] / 2:.1f}" y="{place.y}" width="{_BOX[0]}" height="{_BOX[1]}" rx="5"/>')
        parts.append(f'<text x="{place.x:.1f}" y="{middle + (-2 if note else 4)}">{html.escape(node)}</text>')
        if note:
            parts.append(f'<text class="note" x="{place.x:.1f}" y="{middle + 11}">{html.escape(note)}</text>')
    return "".join([*parts, "</svg>"])


def _layers(graph: nx.DiGraph) -> tuple[list[list], list[list]]:
    """Nodes by layer, long edges broken by a point in each layer they pass (a tuple), ordered so that few edges cross."""
    layers = [list(layer) for layer in nx.topological_generations(graph)]
    depth = {node: i for i, layer in enumerate(layers) for node in layer}
    chains = []
    for u, v in graph.edges:
        points = [(u, v, i) for i in range(depth[u] + 1, depth[v])]
        for point in points:
            layers[point[2]].append(point)
        chains.append([u, *points, v])
    near: dict = {node: ([], []) for layer in layers for node in layer}
    for u, v in (pair for chain in chains for pair in pairwise(chain)):
        near[u][1].append(v)
        near[v][0].append(u)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for i in range(1, len(layers)) if down else range(len(layers) - 2, -1, -1):
            beside = layers[i - 1 if down else i + 1]
            rank = {node: r / max(len(beside) - 1, 1) for r, node in enumerate(beside)}
            own = {node: r / max(len(layers[i]) - 1, 1) for r, node in enumerate(layers[i])}
            linked = {node: near[node][0 if down else 1] for node in layers[i]}
            centre = {n: sum(map(rank.__getitem__, to)) / len(to) if to else own[n] for n, to in linked.items()}
            layers[i].sort(key=centre.__getitem__)
    return layers, chains


def _places(layers: list[list]) -> dict:
    """Where each node stands; every layer is centred."""
    widths = [[_LANE if isinstance(node, tuple) else _BOX[0] for node in layer] for layer in layers]
    totals = [sum(w) + _GAP[0] * (len(w) - 1) for w in widths]
    places = {}
    for i, (layer, wide, total) in enumerate(zip(layers, widths, totals, strict=True)):
        x = (max(totals) - total) / 2
        for node, width in zip(layer, wide, strict=True):
            places[node] = _Place(x + width / 2, i * (_BOX[1] + _GAP[1]), width)
            x += width + _GAP[0]
    return places


def _edge(stops: list[_Place]) -> str:
    """A curve from the foot of the first place through the points between to the head of the last."""
    path = f"M{stops[0].x:.1f},{stops[0].y + _BOX[1]}"
    for before, after in pairwise(stops):
        start, end = before.y + _BOX[1], after.y
        bend = (start + end) / 2
        path += f" C{before.x:.1f},{bend} {after.x:.1f},{bend} {after.x:.1f},{end}"
        if after is not stops[-1]:
            path += f" V{end + _BOX[1]}"
    return f'<path d="{path}"/>'
