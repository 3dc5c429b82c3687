//! The key that seals tokens: created at the first start, and later only on request.

use std::io::ErrorKind;
use std::path::Path;

use webhook_core::token::{KeyFileError, TokenKey};

use crate::report::chain;

/// Reads the key in `file`, or creates one there if `may_create`.
///
/// If a store exists without its key, its tokens were sealed with a key that is missing now, and another
/// would not open them.
pub(crate) fn load_or_create(file: &Path, may_create: bool) -> Result<TokenKey, String> {
    match TokenKey::load(file) {
        Err(KeyFileError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {}
        outcome => return outcome.map_err(|error| chain(&error)),
    }
    if !may_create {
        return Err(format!(
            "the token key {} is missing, and the store was made with one: restore it from a backup, say where it \
             is with --token-key, or go on with a new key and --forget-unknown-keys at every start until each \
             webhook's token was refreshed (webhooks keep working, but their URLs cannot be copied before that)",
            file.display()
        ));
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let (file, folder) = (file.display(), folder.display());
        return Err(format!("--token-key: {file} cannot be made, because there is no folder {folder}"));
    }
    let key = TokenKey::load_or_create(file).map_err(|error| chain(&error))?;
    tracing::info!(file = %file.display(), "made a token key; keep a copy of it apart from the data");
    Ok(key)
}
