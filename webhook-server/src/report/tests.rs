use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use webhook_core::executor::{CancellationSource, ExecuteError, RunContext, StopReason};
use webhook_core::id::RunId;
use webhook_core::parameters::{EffectiveParameter, EffectiveParameters, Source};

use super::{Finished, Report, ReportError};
use webhook_process::Python;

use crate::loaded_workflow::{Action, LoadedWorkflow};
use crate::workflow_file::load;

const HEAD: &str = "kind = 'report'\nid = 'a'\ntitle = 'A & B'\n";

struct Trial {
    folder: tempfile::TempDir,
    parameters: EffectiveParameters,
}

impl Trial {
    fn new(template: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("page.html"), template).unwrap();
        fs::write(folder.path().join("t.csv"), "name,amount,code\nb,2,007\n\"a <x>\",1.5,1\nc,,2\n").unwrap();
        Self { folder, parameters: EffectiveParameters::new() }
    }

    fn with(mut self, name: &str, parameter: EffectiveParameter) -> Self {
        self.parameters.insert(name, parameter);
        self
    }

    fn load(&self, report: &str) -> Result<LoadedWorkflow, String> {
        let parameters = "[[parameters]]\nname = 'least'\ntype = 'number'\n\
                          [[parameters]]\nname = 'password'\ntype = 'text'\nsecret = true\n";
        let text = format!("{HEAD}{parameters}[report]\ntemplate = 'page.html'\n{report}");
        load(&self.folder.path().join("a.toml"), &text, &Python::new("/no/such/python"))
            .map_err(|problem| problem.to_string())
    }

    fn context(&self) -> RunContext {
        let run = RunId::generate(SystemTime::now());
        RunContext::new(run, "report/a".parse().unwrap(), 1, self.parameters.clone())
    }

    fn run(&self, report: &str) -> Result<Finished, ReportError> {
        let loaded = self.load(report).unwrap();
        report_of(&loaded).run(&self.context(), &loaded.workflow)
    }

    fn html(&self, report: &str) -> String {
        String::from_utf8(self.run(report).unwrap().html).unwrap()
    }
}

fn report_of(loaded: &LoadedWorkflow) -> &Report {
    match &loaded.action {
        Action::Report(report) => report,
        other => panic!("no report: {other:?}"),
    }
}

const CSV: &str = "csv = { t = 't.csv' }\n";

#[test]
fn csv_columns_of_numbers_are_numbers_and_values_are_escaped() {
    let trial = Trial::new(
        "{{ workflow.title }}: {% for row in q %}{{ row.name }} {{ row.amount }} {{ row.code }};{% endfor %}",
    );
    let html = trial.html(&format!("{CSV}queries.q = 'SELECT * FROM t WHERE amount > 0 ORDER BY amount'"));
    assert_eq!(html, "A &amp; B: a &lt;x&gt; 1.5 1;b 2 007;");
}

#[test]
fn parameters_are_bound_and_never_part_of_the_query() {
    let trial = Trial::new("{{ q[0].n }} {{ parameters.least }}");
    let sql = format!("{CSV}queries.q = 'SELECT count(*) AS n FROM t WHERE amount >= :least'");
    let given = |value: serde_json::Value| EffectiveParameter::new(value, Source::Query);
    assert_eq!(trial.html(&sql), "0 ", "what is not given is null, and nothing on the page");
    assert_eq!(Trial { ..trial }.with("least", given(1.8.into())).html(&sql), "1 1.8");
    let trial = Trial::new("{{ q[0].n }}").with("least", given("0 OR 1=1".into()));
    assert_eq!(trial.html(&sql), "0");
}

#[test]
fn a_secret_reaches_queries_and_no_page() {
    let secret = EffectiveParameter::new("canary-5f1c2a", Source::Body).secret();
    let trial = Trial::new("{{ q[0].n }} {{ parameters.password }}").with("password", secret);
    let html = trial.html(&format!("{CSV}queries.q = 'SELECT length(:password) AS n'"));
    assert_eq!(html, "13 ***");
}

#[test]
fn the_summary_counts_rows_unless_it_has_a_template() {
    let trial = Trial::new("");
    let summary =
        |more: &str| trial.run(&format!("{CSV}{more}queries.q = 'SELECT * FROM t'")).unwrap().summary;
    assert_eq!(summary(""), "3 rows");
    assert_eq!(summary("summary = '{{ q|length }} <rows> of {{ workflow.title }}'\n"), "3 <rows> of A & B");
}

