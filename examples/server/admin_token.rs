//! The admin token that the server makes for itself.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use webhook_core::token::Token;

/// Reads the token in `file`, or makes one there that only the server's user can read.
pub(crate) fn load_or_create(file: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("the admin token file {}: {error}", file.display());
    match create(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    match text.trim() {
        "" => Err(format!("the admin token file {} is empty; remove it to get a new one", file.display())),
        token => Ok(token.to_owned()),
    }
}

/// An admin token has as many random bits as a webhook's, and another beginning.
fn create(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    let token = Token::generate();
    writeln!(file, "wha_{}", &token.expose()[4..47])?;
    file.sync_all()
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
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("admin.token");
        std::fs::write(&file, "\n").unwrap();
        assert!(load_or_create(&file).unwrap_err().contains("admin.token"));
    }
}
