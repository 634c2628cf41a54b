"""A crystal's unit cell as a plotly scatter3d figure. Called once a stable crystal."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go

from gnome_core.crystals.crystal import Crystal
from gnome_core.graphs.neighbors import neighbor_list

# A bond is drawn to neighbours hardly farther than the nearest one, which keeps cation-cation lines out of ionic
# crystals (CsCl's second shell is at 1.155), and not beyond what covalent radii allow, which keeps layers apart.
SHELL = 1.12
COVALENT = 1.3
NEIGHBOR_CUTOFF = 5.0  # Å
EDGE = 1e-3  # fractional: an atom this close to a cell face is drawn on the opposite face too


def cell_view(crystal: Crystal) -> go.Figure:
    """The conventional ball-and-stick picture of one unit cell; atoms on faces, edges and corners are repeated."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    positions, rows = _drawn_atoms(crystal)
    numbers = crystal.numbers[rows]
    figure = go.Figure(layout={"template": "none"})
    figure.add_trace(_segments(_cell_edges(crystal.lattice), color="#8a8f98", width=3))
    figure.add_trace(_segments(_bonds(crystal, positions, rows, covalent_radii), color="#a9adb5", width=6))
    for number in sorted(set(numbers.tolist())):
        red, green, blue = (int(255 * c) for c in jmol_colors[number])
        chosen = positions[numbers == number].round(4)
        figure.add_scatter3d(
            x=chosen[:, 0].tolist(),
            y=chosen[:, 1].tolist(),
            z=chosen[:, 2].tolist(),
            mode="markers",
            name=chemical_symbols[number],
            hovertemplate=chemical_symbols[number] + " (%{x:.2f}, %{y:.2f}, %{z:.2f}) Å<extra></extra>",
            marker={
                "size": 6 + 7 * float(covalent_radii[number]),
                "color": f"rgb({red},{green},{blue})",
                "line": {"color": "#55595f", "width": 1},
                "opacity": 1,
            },
        )
    figure.update_layout(
        scene={
            **{axis: {"visible": False} for axis in ("xaxis", "yaxis", "zaxis")},
            "aspectmode": "data",
            "dragmode": "orbit",
            # Off every axis and diagonal, so that no row of atoms hides another.
            "camera": {"eye": {"x": 1.5, "y": 0.8, "z": 0.5}, "projection": {"type": "orthographic"}},
        },
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h", "x": 0, "y": 1, "itemsizing": "trace"},
    )
    return figure


def _drawn_atoms(crystal: Crystal) -> tuple[np.ndarray, np.ndarray]:
    """Cartesian positions (m, 3), Å, and site rows (m,) of the cell's atoms and their copies on the opposite faces."""
    frac = crystal.frac_coords % 1.0
    frac = np.where(frac > 1 - EDGE, frac - 1, frac)  # a coordinate of 0.9999 lies on the face at 0
    rows, shifts = [], []
    for row, coords in enumerate(frac):
        for shift in itertools.product(*[(0, 1) if abs(c) < EDGE else (0,) for c in coords]):
            rows.append(row)
            shifts.append(shift)
    return (frac[rows] + np.array(shifts)) @ crystal.lattice, np.array(rows)


def _bonds(crystal: Crystal, positions: np.ndarray, rows: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(b, 2, 3) end points, Å, of the bonds between drawn atoms; `rows` names the site of each."""
    neighbors = neighbor_list(crystal, NEIGHBOR_CUTOFF)
    frac = crystal.frac_coords
    vectors = (frac[neighbors.receivers] + neighbors.images - frac[neighbors.senders]) @ crystal.lattice
    nearest = np.zeros(crystal.n_sites)  # an atom with no neighbour within the cutoff has no bonds
    nearest[neighbors.senders] = np.inf
    np.minimum.at(nearest, neighbors.senders, np.linalg.norm(vectors, axis=1))

    radius = radii[crystal.numbers[rows]]
    shell = SHELL * np.maximum(nearest[rows][:, None], nearest[rows][None, :])
    limit = np.minimum(shell, COVALENT * (radius[:, None] + radius[None, :]))
    distance = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    first, second = np.nonzero(np.triu(distance < limit, k=1))
    return np.stack([positions[first], positions[second]], axis=1)


def _cell_edges(lattice: np.ndarray) -> np.ndarray:
    """(12, 2, 3) end points of the cell's edges, Å."""
    corners = [np.array(c) for c in itertools.product((0, 1), repeat=3)]
    pairs = [(a, b) for a, b in itertools.combinations(corners, 2) if np.abs(a - b).sum() == 1]
    return np.array(pairs, dtype=float) @ lattice


def _segments(ends: np.ndarray, color: str, width: int) -> go.Scatter3d:
    """One line trace through all segments; None between them lifts the pen."""
    x, y, z = ([v for a, b in ends[:, :, axis].round(4).tolist() for v in (a, b, None)] for axis in range(3))
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", line={"color": color, "width": width}, hoverinfo="skip", showlegend=False
    )
