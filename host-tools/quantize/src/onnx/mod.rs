//! ONNX files: read whole, including weights in external files, and recognized as a
//! MobileNetV2.

mod constants;
mod external;
mod graph;
mod import;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use sori_host::contract::Contract;
use sori_host::file;
use tract_onnx::pb::ModelProto;

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
        let bytes = file::read(path, file::MAX_DATA)
            .with_context(|| format!("cannot read {}: check the path", path.display()))?;
        Ok(Self::new(&bytes, Some(path))?)
    }

    /// From the file's bytes; its weights must be among them.
    ///
    /// # Errors
    /// Names the unsupported node.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        Self::new(bytes, None)
    }

    fn new(bytes: &[u8], path: Option<&Path>) -> Result<Self, Refused> {
        let mut model = decode(bytes)?;
        external::resolve(&mut model, path)?;
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
