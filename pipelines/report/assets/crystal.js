// One crystal: the atoms of its cell, what they are bonded to across the cell's faces, and the polyhedra these make.

// A bond is drawn to neighbours hardly farther than the nearest one, which keeps cation-cation lines out of ionic crystals
// (CsCl's second shell is at 1.155), and not beyond what covalent radii allow, which keeps layers apart. Between elements of
// unlike electronegativity, as in distorted octahedra, a longer one is.
const SHELL = 1.12, IONIC_SHELL = 1.3, COVALENT = 1.3, CUTOFF = 5, UNLIKE = 0.5, EDGE = 1e-3;

const determinant = (m) => m[0].reduce((sum, x, k) => sum + x * cross(m[1], m[2])[k], 0);
function inverse(m) {
  const d = determinant(m);
  const columns = [cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])];
  return [0, 1, 2].map((i) => columns.map((column) => column[i] / d));
}
const times = (v, m) => [0, 1, 2].map((k) => v[0] * m[0][k] + v[1] * m[1][k] + v[2] * m[2][k]); // row vectors
const plus = (u, v) => u.map((x, k) => x + v[k]);
const minus = (u, v) => u.map((x, k) => x - v[k]);
function* box(low, high) {
  for (let i = low[0]; i <= high[0]; i++)
    for (let j = low[1]; j <= high[1]; j++) for (let k = low[2]; k <= high[2]; k++) yield [i, j, k];
}

// Of each site its bonds: [{ site, image (cells away), towards: the other is more electronegative }].
function bondsOf(record, elements) {
  const { lattice, symbols } = record, n = symbols.length;
  const sites = record.sites.map((at) => at.map((x) => x - Math.floor(x + EDGE)));
  const volume = Math.abs(determinant(lattice));
  const heights = [[1, 2], [2, 0], [0, 1]].map(([j, k]) => volume / Math.hypot(...cross(lattice[j], lattice[k])));
  const reach = heights.map((height) => Math.ceil(CUTOFF / height));
  const images = [...box(reach.map((r) => -r), reach)].map((image) => [image, times(image, lattice)]);
  const pairs = [], nearest = Array(n).fill(Infinity), near = Array.from({ length: n }, () => []);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      const step = times(minus(sites[j], sites[i]), lattice);
      for (const [image, shift] of images) {
        const vector = plus(step, shift), d = Math.hypot(...vector);
        if (d > CUTOFF || d < 1e-6) continue;
        nearest[i] = Math.min(nearest[i], d);
        pairs.push([i, j, image, vector, d]);
        near[i].push([vector, d]);
      }
    }
  const bonds = Array.from({ length: n }, () => []);
  // An atom stands between two if it is much nearer to the other one, and nearer to the first: the O of M-O-S.
  const between = (vector, j, d) =>
    near[j].some(([onward, e]) => e < 0.75 * d && Math.hypot(...plus(vector, onward)) < d && Math.hypot(...plus(vector, onward)) > 1e-3);
  for (const [i, j, image, vector, d] of pairs) {
    const [, ri, xi] = elements[symbols[i]], [, rj, xj] = elements[symbols[j]];
    const unlike = (xj ?? 0) - (xi ?? 0);
    const shell = (Math.abs(unlike) > UNLIKE ? IONIC_SHELL : SHELL) * Math.max(nearest[i], nearest[j]);
    if (d < Math.min(shell, COVALENT * (ri + rj)) && !between(vector, j, d)) bonds[i].push({ site: j, image, towards: unlike > UNLIKE });
  }
  return { sites, bonds };
}

