//! Reads files that the operator names, if they are regular files. Opening a named pipe or reading a terminal
//! could wait forever.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file for reading.
pub(crate) fn open(file: &Path) -> io::Result<File> {
    check(file)?;
    File::open(file)
}

/// Reads a regular file as text.
pub(crate) fn read_to_string(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(file)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses anything but a regular file. A missing file passes, since opening it reports that.
pub(crate) fn check(file: &Path) -> io::Result<()> {
    if std::fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", file("link")).unwrap();
        std::fs::create_dir(file("folder")).unwrap();
        assert!(Command::new("mkfifo").arg(file("pipe")).status().unwrap().success());
        let _socket = UnixListener::bind(file("socket")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read_to_string(&file(name)).unwrap(), "text", "{name}");
        }
        for name in ["folder", "pipe", "socket"] {
            assert_eq!(
                read_to_string(&file(name)).unwrap_err().to_string(),
                "it is no regular file",
                "{name}"
            );
        }
        assert_eq!(open(&file("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
