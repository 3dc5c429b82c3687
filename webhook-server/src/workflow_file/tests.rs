//! Workflow files: what they may hold, and the problems that name their place.

use serde_json::json;

use super::*;

const HEAD: &str = "kind = 'report'\nid = 'a'\ntitle = 'A'\n";

fn load_text(text: &str) -> Result<LoadedWorkflow, FileProblem> {
    load(Path::new("workflows/a.toml"), text, &no_python())
}

fn no_python() -> Python {
    Python::new("/no/such/python")
}

fn problem(text: &str) -> String {
    load_text(text).unwrap_err().to_string()
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
            kind = "report"
            id = "daily-sales"
            title = "Daily sales"
            [[parameters]]
            name = "region"
            type = "choice"
            choices = ["EMEA", "APAC"]
            default = "EMEA"
            description = "Where"
            [[parameters]]
            name = "password"
            type = "text"
            required = true
            secret = true
            [command]
            program = "./sales.py"
            args = ["--all", ""]
            cwd = "work"
            env = { TZ = "UTC" }
        "#;
    let loaded = load_text(text).unwrap();
    assert_eq!(loaded.workflow.key.to_string(), "report/daily-sales");
    assert_eq!(loaded.workflow.title, "Daily sales");
    let region = loaded.workflow.parameters.get("region").unwrap();
    assert_eq!(region.choices, ["EMEA", "APAC"]);
    assert_eq!(region.default, Some("EMEA".into()));
    assert_eq!(region.description.as_deref(), Some("Where"));
    let password = loaded.workflow.parameters.get("password").unwrap();
    assert!(password.required && password.secret);
    let Action::Command(own) = loaded.action else { panic!("no command") };
    let folder = std::path::absolute("workflows").unwrap();
    assert_eq!(own.command().program, folder.join("./sales.py"));
    assert_eq!(own.command().arguments, ["--all", ""]);
    assert_eq!(own.command().folder, Some(folder.join("work")));
    assert_eq!(own.command().environment["TZ"], "UTC");
}

#[test]
fn dates_and_times_become_text_and_other_defaults_their_json() {
    let text = format!(
        "{HEAD}[noop]\n\
         [[parameters]]\nname = 'day'\ntype = 'date'\ndefault = 2026-01-31\n\
         [[parameters]]\nname = 'moment'\ntype = 'datetime'\ndefault = 2026-01-31 08:00:00Z\n\
         [[parameters]]\nname = 'count'\ntype = 'integer'\ndefault = 0x10\n\
         [[parameters]]\nname = 'rate'\ntype = 'number'\ndefault = 0.5\n\
         [[parameters]]\nname = 'all'\ntype = 'json'\ndefault = {{ a = [1, true, 2026-01-31] }}\n"
    );
    let loaded = load_text(&text).unwrap();
    let default = |name: &str| loaded.workflow.parameters.get(name).unwrap().default.clone().unwrap();
    assert_eq!(default("day"), "2026-01-31");
    assert_eq!(default("moment"), "2026-01-31T08:00:00Z");
    assert_eq!(default("count"), 16);
    assert_eq!(default("rate"), 0.5);
    assert_eq!(default("all"), json!({"a": [1, true, "2026-01-31"]}));
}

