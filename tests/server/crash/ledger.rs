//! Compares the answers to callers with the server's records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::scene::RunRecord;

/// Number of interruptions after which a run fails.
const INTERRUPTION_BOUND: u64 = 5;

/// Answers to the callers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// For each key that was answered 202, the named runs. There must be exactly one.
    answers: BTreeMap<String, BTreeSet<String>>,
    pub(crate) calls: u64,
    /// Number of answers marked as replayed.
    replayed: u64,
    /// Number of keys whose first answer was marked as replayed: the original answer was lost with its
    /// server.
    recovered: u64,
    /// Number of calls without an answer: the connection was refused or broke.
    pub(crate) broken: u64,
    /// Number of calls that were answered 503.
    pub(crate) refused: u64,
    /// Answers that the test does not expect.
    pub(crate) unexpected: Vec<String>,
}

impl Ledger {
    pub(crate) fn accepted(&mut self, key: &str, run: &str, replayed: bool) {
        let runs = self.answers.entry(key.to_owned()).or_default();
        let first = runs.is_empty();
        runs.insert(run.to_owned());
        match (first, replayed) {
            (true, true) => self.recovered += 1,
            (false, false) => {
                self.unexpected.push(format!("{key}: a repeated call is not marked as replayed"));
            }
            _ => {}
        }
        self.replayed += u64::from(replayed);
    }

    /// Adds the answers of another caller. Callers share no keys.
    pub(crate) fn add(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.calls += other.calls;
        self.replayed += other.replayed;
        self.recovered += other.recovered;
        self.broken += other.broken;
        self.refused += other.refused;
        self.unexpected.extend(other.unexpected);
    }

    /// Compares the responses with the recorded runs, and those runs with the traces of executions.
    ///
    /// Each execution of the workflow `traced` writes the id of its run to `executions`.
    pub(crate) fn compared(&self, recorded: &[RunRecord], traced: &str, executions: &[String]) -> Verdict {
        let mut by_id: HashMap<&str, Vec<&RunRecord>> = HashMap::new();
        let mut keys: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for run in recorded {
            by_id.entry(&run.id).or_default().push(run);
            if let Some(key) = &run.key {
                keys.entry(key).or_default().insert(&run.id);
            }
        }
        for (key, runs) in &self.answers {
            keys.entry(key).or_default().extend(runs.iter().map(String::as_str));
        }
        let mut executed: HashMap<&str, u64> = HashMap::new();
        for run in executions {
            *executed.entry(run).or_default() += 1;
        }
        let belongs = |key: &str, run: &str| {
            by_id.get(run).is_some_and(|records| records.iter().all(|it| it.key.as_deref() == Some(key)))
        };
        let told = || self.answers.iter().flat_map(|(key, runs)| runs.iter().map(move |run| (key, run)));
        let list = |runs: &mut dyn Iterator<Item = &RunRecord>| runs.map(|run| format!("{run:?}")).collect();
        let times_executed = |run: &RunRecord| executed.get(run.id.as_str()).copied().unwrap_or(0);
        let ended_wrongly =
            |run: &&RunRecord| run.has_ended() && run.state != "succeeded" && !is_given_up(run);
        Verdict {
            answered: self.answers.len(),
            recorded: recorded.len(),
            unanswered: recorded
                .iter()
                .filter(|run| run.key.as_ref().is_none_or(|key| !self.answers.contains_key(key)))
                .count(),
            calls: self.calls,
            replayed: self.replayed,
            recovered: self.recovered,
            broken: self.broken,
            refused: self.refused,
            interrupted: recorded.iter().filter(|run| run.interruptions > 0).count(),
            interruptions: recorded.iter().map(|run| run.interruptions).sum(),
            most_interruptions: recorded.iter().map(|run| run.interruptions).max().unwrap_or(0),
            given_up: recorded.iter().filter(|run| is_given_up(run)).count(),
            executions: executions.len(),
            lost: told().filter(|(_, run)| !by_id.contains_key(run.as_str())).map(shown).collect(),
            mixed_up: told()
                .filter(|(key, run)| by_id.contains_key(run.as_str()) && !belongs(key, run))
                .map(shown)
                .collect(),
            keys_with_two_runs: keys
                .iter()
                .filter(|(_, runs)| runs.len() > 1)
                .map(|(key, runs)| format!("{key}: {runs:?}"))
                .collect(),
            ids_twice: by_id
                .iter()
                .filter(|(_, runs)| runs.len() > 1)
                .map(|(id, _)| (*id).to_owned())
                .collect(),
            stuck: list(&mut recorded.iter().filter(|run| !run.has_ended())),
            wrongly_ended: list(&mut recorded.iter().filter(ended_wrongly)),
            wrongly_executed: list(&mut recorded.iter().filter(|run| {
                let times = times_executed(run);
                run.workflow == traced && run.state == "succeeded" && !(1..=run.attempt).contains(&times)
            })),
            unexpected: self.unexpected.clone(),
        }
    }
}

fn shown((key, run): (&String, &String)) -> String {
    format!("{key}: {run}")
}

