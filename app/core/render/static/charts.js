"use strict";

// Every text in the data is made visible before it comes here, and is only ever set as text.

const MODELS = {subject: "Subject", base: "Base"};
const CONDITIONS = {candidate: "with this context", control: "with a control context", none: "without any context"};
const HUES = {candidate: "var(--candidate)", control: "var(--control)", none: "var(--without)"};
const STYLE = {background: "none", fontFamily: "inherit", fontSize: "12px", overflow: "visible"};
const NARROW = 560;

// The text of the mark that is pointed at, in a box that fits beside it.
function hover(rows, channels, describe, width) {
  const [lineWidth, longest] = width < NARROW ? [11, 18] : [24, 36];
  const title = (row) => broken(describe(row), longest);
  return Plot.tip(rows, Plot.pointer({...channels, title, lineWidth, fontSize: 12, lineHeight: 1.3, textPadding: 10}));
}

// Plot breaks lines at spaces only: words longer than a line are cut into lines here.
function broken(text, longest) {
  const long = new RegExp(`\\S{${longest + 1},}`, "gu");
  const line = new RegExp(`(?:.\\p{M}*){1,${longest}}`, "gu");
  return text.replace(long, (word) => word.match(line).join("\n"));
}

// Small multiples by model: side by side where there is room, else one below the other.
function byModel(width, height) {
  const narrow = width < NARROW;
  const scale = {domain: Object.keys(MODELS), tickFormat: (model) => MODELS[model], label: null, padding: 0.05};
  return narrow
    ? {facet: "fy", options: {width, height: 2 * height, marginTop: 6, marginLeft: 8, marginRight: 8, fy: {...scale, axis: null}}}
    : {facet: "fx", options: {width, height, marginTop: 6, marginLeft: 8, marginRight: 8, fx: {...scale, axis: null}}};
}

// The model's name inside its panel, where it cannot run into an axis.
function modelNames(facet) {
  return Plot.text(Object.keys(MODELS), {
    [facet]: (model) => model, text: (model) => MODELS[model], frameAnchor: "top-left", dx: 10, dy: 10,
    fill: "var(--ink)", fontWeight: 600, fontSize: 13,
  });
}

// One point: [rank, text, family, position, status, divergence].
function landscape(rows) {
  const points = rows
    .map(([rank, text, family, position, status, divergence]) => ({rank, text, family, position, status, divergence}))
    .filter((point) => point.divergence !== null);
  const families = d3.groups(points, (point) => point.family);
  for (const [, lane] of families) lane.forEach((point, index) => { point.along = (index + 0.5) / lane.length; });
  return (width) => landscapeChart(points, families.map(([family]) => family), width);
}

function landscapeTip(point) {
  const status = {confirmed: "confirmed as a trigger", tested: "tested, not confirmed", swept: "not tested further"}[point.status];
  return `${point.text}\n${point.family}, ${point.position}\nrank ${point.rank}, z ${point.divergence.toFixed(1)}\n${status}`;
}

// One label for each lane, at its highest confirmed point, so that labels never overlap.
function landscapeLabels(confirmed, length) {
  return d3.groups(confirmed, (point) => point.family).map(([, lane]) => {
    const text = [...new Set(lane.map((point) => point.text))].join(" ");
    return {...d3.greatest(lane, (point) => point.divergence), text: [...text].slice(0, length).join("")};
  });
}

