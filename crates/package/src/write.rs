//! Builds packages. Host tools and tests only (feature `write`).

use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use crate::desc::{BlockDesc, ClassifierDesc, ConvDesc, GoldenDesc, Header, MelDesc};
use crate::prologue::{self, ALIGNMENT, STRIPES, VERSION_WITHOUT_PLAN};
use crate::{
    Activation, BlockPlan, DecisionRule, Error, Kernel, MelContract, Package, Prologue, Provenance,
    Spatial, TensorShape, VERSION,
};

/// Owned form of [`crate::Convolution`]; input shapes follow from the layer before.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvolutionSpec {
    /// Output channels.
    pub c_out: u16,
    /// Stride and padding of a 3×3 kernel; none for pointwise.
    pub spatial: Option<Spatial>,
    /// See [`crate::Kernel::weights`] for the layouts.
    pub weights: Vec<i8>,
    /// Input zero point folded in.
    pub bias: Vec<i32>,
    /// Per output channel.
    pub multiplier: Vec<i32>,
    /// Per output channel.
    pub shift: Vec<u8>,
    /// Quantization and clamp of the output.
    pub activation: Activation,
}

/// Owned form of [`crate::InvertedResidual`].
#[derive(Debug, Clone, PartialEq)]
pub struct InvertedResidualSpec {
    /// Absent when t = 1.
    pub expansion: Option<ConvolutionSpec>,
    /// 3×3.
    pub depthwise: ConvolutionSpec,
    /// Linear bottleneck.
    pub projection: ConvolutionSpec,
    /// `K_c` per output channel.
    pub residual: Option<Vec<i32>>,
}

/// Owned form of [`crate::Classifier`].
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifierSpec {
    /// Number of classes.
    pub classes: u16,
    /// Rows of the running mean.
    pub pool_rows: u16,
    /// `[classes][channels]`.
    pub weights: Vec<i8>,
    /// Added once per pooled row.
    pub bias: Vec<i32>,
    /// Per class, with the division by the width in it.
    pub multiplier: Vec<i32>,
    /// Per class.
    pub shift: Vec<u8>,
    /// Quantization of the logits.
    pub activation: Activation,
    /// log2(e) · scale, Q16.
    pub softmax_step_q16: u32,
}

/// Owned form of [`crate::Golden`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GoldenSpec {
    /// PCM for packages with a mel contract.
    pub audio: Option<Vec<i16>>,
    /// `[rows][width][channels]`.
    pub features: Vec<i8>,
    /// `[outputs][classes]`.
    pub logits: Vec<i8>,
}

/// Owned form of [`Provenance`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenanceSpec {
    /// See [`Provenance::name`].
    pub name: String,
    /// See [`Provenance::source_sha256`].
    pub source_sha256: String,
    /// See [`Provenance::calibration`].
    pub calibration: String,
    /// See [`Provenance::tool`].
    pub tool: String,
    /// See [`Provenance::metrics`].
    pub metrics: String,
}

/// Everything that goes into a package.
#[derive(Debug, Clone)]
pub struct PackageSpec<'a> {
    /// Origin.
    pub provenance: ProvenanceSpec,
    /// One per class, or none.
    pub labels: Vec<String>,
    /// Shape of an input row.
    pub input: TensorShape,
    /// Quantization of the input.
    pub input_activation: Activation,
    /// Rows of one whole input as trained.
    pub nominal_rows: u32,
    /// 3×3 stem.
    pub stem: ConvolutionSpec,
    /// Inverted residuals.
    pub blocks: Vec<InvertedResidualSpec>,
    /// 1×1 head.
    pub head: Option<ConvolutionSpec>,
    /// Pool and fully connected layer.
    pub classifier: ClassifierSpec,
    /// Mel contract, for audio.
    pub mel: Option<MelContract<'a>>,
    /// How logits become decisions, for audio.
    pub decision: Option<DecisionRule>,
    /// Golden vectors; made by running the package without them.
    pub golden: Option<GoldenSpec>,
}

