//! Tests of a store above its quota, and of a full disk: a small file system in memory, which requires the
//! right to mount one.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stderr, reason = "a test says what it skips or finds")]

mod scene;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use scene::*;
use webhook_core::store::{PruneRequest, RunQuery, Store, StoreError};

/// A mounted file system, unmounted on drop.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(path: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then_some(Self(path))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_above_its_quota_refuses_runs_until_some_are_pruned_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || options().with_quota_bytes(2 << 20).open(folder.path()).unwrap();
    let store = open();
    let webhook = webhook(&store).await;
    let mut ended = 0;
    let error = loop {
        match enqueue(&store, request(&webhook, &"x".repeat(40_000))).await {
            Ok(_) => {
                let claimed = claim(&store, 1).await.remove(0).run;
                store.append_log(claimed.id(), claimed.fence(), "a line\n".repeat(100)).await.unwrap();
                succeed(&store, &claimed, Vec::new()).await;
                ended += 1;
                // A reader makes the checkpointer update the database.
                store.list_runs(RunQuery::default().limit(1)).await.unwrap();
            }
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("quota of 2 MiB"), "{error}");
    assert!((45..60).contains(&ended), "{ended} runs of 40 KB");
    assert!(store.health().await.unwrap().is_full);
    drop(store);
    let store = open();
    enqueue(&store, request(&webhook, "x")).await.unwrap_err();
    let prune = PruneRequest::new(now() + Duration::from_secs(60), Duration::ZERO, 30);
    assert_eq!(store.prune(prune).await.unwrap().runs.len(), 30);
    store.list_runs(RunQuery::default().limit(1)).await.unwrap();
    assert!(!store.health().await.unwrap().is_full);
    enqueue(&store, request(&webhook, "x")).await.unwrap();
    assert!(store.verify().await.unwrap().is_whole());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_system_loses_nothing_and_is_recovered_from_in_the_same_process() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::new(folder.path(), "24m") else {
        eprintln!("SKIPPED: this test mounts a small file system, which is not allowed here");
        return;
    };
    let ballast = folder.path().join("ballast");
    fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    let path = folder.path().join("store");
    for reserve in [4 << 20, 0] {
        let store = options().with_reserve_bytes(reserve).open(&path).unwrap();
        let webhook = webhook(&store).await;
        let mut acknowledged = Vec::new();
        let error = loop {
            match enqueue(&store, request(&webhook, &"x".repeat(40_000))).await {
                Ok(run) => acknowledged.push(run.id()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(acknowledged.len() > 5, "{} before: {error}", acknowledged.len());
        assert!(store.health().await.map_or(true, |health| health.is_full));
        fs::write(&ballast, "").unwrap();
        let healthy = async {
            loop {
                match store.health().await {
                    Ok(health) if !health.is_full => break,
                    Ok(_) | Err(StoreError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let recovered = tokio::time::timeout(Duration::from_secs(30), healthy).await;
        assert!(recovered.is_ok(), "after {error}: {:?}", store.health().await);
        acknowledged.push(enqueue(&store, request(&webhook, "x")).await.unwrap().id());
        for id in &acknowledged {
            assert!(store.get_run(*id).await.unwrap().is_some(), "an acknowledged run is gone");
        }
        drop(store);
        let store = options().with_reserve_bytes(0).open(&path).unwrap();
        for id in &acknowledged {
            assert!(
                store.get_run(*id).await.unwrap().is_some(),
                "an acknowledged run is gone after a restart"
            );
        }
        drop(store);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    }
}
