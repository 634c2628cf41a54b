import numpy as np

from gnome_core.potentials.lbfgs import LBFGS, LONGEST


def descend(energy_and_forces, x: np.ndarray, steps: int) -> tuple[np.ndarray, list[float]]:
    optimizer, energies = LBFGS(), []
    for _ in range(steps):
        energy, forces = energy_and_forces(x)
        energies.append(energy)
        if np.abs(forces).max() < 1e-6:
            break
        move = optimizer.move(energy, forces)
        assert np.linalg.norm(move, axis=1).max() <= LONGEST + 1e-12
        x = x + move
    return x, energies


def test_a_stiff_valley_is_followed_to_its_end():
    """Stiffnesses of 1 to 100 eV/Å^2, turned so that no coordinate is one of them."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    hessian = turn @ np.diag(np.geomspace(1, 100, 12)) @ turn.T
    goal = rng.normal(size=12) / 5

    def well(x):
        off = x.ravel() - goal
        return 0.5 * off @ hessian @ off, -(hessian @ off).reshape(x.shape)

    x, energies = descend(well, np.zeros((4, 3)), 60)
    assert np.allclose(x.ravel(), goal, atol=1e-5)
    assert len(energies) < 45


def test_a_saddle_is_left_and_a_wall_is_not_run_into():
    """A double well whose forces vanish between its minima, and a steep wall behind them."""

    def wells(x):
        u = x.ravel()[0]
        rest = x.ravel()[1:]
        energy = 40 * (u**2 - 0.25) ** 2 + 10 * (rest**2).sum()
        forces = np.concatenate([[-160 * u * (u**2 - 0.25)], -20 * rest])
        return energy, forces.reshape(x.shape)

    start = np.array([[0.01, 0.4, 0.2]])
    x, energies = descend(wells, start, 60)
    assert np.allclose(np.abs(x), [[0.5, 0, 0]], atol=1e-4)
    assert max(energies) < 2 * energies[0]