/// Sizes a package states about its own execution; other crates know them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// Arena bytes for stripes of 1, 2, 4, … 128 rows.
    pub arena: [u32; STRIPES],
    /// Bytes of the front end's workspace.
    pub frontend_bytes: u32,
}

/// A package's bytes at the alignment that [`Package::parse`] needs.
#[derive(Debug)]
pub struct PackageBytes {
    allocation: Vec<u8>,
    start: usize,
    len: usize,
}

impl PackageBytes {
    /// Copies bytes, a file's for instance, to aligned memory.
    pub fn copy_from(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// So many bytes, to be filled.
    pub(crate) fn zeroed(len: usize) -> Self {
        let allocation = vec![0; len + ALIGNMENT];
        let start = allocation.as_ptr().align_offset(ALIGNMENT);
        Self {
            allocation,
            start,
            len,
        }
    }
}

impl core::ops::Deref for PackageBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.allocation[self.start..][..self.len]
    }
}

impl core::ops::DerefMut for PackageBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.allocation[self.start..][..self.len]
    }
}

#[derive(Default)]
struct BlobWriter(Vec<u8>);

impl BlobWriter {
    fn table<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> u32 {
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        let offset = self.0.len();
        self.0.extend_from_slice(bytemuck::cast_slice(values));
        u32::try_from(offset).expect("a network's tables are far below 4 GiB")
    }

    fn convolution(&mut self, spec: &ConvolutionSpec) -> ConvDesc {
        ConvDesc {
            c_out: spec.c_out,
            spatial: spec.spatial,
            weights: self.table(&spec.weights),
            bias: self.table(&spec.bias),
            multiplier: self.table(&spec.multiplier),
            shift: self.table(&spec.shift),
            output: spec.activation,
        }
    }

    fn inverted_residual(&mut self, spec: &InvertedResidualSpec) -> BlockDesc {
        BlockDesc {
            expansion: spec.expansion.as_ref().map(|e| self.convolution(e)),
            depthwise: self.convolution(&spec.depthwise),
            projection: self.convolution(&spec.projection),
            residual: spec.residual.as_ref().map(|k| self.table(k)),
        }
    }

    fn classifier(&mut self, spec: &ClassifierSpec) -> ClassifierDesc {
        ClassifierDesc {
            classes: spec.classes,
            pool_rows: spec.pool_rows,
            weights: self.table(&spec.weights),
            bias: self.table(&spec.bias),
            multiplier: self.table(&spec.multiplier),
            shift: self.table(&spec.shift),
            output: spec.activation,
            softmax_step_q16: spec.softmax_step_q16,
        }
    }

    fn mel(&mut self, mel: &MelContract<'_>) -> MelDesc {
        MelDesc {
            sample_rate_hz: mel.sample_rate_hz,
            fft: mel.fft as u16,
            window_samples: mel.window_samples as u16,
            hop_samples: mel.hop_samples as u16,
            bands: mel.bands as u16,
            low_hz: mel.low_hz,
            high_hz: mel.high_hz,
            scale: mel.scale,
            dc_shift: mel.dc_shift,
            reference_release_q16: mel.reference_release_q16,
            reference_floor_q16: mel.reference_floor_q16,
            feature_multiplier: mel.feature_multiplier,
            feature_shift: mel.feature_shift,
            feature_top: mel.feature_top,
            window: self.table(mel.window_q31),
            band_bins: self.table(mel.band_bins),
            band_weights: self.table(mel.band_weights_q15),
            band_weights_len: mel.band_weights_q15.len() as u32,
        }
    }

    fn golden(&mut self, golden: &GoldenSpec, row_len: usize, classes: usize) -> GoldenDesc {
        GoldenDesc {
            audio: golden
                .audio
                .as_ref()
                .map(|audio| (self.table(audio), audio.len() as u32)),
            rows: (golden.features.len() / row_len.max(1)) as u32,
            features: self.table(&golden.features),
            outputs: (golden.logits.len() / classes.max(1)) as u32,
            logits: self.table(&golden.logits),
        }
    }
}

