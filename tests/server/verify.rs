//! Tests of `--verify`: its output and its exit codes.

use std::fs;
use std::path::Path;

use crate::process::run_to_end;
use crate::server::Server;

/// Returns the exit code, standard output, and standard error without the log.
fn verify(data: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output = run_to_end(&[&["--verify", "--data", data.to_str().unwrap()], more].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let errors = text(output.stderr);
    let said: Vec<_> = errors.lines().filter(|line| line.starts_with("server: ")).collect();
    (output.status.code(), text(output.stdout), said.join("\n"))
}

#[test]
fn a_whole_store_is_exit_code_0_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    Server::start(folder.path(), &[]).stop();
    let (code, output, errors) = verify(folder.path(), &[]);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{output}");
    let (checked, rest) = output.split_once(' ').unwrap();
    assert_eq!(rest, "records checked, 0 damaged or missing\n");
    assert!(checked.parse::<u64>().unwrap() > 0, "{output}");
}

#[test]
fn a_missing_record_is_exit_code_1_and_named() {
    let folder = tempfile::tempdir().unwrap();
    Server::start(folder.path(), &[]).stop();
    let database = sled::open(folder.path().join("store/sled")).unwrap();
    let (webhook, _) = database.scan_prefix("w").next().unwrap().unwrap();
    database.remove(webhook).unwrap();
    drop(database);
    for _ in 0..2 {
        let (code, output, errors) = verify(folder.path(), &[]);
        assert_eq!((code, errors.as_str()), (Some(1), ""), "{output}");
        assert!(output.starts_with("damaged: webhook: 1 of 1 values is missing"), "{output}");
        assert!(output.ends_with(" records checked, 1 damaged or missing\n"), "{output}");
    }
}

#[test]
fn a_store_that_cannot_be_opened_is_exit_code_2_and_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let unusable = |more: &[&str], expected: &str| {
        let (code, output, error) = verify(folder.path(), more);
        assert_eq!((code, output.as_str()), (Some(2), ""), "{expected}: {error}");
        assert!(error.lines().count() == 1 && error.contains(expected), "{error}");
        error
    };
    unusable(&["--store", "memory"], "only a store on disk can be checked");
    unusable(&[], "there is no store in");
    fs::create_dir(folder.path().join("store")).unwrap();
    unusable(&[], "there is no store in");
    assert_eq!(fs::read_dir(folder.path().join("store")).unwrap().count(), 0, "nothing is made");

    let server = Server::start(folder.path(), &[]);
    unusable(&[], "is open already, in this process or another");
    // A clean stop leaves nothing in the journal, so only a killed server needs it.
    server.kill();
    for file in ["journal-0", "webhook-store", "sled/db"] {
        let file_name = folder.path().join("store").join(file);
        let kept = folder.path().join("kept");
        fs::rename(&file_name, &kept).unwrap();
        let error = unusable(&[], file);
        for part in ["missing", "put back the file as it was, or restore the whole folder from a backup"] {
            assert!(error.contains(part), "{error}");
        }
        fs::rename(&kept, &file_name).unwrap();
    }
    fs::write(folder.path().join("store/sled/db"), "garbage".repeat(9_999)).unwrap();
    let error = unusable(&[], "its database, in the folder sled, cannot be read; put back");
    assert!(!error.contains("backtrace"), "{error}");
}
