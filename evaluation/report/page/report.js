"use strict";
// The report's figures, slider and animated agents. All numbers are in the page; nothing is fetched.

const report = JSON.parse(document.getElementById("report-data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");
// On a touch screen a finger over a figure is to scroll the page, not to zoom.
const touch = matchMedia("(pointer: coarse)").matches;

// ---- Figures: Plotly's, in the colours of the page -------------------------------------------------------

const shown = new Map(); // id of an element -> {data, layout}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function themed(layout) {
  const axis = {
    gridcolor: colour("line"), linecolor: colour("muted"), tickcolor: colour("muted"), ticks: "outside",
    title: { font: { size: 13 } },
  };
  const template = {
    layout: {
      paper_bgcolor: "transparent", plot_bgcolor: "transparent",
      font: { color: colour("ink"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: colour("card"), bordercolor: colour("muted"), font: { color: colour("ink") },
      },
      shapedefaults: { line: { color: colour("muted") } },
      modebar: { bgcolor: "transparent", color: colour("muted"), activecolor: colour("ink") },
    },
  };
  const scale = [[0, colour("cold")], [0.5, colour("card")], [1, colour("warm")]];
  const found = { ...layout, template, autosize: true, dragmode: touch ? false : "zoom" };
  if (layout.coloraxis) { // maps fade into the page where nothing is gained
    const colorbar = { ...layout.coloraxis.colorbar, tickfont: { color: colour("ink") } };
    found.coloraxis = { ...layout.coloraxis, colorscale: scale, colorbar };
  }
  return found;
}

function draw(id, data, layout) {
  shown.set(id, { data, layout });
  return Plotly.react(id, data, themed(layout), {
    responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
  });
}

dark.addEventListener("change", () => shown.forEach(({ data, layout }, id) => draw(id, data, layout)));
for (const [id, { data, layout }] of Object.entries(report.figures)) draw(id, data, layout);

// A figure that was laid out inside closed <details> has no width until they are opened.
document.addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);

// ---- Meta-training: any metric over any axis -------------------------------------------------------------

// As in evaluation/report/looks.py.
const COLOURS = ["#2479B8", "#D0590A", "#12906A", "#B85C95", "#A07400", "#6C74C9"];

function drawCurves() {
  const metric = document.getElementById("curve-metric").value;
  const axis = document.getElementById("curve-axis");
  const label = axis.selectedOptions[0].text;
  const runs = report.curves.runs.filter((run) => metric in run.raw);
  const data = runs.flatMap((run, i) => {
    const index = report.curves.runs.indexOf(run);
    const common = { x: run.axes[axis.value], mode: "lines", legendgroup: String(i) };
    const line = { color: COLOURS[index % COLOURS.length] };
    return [
      {
        ...common, y: run.raw[metric], opacity: 0.4, line: { ...line, width: 1 }, showlegend: false,
        hoverinfo: "skip",
      },
      { ...common, y: run.smooth[metric], name: run.name, line: { ...line, width: 2.6 } },
    ];
  });
  const last = runs.map((run) => `${run.name} ends at ${run.smooth[metric].at(-1)}`).join("; ");
  const chart = document.getElementById("curves-chart");
  chart.setAttribute("aria-label", `${metric} over ${label.toLowerCase()}. Running mean: ${last}.`);
  draw("curves-chart", data, {
    height: 400, margin: { l: 60, r: 12, t: 12, b: 48 }, hovermode: "x unified",
    showlegend: report.curves.runs.length > 1,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { title: { text: label }, automargin: true, zeroline: false },
    yaxis: { title: { text: metric }, automargin: true, zeroline: false },
  });
}

if (report.curves) {
  for (const id of ["curve-metric", "curve-axis"]) {
    document.getElementById(id).addEventListener("change", drawCurves);
  }
  drawCurves();
}

// ---- Analysis: a slider over n/N and a choice of N -------------------------------------------------------

for (const explorer of document.querySelectorAll(".explorer")) {
  const { states, shares } = report.explorers[explorer.dataset.explorer];
  const horizon = explorer.querySelector(".horizon");
  const progress = explorer.querySelector(".progress");
  const facts = explorer.querySelectorAll(".fact");

  const show = () => {
    const at = progress ? Number(progress.value) : 0;
    const state = states[horizon ? Number(horizon.value) : 0][at];
    if (progress) {
      explorer.querySelector(".now").value = shares[at];
      progress.setAttribute("aria-valuetext", `n/N = ${shares[at]}`);
    }
    for (const [id, changes] of Object.entries(state.figures)) {
      const { data, layout } = shown.get(id);
      draw(id, data.map((trace, i) => ({ ...trace, ...changes[i] })), layout);
    }
    facts.forEach((fact, i) => { fact.textContent = state.facts[i]; });
  };

  progress?.addEventListener("input", show);
  horizon?.addEventListener("change", show);
  show();
}

// ---- Agents: episodes before and after, step by step -----------------------------------------------------

const STEP_MS = 180;

for (const level of document.querySelectorAll(".level")) {
  const boards = [...level.querySelectorAll(".board")];
  const gained = [...level.querySelectorAll(".gained")];
  const first = Number(level.dataset.first);
  const walks = boards.map((_, i) => report.walks[Number(level.dataset.run)][first + i]);
  const button = level.querySelector(".play");
  const step = level.querySelector(".step");
  const last = Math.max(...walks.map((frames) => frames.length)) - 1;
  let timer = null;

  const show = (at) => {
    step.value = at;
    level.querySelector(".at").value = `${at} of ${last}`;
    boards.forEach((board, i) => {
      const frames = walks[i].slice(0, at + 1); // an episode that is over stays as it ended
      const now = frames.at(-1);
      board.querySelector(".agent").setAttribute("transform", `translate(${now.agent})`);
      board.querySelector(".trail").setAttribute("points", frames.map((frame) => frame.agent).join(" "));
      board.querySelectorAll(".object").forEach((object, k) => {
        object.classList.toggle("gone", !now.present[k]);
        object.classList.toggle("moved", Boolean(now.places));
        if (now.places) object.setAttribute("transform", `translate(${now.places[k]})`);
      });
      gained[i].textContent = `return ${now.gained.toFixed(2).replace("-", "−")}`;
    });
  };
  const say = (word) => {
    button.textContent = word;
    button.setAttribute("aria-label", `${word} ${level.dataset.title}`);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    say("Play");
  };
  const play = () => {
    if (Number(step.value) >= last) show(0);
    timer = setInterval(() => (Number(step.value) < last ? show(Number(step.value) + 1) : stop()), STEP_MS);
    say("Pause");
  };

  step.max = last;
  step.addEventListener("input", () => { stop(); show(Number(step.value)); });
  button.addEventListener("click", () => (timer ? stop() : play()));
  // Whoever wants no motion sees the whole way at once; others see it move once it is in view.
  show(still.matches ? last : 0);
  let started = still.matches;
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !started) { started = true; play(); }
    if (!entry.isIntersecting && timer) stop();
  }, { threshold: 0.6 }).observe(level);
}
