// Reads the service's metrics (text format of Prometheus) and derives what the panels show.

/** Returns the samples as [{name, labels, value}]. */
export function parsed(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) labels[name] = value;
    samples.push({ name: found[1], labels, value: Number(found[3].replace("+Inf", "Infinity")) });
  }
  return samples;
}

const matches = (sample, condition) => !condition || condition[1].includes(sample.labels[condition[0]]);

/** Returns the sums of the samples called `name` by the value of the label `by`. */
function sums(samples, name, by, condition) {
  const found = new Map();
  for (const sample of samples)
    if (sample.name === name && matches(sample, condition)) {
      const key = by ? sample.labels[by] : name;
      found.set(key, (found.get(key) ?? 0) + sample.value);
    }
  return found;
}

/** Increase of each key; a counter that fell has started again from 0. */
function increases(now, before) {
  const found = new Map();
  for (const [key, value] of now) {
    const old = before.get(key) ?? 0;
    found.set(key, value >= old ? value - old : value);
  }
  return found;
}

/** Returns the panel's value for each line, from two scrapes {time_s, samples}; lines without a value are left out. */
export function values(panel, now, before) {
  const minutes = (now.time_s - before.time_s) / 60;
  const grown = (name, condition) => increases(sums(now.samples, name, panel.by, condition), sums(before.samples, name, panel.by, condition));
  const found = new Map();
  for (const name of panel.metrics) {
    if (panel.kind === "gauge") for (const [key, value] of sums(now.samples, name, panel.by)) found.set(key, value);
    if (panel.kind === "rate") for (const [key, value] of grown(`${name}_total`)) found.set(key, value / minutes);
    if (panel.kind === "share") {
      const part = grown(`${name}_total`, panel.where);
      for (const [key, value] of grown(`${name}_total`, panel.of)) if (value > 0) found.set(key, (100 * (part.get(key) ?? 0)) / value);
    }
    if (panel.kind === "quantile") for (const [key, value] of quantiles(panel, name, now, before)) found.set(key, value);
  }
  return found;
}

function quantiles(panel, name, now, before) {
  const buckets = new Map();
  const bounds = [...new Set(now.samples.filter((sample) => sample.name === `${name}_bucket`).map((sample) => sample.labels.le))];
  for (const bound of bounds) {
    const condition = ["le", [bound]];
    const grown = increases(sums(now.samples, `${name}_bucket`, panel.by, condition), sums(before.samples, `${name}_bucket`, panel.by, condition));
    for (const [key, count] of grown) buckets.set(key, [...(buckets.get(key) ?? []), [Number(bound.replace("+Inf", "Infinity")), count]]);
  }
  const found = new Map();
  for (const [key, counts] of buckets) {
    const seconds = quantile(panel.quantile, counts.sort((a, b) => a[0] - b[0]));
    if (seconds !== null) found.set(key, 1000 * seconds);
  }
  return found;
}

/** Quantile from cumulative buckets [[bound, count]], straight within a bucket as Prometheus does; null if empty. */
export function quantile(share, buckets) {
  const rank = share * buckets[buckets.length - 1][1];
  if (!(rank > 0)) return null;
  const k = buckets.findIndex(([, count]) => count >= rank);
  if (buckets[k][0] === Infinity) return k ? buckets[k - 1][0] : null;
  const [low, below] = k ? buckets[k - 1] : [0, 0];
  return low + ((buckets[k][0] - low) * (rank - below)) / (buckets[k][1] - below);
}

/** Returns the labels of the samples that a table shows: those whose value is 1. */
export const rows = (panel, samples) =>
  samples.filter((sample) => panel.metrics.includes(sample.name) && sample.value === 1).map((sample) => panel.columns.map((column) => sample.labels[column] ?? ""));
