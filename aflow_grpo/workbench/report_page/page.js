// Draws the charts of the page from the JSON in it, in the page's colours; again when they change.
"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // A trace names its colour in `meta`.
  const coloured = (trace) => {
    const shade = colour(trace.meta);
    const filled = "stackgroup" in trace;
    return {
      ...trace,
      line: { ...trace.line, color: shade },
      marker: {
        ...trace.marker,
        color: shade,
        line: { width: 1, ...(trace.marker || {}).line, color: shade },
      },
      ...(filled ? { fillcolor: shade + "b3" } : {}),
    };
  };

  const axis = (given = {}) => ({
    gridcolor: colour("grid"),
    zerolinecolor: colour("grid"),
    linecolor: colour("grid"),
    automargin: true,
    fixedrange: true,
    ...given,
    tickfont: { size: 12 },
    ...(given.title ? { title: { ...given.title, font: { size: 12, color: colour("soft") } } } : {}),
  });

  const laidOut = (layout, small) => ({
    ...layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    margin: { l: 8, r: 10, t: small ? 8 : 12, b: 8 },
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("rule"), font: { color: colour("ink") } },
  });

  const settings = { displayModeBar: false, responsive: true, showLink: false };

  const draw = () => {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const { data, layout } = charts[place.dataset.chart];
      const small = place.parentElement.classList.contains("small");
      Plotly.react(place, data.map(coloured), laidOut(layout, small), settings);
    }
  };

  draw();
  dark.addEventListener("change", draw);

  // On paper nothing can be opened.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.card, details.more")) {
      details.open = true;
    }
  });
})();