impl PackageSpec<'_> {
    /// Writes the file and parses it back, so that what is returned is valid.
    ///
    /// # Errors
    /// Whatever [`Package::parse`] finds wrong with the parts, and tables that are shorter
    /// or longer than their layer.
    pub fn build(&self, sizes: Sizes) -> Result<PackageBytes, Error> {
        // The file has narrower integers than the contract: what is valid fits.
        if let Some(mel) = &self.mel {
            mel.validate()?;
        }
        let mut blob = BlobWriter::default();
        let labels = self.labels.join("\n");
        let provenance = &self.provenance;
        let stem = blob.convolution(&self.stem);
        let blocks: Vec<BlockDesc> = self
            .blocks
            .iter()
            .map(|block| blob.inverted_residual(block))
            .collect();
        let header = Header {
            provenance: Provenance {
                name: &provenance.name,
                source_sha256: &provenance.source_sha256,
                calibration: &provenance.calibration,
                tool: &provenance.tool,
                metrics: &provenance.metrics,
            },
            labels: &labels,
            input: self.input,
            input_activation: self.input_activation,
            nominal_rows: self.nominal_rows,
            stem,
            blocks: u16::try_from(blocks.len()).map_err(|_| Error::Header)?,
            head: self.head.as_ref().map(|head| blob.convolution(head)),
            classifier: blob.classifier(&self.classifier),
            mel: self.mel.as_ref().map(|mel| blob.mel(mel)),
            decision: self.decision,
            golden: self.golden.as_ref().map(|golden| {
                blob.golden(
                    golden,
                    self.input.row_len(),
                    usize::from(self.classifier.classes),
                )
            }),
        };

        let mut encoded = postcard::to_allocvec(&header).map_err(|_| Error::Header)?;
        for block in &blocks {
            encoded.extend(postcard::to_allocvec(block).map_err(|_| Error::Header)?);
        }
        let bytes = assemble(VERSION_WITHOUT_PLAN, &encoded, &blob.0, sizes)?;
        self.compare(&Package::parse(&bytes)?)?;
        Ok(bytes)
    }

    /// Lengths in the file follow from the shapes, so a table of another length would read
    /// its neighbour's bytes, or lose its own end, without parsing ever noticing.
    fn compare(&self, package: &Package<'_>) -> Result<(), Error> {
        let layers = core::iter::once((0, &self.stem, package.stem()));
        let blocks = (1..).zip(&self.blocks).zip(package.blocks());
        let blocks = blocks.flat_map(|((layer, spec), block)| {
            let expansion = spec.expansion.as_ref().zip(block.expansion);
            expansion
                .into_iter()
                .chain([
                    (&spec.depthwise, block.depthwise),
                    (&spec.projection, block.projection),
                ])
                .map(move |(spec, convolution)| (layer, spec, convolution))
        });
        let end = self.blocks.len() as u16 + 1;
        let head = self.head.as_ref().zip(package.head());
        let head = head.map(|(spec, convolution)| (end, spec, convolution));
        for (layer, spec, convolution) in layers.chain(blocks).chain(head) {
            same_tables(
                layer,
                (&spec.weights, &spec.bias, &spec.multiplier, &spec.shift),
                convolution.kernel,
            )?;
        }
        for ((layer, spec), block) in (1..).zip(&self.blocks).zip(package.blocks()) {
            if spec.residual.as_deref() != block.residual {
                return Err(wrong_length(layer));
            }
        }
        let classifier = &self.classifier;
        same_tables(
            end + u16::from(self.head.is_some()),
            (
                &classifier.weights,
                &classifier.bias,
                &classifier.multiplier,
                &classifier.shift,
            ),
            package.classifier().kernel,
        )?;
        if !package.labels().eq(&self.labels) {
            return Err(Error::Contents {
                what: "a label has a line break",
            });
        }
        if let (Some(spec), Some(golden)) = (&self.golden, package.golden())
            && (spec.features != golden.features || spec.logits != golden.logits)
        {
            return Err(Error::Contents {
                what: "golden vectors end within a row",
            });
        }
        Ok(())
    }
}

