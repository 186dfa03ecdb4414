// The curves of the chart: those of one run in the colours of its classes, or one measurement of several runs, each run in
// a colour of its own.

const LOWER = { // contents of the lower panel, and their series
  "loss": ["train/loss", "val/loss"],
  "training loss": ["train/loss"],
  "validation loss": ["val/loss"],
  "learning rate": ["lr"],
  "sub-volumes per second": ["speed"],
};
const TITLES = { "train/loss": "training loss", "val/loss": "validation loss", "lr": "learning rate", "speed": "sub-volumes per second" };
const MEAN = "mean";

// Class and kind of a Dice series; "mean" for the mean over the classes.
function diceSeries(name) {
  const [, kind, label] = name.match(/^(val|whole)\/dice\/(.+)$/) ?? [];
  if (label) return { label, whole: kind === "whole" };
  return /^(val|whole)\/dice_mean$/.test(name) ? { label: MEAN, whole: name.startsWith("whole") } : null;
}

// Each curve: source, series `s`, panel (0: Dice, 1: below), legend entry `id`, title, colour; `whole` for whole volumes.
function linesOfRun(source, lower, look) {
  const colours = new Map((source.info?.classes ?? []).map((c) => [c.name, c.colour])), lines = [];
  for (const [name, s] of source.series) {
    const dice = diceSeries(name);
    if (dice) {
      const { label, whole } = dice, mean = label === MEAN;
      if (!mean && !colours.has(label)) colours.set(label, look.palette[colours.size % look.palette.length]);
      lines.push({ source, s, panel: 0, id: label, title: label + (whole ? ", whole volume" : ""), whole, mean, colour: mean ? look.ink : colours.get(label) });
    } else if (LOWER[lower].includes(name)) {
      lines.push({ source, s, panel: 1, id: TITLES[name], title: TITLES[name], colour: name === "train/loss" ? look.faint : look.accent });
    }
  }
  const order = [...colours.keys(), MEAN, ...Object.values(TITLES)];
  return lines.sort((a, b) => a.panel - b.panel || (a.whole ? 1 : 0) - (b.whole ? 1 : 0) || order.indexOf(a.id) - order.indexOf(b.id));
}

function linesOfRuns(sources, measure, lower) {
  const lines = [];
  for (const source of sources) {
    for (const [name, s] of source.series) {
      const dice = diceSeries(name), common = { source, s, id: source.id, label: source.name, colour: source.colour };
      if (dice?.label === measure) lines.push({ ...common, panel: 0, title: source.name + (dice.whole ? ", whole volume" : ""), whole: dice.whole });
      const below = LOWER[lower];
      if (below.includes(name)) lines.push({ ...common, panel: 1, title: `${source.name}, ${TITLES[name]}`, faint: below.length > 1 && name === below[0] });
    }
  }
  return lines.sort((a, b) => a.panel - b.panel);
}

// Names of the classes that any of the runs has measured, after "mean".
function measures(sources) {
  const found = new Set([MEAN]);
  for (const source of sources) for (const name of source.series.keys()) found.add(diceSeries(name)?.label ?? MEAN);
  return [...found];
}
