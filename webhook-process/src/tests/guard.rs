//! Tests that one guard serves all runs, and that no process is left when their host is killed.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::process::{Signal, kill_process};

use super::*;

/// Script of two processes that only SIGKILL ends. Its one line has their ids.
const STUBBORN: &str = "trap '' TERM; sleep 600 & echo $$ $!; while :; do sleep 600; done";

/// Returns the living children of a process, each with its command line.
fn children(parent: u32) -> BTreeMap<i32, String> {
    let mut children = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let folder = entry.unwrap().path();
        let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        if fields[0] != "Z" && fields[1] == parent.to_string() {
            let id = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let command = std::fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
            children.insert(id, command);
        }
    }
    children
}

fn guards(host: u32) -> Vec<Pid> {
    let is_guard = |(_, command): &(i32, String)| command.contains("webhook-guard");
    children(host).into_iter().filter(is_guard).map(|(id, _)| Pid::from_raw(id).unwrap()).collect()
}

/// Returns whether there is a `/proc`, which lists all processes.
fn can_look() -> bool {
    let can_look = Path::new("/proc/self/stat").exists();
    if !can_look {
        eprintln!("SKIPPED: this system does not tell which processes there are");
    }
    can_look
}

fn threads(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/task")).unwrap().count()
}

#[tokio::test]
async fn runs_share_one_guard_and_need_no_threads() {
    if !can_look() {
        return;
    }
    let [alone, many] = [1, 50].map(|runs| {
        let (mut host, lines) = host(STUBBORN, runs);
        let mut own: Vec<_> = lines.take(runs).map(|line| process_ids(&line)[0]).collect();
        assert_eq!(own.len(), runs);
        let guards = guards(host.id());
        assert_eq!(guards.len(), 1);
        own.extend(guards);
        assert_eq!(children(host.id()).len(), own.len(), "a process of its own for each run, and the guard");
        let threads = threads(host.id());
        host.kill().unwrap();
        host.wait().unwrap();
        threads
    });
    assert_eq!(alone, many);
}

#[tokio::test]
async fn killing_the_host_kills_twenty_runs_and_what_they_started() {
    let (mut host, lines) = host(STUBBORN, 20);
    let processes: Vec<_> = lines.take(20).flat_map(|line| process_ids(&line)).collect();
    assert!(processes.len() == 40 && !processes.iter().any(|process| is_gone(*process)));
    host.kill().unwrap();
    host.wait().unwrap();
    assert_gone(&processes).await;
}

#[tokio::test]
async fn a_guard_that_dies_is_replaced_and_the_next_one_kills_the_runs_that_were_under_way() {
    if !can_look() {
        return;
    }
    let (mut host, lines) = host(STUBBORN, 3);
    let processes: Vec<_> = lines.take(3).flat_map(|line| process_ids(&line)).collect();
    let mut former = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        let guard = loop {
            match guards(host.id()).as_slice() {
                [guard] if !former.contains(guard) => break *guard,
                _ => assert!(start.elapsed() < PATIENCE, "no guard"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        assert!(!processes.iter().any(|process| is_gone(*process)), "the runs go on");
        if former.is_empty() {
            kill_process(guard, Signal::KILL).unwrap();
        }
        former.push(guard);
    }
    host.kill().unwrap();
    host.wait().unwrap();
    assert_gone(&processes).await;
    assert_gone(&former).await;
}

#[tokio::test]
async fn a_host_that_is_killed_at_any_moment_leaves_nothing_behind() {
    if !can_look() {
        return;
    }
    for round in 0..30 {
        let mark = format!("MARK=guard-{}-{round}", std::process::id());
        let marked = || {
            let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let is_marked = |id: &i32| {
                let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            };
            ids.filter(is_marked).map(|id| Pid::from_raw(id).unwrap()).collect::<Vec<_>>()
        };
        // Short runs one after another, in eight places, each of which leaves a process behind.
        let script = "sleep 600 & echo $$; exit 0";
        let mut command = host_command(script, 8);
        let (name, value) = mark.split_once('=').unwrap();
        let mut host = command.env(name, value).env("WEBHOOK_PROCESS_TEST_AGAIN", "yes").spawn().unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        // Each round kills the host at another moment.
        let seen = lines.by_ref().take(40 + round).count();
        assert_eq!(seen, 40 + round);
        host.kill().unwrap();
        host.wait().unwrap();
        let start = Instant::now();
        while !marked().iter().all(|process| is_gone(*process)) {
            assert!(start.elapsed() < Duration::from_secs(5), "still there: {:?}", marked());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hold_up_the_end_of_its_run() {
    if std::process::Command::new("setsid").arg("true").status().is_err() {
        eprintln!("SKIPPED: there is no setsid");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("left").display().to_string();
    let script = format!(
        "setsid sh -c 'echo $$ > {file}; exec sleep 600' & while [ ! -s {file} ]; do sleep 0.01; done; cat {file}"
    );
    let start = Instant::now();
    let (outcome, lines) = Trial::shell(&script).finish().await;
    outcome.unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "the process that left held the output open");
    for process in process_ids(&lines[0]) {
        assert!(!is_gone(process), "it is beyond the group");
        kill_process(process, Signal::KILL).unwrap();
    }
}

#[tokio::test]
async fn a_command_with_a_path_of_its_own_is_looked_up_there() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [("first", 0o600), ("second", 0o700), ("third", 0o700)] {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        let program = place.join("own-program-5f1c2a");
        std::fs::write(&program, format!("#!/bin/sh\necho {name}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = |path: &str, place: Option<&str>| {
        let mut command = Command::new("own-program-5f1c2a").with_variable("PATH", path);
        command.folder = place.map(|place| folder.path().join(place));
        Trial::new(command).finish()
    };
    let absolute = |name: &str| folder.path().join(name).display().to_string();
    let path = ["missing", "first", "second", "third"].map(absolute).join(":");
    assert_eq!(found(&path, None).await.1, ["second"], "the first that can be executed");
    assert_eq!(found("missing:third:second", Some("")).await.1, ["third"], "relative to the working folder");
    assert_eq!(found(":missing", Some("third")).await.1, ["third"], "no name is the working folder");
    let refused = found(&absolute("missing"), None).await.0.unwrap_err();
    assert!(matches!(refused, CommandError::CannotStart { .. }), "{refused}");
}
