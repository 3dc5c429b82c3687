//! The plot that README shows.

use std::sync::Arc;

use kuva::prelude::{Layout, LinePlot, Plot, ScatterPlot, SvgBackend, TickFormat};
use kuva::render::figure::Figure;

use crate::results::{Results, median};
use crate::rows::{Call, Contender, Row};
use crate::turn::Turn;

/// The size of one of both plots.
const CELL: (f64, f64) = (430.0, 320.0);

/// The lines, each with its colour and name. The references are grey.
const LINES: [(Contender, &str, &str); 4] = [
    (Contender::Bare, "#666666", "bare warp server that answers 202"),
    (Contender::CommitLoop, "#b5b5b5", "bare commit loop, no HTTP: append 300 B each, one fdatasync"),
    (Contender::ExampleOff, "#1f77b4", "example server, runs durable and queued (workers off)"),
    (Contender::Example, "#d62728", "example server, runs durable and executed as they come"),
];

/// One of the plots side by side.
struct Panel {
    title: &'static str,
    unit: &'static str,
    /// The value of one turn.
    value: fn(&Turn) -> f64,
}

/// Draws calls per second and latencies against connections, as SVG.
pub(crate) fn draw(results: &Results) -> String {
    let mut connections: Vec<usize> = results.rows.iter().map(|(row, _)| row.connections).collect();
    connections.retain(|&connections| {
        results.turns(&Row::new(Contender::Example, Call::Post, connections)).is_some()
    });
    connections.sort_unstable();
    connections.dedup();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let panels = [
        Panel {
            title: "Calls answered per second",
            unit: "calls/s (log scale)",
            value: |turn| turn.per_second,
        },
        Panel {
            title: "Time to the answer, 99th percentile",
            unit: "ms (log scale)",
            value: |turn| turn.p99.as_secs_f64() * 1000.0,
        },
    ];
    let (mut plots, mut layouts) = (Vec::new(), Vec::new());
    for panel in panels {
        let lines = lines(results, &connections, panel.value);
        layouts.push(layout(&lines, &connections).with_title(panel.title).with_y_label(panel.unit));
        plots.push(lines);
    }
    let figure = Figure::new(1, 2)
        .with_title(format!("POST with two parameters in JSON ({cores} cores, shared with the client)"))
        .with_plots(plots)
        .with_layouts(layouts)
        .with_shared_legend_bottom()
        .with_cell_size(CELL.0, CELL.1)
        .render();
    SvgBackend::new().render_scene(&figure)
}

fn lines(results: &Results, connections: &[usize], value: fn(&Turn) -> f64) -> Vec<Plot> {
    let mut plots = Vec::new();
    for (contender, color, name) in LINES {
        let mut points = Vec::new();
        for (place, &connections) in connections.iter().enumerate() {
            if let Some(turns) = results.turns(&Row::new(contender, Call::Post, connections)) {
                points.push((place as f64 + 1.0, median(turns.iter().map(value))));
            }
        }
        let line = LinePlot::new().with_data(points.clone()).with_color(color).with_stroke_width(2.0);
        plots.push(line.with_legend(name).into());
        plots.push(ScatterPlot::new().with_data(points).with_color(color).with_size(4.0).into());
    }
    plots
}

/// A logarithmic axis for values, and one place for each number of connections.
fn layout(lines: &[Plot], connections: &[usize]) -> Layout {
    let names: Vec<String> = connections.iter().map(ToString::to_string).collect();
    let end = names.len() as f64 + 1.0;
    let name_of = move |place: f64| {
        let name = (place.round() as usize).checked_sub(1).and_then(|place| names.get(place));
        name.cloned().unwrap_or_default()
    };
    Layout::auto_from_plots(lines)
        .with_x_label("keep-alive connections")
        .with_x_axis_min(0.0)
        .with_x_axis_max(end)
        .with_x_tick_step(1.0)
        .with_x_tick_format(TickFormat::Custom(Arc::new(name_of)))
        .with_log_y()
        .with_y_tick_format(TickFormat::Custom(Arc::new(short)))
}

/// Writes a power of ten: 0.1, 20, 50k, 1M.
fn short(value: f64) -> String {
    match value {
        _ if value > 999_999.0 => format!("{:.0}M", value / 1e6),
        _ if value > 999.0 => format!("{:.0}k", value / 1e3),
        _ => ((value * 1000.0).round() / 1000.0).to_string(),
    }
}
