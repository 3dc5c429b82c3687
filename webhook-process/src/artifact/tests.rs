use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn run() -> RunId {
    RunId::generate(SystemTime::now())
}

fn read(artifacts: &ArtifactFolder, run: RunId, name: &str) -> Option<String> {
    let ArtifactContent::Open { file, .. } = artifacts.content(run, name).unwrap()? else {
        panic!("no open file")
    };
    let mut text = String::new();
    (&*file).read_to_string(&mut text).unwrap();
    Some(text)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_the_owner_can_read_artifacts_also_where_others_could_before() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("artifacts");
    fs::create_dir(&all).unwrap();
    fs::set_permissions(&all, Permissions::from_mode(0o755)).unwrap();
    let artifacts = ArtifactFolder::new(&all);
    let run = run();
    artifacts.write(run, 1, "a.html", b"1").unwrap();
    let draft = artifacts.draft(run, 2).unwrap();
    fs::write(draft.path().join("b.html"), "2").unwrap();
    fs::set_permissions(draft.path().join("b.html"), Permissions::from_mode(0o666)).unwrap();
    draft.keep("b.html").unwrap();
    let own = all.join(run.to_string());
    assert_eq!([&all, &own, draft.path()].map(mode), [0o700; 3]);
    assert_eq!(["a.html", "b.html"].map(|name| mode(&own.join(name))), [0o600; 2]);
}

#[test]
fn links_are_neither_kept_nor_followed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("token.key");
    fs::write(&secret, "canary").unwrap();
    let artifacts = ArtifactFolder::new(folder.path().join("artifacts"));
    let run = run();
    let draft = artifacts.draft(run, 1).unwrap();
    symlink(&secret, draft.path().join("a.html")).unwrap();
    fs::hard_link(&secret, draft.path().join("b.html")).unwrap();
    for name in ["a.html", "b.html", "."] {
        assert!(!draft.has(name) && draft.keep(name).is_err(), "{name}");
    }
    artifacts.write(run, 2, "c.html", b"kept").unwrap();
    let own = folder.path().join("artifacts").join(run.to_string());
    fs::remove_file(own.join("c.html")).unwrap();
    symlink(&secret, own.join("c.html")).unwrap();
    assert_eq!(read(&artifacts, run, "c.html"), None);
    let other = self::run();
    symlink(folder.path(), folder.path().join("artifacts").join(other.to_string())).unwrap();
    assert_eq!(read(&artifacts, other, "token.key"), None);
    assert!(artifacts.draft(other, 1).is_err());
    artifacts.discard(&[other, run]).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "canary");
}

#[test]
fn all_artifacts_together_stay_within_the_quota_and_what_is_discarded_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let open = || ArtifactFolder::new(folder.path()).with_quota(10);
    let artifacts = open();
    let (first, second) = (run(), run());
    artifacts.write(first, 1, "a.html", b"123456").unwrap();
    artifacts.write(first, 2, "a.html", b"1234567").unwrap();
    for artifacts in [artifacts.clone(), open()] {
        let error = artifacts.write(second, 1, "b.html", b"1234").unwrap_err();
        let message = "the work is done, but the artifact b.html with 4 bytes is not kept: the artifacts of all runs \
            may take 10 bytes, and 7 are taken";
        assert_eq!((error.to_string().as_str(), error.is_retryable()), (message, false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of it");
    }
    artifacts.write(second, 1, "b.html", b"123").unwrap();
    artifacts.discard(&[first]).unwrap();
    artifacts.write(second, 1, "c.html", b"1234567").unwrap();
    assert!(artifacts.write(second, 1, "d.html", b"1").is_err());
}

#[test]
fn attempts_and_a_sweep_do_not_remove_the_folder_under_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let (artifacts, run) = (ArtifactFolder::new(folder.path().join("artifacts")), run());
    std::thread::scope(|scope| {
        for attempt in 1..=2 {
            let artifacts = &artifacts;
            scope.spawn(move || (0..500).for_each(|_| drop(artifacts.draft(run, attempt).unwrap())));
        }
        (0..500).for_each(|_| artifacts.discard_old_drafts(run).unwrap());
    });
}

