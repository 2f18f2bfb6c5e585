//! ONNX files: read whole, including weights in external files, and recognized as a
//! MobileNetV2.

mod graph;
mod import;

use std::path::{Component, Path};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sori_host::contract::Contract;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::{ModelProto, TensorProto};

use crate::float::FloatNetwork;

/// Metadata key under which a file may carry its contract.
const CONTRACT_KEY: &str = "sori.contract";

/// An ONNX file that is a MobileNetV2.
#[derive(Debug)]
pub struct Onnx {
    pub(crate) model: ModelProto,
    pub(crate) network: FloatNetwork,
    pub(crate) contract: Option<Contract>,
    pub(crate) sha256: String,
}

/// A network that Sori does not support, or a file that does not contain one. The text names the node,
/// the reason and what would be accepted.
#[derive(Debug)]
pub struct Refused(anyhow::Error);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Refused {}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl Onnx {
    /// Reads a file, and the external files beside it that hold its weights.
    ///
    /// # Errors
    /// The file cannot be read, or [`Refused`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .with_context(|| format!("cannot read {}: check the path", path.display()))?;
        Ok(Self::new(&bytes, path.parent())?)
    }

    /// From the file's bytes; its weights must be among them.
    ///
    /// # Errors
    /// Names the unsupported node.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        Self::new(bytes, None)
    }

    fn new(bytes: &[u8], folder: Option<&Path>) -> Result<Self, Refused> {
        let mut model = decode(bytes)?;
        resolve(&mut model, folder)?;
        let contract = embedded_contract(&model)
            .map(|text| Contract::parse(text).context("the contract in the file's metadata"))
            .transpose()?;
        Ok(Self {
            network: import::import(&model)?,
            contract,
            sha256: hex(&Sha256::digest(bytes)),
            model,
        })
    }

    /// The contract that the file carries in its metadata under `sori.contract`.
    pub fn contract(&self) -> Option<&Contract> {
        self.contract.as_ref()
    }
}

/// Only the file's framing is checked.
fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ensure!(
        !bytes.is_empty(),
        "the file is empty: export the model again"
    );
    let model = ModelProto::decode(bytes)
        .context("not an ONNX file, or damaged: export the model again")?;
    ensure!(
        model
            .graph
            .as_ref()
            .is_some_and(|graph| !graph.node.is_empty()),
        "the file contains no graph: it is not an ONNX file, or damaged"
    );
    Ok(model)
}

fn embedded_contract(model: &ModelProto) -> Option<&str> {
    let mut entries = model.metadata_props.iter();
    let entry = entries.find(|entry| entry.key == CONTRACT_KEY)?;
    Some(&entry.value)
}

/// Brings weights that are kept in other files into the model.
fn resolve(model: &mut ModelProto, folder: Option<&Path>) -> Result<()> {
    let Some(graph) = &mut model.graph else {
        return Ok(());
    };
    let in_nodes = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    let in_nodes = in_nodes.filter_map(|attribute| attribute.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(in_nodes) {
        if tensor.data_location == Some(DataLocation::External as i32) {
            let name = tensor.name.clone();
            load(tensor, folder).with_context(|| {
                format!("the weights of {name} are in a separate file, which cannot be used")
            })?;
        }
    }
    Ok(())
}

fn load(tensor: &mut TensorProto, folder: Option<&Path>) -> Result<()> {
    let entry = |key: &str| {
        let mut entries = tensor.external_data.iter();
        entries.find(|entry| entry.key == key).map(|e| &e.value)
    };
    let number = |key: &str| -> Result<Option<usize>> {
        let text = entry(key);
        text.map(|text| text.parse().with_context(|| format!("{key} {text:?}")))
            .transpose()
    };
    let location =
        entry("location").context("the model does not name the file: export it again")?;
    let folder = folder.context("give the model as a file, or export with external_data=False")?;
    // A model from elsewhere must not open any file of this machine.
    let plain = Path::new(location)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        bail!("{location} is not beside the model");
    }
    let path = folder.join(location);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{} must be beside the model", path.display()))?;
    let start = number("offset")?.unwrap_or(0);
    let end = match number("length")? {
        Some(length) => start.saturating_add(length),
        None => bytes.len(),
    };
    let data = bytes.get(start..end).with_context(|| {
        format!(
            "{} has {} bytes, but bytes {start} to {end} are needed: copy it again",
            path.display(),
            bytes.len()
        )
    })?;
    tensor.raw_data = data.to_vec();
    tensor.external_data.clear();
    tensor.data_location = None;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