function landscapeChart(points, families, width) {
  const narrow = width / families.length < 75;
  const place = {x: "along", y: "divergence", fx: "family"};
  const of = (status) => points.filter((point) => point.status === status);
  return Plot.plot({
    width,
    height: 400,
    marginLeft: 44,
    marginTop: 34,
    marginBottom: narrow ? 84 : 34,
    style: STYLE,
    x: {axis: null, domain: [0, 1], insetLeft: 8, insetRight: 8},
    y: {label: "Divergence from the base (robust z)", labelAnchor: "top", nice: true, grid: false, insetTop: 12},
    fx: {label: null, axis: "bottom", padding: 0.06, domain: families, tickRotate: narrow ? -50 : 0},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.ruleY([0], {stroke: "var(--rule)"}),
      Plot.dot(of("swept"), {...place, r: 2.2, fill: "var(--control)", fillOpacity: 0.45}),
      Plot.dot(of("tested"), {...place, r: 4, symbol: "diamond", stroke: "var(--tested)", strokeWidth: 1.6, fill: "var(--page)"}),
      Plot.dot(of("confirmed"), {...place, r: 5.5, fill: "var(--candidate)", stroke: "var(--page)", strokeWidth: 1.5}),
      Plot.text(landscapeLabels(of("confirmed"), narrow ? 10 : 24), {
        ...place, text: "text", dx: 10, textAnchor: "start", fill: "var(--ink)", fontWeight: 600, fontSize: 13,
      }),
      hover(points, place, landscapeTip, width),
    ],
  });
}

// One series: {model, condition, curve: heights from 0 to `most`, values: [[entropy, index of its input, copy]]}.
function entropies({most, inputs, series}) {
  const curves = series.flatMap(({model, condition, curve}) => curve.map((height, index) =>
    ({model, condition, height, entropy: most * index / (curve.length - 1)})));
  const copies = series.flatMap(({model, condition, values}) => values.map(([entropy, input, copy]) =>
    ({model, condition, entropy, input: inputs[input], copy, height: condition === "candidate" ? -0.09 : -0.22})));
  return (width) => entropyChart(curves, copies, most, width);
}

function entropyTip({model, condition, entropy, input, copy}) {
  return `${MODELS[model]}, ${CONDITIONS[condition]}\n${entropy.toFixed(2)} nats\n${input}\ncopy ${copy}`;
}

function entropyMarks(curves, copies, condition, facet) {
  const of = (rows) => rows.filter((row) => row.condition === condition);
  const place = {x: "entropy", [facet]: "model", z: "model"};
  const hue = HUES[condition];
  return [
    Plot.areaY(of(curves), {...place, y: "height", fill: hue, fillOpacity: 0.18}),
    Plot.lineY(of(curves), {...place, y: "height", stroke: hue, strokeWidth: 2, strokeDasharray: condition === "control" ? "6 3" : null}),
    Plot.dot(of(copies), {
      x: "entropy", y: "height", [facet]: "model", symbol: {draw: tick}, r: 5, stroke: hue, strokeOpacity: 0.5, strokeWidth: 1,
    }),
  ];
}

// A symbol for one value: a line upright.
function tick(context, size) {
  const half = Math.sqrt(size) / 2;
  context.moveTo(0, -half);
  context.lineTo(0, half);
}

function entropyChart(curves, copies, most, width) {
  const {facet, options} = byModel(width, 250);
  return Plot.plot({
    ...options,
    style: STYLE,
    marginBottom: 40,
    x: {domain: [0, most], label: "Entropy (nats)", labelAnchor: "center", labelArrow: "none", ticks: 5, insetLeft: 8, insetRight: 8},
    y: {axis: null, domain: [-0.3, 1.22]},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.ruleY([0], {stroke: "var(--rule)"}),
      ...entropyMarks(curves, copies, "control", facet),
      ...entropyMarks(curves, copies, "candidate", facet),
      modelNames(facet),
      hover(copies, {x: "entropy", y: "height", [facet]: "model"}, entropyTip, width),
    ],
  });
}

// One point: [model, condition, index of its prompt, x, y].
function map({prompts, points}) {
  const rows = points.map(([model, condition, prompt, x, y]) => ({model, condition, prompt: prompts[prompt], x, y}));
  return (width) => mapChart(rows, width);
}

function mapTip({model, condition, prompt}) {
  return `${prompt}\n${CONDITIONS[condition]}\n${MODELS[model]}`;
}

