//! Tests of the ready-made calls: taken from the clipboard and used.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::json;
use webhook_core::store::RunQuery;
use yaml_rust2::{Yaml, YamlLoader};

use crate::Scene;

/// Runs a command line in a shell and returns its output. It must succeed.
fn shell(command: &str, environment: &[(&str, &str)]) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}\n{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn yaml(text: &str) -> Yaml {
    YamlLoader::load_from_str(text).unwrap().remove(0)
}

impl Scene {
    async fn snippet(&self, name: &str) -> String {
        self.browser.click(&format!("//button[@role = 'tab' and . = '{name}']")).await;
        self.browser.press(&format!("Copy {name}")).await;
        self.browser.until_shown(&format!("{name} is on the clipboard.")).await;
        self.browser.clipboard().await
    }

    async fn runs(&self) -> usize {
        self.world.webhooks.manage().list_runs(RunQuery::default()).await.unwrap().items.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ready_made_call_starts_a_run() {
    let Some(scene) = Scene::start().await else { return };
    let hook = scene.world.hook("report/daily-sales", json!({"label": "It's \"mine\""})).await;
    let url = scene.world.webhooks.manage().get_url(hook).await.unwrap().expose().to_owned();
    let token = url.split_once("token=").unwrap().1;
    scene.sign_in().await;
    scene.go("#/report/daily-sales", "mine").await;
    let address = url.split_once('?').unwrap().0;
    let secret = [("WEBHOOK_URL", url.as_str())];
    let mut expected = 0;
    for name in ["curl POST", "curl GET"] {
        let line = scene.snippet(name).await;
        assert!(line.contains(&format!("'{address}'")) && shell(&line, &[]).contains("\"run_id\""), "{line}");
        let (fed, call) = line.split_once(" | curl ").unwrap();
        assert!(fed.starts_with("printf ") && fed.contains(token), "{line}");
        assert!(!call.contains("token"), "the token is no argument of curl's: {line}");
        expected += 1;
        assert_eq!(scene.runs().await, expected, "{name}");
    }

    let github = scene.snippet("GitHub Actions").await;
    assert!(!github.contains(token) && github.contains("${{ secrets.WEBHOOK_URL }}"), "{github}");
    let job = &yaml(&github)["jobs"]["start"];
    assert!(
        job["runs-on"].as_str().is_some() && yaml(&github)["on"]["schedule"][0]["cron"].as_str().is_some()
    );
    let step = &job["steps"][0];
    assert_eq!(step["env"]["WEBHOOK_URL"].as_str(), Some("${{ secrets.WEBHOOK_URL }}"));
    let environment = [secret[0], ("GITHUB_RUN_ID", "7"), ("GITHUB_RUN_ATTEMPT", "1")];
    let run = step["run"].as_str().unwrap();
    assert!(run.contains("curl -sS --fail-with-body -K - ") && !run.contains("\"$WEBHOOK_URL\""), "{run}");
    shell(run, &environment);

    let gitlab = scene.snippet("GitLab CI").await;
    assert!(!gitlab.contains(token), "{gitlab}");
    let job = &yaml(&gitlab)["start-report-daily-sales"];
    assert!(job["image"].as_str().is_some() && job["rules"].as_vec().is_some());
    let script = job["script"][0].as_str().unwrap();
    assert!(
        script.contains("curl -sS --fail-with-body -K - ") && !script.contains("\"$WEBHOOK_URL\""),
        "{script}"
    );
    shell(script, &[secret[0], ("CI_JOB_ID", "8")]);
    assert_eq!(scene.runs().await, expected + 2);

    let cron = scene.snippet("cron").await;
    assert!(!cron.contains(token), "{cron}");
    let [_, once, line] = *cron.trim_end().lines().collect::<Vec<_>>() else { panic!("{cron}") };
    let home = tempfile::tempdir().unwrap();
    let home = [("HOME", home.path().to_str().unwrap())];
    shell(&format!("printf '%s\\n' '{token}' | {}", once.trim_start_matches(['#', ' '])), &home);
    let file = std::fs::metadata(format!("{}/.webhook-report-daily-sales", home[0].1)).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let fields: Vec<&str> = line.splitn(6, ' ').collect();
    assert!(fields[..5].iter().all(|field| field.chars().all(|it| "0123456789*-,/".contains(it))), "{line}");
    // Cron itself removes the escape before it calls the shell; a bare percent sign would end the command.
    let command = fields[5].replace("\\%", "\u{1}");
    assert!(!command.contains('%'), "{line}");
    shell(&command.replace('\u{1}', "%"), &home);
    assert_eq!(scene.runs().await, expected + 3);
    airflow(&scene.snippet("Airflow").await, token);
    scene.no_complaints(&[]).await;
}

fn airflow(text: &str, token: &str) {
    assert!(
        !text.contains(token) && text.contains("endpoint=\"api/v1/report/daily-sales/webhook\""),
        "{text}"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dag.py");
    std::fs::write(&file, text).unwrap();
    match Command::new("python3").args(["-m", "py_compile"]).arg(&file).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => crate::browser::skip("the Airflow call is compiled with python3, which is not installed"),
    }
}