// Faces of the convex hull of a few points, each with all its corners in order.
function hullFaces(points) {
  const faces = new Map();
  const n = points.length, tolerance = 0.05; // Å: corners so near to a plane lie in it
  for (let i = 0; i < n; i++)
    for (let j = i + 1; j < n; j++)
      for (let k = j + 1; k < n; k++) {
        const normal = cross(minus(points[j], points[i]), minus(points[k], points[i]));
        const size = Math.hypot(...normal);
        if (size < 1e-3) continue;
        const along = points.map((p) => minus(p, points[i]).reduce((sum, x, m) => sum + (x * normal[m]) / size, 0));
        if (!along.every((d) => d < tolerance) && !along.every((d) => d > -tolerance)) continue;
        const inside = along.flatMap((d, m) => (Math.abs(d) < tolerance ? [m] : []));
        if (inside.length === n) continue; // flat: no polyhedron
        faces.set(inside.join(), { inside, axis: unit(minus(points[j], points[i])), normal: normal.map((x) => x / size) });
      }
  return [...faces.values()].map(({ inside, axis, normal }) => {
    const middle = inside.reduce((sum, m) => plus(sum, points[m]), [0, 0, 0]).map((x) => x / inside.length);
    const other = cross(normal, axis), dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    const angle = (m) => Math.atan2(dot(minus(points[m], middle), other), dot(minus(points[m], middle), axis));
    return inside.sort((a, b) => angle(a) - angle(b)).map((m) => points[m]);
  });
}

// The content of a scene. options: conventional, supercell (cells along each axis), polyhedra, labels.
function crystalScene(record, elements, options) {
  const { sites, bonds } = bondsOf(record, elements), { lattice, symbols } = record;
  const rows = (options.conventional && record.conventional) || [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
  const one = rows.map((row) => times(row, lattice)), whole = rows.map((row) => row.map((x) => x * options.supercell));
  const back = inverse(whole);
  const corners = [...box([0, 0, 0], [1, 1, 1])].map((c) => times(c, whole));
  const low = [0, 1, 2].map((k) => Math.min(...corners.map((c) => c[k])) - 1);
  const high = [0, 1, 2].map((k) => Math.max(...corners.map((c) => c[k])));
  const atoms = new Map();
  const add = (site, cell) => {
    const key = `${site},${cell}`;
    if (!atoms.has(key)) atoms.set(key, { site, cell, at: times(plus(sites[site], cell), lattice) });
    return atoms.get(key);
  };
  for (const cell of box(low, high))
    for (let site = 0; site < sites.length; site++)
      if (times(plus(sites[site], cell), back).every((x) => x > -EDGE && x < 1 + EDGE)) add(site, cell);
  const faces = [], color = (site) => elements[symbols[site]][0];
  const radius = (site) => 0.12 + 0.33 * elements[symbols[site]][1];
  for (const { site, cell } of [...atoms.values()]) {
    const around = bonds[site].filter((bond) => bond.towards).map((bond) => add(bond.site, plus(cell, bond.image)));
    if (options.polyhedra && around.length > 3 && around.length <= 12)
      for (const points of hullFaces(around.map((atom) => atom.at))) faces.push({ points, color: color(site) });
  }
  const lines = [];
  for (const [key, { site, cell, at }] of atoms)
    for (const bond of bonds[site]) {
      const other = atoms.get(`${bond.site},${plus(cell, bond.image)}`);
      if (!other || key > `${other.site},${other.cell}`) continue;
      // Each half begins at its ball's surface, so that it lies before or behind the ball as it should.
      const along = unit(minus(other.at, at)), middle = at.map((x, k) => (x + other.at[k]) / 2);
      const [from, to] = [plus(at, along.map((x) => 0.9 * radius(site) * x)), minus(other.at, along.map((x) => 0.9 * radius(other.site) * x))];
      lines.push({ from, to: middle, color: color(site), width: -0.16 }, { from: middle, to, color: color(other.site), width: -0.16 });
    }
  const n = options.supercell;
  for (const start of box([0, 0, 0], [n, n, n]))
    for (const k of [0, 1, 2]) {
      if (start[k] === n) continue;
      const end = start.map((x, m) => x + (m === k));
      lines.push({ from: times(start, one), to: times(end, one), color: "#8a8f98", width: 1.2 });
    }
  const balls = [...atoms.values()].map(({ site, at }) => {
    const inside = times(sites[site], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]).map((x) => x.toFixed(3)).join(", ");
    return { at, radius: radius(site), color: color(site), title: `${symbols[site]} (${inside})`,
      label: options.labels ? `${symbols[site]}(${site})` : "" };
  });
  return { lines, balls, faces, axes: one.map((vector, k) => ({ vector, text: "abc"[k] })) };
}
