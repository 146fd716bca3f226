/** Reads the part of Prometheus' text format that the service writes. */

/** Returns the samples {name, labels, value} of a text. */
function samplesOf(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
    }
    samples.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return samples;
}

/** Returns sums of the samples: `of(name)` over a name, and `by(name, label)` as a Map from a label's values. */
export function reading(text) {
  const samples = samplesOf(text);
  const named = (name) => samples.filter((one) => one.name === name);
  return {
    has: (name) => named(name).length > 0,
    of: (name) => named(name).reduce((sum, one) => sum + one.value, 0),
    by: (name, label) => {
      const sums = new Map();
      for (const one of named(name)) sums.set(one.labels[label], (sums.get(one.labels[label]) || 0) + one.value);
      return sums;
    },
  };
}
