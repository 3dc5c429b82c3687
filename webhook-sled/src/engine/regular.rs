//! Opening the files of a store, all of which are regular files. Opening or reading a named pipe could wait without end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::NotRegular;

/// Opens a file of the store in `folder`, without waiting.
///
/// # Errors
/// What the operating system says, or an error with [`NotRegular`] in it.
pub(crate) fn open(folder: &Path, name: &str, options: &mut OpenOptions) -> io::Result<File> {
    let refused = || Err(io::Error::other(NotRegular(name.to_owned())));
    match options.custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(folder.join(name)) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => refused(),
        // A folder that is opened for writing, and a socket.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => refused(),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => refused(),
        Err(error) => Err(error),
    }
}

/// Opens a file of the store in `folder` for reading, without waiting.
///
/// Fails like [`open`].
pub(crate) fn open_to_read(folder: &Path, name: &str) -> io::Result<File> {
    open(folder, name, File::options().read(true))
}
