//! Files beside a model that hold its weights.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use sori_host::file::{self, MAX_DATA};
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, TensorProto};

/// Brings weights that are kept in other files beside the model at `path` into it.
pub(super) fn resolve(model: &mut ModelProto, path: Option<&Path>) -> Result<()> {
    let Some(graph) = &mut model.graph else {
        return Ok(());
    };
    let in_nodes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let in_nodes = in_nodes.filter_map(|attribute| attribute.t.as_mut());
    let mut beside = Beside {
        path,
        files: HashMap::new(),
        left: MAX_DATA,
    };
    for tensor in graph.initializer.iter_mut().chain(in_nodes) {
        if tensor.data_location == Some(DataLocation::External as i32) {
            let data = beside.data(tensor).with_context(|| {
                format!(
                    "the weights of {} are in a separate file, which cannot be used",
                    tensor.name
                )
            })?;
            tensor.raw_data = data;
            tensor.external_data.clear();
            tensor.data_location = None;
        }
    }
    Ok(())
}

/// Files beside a model.
struct Beside<'p> {
    path: Option<&'p Path>,
    files: HashMap<PathBuf, File>,
    /// Bytes that may still be read.
    left: u64,
}

impl Beside<'_> {
    /// The part of a file that a tensor names.
    fn data(&mut self, tensor: &TensorProto) -> Result<Vec<u8>> {
        let entry = |key: &str| {
            let mut entries = tensor.external_data.iter();
            entries.find(|entry| entry.key == key).map(|e| &e.value)
        };
        let number = |key: &str| -> Result<Option<u64>> {
            let text = entry(key);
            text.map(|text| text.parse().with_context(|| format!("{key} {text:?}")))
                .transpose()
        };
        let location =
            entry("location").context("the model does not name the file: export it again")?;
        let start = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let (mut file, path) = beside(&mut self.files, self.path, location)?;
        let there = file.metadata()?.len();
        let end = match length {
            Some(length) => start.saturating_add(length),
            None => there,
        };
        let length = end.checked_sub(start).filter(|_| end <= there);
        let length = length.with_context(|| {
            format!(
                "{} has {there} bytes, but bytes {start} to {end} are needed: copy it again",
                path.display()
            )
        })?;
        self.left = self.left.checked_sub(length).with_context(|| {
            format!("the tensors together have more than {MAX_DATA} bytes of weights")
        })?;
        let mut data = vec![0; length as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut data)?;
        Ok(data)
    }
}

/// A file beside the model. Where the model is a link, as in a cache of downloads, that is
/// beside what it links to; no link leads elsewhere.
fn beside<'f>(
    files: &'f mut HashMap<PathBuf, File>,
    model: Option<&Path>,
    location: &str,
) -> Result<(&'f File, PathBuf)> {
    let model = model.context("give the model as a file, or export with external_data=False")?;
    // A model from elsewhere must not open any file of this machine.
    let plain = Path::new(location)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        bail!("{location} is not beside the model");
    }
    let path = model.with_file_name(location);
    let missing = || format!("{} must be beside the model", path.display());
    if !files.contains_key(&path) {
        let real = path.canonicalize().with_context(missing)?;
        let folders = [
            model.with_file_name(""),
            model.canonicalize()?.with_file_name(""),
        ];
        let folders = folders.map(|folder| match folder.as_os_str().is_empty() {
            true => PathBuf::from("."),
            false => folder,
        });
        let inside = folders
            .iter()
            .filter_map(|folder| folder.canonicalize().ok())
            .any(|folder| real.starts_with(folder));
        ensure!(
            inside,
            "{} links to a file that is not beside the model",
            path.display()
        );
        let file = file::open(&path).with_context(missing)?;
        files.insert(path.clone(), file);
    }
    Ok((&files[&path], path))
}
