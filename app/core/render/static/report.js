"use strict";

// One point: [rank, text, family, position, status, divergence].
function readPoints() {
  const element = document.getElementById("landscape-data");
  if (!element) return [];
  const points = JSON.parse(element.textContent).map(
    ([rank, text, family, position, status, divergence]) =>
      ({rank, text, family, position, status, divergence}));
  return spread(points.filter((point) => point.divergence !== null));
}

// Places the points of each family side by side, in the order of their rank.
function spread(points) {
  for (const lane of d3.group(points, (point) => point.family).values()) {
    lane.forEach((point, index) => { point.along = (index + 0.5) / lane.length; });
  }
  return points;
}

function describe(point) {
  const status = {confirmed: "confirmed as a trigger", tested: "tested, not confirmed", swept: "not tested further"}[point.status];
  return `${point.text}\n${point.family}, ${point.position}\nrank ${point.rank}, z ${point.divergence.toFixed(1)}\n${status}`;
}

// One label for each lane, at its highest confirmed point, so that labels never overlap.
function labels(confirmed, length) {
  return d3.groups(confirmed, (point) => point.family).map(([, lane]) => {
    const text = [...new Set(lane.map((point) => point.text))].join(" ");
    return {...d3.greatest(lane, (point) => point.divergence), text: [...text].slice(0, length).join("")};
  });
}

function chart(points, width) {
  const families = [...new Set(points.map((point) => point.family))];
  const narrow = width / families.length < 75;
  const place = {x: "along", y: "divergence", fx: "family"};
  const of = (status) => points.filter((point) => point.status === status);
  return Plot.plot({
    width,
    height: 400,
    marginLeft: 44,
    marginTop: 34,
    marginBottom: narrow ? 84 : 34,
    style: {background: "none", fontFamily: "inherit", fontSize: "12px", overflow: "visible"},
    x: {axis: null, domain: [0, 1], insetLeft: 8, insetRight: 8},
    y: {label: "Divergence from the base (robust z)", labelAnchor: "top", nice: true, grid: false, insetTop: 12},
    fx: {
      label: null,
      axis: "bottom",
      padding: 0.06,
      domain: families,
      tickRotate: narrow ? -50 : 0,
    },
    marks: [
      Plot.frame({fill: "var(--lane)", stroke: null}),
      Plot.ruleY([0], {stroke: "var(--rule)"}),
      Plot.dot(of("swept"), {...place, r: 2.2, fill: "var(--dot)", fillOpacity: 0.55}),
      Plot.dot(of("tested"), {...place, r: 4, symbol: "diamond", stroke: "var(--tested)", strokeWidth: 1.6, fill: "var(--page)"}),
      Plot.dot(of("confirmed"), {...place, r: 5.5, fill: "var(--bad)", stroke: "var(--page)", strokeWidth: 1.5}),
      Plot.text(labels(of("confirmed"), narrow ? 10 : 24), {
        ...place, text: "text", dx: 10, textAnchor: "start", fill: "var(--ink)", fontWeight: 600, fontSize: 13,
      }),
      Plot.tip(points, Plot.pointer({...place, title: describe, fontSize: 12, lineWidth: 24})),
    ],
  });
}

function drawLandscape() {
  const box = document.getElementById("chart");
  const points = readPoints();
  if (!box || !points.length) return;
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === drawn) return;
    drawn = width;
    box.replaceChildren(chart(points, width));
  }).observe(box);
}

function offerCopying() {
  for (const button of document.querySelectorAll("button.copy")) {
    const code = button.parentElement.querySelector("code");
    button.hidden = false;
    button.addEventListener("click", async () => {
      getSelection().selectAllChildren(code);
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    });
  }
}

function openForPrint() {
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.digest, details.table")) details.open = true;
  });
}

offerCopying();
openForPrint();
drawLandscape();
