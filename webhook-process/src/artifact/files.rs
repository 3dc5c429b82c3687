//! Files and folders that only the user of this process can read, opened without following symbolic links.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fchmod, fsync, mkdirat, openat, renameat};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens the folder at a path. The path is the host's, so its parents may be links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens the folder at a path, and creates it and its parents if they do not exist.
    pub(super) fn make_all(path: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700).create(path)?;
        let folder = Self::open(path)?;
        // A folder from an older version, or made with a wide umask, becomes private too.
        fchmod(&folder.0, Mode::RWXU)?;
        Ok(folder)
    }

    /// Opens a folder in this one.
    pub(super) fn enter(&self, name: &str) -> io::Result<Self> {
        Ok(Self(openat(&self.0, name, FOLDER, Mode::empty())?))
    }

    /// Opens a folder in this one, and creates it if it does not exist.
    pub(super) fn make(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Err(error) if error != rustix::io::Errno::EXIST => return Err(error.into()),
            _ => {}
        }
        let folder = self.enter(name)?;
        fchmod(&folder.0, Mode::RWXU)?;
        Ok(folder)
    }

    /// Creates a file that must not exist yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// Opens a file for reading. Refuses anything but a regular file with a single name.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        // Non-blocking, since it may be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.nlink() == 1 {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::NotFound, "it is no file of its own"))
        }
    }

    /// Moves a file to another folder, in place of one of the same name.
    pub(super) fn move_to(&self, name: &str, to: &Self) -> io::Result<()> {
        Ok(renameat(&self.0, name, &to.0, name)?)
    }

    /// Syncs its entries to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }
}

/// Makes a file readable and writable by its owner only.
pub(super) fn make_private(file: &File) -> io::Result<()> {
    Ok(fchmod(file, Mode::RUSR | Mode::WUSR)?)
}

/// Returns whether an error means that nothing exists there, or a link in place of a file or folder.
pub(super) fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::NotFound || [Errno::LOOP, Errno::NOTDIR].map(Some).contains(&errno)
}

/// Iterates over the names in a folder; none if it does not exist.
pub(super) fn names(folder: &Path) -> io::Result<Box<dyn Iterator<Item = String> + Send>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Box::new(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        Err(error) => Err(error),
    }
}

/// Returns the size of the artifacts in the folder of a run, without drafts, in bytes.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        _ => return Ok(0),
    }
    let mut size = 0;
    for name in names(folder)? {
        match fs::symlink_metadata(folder.join(name)) {
            Ok(metadata) if metadata.is_file() => size += metadata.len(),
            // A draft, or an entry that was removed in the meantime.
            _ => {}
        }
    }
    Ok(size)
}

/// Removes a folder with its content, if it exists.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