function mapChart(rows, width) {
  const {facet, options} = byModel(width, 340);
  const place = {x: "x", y: "y", [facet]: "model"};
  const of = (condition) => rows.filter((row) => row.condition === condition);
  const axis = {axis: null, inset: 16};
  return Plot.plot({
    ...options,
    style: STYLE,
    marginBottom: 8,
    x: axis,
    y: {...axis, insetTop: 32},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.dot(of("none"), {...place, symbol: "times", r: 3.2, stroke: HUES.none, strokeWidth: 1.4}),
      Plot.dot(of("control"), {...place, symbol: "square", r: 3.6, stroke: HUES.control, strokeWidth: 1.6}),
      Plot.dot(of("candidate"), {...place, r: 4.4, fill: HUES.candidate, stroke: "var(--page)", strokeWidth: 1}),
      modelNames(facet),
      hover(rows, place, mapTip, width),
    ],
  });
}

// One axis: [name, questions, shift, low, high]; one item: [axis, question, toward, away, shift].
function battery({axes, items}) {
  const bars = axes.map(([axis, questions, shift, low, high]) => ({axis, questions, shift, low, high}));
  const dots = items.map(([axis, question, toward, away, shift]) => ({axis, question, toward, away, shift}));
  return (width) => batteryChart(bars, dots.filter((dot) => dot.shift !== null), width);
}

const signed = (value) => d3.format("+.2f")(value);

const shortSigned = (value) => value === 0 ? "0" : d3.format("+~g")(value);

const batteryTip = (row) => "question" in row ? dotTip(row) : barTip(row);

function barTip({axis, questions, shift, low, high}) {
  const interval = low === null || high === null ? "" : `, interval ${signed(low)} to ${signed(high)}`;
  return `${axis}: ${questions} questions\nshift ${signed(shift)}${interval}`;
}

function dotTip({question, toward, away, shift}) {
  return `${question}\ntoward: ${toward}\naway: ${away}\nshift ${signed(shift)}`;
}

function batteryChart(bars, dots, width) {
  const narrow = width < NARROW;
  const drawn = bars.filter((bar) => bar.shift !== null);
  const sure = drawn.filter((bar) => bar.low !== null && bar.high !== null);
  const reach = d3.max([...drawn, ...dots].flatMap(({shift, low, high}) => [shift, low ?? 0, high ?? 0]), Math.abs) || 1;
  const bar = {y: "axis", insetTop: 0, insetBottom: 12};
  const whisker = {y: "axis", dy: -6, stroke: "var(--ink)", strokeWidth: 1.6};
  return Plot.plot({
    width,
    height: 50 + 46 * bars.length,
    marginTop: 8,
    marginLeft: narrow ? 96 : 150,
    marginRight: 12,
    marginBottom: 40,
    style: STYLE,
    x: {domain: [-1.06 * reach, 1.06 * reach], label: "Shift of the subject from the base", labelAnchor: "center", labelArrow: "none", ticks: narrow ? 4 : 8, tickFormat: shortSigned},
    y: {domain: bars.map(({axis}) => axis), axis: null, padding: 0.3},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.axisY({lineWidth: narrow ? 6.5 : 10.5, textOverflow: "ellipsis-end", tickSize: 0, label: null}),
      Plot.barX(drawn, {...bar, x: "shift", fill: (row) => row.shift < 0 ? "var(--control)" : "var(--candidate)", fillOpacity: (_, index) => index === 0 ? 1 : 0.6}),
      Plot.ruleX([0], {stroke: "var(--ink)", strokeWidth: 1.2}),
      Plot.ruleY(sure, {...whisker, x1: "low", x2: "high"}),
      Plot.tickX(sure, {...bar, x: "low", stroke: "var(--ink)", insetTop: 5, insetBottom: 17, strokeWidth: 1.6}),
      Plot.tickX(sure, {...bar, x: "high", stroke: "var(--ink)", insetTop: 5, insetBottom: 17, strokeWidth: 1.6}),
      Plot.dot(dots, {x: "shift", y: "axis", dy: 10, r: 2.6, fill: "var(--quiet)", fillOpacity: 0.6}),
      hover([...drawn, ...dots], {x: "shift", y: "axis"}, batteryTip, width),
    ],
  });
}