#[tokio::test]
async fn a_sweep_removes_the_artifacts_of_runs_that_are_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFolder::new(folder.path().join("artifacts"));
    let known =
        |runs: BTreeSet<RunId>| move |run| std::future::ready(Ok::<_, io::Error>(runs.contains(&run)));
    assert_eq!(artifacts.sweep(known(BTreeSet::new())).await.unwrap(), 0, "there is no folder yet");
    let runs: Vec<RunId> = (0..2 * SWEEP_BATCH + 1).map(|_| run()).collect();
    for run in &runs {
        fs::create_dir_all(folder.path().join("artifacts").join(run.to_string())).unwrap();
    }
    artifacts.write(runs[0], 1, "a.html", b"1").unwrap();
    fs::create_dir(folder.path().join("artifacts/no-run")).unwrap();
    let kept: BTreeSet<RunId> = runs.iter().step_by(2).copied().collect();
    for run in [runs[2], runs[4]] {
        let left = artifacts.draft(run, 1).unwrap();
        fs::File::open(left.path()).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        std::mem::forget(left);
    }
    artifacts.write(runs[4], 2, "b.html", b"2").unwrap();
    let draft = artifacts.draft(runs[6], 1).unwrap();
    let swept = artifacts.sweep(known(kept.clone())).await.unwrap();
    assert_eq!(swept, runs.len() - kept.len());
    assert_eq!(read(&artifacts, runs[0], "a.html"), Some("1".to_owned()));
    assert_eq!(read(&artifacts, runs[4], "b.html"), Some("2".to_owned()));
    assert!(draft.path().exists(), "it may still be written to");
    let left = fs::read_dir(folder.path().join("artifacts")).unwrap().count();
    assert_eq!(left, 4, "of runs 0, 4 and 6, and what is of none");
    let failed = artifacts.sweep(|_| std::future::ready(Err(io::Error::other("the store is away")))).await;
    assert_eq!(failed.unwrap_err().to_string(), "the store is away");
    drop(draft);
    assert_eq!(artifacts.sweep(known(BTreeSet::new())).await.unwrap(), 2);
}

#[test]
fn an_artifact_is_kept_until_its_run_is_discarded() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFolder::new(folder.path().join("artifacts"));
    let (run, other) = (run(), run());
    let kept = artifacts.write(run, 1, "page.html", b"one").unwrap();
    assert_eq!((kept.content_type.as_str(), kept.size), ("text/html; charset=utf-8", 3));
    artifacts.write(run, 2, "page.html", b"two").unwrap();
    assert_eq!(read(&artifacts, run, "page.html"), Some("two".to_owned()));
    for name in ["../page.html", "./page.html", ".", "..", "", "/etc/passwd", ".attempt-1", "other", "a\0"] {
        assert!(artifacts.content(run, name).unwrap().is_none(), "{name}");
    }
    assert!(artifacts.content(other, "page.html").unwrap().is_none());
    artifacts.discard(&[other, run]).unwrap();
    artifacts.discard(&[run]).unwrap();
    assert_eq!(fs::read_dir(folder.path().join("artifacts")).unwrap().count(), 0);
}

#[test]
fn a_draft_starts_empty_and_goes_with_what_was_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFolder::new(folder.path());
    let run = run();
    let draft = artifacts.draft(run, 1).unwrap();
    fs::write(draft.path().join("left"), "over").unwrap();
    std::mem::forget(draft);
    let draft = artifacts.draft(run, 1).unwrap();
    assert_eq!(fs::read_dir(draft.path()).unwrap().count(), 0);
    drop(draft);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "an empty folder is left");
}

#[test]
fn an_artifact_that_is_too_large_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = ArtifactFolder::new(folder.path()).with_limit(3);
    let run = run();
    artifacts.write(run, 1, "a.html", b"123").unwrap();
    let error = artifacts.write(run, 1, "b.html", b"1234").unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(error.to_string(), "the artifact b.html has 4 bytes, and at most 3 are kept");
    assert!(artifacts.content(run, "b.html").unwrap().is_none());
}