/// Returns whether a run failed because every server that executed it was killed.
fn is_given_up(run: &RunRecord) -> bool {
    run.state == "failed"
        && run.error_kind.as_deref() == Some("interrupted")
        && run.interruptions == INTERRUPTION_BOUND
}

/// Observations, and the faults among them.
#[derive(Debug)]
pub(crate) struct Verdict {
    answered: usize,
    recorded: usize,
    unanswered: usize,
    calls: u64,
    replayed: u64,
    recovered: u64,
    broken: u64,
    refused: u64,
    interrupted: usize,
    pub(crate) interruptions: u64,
    most_interruptions: u64,
    given_up: usize,
    executions: usize,
    lost: Vec<String>,
    mixed_up: Vec<String>,
    keys_with_two_runs: Vec<String>,
    ids_twice: Vec<String>,
    stuck: Vec<String>,
    wrongly_ended: Vec<String>,
    wrongly_executed: Vec<String>,
    unexpected: Vec<String>,
}

impl Verdict {
    /// Returns the lists that must be empty, by name.
    fn faults(&self) -> [(&'static str, &[String]); 8] {
        [
            ("lost: answered 202, not recorded", &self.lost),
            ("answered with the run of another key", &self.mixed_up),
            ("keys with two runs", &self.keys_with_two_runs),
            ("run ids recorded twice", &self.ids_twice),
            ("stuck beyond the lease", &self.stuck),
            ("wrongly ended", &self.wrongly_ended),
            ("succeeded without, or with too many, executions", &self.wrongly_executed),
            ("answers that nothing explains", &self.unexpected),
        ]
    }

    /// Fails the test with the first few faults of each kind, if there are any.
    pub(crate) fn assert_kept(&self) {
        let faults: Vec<String> = self
            .faults()
            .iter()
            .filter(|(_, found)| !found.is_empty())
            .map(|(fault, found)| format!("{fault}: {}\n{:#?}", found.len(), &found[..found.len().min(10)]))
            .collect();
        assert!(faults.is_empty(), "the server broke its word\n{self}\n{}", faults.join("\n"));
        assert_ne!(self.answered, 0, "nothing was asked of the server");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: [(&str, u64); 13] = [
            ("calls", self.calls),
            ("  without an answer", self.broken),
            ("  answered 503", self.refused),
            ("  answered again with the same run", self.replayed),
            ("answered keys", self.answered as u64),
            ("  answered only by a later server", self.recovered),
            ("recorded runs", self.recorded as u64),
            ("  whose call nobody saw answered", self.unanswered as u64),
            ("interrupted runs", self.interrupted as u64),
            ("  interruptions", self.interruptions),
            ("  most of one run", self.most_interruptions),
            ("  failed at the bound of 5", self.given_up as u64),
            ("traced executions", self.executions as u64),
        ];
        for (name, count) in counts {
            writeln!(formatter, "{name:<52}{count:>10}")?;
        }
        for (fault, found) in self.faults() {
            writeln!(formatter, "{fault:<52}{:>10}", found.len())?;
        }
        Ok(())
    }
}

#[test]
fn each_fault_of_a_server_is_seen() {
    let run = |id: &str, key: &str, workflow: &str, state: &str, interruptions: u64| RunRecord {
        id: id.to_owned(),
        key: Some(key.to_owned()),
        workflow: workflow.to_owned(),
        state: state.to_owned(),
        attempt: 1,
        interruptions,
        error_kind: (state == "failed").then(|| "interrupted".to_owned()),
    };
    let mut ledger = Ledger::default();
    for (key, id, replayed) in [
        ("fine", "1", false),
        ("fine", "1", true),
        ("lost", "2", false),
        ("two answers", "3", false),
        ("two answers", "4", true),
        ("of another", "1", false),
        ("not replayed", "5", false),
        ("not replayed", "5", false),
    ] {
        ledger.accepted(key, id, replayed);
    }
    let recorded = [
        run("1", "fine", "noop", "succeeded", 0),
        run("3", "two answers", "noop", "succeeded", 0),
        run("4", "two answers", "noop", "succeeded", 0),
        run("5", "not replayed", "noop", "succeeded", 0),
        run("6", "two runs", "noop", "succeeded", 0),
        run("7", "two runs", "noop", "succeeded", 0),
        run("8", "twice", "noop", "succeeded", 0),
        run("8", "twice", "noop", "succeeded", 0),
        run("9", "stuck", "noop", "queued", 1),
        run("10", "wrong", "noop", "failed", 4),
        run("11", "given up", "noop", "failed", 5),
        run("12", "never executed", "trace", "succeeded", 0),
        run("13", "executed", "trace", "succeeded", 0),
        run("14", "executed too often", "trace", "succeeded", 0),
    ];
    let executions = ["13", "14", "14"].map(str::to_owned);
    let verdict = ledger.compared(&recorded, "trace", &executions);
    let counts: Vec<usize> = verdict.faults().iter().map(|(_, found)| found.len()).collect();
    // "of another" was answered with run 1, so run 1 is named under two keys. That is one fault, not two.
    assert_eq!(counts, [1, 1, 2, 1, 1, 1, 2, 1], "{verdict:#?}");
    assert_eq!((verdict.given_up, verdict.interruptions, verdict.most_interruptions), (1, 10, 5));
}
