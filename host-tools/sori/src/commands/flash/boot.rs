//! Reads and writes files on the boot partition.

use std::io::{self, Read, Seek, Write};

use anyhow::{Context as _, Result, bail};
use fatfs::{FileSystem, FsOptions};

use super::cow::Cow;
use super::size;

/// A directory entry with a long name takes up to 21 slots of 32 bytes, and one more for the
/// short name; names here are far shorter.
const ENTRY_BYTES: u64 = 128;

/// A mounted boot partition. Entries have no date, so that the same inputs give the same image.
pub(super) struct Boot<'a, D: Read + Seek> {
    fs: FileSystem<&'a mut Cow<D>>,
}

impl<'a, D: Read + Seek> Boot<'a, D> {
    pub(super) fn mount(partition: &'a mut Cow<D>) -> Result<Self> {
        let fs = FileSystem::new(partition, FsOptions::new())
            .context("its boot partition has no FAT file system: write the image again")?;
        if fs.read_status_flags()?.dirty() {
            bail!(
                "its boot partition was not unmounted cleanly: run fsck.vfat -a on it, or write the image again"
            );
        }
        Ok(Self { fs })
    }

    /// A file's content, if there is such a file. Names ignore case, as FAT does.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut file = match self.fs.root_dir().open_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("cannot open {path} on the boot partition"))?,
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {path} on the boot partition"))?;
        Ok(Some(bytes))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.fs.root_dir().open_file(path).is_ok()
    }

    /// The names in the root directory.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let entries = self.fs.root_dir();
        entries.iter().map(|entry| Ok(entry?.file_name())).collect()
    }

    /// The partition's label.
    pub(super) fn label(&self) -> Result<Option<String>> {
        Ok(self.fs.read_volume_label_from_root_dir()?)
    }

    /// Removes the files that `is_old` selects, and writes all of `files`, replacing those of the
    /// same name. Files that are already identical are not touched.
    ///
    /// Only in the root directory: fsck.vfat "repairs" folders made by fatfs, and damages them.
    pub(super) fn write(
        self,
        files: &[(String, Vec<u8>)],
        is_old: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let mut new = Vec::new();
        let mut kept = Vec::new();
        for (path, bytes) in files {
            match self.read(path)? {
                Some(there) if there == *bytes => kept.push(path),
                _ => new.push((path, bytes)),
            }
        }
        let root = self.fs.root_dir();
        let names = self.names()?;
        for name in names
            .iter()
            .filter(|name| is_old(name) && !kept.contains(name))
        {
            root.remove(name)
                .with_context(|| format!("cannot remove {name} from the boot partition"))?;
        }
        self.must_fit(&new)?;
        for (path, bytes) in new {
            let mut file = root
                .create_file(path)
                .with_context(|| format!("cannot create {path} on the boot partition"))?;
            file.truncate()
                .and_then(|()| file.write_all(bytes))
                .and_then(|()| file.flush())
                .with_context(|| format!("cannot write {path} on the boot partition"))?;
        }
        drop(root);
        self.fs
            .unmount()
            .context("cannot unmount the boot partition")?;
        Ok(())
    }

    /// Ignores what replaced files free, which is not worth the complexity.
    fn must_fit(&self, files: &[(&String, &Vec<u8>)]) -> Result<()> {
        let stats = self.fs.stats()?;
        let cluster = u64::from(stats.cluster_size());
        let free = u64::from(stats.free_clusters()) * cluster;
        let content = files
            .iter()
            .map(|(_, bytes)| (bytes.len() as u64).next_multiple_of(cluster));
        // The root directory may grow by one cluster more than they fill.
        let entries = (files.len() as u64 * ENTRY_BYTES).next_multiple_of(cluster) + cluster;
        let needed = content.sum::<u64>() + entries;
        if needed > free {
            bail!(
                "its boot partition has {} free but {} are needed: nothing was written; give a smaller --package, or remove files from the partition",
                size(free),
                size(needed)
            );
        }
        Ok(())
    }
}
