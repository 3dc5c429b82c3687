//! Tests of the files in examples/use-cases: their shell lines run against the example server as users run
//! them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use webhook_testing::python;

use crate::server::Server;

fn use_case(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/use-cases").join(file)
}

/// Returns whether curl is installed. Without it a test is skipped, or fails if `CI` is `true`.
fn has_curl(test: &str) -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "{test}: there is no curl");
    if !found {
        eprintln!("SKIPPED {test}: there is no curl");
    }
    found
}

/// Returns the shell lines of a job file: the block below the line that ends with `|`, without its
/// indentation.
fn shell_lines(file: &str) -> String {
    let text = std::fs::read_to_string(use_case(file)).unwrap();
    let mut lines = text.lines().skip_while(|line| !line.ends_with('|')).skip(1).peekable();
    let first = lines.peek().unwrap();
    let indentation = first.len() - first.trim_start().len();
    lines.map(|line| format!("{}\n", line.get(indentation..).unwrap_or_default())).collect()
}

fn shell(script: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).envs(variables.iter().copied()).env("POLL_SECONDS", "0.1");
    command.output().unwrap()
}

async fn runs(server: &Server) -> Vec<Value> {
    let page = server.admin("GET", "/runs", &server.admin_token(), None).await.1;
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_ci_jobs_wait_for_the_end_and_fail_with_the_run() {
    if !has_curl("the CI jobs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--store", "memory"]);
    // This workflow accepts any region, and always fails.
    let workflows = folder.path().join("workflows");
    std::fs::create_dir(&workflows).unwrap();
    let text = "kind = 'report'\nid = 'fails'\ntitle = 'Fails'\n[command]\nprogram = 'false'\n";
    std::fs::write(workflows.join("fails.toml"), text).unwrap();
    let arguments = ["--workflows", workflows.to_str().unwrap(), "--store", "memory"];
    let failing = Server::start(&folder.path().join("other"), &arguments);
    let failing_url = failing.webhook_of("report", "fails").await;
    let files = [("github-actions/daily-sales.yml", "KEY"), ("gitlab-ci/.gitlab-ci.yml", "CI_JOB_ID")];
    for (place, (file, key)) in files.into_iter().enumerate() {
        let script = shell_lines(file);
        let job = |url: &str, region: &str, id: &str| {
            shell(&script, &[("WEBHOOK_URL", url), ("REGION", region), (key, id)])
        };
        let done = job(server.url(), "APAC", "1");
        assert!(done.status.success(), "{file}: {done:?}");
        let run: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(
            (&run["state"], &run["parameters"]["region"]["value"]),
            (&"succeeded".into(), &"APAC".into())
        );
        let again = job(server.url(), "APAC", "1");
        let again: Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(again["id"], run["id"], "{file}: a step that is run again starts nothing");
        assert_eq!(runs(&server).await.len(), place + 1);

        let failed = job(&failing_url, "EMEA", "1");
        assert!(!failed.status.success(), "{file}: {failed:?}");
        let run: Value = serde_json::from_slice(&failed.stdout).unwrap();
        assert_eq!(run["state"], "failed");
        let refused = job(server.url(), "MOON", "2");
        assert!(!refused.status.success(), "{file}: {refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stdout).contains("parameters-invalid"),
            "{file}: {refused:?}"
        );
    }
    server.stop();
    failing.stop();
}

/// Writes a curl configuration with the URL of a webhook and its token.
fn configuration(file: &Path, url: &str) {
    let (address, token) = url.split_once("?token=").unwrap();
    let text = format!("url = \"{address}\"\nheader = \"Authorization: Bearer {token}\"\n");
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_crontab_line_starts_one_run_a_day() {
    if !has_curl("the crontab") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--store", "memory"]);
    configuration(&folder.path().join(".webhook-daily-sales"), server.url());
    let text = std::fs::read_to_string(use_case("cron/crontab")).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    // The first five fields are the time; cron itself removes the backslashes.
    let command = line.splitn(6, ' ').nth(5).unwrap().replace("\\%", "%");
    assert!(!line.replace("\\%", "").contains('%'), "cron ends the command at a bare percent sign");
    for _ in 0..2 {
        let ran = shell(&command, &[("HOME", folder.path().to_str().unwrap())]);
        assert!(ran.status.success(), "{ran:?}");
    }
    assert_eq!(runs(&server).await.len(), 1);
    server.stop();
}

#[tokio::test]
async fn new_data_starts_one_run_for_each_file_and_what_is_not_accepted_stays() {
    if !has_curl("new data") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--store", "memory"]);
    let (inbox, config) = (folder.path().join("inbox"), folder.path().join("config"));
    configuration(&config, server.url());
    std::fs::create_dir(&inbox).unwrap();
    for (name, content) in [("a b&c.csv", "1"), ("d.csv", "2"), ("e.part", "3"), ("f.csv", "2")] {
        std::fs::write(inbox.join(name), content).unwrap();
    }
    let script = use_case("new-data/on-new-data.sh");
    let watch = || {
        let mut command = Command::new(&script);
        command.arg(&inbox).env("WEBHOOK_CONFIG", &config).output().unwrap()
    };
    for _ in 0..2 {
        let ran = watch();
        assert!(ran.status.success(), "{ran:?}");
        let names: Vec<_> =
            runs(&server).await.iter().map(|run| run["parameters"]["file"]["value"].clone()).collect();
        assert_eq!(names, ["f.csv", "d.csv", "a b&c.csv"]);
    }
    std::fs::write(inbox.join("d.csv"), "2").unwrap();
    assert!(watch().status.success());
    assert_eq!(runs(&server).await.len(), 3, "the same file again is the same run");
    server.stop();
    for name in ["later.csv", "latest.csv"] {
        std::fs::write(inbox.join(name), "4").unwrap();
    }
    let ran = watch();
    assert!(!ran.status.success());
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    for name in ["later.csv", "latest.csv"] {
        assert!(
            inbox.join(name).exists() && said.contains(name),
            "one that is not accepted stops no other: {said}"
        );
    }
    assert!(inbox.join("e.part").exists());
}

#[test]
fn each_use_case_says_in_its_own_folder_how_it_is_set_up() {
    for entry in std::fs::read_dir(use_case("")).unwrap() {
        let folder = entry.unwrap().path();
        assert!(folder.is_file() || folder.join("README.md").is_file(), "{}", folder.display());
    }
}

#[test]
fn the_job_files_pass_the_schemas_of_their_services() {
    let Some(python) = python("the schemas", &["check_jsonschema"]) else { return };
    for (schema, file) in [
        ("vendor.github-workflows", "github-actions/daily-sales.yml"),
        ("vendor.gitlab-ci", "gitlab-ci/.gitlab-ci.yml"),
    ] {
        let mut command = Command::new(&python);
        command.args(["-m", "check_jsonschema", "--builtin-schema", schema]).arg(use_case(file));
        let checked = command.output().unwrap();
        assert!(checked.status.success(), "{file}: {checked:?}");
    }
}