#[test]
fn a_problem_names_file_line_and_key() {
    let parameter = |lines: &str| problem(&format!("{HEAD}[noop]\n[[parameters]]\nname = 'n'\n{lines}\n"));
    for (message, expected) in [
        (
            parameter("type = 'strng'"),
            "workflows/a.toml:7: parameters[0].type: \"strng\" is not a parameter type",
        ),
        (parameter("type = 'integer'\ndefault = 'x'"), "workflows/a.toml:8: parameters[0].default: "),
        (
            parameter("type = 'number'\ndefault = nan"),
            "workflows/a.toml:8: parameters[0].default: must be a finite",
        ),
        (
            parameter("type = 'text'\nrequired = 1"),
            "workflows/a.toml:8: parameters[0].required: must be true or",
        ),
        (
            parameter("type = 'choice'\nchoices = [1]"),
            "workflows/a.toml:8: parameters[0].choices[0]: must be text",
        ),
        (parameter("type = 'choice'"), "workflows/a.toml:5: parameters[0]: a choice needs"),
        (
            parameter("type = 'text'\nmin = 1"),
            "workflows/a.toml:8: parameters[0].min: unknown key; the keys here are name,",
        ),
        (parameter(""), "workflows/a.toml:5: parameters[0]: the key type is missing"),
        (
            problem("kind = 'Report'\nid = 'a'\ntitle = 'A'\n"),
            "workflows/a.toml:1: kind: workflow kind must match",
        ),
        (problem("kind = 'report'\nid = '/'\n"), "workflows/a.toml:2: id: workflow id must match"),
        (problem("kind = 'report'\nid = 'a'\n"), "workflows/a.toml:1: the key title is missing"),
        (problem("kind = 'report'\nid = 'a'\ntitle = ''\n"), "workflows/a.toml:3: title: must not be empty"),
        (problem(&format!("{HEAD}[noop]\nfast = true\n")), "workflows/a.toml:5: noop.fast: unknown key"),
        (problem(&format!("color = 1\n{HEAD}[noop]\n")), "workflows/a.toml:1: color: unknown key"),
        (
            problem(&format!("{HEAD}[command]\nargs = []\n")),
            "workflows/a.toml:4: command: the key program is missing",
        ),
        (problem("kind = 'report'\nid =\n"), "workflows/a.toml:2: "),
        (problem(&format!("{HEAD}id = 'b'\n")), "workflows/a.toml:4: duplicate key"),
    ] {
        assert!(message.starts_with(expected), "{message:?} does not start with {expected:?}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn a_repeated_parameter_is_refused_where_it_is_repeated() {
    let one = "[[parameters]]\nname = 'n'\ntype = 'text'\n";
    let message = problem(&format!("{HEAD}[noop]\n{one}{one}"));
    assert!(message.starts_with("workflows/a.toml:8: parameters[1]: "), "{message}");
}

#[test]
fn colliding_variables_of_a_command_are_refused() {
    let text = format!(
        "{HEAD}[command]\nprogram = 'true'\n\
         [[parameters]]\nname = 'a-b'\ntype = 'text'\n[[parameters]]\nname = 'a_b'\ntype = 'text'\n"
    );
    let message = problem(&text);
    assert!(
        message.starts_with("workflows/a.toml:4: command: ") && message.contains("PARAM_A_B"),
        "{message}"
    );
}

#[test]
fn exactly_one_thing_executes_a_workflow() {
    assert!(problem(HEAD).starts_with("workflows/a.toml:1: one of [command], [notebook], [report]"));
    let message = problem(&format!("{HEAD}[noop]\n[command]\nprogram = 'true'\n"));
    assert!(message.contains("[command] and [noop] are two"), "{message}");
}

#[test]
fn a_notebook_without_python_names_what_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.ipynb"), "{}").unwrap();
    let file = folder.path().join("a.toml");
    for more in ["", "optional = true"] {
        let text = format!("{HEAD}[notebook]\npath = 'a.ipynb'\n{more}\n");
        let loaded = load(&file, &text, &no_python()).unwrap();
        assert_eq!(loaded.workflow.title, "A");
        assert!(matches!(loaded.action, Action::Unavailable), "available");
        let reason = loaded.workflow.unavailable.as_deref().unwrap();
        assert!(reason.contains("Python cannot be run as"), "{reason}");
        assert!(reason.contains("python3 -m venv /no/such/python && "), "{reason}");
    }
}

#[test]
fn what_is_no_regular_file_is_no_notebook() {
    let text = format!("{HEAD}[notebook]\npath = '/dev/null'\n");
    let loaded = load(Path::new("a.toml"), &text, &no_python()).unwrap();
    let reason = loaded.workflow.unavailable.as_deref().unwrap();
    assert!(reason.contains("it is no regular file"), "{reason}");
}

#[test]
fn a_secret_default_that_does_not_fit_is_not_shown() {
    let message = problem(&format!(
        "{HEAD}[noop]\n[[parameters]]\nname = 'n'\ntype = 'integer'\nsecret = true\ndefault = 'canary-5f1c2a'\n"
    ));
    assert!(message.contains("parameters[0].default") && !message.contains("canary"), "{message}");
}

#[test]
fn a_workflow_declared_in_two_files_is_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.toml", "b.toml"] {
        std::fs::write(folder.path().join(name), format!("{HEAD}[noop]\n")).unwrap();
    }
    std::fs::write(folder.path().join("notes.txt"), "no workflow").unwrap();
    let message = load_folder(folder.path(), &no_python()).unwrap_err().to_string();
    assert!(message.contains("a.toml and ") && message.contains("b.toml both declare"), "{message}");
    assert!(message.contains("report/a"), "{message}");
}

