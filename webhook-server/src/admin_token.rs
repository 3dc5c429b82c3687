//! The admin token that the server creates for itself.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use webhook_core::token::Token;

use crate::regular_file;

/// Reads the token in `file`, or creates one there that only the server's user can read.
pub(crate) fn load_or_create(file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("the admin token file {}: {error}", file.display());
    let read = || regular_file::read_to_string(file);
    let text = match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => match create(file) {
            // Another process may have created one at the same time.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => read().map_err(failed)?,
        },
        text => text.map_err(failed)?,
    };
    match text.trim() {
        "" => Err(format!("the admin token file {} is empty; remove it to get a new one", file.display())),
        token => Ok(token.to_owned()),
    }
}

/// Creates a token, durably: writes it to a temporary file and links that to its final path.
///
/// So a process that is killed meanwhile leaves no file without a token, and an existing token is never
/// replaced.
fn create(file: &Path) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".admin-token-").tempfile_in(folder)?;
    let token = Token::generate();
    // It has as many random bits as a webhook's token, and another prefix.
    writeln!(draft, "wha_{}", &token.expose()[4..47])?;
    draft.as_file().sync_all()?;
    draft.persist_noclobber(file).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        let made = load_or_create(&file).unwrap();
        assert!(made.starts_with("wha_") && made.len() == 47);
        assert_eq!(load_or_create(&file).unwrap(), made);
        assert_eq!(create(&file).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(load_or_create(&file).unwrap(), made);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a draft is left");
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_draft_that_a_killed_process_left_is_no_token() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".admin-token-killed"), "").unwrap();
        assert!(load_or_create(&folder.path().join("admin.token")).unwrap().starts_with("wha_"));
    }

    #[test]
    fn an_empty_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        std::fs::write(&file, "\n").unwrap();
        assert!(load_or_create(&file).unwrap_err().contains("admin.token"));
    }
}
