use std::process::ExitStatus;

use webhook_core::parameters::ParameterBlocks;

use super::*;
use crate::output::Line;
use crate::process::Listener;

fn python(test: &str) -> Option<Python> {
    webhook_testing::python(test, &["papermill", "ipykernel", "nbconvert"]).map(Python::new)
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
            "t json null",
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
fn a_value_that_is_no_json_takes_any_json_and_one_that_is_computed_takes_text() {
    let Some(python) = python("untyped values") else { return };
    let source = "a = None\nb = {1: 'one'}\nc = 1e999\nd = float('nan')\ne = {'x'}\nf = 99999999999999999999\n\
        g = today()\nh: str = None\ni = set()";
    let notebook = load(&python, source).unwrap();
    let types: Vec<_> = notebook.parameters().iter().map(|own| own.parameter_type.as_str()).collect();
    assert_eq!(types, ["json", "json", "json", "json", "json", "json", "text", "text", "json"]);
    assert!(notebook.parameters().iter().all(|own| own.default.is_none()));
}

#[test]
fn what_ipython_alone_understands_is_passed_over_and_what_it_assigns_is_a_parameter() {
    let Some(python) = python("lines for IPython") else { return };
    let source = "home = %env HOME\nfiles = !ls -l  # all\na, b = !ls\n?print\nprint?\nx.y??  # help\n%%time\nc = 'why?'";
    let notebook = load(&python, source).unwrap();
    let names: Vec<_> = notebook.parameters().iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["home", "files", "c"]);
    assert_eq!(notebook.parameters()[2].default, Some(json!("why?")));
}

#[test]
fn names_are_those_that_python_compares_and_a_workflow_has_no_others() {
    let Some(python) = python("names") else { return };
    let notebook = load(&python, "ｒegion = 'EMEA'\nwebhook_parameters = {}").unwrap();
    let names: Vec<_> = notebook.parameters().iter().map(|own| own.name.as_str()).collect();
    assert_eq!(names, ["region"], "of names that Python reads as one there is one");
    let workflow = |name: &str| {
        let blocks = ParameterBlocks::new(vec![ParameterBlock::new(name, ParameterType::Text)]).unwrap();
        NotebookWorkflow::new(Workflow::new("notebook/a".parse().unwrap(), "A", blocks), notebook.clone())
    };
    workflow("region").unwrap();
    for other in ["ｒegion", "other", "webhook_parameters"] {
        let refused = workflow(other).unwrap_err();
        assert_eq!(refused, crate::InvalidCommand::UndeclaredParameter { parameter: other.to_owned() });
    }
}

#[test]
fn only_declared_parameters_become_variables_and_only_those_that_differ_from_the_notebooks_own() {
    let Some(python) = python("variables") else { return };
    let notebook = load(&python, "region = 'EMEA'\nrows = 5\nday = None\npassword = 'x'").unwrap();
    let blocks = ParameterBlocks::new(notebook.parameters().to_vec()).unwrap();
    let workflow = Workflow::new("notebook/a".parse().unwrap(), "A", blocks);
    let workflow = NotebookWorkflow::new(workflow, notebook).unwrap();
    let parameters = [
        ("region", EffectiveParameter::new("EMEA", Source::Default)),
        ("rows", EffectiveParameter::new(5, Source::Query)),
        ("password", EffectiveParameter::new("hunter22", Source::Default).secret()),
        ("ｒegion", EffectiveParameter::new("MARS", Source::Query)),
        ("type", EffectiveParameter::new(json!({"a": 1}), Source::Body)),
        ("x=1;import os", EffectiveParameter::new("", Source::Query)),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let run = webhook_core::id::RunId::generate(std::time::SystemTime::now());
    let context = RunContext::new(run, "notebook/a".parse().unwrap(), 1, parameters);
    let input = workflow.input(&context, Path::new("/draft"));
    let request: Value =
        serde_json::from_slice(input.split(|byte| *byte == b'\n').rev().nth(1).unwrap()).unwrap();
    assert_eq!(request["parameters"], json!({"rows": 5, "password": "hunter22"}));
    assert_eq!(request["rest"], json!({"ｒegion": "MARS", "type": {"a": 1}, "x=1;import os": ""}));
    assert_eq!(request["secret"], json!({"password": "hunter22"}));
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
        ("{}".to_owned(), "not a Jupyter notebook"),
        (of_format_4(json!({}), cell), "its parameters cell is not Python: line 1"),
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
}

#[test]
fn a_python_that_was_named_is_in_the_advice_and_one_that_was_found_gives_way_to_a_new_environment() {
    let error = load(&Python::new("/no/such"), "a = 1").unwrap_err();
    let text = error.to_string();
    assert!(error.is_unprepared(), "{text}");
    assert!(text.contains("python3 -m venv /no/such && /no/such/bin/pip install papermill"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let text = load(&Python::new(folder.path()), "a = 1").unwrap_err().to_string();
    assert!(text.contains(&format!("python3 -m venv {} && ", folder.path().display())), "{text}");
    for other in ["/bin/cat", "no-such-python"] {
        let text = load(&Python::new(other), "a = 1").unwrap_err().to_string();
        assert!(text.contains(other) && text.contains("name another Python"), "{text}");
        assert!(!text.contains("venv"), "{text}");
    }
    assert!(Python::new("python3").completed_by().ends_with("and name .venv instead of python3"));
    let mut found = Python::new("/no/such");
    found.is_named = false;
    assert!(found.replaced_by().contains("python3 -m venv .venv && .venv/bin/pip install papermill"));
    assert_eq!(found.replaced_by(), found.completed_by());
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
