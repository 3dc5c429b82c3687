//! Figures of all rounds, and the table of their medians.

/// Figures of one case, one for each round.
#[derive(Debug)]
struct Case {
    name: String,
    unit: &'static str,
    figures: Vec<f64>,
}

/// Cases in the order in which they were measured first.
#[derive(Debug, Default)]
pub(crate) struct Table {
    cases: Vec<Case>,
}

impl Table {
    pub(crate) fn add(&mut self, name: &str, unit: &'static str, figure: f64) {
        eprintln!("  {name}: {figure:.1} {unit}");
        match self.cases.iter_mut().find(|case| case.name == name) {
            Some(case) => case.figures.push(figure),
            None => self.cases.push(Case { name: name.to_owned(), unit, figures: vec![figure] }),
        }
    }

    /// Prints each case with its ratios to the references, of which only cases of the same unit have one.
    pub(crate) fn print(&self, references: &[&str]) {
        print!("\n| case | median | least | most |");
        for reference in references {
            print!(" ÷ {reference} |");
        }
        println!("\n|---|--:|--:|--:|{}", "--:|".repeat(references.len()));
        for case in &self.cases {
            let digits = if case.unit == "ms" { 2 } else { 0 };
            let shown = |figure: f64| format!("{figure:.digits$}");
            let least = case.figures.iter().copied().fold(f64::INFINITY, f64::min);
            let most = case.figures.iter().copied().fold(0.0, f64::max);
            let median = shown(median(case.figures.clone()));
            print!("| {} | {median} {} | {} | {} |", case.name, case.unit, shown(least), shown(most));
            for reference in references {
                match self.ratio(case, reference) {
                    Some(ratio) => print!(" {ratio:.2} |"),
                    None => print!(" |"),
                }
            }
            println!();
        }
    }

    /// Returns the median of the ratios of each round.
    fn ratio(&self, case: &Case, reference: &str) -> Option<f64> {
        let reference = self.cases.iter().find(|other| other.name == reference)?;
        let are_comparable = case.unit == reference.unit && case.name != reference.name;
        let ratios =
            case.figures.iter().zip(&reference.figures).map(|(figure, reference)| figure / reference);
        are_comparable.then(|| median(ratios.collect()))
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