#[test]
fn mistakes_show_when_the_file_is_loaded_with_file_line_and_key() {
    let trial = Trial::new("{{ q }} {{ nothing.here }}");
    let problem = |report: &str| trial.load(report).unwrap_err();
    let with = |sql: &str| problem(&format!("{CSV}queries.q = '{sql}'"));
    for (message, expected) in [
        (with("SELECT * FROM u"), "a.toml:14: report.queries.q: the query q fails: no such table: u"),
        (with("SELEC 1"), "a.toml:14: report.queries.q: the query q fails: near"),
        (with("SELECT 1; SELECT 2"), "a.toml:14: report.queries.q: the query q fails: Multiple"),
        (with("DELETE FROM t"), "a.toml:14: report.queries.q: the query q must only read"),
        (with("SELECT ?"), "must bind parameters by name"),
        (with("SELECT :other"), "binds :other, which is no declared parameter"),
        (with("SELECT 1"), "a.toml:12: report.template: the template uses nothing, which is not a query"),
        (problem("queries.q = 'SELECT 1'"), "a.toml:11: report: the key database or csv is missing"),
        (problem("csv = { t = 'none.csv' }"), "none.csv cannot be read: No such file"),
        (problem("csv = { t = '/dev/null' }"), "null cannot be read: it is no regular file"),
        (problem("database = '/dev/null'"), "null cannot be read: it is no regular file"),
        (problem("csv = { t = 'page.html' }\ndatabase = 'x'"), "not both"),
        (problem("database = 'none.db'"), "a.toml:13: report.database: the database"),
        (problem("database = 't.csv'"), "file is not a database"),
        (problem(CSV), "the key queries is missing"),
        (problem(&format!("{CSV}queries = {{}}")), "at least one query"),
        (
            problem(&format!("{CSV}queries.parameters = 'SELECT 1'")),
            "report.queries.parameters: the name of a query",
        ),
    ] {
        assert!(message.contains(expected), "{message:?} has no {expected:?}");
        assert!(!message.contains('\n'), "{message}");
    }
    let broken = Trial::new("{% for x in %}").load(&format!("{CSV}queries.q = 'SELECT 1'")).unwrap_err();
    assert!(broken.contains("a.toml:12: report.template: the template is wrong: syntax error"), "{broken}");
}

#[test]
fn uneven_csv_files_are_refused() {
    let trial = Trial::new("");
    for text in ["", "a,b\n1\n", "a,a\n1,2\n"] {
        fs::write(trial.folder.path().join("t.csv"), text).unwrap();
        let message = trial.load(&format!("{CSV}queries.q = 'SELECT 1'")).unwrap_err();
        assert!(message.contains("t.csv is not a usable CSV file"), "{message}");
    }
}

fn database(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("sales.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)")
        .unwrap();
    path
}

#[test]
fn a_database_is_read_as_it_is_at_the_time_of_the_run() {
    let trial = Trial::new("{{ q[0].n }}");
    let path = database(trial.folder.path());
    let loaded = trial.load("database = 'sales.db'\nqueries.q = 'SELECT sum(a) AS n FROM t'").unwrap();
    let html = || report_of(&loaded).run(&trial.context(), &loaded.workflow).map(|done| done.html);
    assert_eq!(html().unwrap(), b"3");
    Connection::open(&path).unwrap().execute_batch("INSERT INTO t VALUES (4)").unwrap();
    assert_eq!(html().unwrap(), b"7");
    Connection::open(&path).unwrap().execute_batch("DROP TABLE t").unwrap();
    assert!(matches!(ExecuteError::from(html().unwrap_err()), ExecuteError::Fatal(_)));
    fs::remove_file(&path).unwrap();
    assert!(matches!(ExecuteError::from(html().unwrap_err()), ExecuteError::Retryable(_)));
    assert!(!path.exists(), "a database that is only read was made");
}

#[test]
fn a_query_without_end_stops_when_the_run_is_cancelled() {
    let trial = Trial::new("");
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let loaded = trial.load(&format!("{CSV}queries.q = '{sql}'")).unwrap();
    let source = CancellationSource::new();
    let context = trial.context().with_cancellation(source.cancellation());
    let start = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let running = scope.spawn(|| report_of(&loaded).run(&context, &loaded.workflow));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!running.is_finished());
        source.cancel(StopReason::TimedOut);
        running.join().unwrap()
    });
    assert!(matches!(outcome, Err(ReportError::Stopped)));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_column_that_is_not_there_is_an_error_and_no_gap_in_the_page() {
    let trial = Trial::new("{{ q[0].nmae }}");
    let error = trial.run(&format!("{CSV}queries.q = 'SELECT name FROM t'")).unwrap_err();
    assert!(super::chain(&error).contains("undefined"), "{}", super::chain(&error));
    assert!(matches!(ExecuteError::from(error), ExecuteError::Fatal(_)));
}

#[test]
fn more_rows_than_fit_into_memory_are_refused() {
    let trial = Trial::new("");
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let error = trial.run(&format!("{CSV}queries.q = '{sql}'")).unwrap_err();
    assert_eq!(error.to_string(), "the query q has more than 100000 rows; limit it");
}
