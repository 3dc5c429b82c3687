//! Real notebooks, run by a real papermill in the example server, called over a real socket.

mod scene;

use std::time::Instant;

use scene::{Scene, assert_gone, process_ids};
use serde_json::{Value, json};
use webhook_testing::python;

use crate::server::Server;

#[tokio::test]
async fn the_bundled_notebook_makes_a_page_with_a_chart_for_the_date_and_region_asked_for() {
    let Some(scene) = Scene::bundled("the bundled notebook") else { return };
    let workflows = scene.admin("GET", "/workflows", None).await;
    let items = workflows["items"].as_array().unwrap();
    let own = items.iter().find(|own| own["kind"] == "notebook").unwrap();
    let block = |name: &str| {
        own["parameters"].as_array().unwrap().iter().find(|block| block["name"] == name).unwrap().clone()
    };
    assert_eq!(block("date")["type"], "date");
    assert_eq!(block("region")["type"], "choice");
    assert_eq!(block("region")["choices"], json!(["EMEA", "APAC", "AMER"]));
    assert_eq!(block("days")["default"], 7);

    let webhook = scene.webhook("daily-sales", json!({})).await;
    let run = webhook.run(json!({"date": "2026-01-10", "region": "APAC"})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert!(run["summary"].as_str().unwrap().starts_with("APAC on 2026-01-10: revenue "), "{run}");
    assert_eq!(run["progress"]["fraction"], 1.0);
    let (headers, page) = webhook.artifact(&run, "notebook.html").await;
    assert!(page.contains("APAC, 2026-01-10") && page.contains("data:image/png;base64,"), "no chart");
    assert!(headers["content-security-policy"].to_str().unwrap().starts_with("sandbox; default-src 'none'"));
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("inline"));
    let (headers, notebook) = webhook.artifact(&run, "notebook.ipynb").await;
    assert!(headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
    let notebook: Value = serde_json::from_str(&notebook).unwrap();
    assert!(notebook["cells"].as_array().unwrap().len() > 6, "the parameters were injected");
    assert!(webhook.log(&run).await.contains("rows for APAC on 2026-01-10"));

    let refused = webhook.call(json!({"date": "tomorrow", "region": "MOON"})).await;
    assert_eq!(refused.0, 422, "the notebook's own types are checked: {}", refused.1);
    scene.stop();
}

#[tokio::test]
async fn parameters_keep_their_types_and_never_become_code() {
    let cells = [
        "from typing import Literal\ncount = 1\nrate = 0.5\nflag = False\nitems = []\nall = {}\nday: 'date' = None\n\
         mode: Literal['a', 'b'] = 'a'\npassword = ''\nnow = __import__('time').time()",
        "import json\nprint(json.dumps([count, rate, flag, items, all, day, mode, len(password), type(now).__name__]))\n\
         print(password)\ntext = webhook_parameters['extra']\nprint(list(webhook_parameters))",
    ];
    let text =
        "[[parameters]]\nname = 'password'\nsecret = true\n[[parameters]]\nname = 'count'\nrequired = true\n";
    let Some(scene) = Scene::with("types", &cells, text) else { return };
    let webhook = scene.webhook("types", json!({})).await;
    let evil = "a\"\\\n__import__('os').abort()#'''\u{1F6B2}";
    let given = json!({"count": 7, "rate": 2, "flag": true, "items": [1, "b", null], "all": {"k\"": [1.5, evil]},
        "day": "2026-01-10", "mode": "b", "password": "canary-5f1c2a \"quoted\"", "extra": evil});
    let run = webhook.run(given).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = webhook.log(&run).await;
    let printed: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let all = json!({"k\"": [1.5, evil]});
    assert_eq!(printed, json!([7, 2, true, [1, "b", null], all, "2026-01-10", "b", 22, "float"]));
    assert!(!log.contains("canary-5f1c2a"), "{log}");
    for name in ["notebook.html", "notebook.ipynb"] {
        let artifact = webhook.artifact(&run, name).await.1;
        assert!(artifact.contains("***") && !artifact.contains("canary-5f1c2a"), "a secret is in {name}");
    }
    assert_eq!(webhook.call(json!({})).await.0, 422, "the file demands a count");
    // Undeclared parameters are not variables, whatever their names. Python would read the full-width one as
    // `mode`.
    let sent = json!({"count": 1, "extra": 1, "x=1;import os": 2, "type": 3, "print": 4, "ｍode": "c"});
    let run = webhook.run(sent).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = webhook.log(&run).await;
    assert!(log.starts_with(r#"[1, 0.5, false, [], {}, null, "a", 0, "float"]"#), "{log}");
    assert!(log.ends_with("['extra', 'print', 'type', 'x=1;import os', 'ｍode']\n"), "{log}");
    scene.stop();
}

/// No part of the secret may show, wherever a cut falls into it: in the log, in the error with its traceback,
/// and in the kept output of a cell.
#[tokio::test]
async fn a_secret_shows_nowhere_also_where_a_notebooks_output_is_cut() {
    const SECRET: &str = "SECRETcanary-0123456789abcdéf";
    // The error's message is cut at 8,000 characters; the parameter decides where in the secret that is.
    let cells = [
        "padding = 0\npassword = ''",
        "for more in range(7960, 8010): print('x' * more + password)",
        "print('y' * (256 * 1024 - padding), end=password + '\\n')",
        "import json, sys, time\nprint(json.dumps(password), repr(password), ascii(password))\n\
         print(password[:9], end='', flush=True); time.sleep(0.4); print('.', file=sys.stderr, flush=True)\n\
         time.sleep(0.4); print(password[9:])",
        "from IPython.display import HTML\nHTML('<b>' + password + '</b>')",
        "from urllib.parse import quote, quote_plus\nfor text in (quote(password), quote_plus(password), password.replace('é', '%c3%a9')):\n    \
         print('https://example.com/?password=' + text)",
        "raise ValueError('z' * (8000 - padding) + password)",
    ];
    let text = "[[parameters]]\nname = 'password'\nsecret = true\n";
    let Some(scene) = Scene::with("canary", &cells, text) else { return };
    let webhook = scene.webhook("canary", json!({})).await;
    for padding in (0..SECRET.chars().count() + 2).step_by(9) {
        let run = webhook.run(json!({"padding": padding, "password": SECRET})).await;
        assert_eq!(run["error"]["kind"], "retryable", "{run}");
        let mut shown = vec![("record", run.to_string()), ("log", webhook.log(&run).await)];
        for name in ["notebook.html", "notebook.ipynb"] {
            shown.push((name, webhook.artifact(&run, name).await.1));
        }
        for (place, text) in shown {
            let parts = [
                "SECRETca",
                "canary-0",
                "-0123456",
                "23456789",
                "6789abcd",
                "abcd\\u00e9f",
                "9abcd",
                "%C3%A9f",
            ];
            let part = parts.into_iter().find(|part| text.contains(part));
            assert_eq!(part, None, "padding {padding}: in the {place}");
            assert!(text.contains("***"), "{place}");
        }
    }
    scene.stop();
}

#[tokio::test]
async fn a_failing_cell_is_the_error_of_the_run_and_a_dead_kernel_says_so() {
    let cells = [
        "dies = False",
        "import os\nif dies: os._exit(3)",
        "def f():\n    raise ValueError('no such day')\nf()",
    ];
    let Some(scene) = Scene::with("fails", &cells, "") else { return };
    let webhook = scene.webhook("fails", json!({})).await;
    let run = webhook.run(json!({})).await;
    assert_eq!(run["state"], "failed", "{run}");
    assert_eq!(run["error"], json!({"kind": "retryable", "message": "cell 3 of 3: ValueError: no such day"}));
    let log = webhook.log(&run).await;
    assert!(log.contains("cell 3 of 3 failed:") && log.contains("raise ValueError('no such day')"), "{log}");
    let page = webhook.artifact(&run, "notebook.html").await.1;
    assert!(
        page.contains("no such day") && page.contains("An Exception was encountered"),
        "the failed notebook is kept"
    );
    assert!(webhook.artifact(&run, "notebook.ipynb").await.1.contains("no such day"));
    let run = webhook.run(json!({"dies": true})).await;
    assert!(run["error"]["message"].as_str().unwrap().contains("the kernel died"), "{run}");
    scene.change("fails", "{");
    let run = webhook.run(json!({})).await;
    assert_eq!(run["error"]["kind"], "fatal", "{run}");
    assert!(run["error"]["message"].as_str().unwrap().starts_with("the notebook cannot be read: "), "{run}");
    assert_eq!(run["artifacts"], json!([]));
    let folder = format!("artifacts/{}", run["id"].as_str().unwrap());
    assert!(!scene.has_folder(&folder), "nothing was made, so nothing is left");
    scene.stop();
}

/// Prints the ids of the kernel, of the runner and of processes that the notebook started, then runs for a
/// long time.
const ENDLESS: &str = "import os, subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n\
    get_ipython().system_raw('true')\nprint(os.getpid(), os.getppid(), child.pid, flush=True)\n\
    get_ipython().system('echo $$; exec sleep 600')";

#[tokio::test]
async fn cancelling_and_timing_out_leave_no_process_behind() {
    let Some(scene) = Scene::with("endless", &["x = 1", ENDLESS], "") else { return };
    let webhook = scene.webhook("endless", json!({})).await;
    let run = webhook.start(json!({})).await;
    let processes = process_ids(&webhook.logged(&run, 2).await);
    assert_eq!(processes.len(), 4);
    scene.admin("POST", &format!("/runs/{}/cancel", run.id), None).await;
    let ended = webhook.ended(&run).await;
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert_gone(&processes).await;

    // A kernel's start takes longer on slower machines, so the time is doubled until the kernel started in
    // time.
    let mut seconds = 4;
    let processes = loop {
        let webhook = scene.webhook("endless", json!({"timeout_s": seconds})).await;
        let ended = webhook.run(json!({})).await;
        assert_eq!(ended["state"], "timed_out", "{ended}");
        let log = webhook.log(&ended).await;
        if log.lines().count() >= 2 {
            break process_ids(&log.lines().take(2).collect::<Vec<_>>().join(" "));
        }
        seconds *= 2;
        assert!(seconds < 100, "the kernel has not started: {log}");
    };
    assert_eq!(processes.len(), 4);
    assert_gone(&processes).await;
    let left: Vec<_> = scene.files("artifacts").into_iter().filter(|path| path.contains("attempt")).collect();
    assert!(left.is_empty(), "{left:?}");
    scene.stop();
}

#[tokio::test]
async fn killing_the_server_leaves_no_kernel_and_a_new_attempt_ends_after_the_restart() {
    let cells = ["x = 1", "import os\nfirst = not os.path.exists('was-here')\nopen('was-here', 'w').close()"];
    let endless = format!("if first:\n    {}", ENDLESS.replace('\n', "\n    "));
    let Some(scene) = Scene::with("again", &[cells[0], cells[1], &endless], "") else { return };
    let webhook = scene.webhook("again", json!({})).await;
    let run = webhook.start(json!({})).await;
    let processes = process_ids(&webhook.logged(&run, 2).await);
    let scene = scene.killed_and_restarted();
    assert_gone(&processes).await;
    let webhook = webhook.at(&scene);
    let ended = webhook.ended(&run).await;
    assert_eq!((&ended["state"], &ended["interruptions"]), (&json!("succeeded"), &json!(1)), "{ended}");
    scene.stop();
}

#[tokio::test]
async fn ten_at_once_with_a_limit_of_two_never_run_more_than_two_kernels() {
    // Each kernel marks that it runs and counts the marks for a while. Until two have met once, it waits for another.
    let cell = "import os, time\nmark = f'kernel-{os.getpid()}'\nopen(mark, 'w').close()\nmost = 0\nstart = time.monotonic()\n\
        while time.monotonic() - start < (0.5 if os.path.exists('met') else 60):\n    \
            most = max(most, sum(name.startswith('kernel-') for name in os.listdir()))\n    \
            if most > 1:\n        open('met', 'w').close()\n    \
            time.sleep(0.02)\nprint('kernels', most)\nos.remove(mark)";
    let Some(scene) = Scene::with("few", &["x = 1", cell], "") else { return };
    let webhook = scene.webhook("few", json!({"concurrency": {"max": 2, "on_overlap": "queue"}})).await;
    let mut runs = Vec::new();
    for number in 0..10 {
        runs.push(webhook.start(json!({"x": number})).await);
    }
    let mut most = 0;
    for run in &runs {
        let ended = webhook.ended(run).await;
        assert_eq!(ended["state"], "succeeded", "{ended}");
        let log = webhook.log(&ended).await;
        let seen = log.lines().find_map(|line| line.strip_prefix("kernels ")).unwrap();
        most = most.max(seen.parse().unwrap());
    }
    assert_eq!(most, 2);
    scene.stop();
}

#[tokio::test]
async fn a_notebook_that_prints_100_mb_is_cut_with_a_note_and_costs_the_server_no_memory() {
    let cell = "line = 'x' * 99\nfor _ in range(lines): print(line)\nprint('the end')";
    let Some(scene) = Scene::with("loud", &["lines = 1", cell], "") else { return };
    let webhook = scene.webhook("loud", json!({})).await;
    // The cost of a first run is not part of the measurement.
    webhook.run(json!({})).await;
    let before = scene.peak_memory();
    let began = Instant::now();
    let run = webhook.run(json!({"lines": 1_000_000})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let after = scene.peak_memory();
    println!("server: {before} kB before, {after} kB after {:?}", began.elapsed());
    assert!(after < before + 32 * 1024, "memory grew from {before} kB to {after} kB");
    let log = webhook.log(&run).await;
    assert!(log.contains(" characters are left out here]") && log.ends_with("the end\n"), "{}", log.len());
    let page = webhook.artifact(&run, "notebook.html").await.1;
    assert!(page.contains("[output is cut here: ") && page.len() < 2_000_000, "{} bytes", page.len());
    scene.stop();
}

#[tokio::test]
async fn a_notebook_that_cannot_be_run_is_unavailable_with_its_reason_and_all_others_are_served() {
    let Some(program) = python("unusable notebooks", scene::MODULES) else { return };
    let cell = |source: &str| scene::notebook(&[source]);
    let kernel = cell("x = 1").replace("\"python3\"", "\"no-such-kernel\"");
    let unusable = [
        ("broken", "{".to_owned(), "it is not JSON"),
        ("syntax", cell("x = = 1"), "its parameters cell is not Python: line 1"),
        ("default", cell("x: int = 'a'"), "the default does not fit"),
        ("moment", cell("when: 'datetime' = '2026-01-14T08:00:00'"), "the default does not fit"),
        ("reserved", cell("token = 1"), "reserved for the webhook's token"),
        ("kernel", kernel, "-m ipykernel install --sys-prefix --name no-such-kernel"),
    ];
    let mut notebooks: Vec<_> = unusable.iter().map(|(id, notebook, _)| (*id, notebook.clone())).collect();
    notebooks.push(("fine", cell("home = %env HOME\nx = 1")));
    let scene = Scene::of(&notebooks, program.to_str().unwrap());
    let listed = scene.admin("GET", "/workflows", None).await;
    let reason = |id: &str| {
        let items = listed["items"].as_array().unwrap();
        items.iter().find(|own| own["id"] == id).unwrap()["unavailable"].clone()
    };
    for (id, _, expected) in unusable {
        let reason = reason(id);
        assert!(reason.as_str().unwrap().contains(expected), "{id}: {reason}");
        let (status, problem) = scene.webhook(id, json!({})).await.call(json!({})).await;
        assert_eq!(
            (status, &problem["type"]),
            (404, &json!("urn:webhook:problem:workflow-missing")),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().contains("not available on this server"), "{problem}");
    }
    assert_eq!(reason("fine"), Value::Null);
    let run = scene.webhook("fine", json!({})).await.run(json!({"home": "/", "x": 2})).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    scene.stop();
}

#[tokio::test]
async fn a_python_that_is_missing_bare_or_none_at_all_makes_notebooks_unavailable() {
    let Some(program) = python("unusable Pythons", scene::MODULES) else { return };
    let bare = tempfile::tempdir().unwrap();
    let bare = bare.path().join("bare");
    let made = std::process::Command::new(program).args(["-m", "venv", "--without-pip"]).arg(&bare).status();
    assert!(made.unwrap().success());
    for (python, expected) in [
        (bare.to_str().unwrap(), "-m pip install papermill ipykernel nbconvert"),
        ("/no/such/python", "python3 -m venv /no/such/python && /no/such/python/bin/pip install papermill"),
        ("/bin/cat", "does not answer as Python"),
    ] {
        let scene = Scene::of(&[("own", scene::notebook(&["x = 1"]))], python);
        let listed = scene.admin("GET", "/workflows", None).await;
        let reason = listed["items"][0]["unavailable"].as_str().unwrap();
        assert!(reason.contains(expected), "{reason}");
        scene.stop();
    }
}

#[tokio::test]
async fn without_python_the_bundled_notebook_is_unavailable_and_everything_else_works() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--python", "/no/such/python"]);
    let url = server.webhook_of("notebook", "daily-sales").await;
    let answer = server.send(server.client.post(&url)).await;
    assert_eq!(answer.status(), 404);
    let answer: Value = answer.json().await.unwrap();
    assert!(answer["detail"].as_str().unwrap().contains("not available on this server"), "{answer}");
    let call = server.client.post(server.url()).header("Prefer", "wait=20");
    let answer: Value = server.send(call).await.json().await.unwrap();
    assert_eq!(answer["state"], "succeeded", "{answer}");
    let log = server.stop();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("unavailable")).collect();
    assert!(lines.len() == 1 && lines[0].contains("python3 -m venv /no/such/python"), "{log}");
}