/// A Python that describes a notebook only once two of them have been started.
const SOCIABLE: &str = r#"#!/bin/sh
        cat > /dev/null
        : > "$0-$$"
        waited=0
        while [ "$(ls "$0"-* | wc -l)" -lt 2 ] && [ $waited -lt 100 ]; do
            waited=$((waited + 1))
            sleep 0.1
        done
        [ $waited -lt 100 ] && echo '{"kernel": "python3", "parameters": []}'
    "#;

#[test]
fn notebooks_are_inspected_side_by_side_and_listed_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("python");
    // By another process: a fork of another test's could still have the file open, so it could not be
    // executed.
    let make = "printf '%s' \"$1\" > \"$0\" && chmod +x \"$0\"";
    let made = std::process::Command::new("sh").args(["-c", make]).arg(&program).arg(SOCIABLE).status();
    assert!(made.unwrap().success());
    for name in ["a", "b", "c"] {
        std::fs::write(folder.path().join(format!("{name}.ipynb")), "{}").unwrap();
        let text =
            format!("kind = 'report'\nid = '{name}'\ntitle = 'A'\n[notebook]\npath = '{name}.ipynb'\n");
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    }
    let loaded = load_folder(folder.path(), &Python::new(program)).unwrap();
    let found: Vec<_> =
        loaded.iter().map(|own| (own.workflow.key.to_string(), own.workflow.unavailable.clone())).collect();
    assert_eq!(found, ["report/a", "report/b", "report/c"].map(|key| (key.to_owned(), None)));
}

#[test]
fn of_several_wrong_files_the_first_by_name_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for number in 10..40 {
        let title = if [23, 24, 31].contains(&number) { "" } else { "A" };
        let text = format!("kind = 'report'\nid = 'w{number}'\ntitle = '{title}'\n[noop]\n");
        std::fs::write(folder.path().join(format!("{number}.toml")), text).unwrap();
    }
    for _ in 0..20 {
        let message = load_folder(folder.path(), &no_python()).unwrap_err().to_string();
        assert!(message.contains("23.toml:3: title: must not be empty"), "{message}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let message = load_folder(Path::new("no/such/folder"), &no_python()).unwrap_err().to_string();
    let folder = std::path::absolute("no/such/folder").unwrap();
    assert!(message.contains(folder.to_str().unwrap()) && message.contains("--workflows"), "{message}");
}

#[test]
fn the_bundled_workflows_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(crate::options::BUNDLED_WORKFLOWS);
    let loaded = load_folder(&folder, &no_python()).unwrap();
    let keys: Vec<_> = loaded.iter().map(|own| own.workflow.key.to_string()).collect();
    assert_eq!(keys, ["notebook/daily-sales", "report/daily-sales", "report/echo", "report/noop"]);
}
