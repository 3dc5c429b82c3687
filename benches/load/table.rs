//! The tables, in Markdown.

use crate::results::{Results, median};
use crate::rows::{Contender, Row};
use crate::turn::Turn;

/// Prints the rows, the figures and the highest memory.
pub(crate) fn print(results: &Results) {
    println!(
        "Ratios are to the slower of the bare warp server and the bare commit loop, in the row of the command to"
    );
    println!(
        "Debian's webhook. CPU is that of the server alone, commands that of what it started. Left is how many"
    );
    println!("accepted runs had not ended when the last call was answered.\n");
    println!(
        "| server | calls | connections | calls/s | ratio | p50 ms | p99 ms | CPU µs/call | commands µs/call | peak MiB | disk B/run | left |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (row, turns) in &results.rows {
        println!("{}", line(row, turns, results.ratios(row)));
    }
    if !results.figures.is_empty() {
        println!("\n| figure | median | of rounds |\n|---|--:|---|");
    }
    for (figure, values) in &results.figures {
        let all: Vec<String> = values.iter().map(|value| number(*value)).collect();
        println!("| {} | {} | {} |", figure.title(), number(median(values.iter().copied())), all.join(", "));
    }
    let ours = results
        .rows
        .iter()
        .filter(|(row, _)| matches!(row.contender, Contender::Example | Contender::ExampleOff));
    let peak = ours.flat_map(|(_, turns)| turns).filter_map(|turn| Some(turn.cost?.peak_kib)).max();
    if let Some(peak) = peak {
        println!(
            "\nHighest resident memory of the example server in any turn: {:.1} MiB",
            peak as f64 / 1024.0
        );
    }
    let refused: u64 = results.rows.iter().flat_map(|(_, turns)| turns).map(|turn| turn.refused).sum();
    if refused > 0 {
        println!("\n*** {refused} calls were refused with 503, and are not counted ***");
    }
}

fn line(row: &Row, turns: &[Turn], ratios: Option<Vec<f64>>) -> String {
    let milliseconds = |part: fn(&Turn) -> f64| format!("{:.2}", median(turns.iter().map(part)));
    // Some servers have no such value.
    let some = |part: &dyn Fn(&Turn) -> Option<f64>| -> String {
        let values: Option<Vec<f64>> = turns.iter().map(part).collect();
        values.map_or_else(|| "–".to_owned(), |values| number(median(values)))
    };
    let cells = [
        row.contender.title().to_owned(),
        if row.contender == Contender::CommitLoop { "–".to_owned() } else { row.call.title().to_owned() },
        row.connections.to_string(),
        format!("{:.0}", median(turns.iter().map(|turn| turn.per_second))),
        ratios.map_or_else(|| "–".to_owned(), |ratios| format!("{:.2}", median(ratios))),
        milliseconds(|turn| turn.p50.as_secs_f64() * 1000.0),
        milliseconds(|turn| turn.p99.as_secs_f64() * 1000.0),
        some(&|turn| Some(turn.cost?.cpu)),
        some(&|turn| Some(turn.cost?.children)),
        some(&|turn| Some(turn.cost?.peak_kib as f64 / 1024.0)),
        some(&|turn| turn.disk_per_run.map(|bytes| bytes as f64)),
        some(&|turn| turn.left.map(|left| left as f64)),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Writes a number with three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        small if small < 10.0 => format!("{value:.2}"),
        middling if middling < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