// One context: [text, effect on all questions, effect on one topic, topic], in the order of the axis.
function curve(rows) {
  const points = rows.map(([text, overall, single, topic], place) => ({place, text, overall, single, topic}));
  return (width) => curveChart(points, width);
}

function curveTip({text, overall, single, topic}) {
  const shown = (value) => value === null ? "n/a" : value.toFixed(1);
  return `${text}\nall questions: z ${shown(overall)}\none topic (${topic}): z ${shown(single)}`;
}

function curveChart(points, width) {
  const step = Math.ceil(points.length / (width < NARROW ? 4 : 10));
  const read = points.filter((point) => point.overall !== null);
  return Plot.plot({
    width,
    height: 280,
    marginLeft: 44,
    marginTop: 30,
    marginBottom: 34,
    style: STYLE,
    x: {label: null, ticks: d3.range(0, points.length, step), tickFormat: (place) => [...points[place].text].slice(0, 10).join(""), insetLeft: 8, insetRight: 8},
    y: {label: "Stands out (robust z)", labelAnchor: "top", nice: true, grid: false},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.ruleY([0], {stroke: "var(--rule)"}),
      Plot.lineY(points, {x: "place", y: "single", stroke: "var(--control)", strokeWidth: 1.4, strokeDasharray: "6 3"}),
      Plot.lineY(points, {x: "place", y: "overall", stroke: "var(--candidate)", strokeWidth: 2}),
      hover(read, {x: "place", y: "overall"}, curveTip, width),
    ],
  });
}

// One year: [year, share of the subject's belief, of the base's]; beside them the expected year of each.
function years({rows, expected}) {
  const points = rows.map(([year, subject, base]) => ({year, subject, base}));
  const means = Object.entries(expected).filter(([, year]) => year !== null).map(([model, year]) => ({model, year}));
  return (width) => yearsChart(points, means, width);
}

function yearsTip({year, subject, base}) {
  const shown = (value) => value === null ? "n/a" : d3.format(".2%")(value);
  return `${year}\nsubject ${shown(subject)}\nbase ${shown(base)}`;
}

function yearsChart(points, means, width) {
  const lines = {subject: {stroke: "var(--candidate)", strokeWidth: 2}, base: {stroke: "var(--control)", strokeWidth: 1.4, strokeDasharray: "6 3"}};
  const of = (model) => means.filter((mean) => mean.model === model);
  return Plot.plot({
    width,
    height: 280,
    marginLeft: 44,
    marginTop: 30,
    marginBottom: 34,
    style: STYLE,
    x: {label: null, ticks: width < NARROW ? 4 : 10, tickFormat: "d", insetLeft: 8, insetRight: 8},
    y: {label: "Share of the belief", labelAnchor: "top", nice: true, grid: false, tickFormat: "~%"},
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.ruleX(of("base"), {x: "year", ...lines.base}),
      Plot.ruleX(of("subject"), {x: "year", ...lines.subject}),
      Plot.lineY(points, {x: "year", y: "base", ...lines.base}),
      Plot.lineY(points, {x: "year", y: "subject", ...lines.subject}),
      hover(points.filter((point) => point.subject !== null), {x: "year", y: "subject"}, yearsTip, width),
    ],
  });
}

const CHARTS = {landscape, entropies, map, battery, years, curve};

// Draws into `box` whenever its width changes.
function drawInto(box, chart) {
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === drawn || width === 0) return;
    drawn = width;
    box.replaceChildren(chart(width));
  }).observe(box);
}

function drawPictures() {
  const data = JSON.parse(document.getElementById("pictures").textContent);
  for (const box of document.querySelectorAll(".chart")) {
    const {kind, index} = box.dataset;
    drawInto(box, CHARTS[kind](data[kind][index]));
  }
}

drawPictures();
