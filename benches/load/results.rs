//! The values of all rounds, and ratios between them.

use crate::bench::Bench;
use crate::figures::Figure;
use crate::rows::Row;
use crate::turn::{self, Turn};

/// The turns of every row and the values of every figure, one for each round.
pub(crate) struct Results {
    pub(crate) rows: Vec<(Row, Vec<Turn>)>,
    pub(crate) figures: Vec<(Figure, Vec<f64>)>,
}

impl Results {
    pub(crate) fn new(rows: Vec<Row>, figures: Vec<Figure>) -> Self {
        Self {
            rows: rows.into_iter().map(|row| (row, Vec::new())).collect(),
            figures: figures.into_iter().map(|figure| (figure, Vec::new())).collect(),
        }
    }

    /// Measures everything once.
    pub(crate) fn add_round(&mut self, bench: &Bench) {
        for (row, turns) in &mut self.rows {
            let turn = turn::take(bench, row);
            eprintln!("  {}: {:.0}/s", row.name(), turn.per_second);
            turns.push(turn);
        }
        for (figure, values) in &mut self.figures {
            let value = figure.measure(bench);
            eprintln!("  {}: {value:.2}", figure.name());
            values.push(value);
        }
    }

    /// The turns of a row.
    pub(crate) fn turns(&self, row: &Row) -> Option<&[Turn]> {
        self.rows.iter().find(|(own, _)| own == row).map(|(_, turns)| turns.as_slice())
    }

    /// The ratios of a row to the slowest of its references, one for each round. There are none when a reference
    /// was not measured, and none of a reference itself.
    pub(crate) fn ratios(&self, row: &Row) -> Option<Vec<f64>> {
        let references = row.references();
        if references.contains(row) {
            return None;
        }
        let references: Vec<&[Turn]> =
            references.iter().map(|reference| self.turns(reference)).collect::<Option<_>>()?;
        let slowest = |round: usize| {
            references.iter().map(|turns| turns[round].per_second).fold(f64::INFINITY, f64::min)
        };
        let turns = self.turns(row)?.iter().enumerate();
        Some(turns.map(|(round, turn)| turn.per_second / slowest(round)).collect())
    }
}

/// The median of values, or 0 without any.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