/// The same package with another memory plan, or none. `sizes` are those with that plan.
///
/// # Errors
/// Whatever [`Package::parse`] finds wrong with `bytes`, and [`Error::Plan`].
pub fn with_plan(
    bytes: &[u8],
    plan: Option<&[BlockPlan]>,
    sizes: Sizes,
) -> Result<PackageBytes, Error> {
    let copy = PackageBytes::copy_from(bytes);
    let package = Package::parse(&copy)?;
    if let Some(plan) = plan {
        package.check_plan(plan)?;
    }
    let Prologue {
        version,
        header_len,
        blob_offset,
        blob_len,
        ..
    } = package.prologue();
    let encoded = &copy[prologue::LEN..][..header_len as usize];
    let mut blob = BlobWriter(copy[blob_offset as usize..][..blob_len as usize].to_vec());
    let (_, mut records) =
        postcard::take_from_bytes::<Header<'_>>(encoded).map_err(|_| Error::Header)?;
    let header = &encoded[..encoded.len() - records.len()];
    if version > VERSION_WITHOUT_PLAN {
        // The old plan, which this crate writes last.
        let (offset, rest) =
            postcard::take_from_bytes::<u32>(records).map_err(|_| Error::Header)?;
        let end = offset as usize + package.plan().map_or(0, size_of_val);
        if end == blob.0.len() {
            blob.0.truncate(offset as usize);
        }
        records = rest;
    }
    let mut encoded = header.to_vec();
    let version = match plan {
        Some(plan) => {
            let offset = blob.table(plan);
            encoded.extend(postcard::to_allocvec(&offset).map_err(|_| Error::Header)?);
            VERSION
        }
        None => VERSION_WITHOUT_PLAN,
    };
    encoded.extend(records);
    let bytes = assemble(version, &encoded, &blob.0, sizes)?;
    Package::parse(&bytes)?;
    Ok(bytes)
}

/// Prologue, header and records, blob, checksum.
fn assemble(
    version: u16,
    encoded: &[u8],
    blob: &[u8],
    sizes: Sizes,
) -> Result<PackageBytes, Error> {
    let blob_offset = (prologue::LEN + encoded.len()).next_multiple_of(ALIGNMENT);
    let file_len = blob_offset + blob.len() + 4;
    let prologue = Prologue {
        version,
        header_len: encoded.len() as u32,
        blob_offset: blob_offset as u32,
        blob_len: blob.len() as u32,
        file_len: u32::try_from(file_len).map_err(|_| Error::Header)?,
        frontend_bytes: sizes.frontend_bytes,
        arena: sizes.arena,
    };
    let mut bytes = prologue.write().to_vec();
    bytes.extend(encoded);
    bytes.resize(blob_offset, 0);
    bytes.extend(blob);
    let crc = crate::parse::CRC32.checksum(&bytes);
    bytes.extend(crc.to_le_bytes());
    Ok(PackageBytes::copy_from(&bytes))
}

fn wrong_length(layer: u16) -> Error {
    Error::Shape {
        layer,
        what: "a table's length does not match the shapes",
    }
}

fn same_tables(
    layer: u16,
    spec: (&[i8], &[i32], &[i32], &[u8]),
    kernel: Kernel<'_>,
) -> Result<(), Error> {
    let found = (kernel.weights, kernel.bias, kernel.multiplier, kernel.shift);
    if spec != found {
        return Err(wrong_length(layer));
    }
    Ok(())
}

impl From<Provenance<'_>> for ProvenanceSpec {
    fn from(p: Provenance<'_>) -> Self {
        Self {
            name: p.name.to_string(),
            source_sha256: p.source_sha256.to_string(),
            calibration: p.calibration.to_string(),
            tool: p.tool.to_string(),
            metrics: p.metrics.to_string(),
        }
    }
}
