use std::process::ExitStatus;

use webhook_core::parameters::ParameterBlocks;

use super::*;
use crate::output::Line;
use crate::process::Listener;

#[path = "../../../tests/support/python.rs"]
mod found;

fn python(test: &str) -> Option<Python> {
    found::python(test, &["papermill", "ipykernel", "nbconvert"]).map(Python::new)
}

fn load(python: &Python, source: &str) -> Result<Notebook, InvalidNotebook> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ipynb");
    let cell = json!({"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source]});
    let notebook = json!({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]});
    std::fs::write(&path, notebook.to_string()).unwrap();
    Notebook::load(&path, python)
}

#[test]
fn parameters_have_the_types_of_annotations_comments_and_literals() {
    let Some(python) = python("parameters") else { return };
    let source = "a: int = -1  # how many\nb = 2.5\nc = True\nd = 'x'\ne = [1, 'y']\nf = {'k': None}\n\
        g: 'datetime.date' = '2026-01-01'\nh = '2026-01-01T00:00:00Z'  # type: datetime when\n\
        i: Literal['p', 'q'] = 'q'\nj: float | None = None\nk: Optional[list[int]] = None\nl = today()\n\
        m, n = 1, 2\no.p = 3\nq: np.ndarray = 4\nr: float = 1\na: int = 5\ns: str\nt = {1, 2}\nu: Any = 1e999";
    let notebook = load(&python, source).unwrap();
    let shown: Vec<_> = notebook
        .parameters()
        .iter()
        .map(|own| format!("{} {} {}", own.name, own.parameter_type, own.default.clone().unwrap_or_default()))
        .collect();
    assert_eq!(
        shown,
        [
            "a integer 5",
            "b number 2.5",
            "c boolean true",
            "d text \"x\"",
            "e list [1,\"y\"]",
            "f json {\"k\":null}",
            "g date \"2026-01-01\"",
            "h datetime \"2026-01-01T00:00:00Z\"",
            "i choice \"q\"",
            "j number null",
            "k list null",
            "l text null",
            "q integer 4",
            "r number 1",
            "s text null",
            "t text null",
            "u json null",
        ]
    );
    let find = |name: &str| notebook.parameters().iter().find(|own| own.name == name).unwrap();
    assert_eq!(find("h").description.as_deref(), Some("when"));
    assert_eq!(find("i").choices, ["p", "q"]);
    ParameterBlocks::new(notebook.parameters().to_vec()).unwrap();
}

#[test]
fn a_line_for_ipython_in_the_parameters_cell_is_passed_over() {
    let Some(python) = python("a line for IPython") else { return };
    let notebook = load(&python, "%matplotlib inline\nif True:\n    !true\na = '''\n%s'''\nb = 2").unwrap();
    let names: Vec<_> = notebook.parameters().iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(notebook.parameters()[0].default, Some(json!("\n%s")));
}

#[test]
fn a_broken_notebook_is_named_as_the_culprit() {
    let Some(python) = python("a broken notebook") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ipynb");
    let answer = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Notebook::load(&path, &python).map_err(|error| (error.is_unprepared(), error.to_string()))
    };
    let of_format_4 = |metadata: Value, cells: Value| {
        json!({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}).to_string()
    };
    let cell = json!([{"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": "x = = 1"}]);
    for (text, expected) in [
        ("{}".to_owned(), "no Jupyter notebook"),
        (of_format_4(json!({}), cell), "its parameters cell is no Python: line 1"),
        (of_format_4(json!(null), json!([])), "its format or its metadata is odd"),
        (of_format_4(json!({"kernelspec": {"language": "R"}}), json!([])), "its language is R"),
        ("[".repeat(100_000), "nested too deeply"),
    ] {
        let (is_unprepared, message) = answer(&text).unwrap_err();
        assert!(message.contains(expected) && !is_unprepared, "{message}");
    }
    let cells = json!([{"cell_type": "code", "metadata": null, "source": [1]},
        {"cell_type": "code", "metadata": {"tags": null}, "source": ""}]);
    let odd = of_format_4(json!({"kernelspec": null, "language_info": 1}), cells);
    assert!(answer(&odd).unwrap().parameters().is_empty());
}

#[test]
fn reading_the_parameters_executes_nothing_of_the_cell() {
    let Some(python) = python("executing nothing") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("executed");
    let source = format!("a: open({file:?}, 'w') = open({file:?}, 'w')\nopen({file:?}, 'w')\nb = 1");
    let notebook = load(&python, &source).unwrap();
    assert_eq!(notebook.parameters().len(), 2);
    assert!(!file.exists());
}

#[test]
fn python_is_an_interpreter_a_virtual_environment_or_a_name() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Python::new(folder.path()).shown(), folder.path().join("bin/python").display().to_string());
    assert_eq!(Python::new("python3.12").shown(), "python3.12");
    let relative = std::path::absolute("no/such").unwrap();
    assert_eq!(Python::new("no/such").shown(), relative.display().to_string());
    let error = load(&Python::new("/no/such"), "a = 1").unwrap_err();
    assert!(error.is_unprepared() && error.to_string().contains("python3 -m venv"), "{error}");
}

fn judged(lines: &[&str]) -> Result<RunOutput, NotebookError> {
    let context = webhook_core::executor::RunContext::new(
        webhook_core::id::RunId::generate(std::time::SystemTime::now()),
        "notebook/a".parse().unwrap(),
        1,
        webhook_core::parameters::EffectiveParameters::new(),
    );
    let mut listener = NotebookListener::new(context.reporter());
    for line in lines {
        listener.stdout(Line { text: (*line).to_owned(), is_whole: true });
    }
    listener.judge(ExitStatus::default(), &Python::new("python3"))
}

#[test]
fn only_what_the_runner_says_at_its_end_is_success() {
    let printed = r#"{"stream":"stdout","lines":["a","{\"summary\":\"8 rows\"}"]}"#;
    let output = judged(&[printed, r#"{"progress":0.5,"message":"x"}"#, r#"{"finished":true}"#]).unwrap();
    assert_eq!(output.summary.as_deref(), Some("8 rows"));
    assert!(judged(&[printed]).is_err());
    let failed = judged(&[r#"{"failed":"cell 1 of 2: E: x","may_pass":true}"#]).unwrap_err();
    assert!(failed.is_retryable() && failed.to_string() == "cell 1 of 2: E: x");
    let missing = r#"{"failed":"a Python package is missing","may_pass":false,"lacks_package":true}"#;
    let missing = judged(&[missing]).unwrap_err();
    assert!(!missing.is_retryable() && missing.to_string().contains("-m pip install"), "{missing}");
}
