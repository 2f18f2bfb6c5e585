//! Validation, done once: after [`Package::parse`] no accessor can fail and no
//! accumulator can overflow.

use crate::desc::{BlockDesc, ClassifierDesc, ConvDesc, GoldenDesc, Header, MelDesc};
use crate::prologue::{ALIGNMENT, LEN};
use crate::view::{
    Blocks, Classifier, Convolution, Golden, InvertedResidual, Kernel, Labels, MelContract,
};
use crate::{
    Activation, BlockPlan, DecisionRule, Error, MAX_BLOCKS, MAX_STRIPE, Prologue, Provenance,
    Signature, Spatial, TensorShape, text,
};

pub(crate) const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Layer number in errors that concern no layer of the network.
const NO_LAYER: u16 = u16::MAX;

/// Tables of 32-bit integers are read in place.
const TABLE_ALIGNMENT: usize = 4;

/// Most bytes that running may take, so that no size overflows the `usize` (or the slices'
/// `isize`) of a 32-bit target.
const MAX_RUN_BYTES: u64 = i32::MAX as u64;

/// The part of the file that offsets point into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blob<'a>(&'a [u8]);

impl<'a> Blob<'a> {
    fn table<T: bytemuck::AnyBitPattern>(
        self,
        layer: u16,
        offset: u32,
        count: u64,
    ) -> Result<&'a [T], Error> {
        let len = count.saturating_mul(size_of::<T>() as u64);
        let error = Error::Table {
            layer,
            offset: offset.into(),
            len,
        };
        let end = u64::from(offset).saturating_add(len);
        if end > self.0.len() as u64 {
            return Err(error);
        }
        bytemuck::try_cast_slice(&self.0[offset as usize..end as usize]).map_err(|_| error)
    }
}

/// The tensor between two layers, carried along while the network is walked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageShapes {
    layer: u16,
    shape: TensorShape,
    zero_point: i8,
}

impl StageShapes {
    fn error(&self, what: &'static str) -> Error {
        Error::Shape {
            layer: self.layer,
            what,
        }
    }

    fn kernel<'a>(
        &self,
        blob: Blob<'a>,
        desc: &ConvDesc,
        weights: u64,
    ) -> Result<Kernel<'a>, Error> {
        let c_out = u64::from(desc.c_out);
        Ok(Kernel {
            weights: blob.table(self.layer, desc.weights, weights)?,
            bias: blob.table(self.layer, desc.bias, c_out)?,
            multiplier: blob.table(self.layer, desc.multiplier, c_out)?,
            shift: blob.table(self.layer, desc.shift, c_out)?,
        })
    }

    /// Resolves one convolution and moves on to its output.
    fn convolution<'a>(
        &mut self,
        blob: Blob<'a>,
        desc: &ConvDesc,
        depthwise: bool,
    ) -> Result<Convolution<'a>, Error> {
        let input = self.shape;
        let (c_in, c_out) = (u64::from(input.channels), u64::from(desc.c_out));
        if c_out == 0 {
            return Err(self.error("no output channels"));
        }
        if depthwise && desc.c_out != input.channels {
            return Err(self.error("a depthwise convolution must keep its number of channels"));
        }
        let (width, weights) = match desc.spatial {
            Some(spatial) => {
                let width = output_width(input.width, spatial).ok_or_else(|| {
                    self.error("stride is not 1 or 2, padding above 2, or the input too narrow")
                })?;
                (width, 9 * c_out * if depthwise { 1 } else { c_in })
            }
            None => (input.width, c_out * c_in),
        };
        let convolution = Convolution {
            input,
            input_zero_point: self.zero_point,
            output: TensorShape {
                width,
                channels: desc.c_out,
            },
            activation: desc.output,
            spatial: desc.spatial,
            kernel: self.kernel(blob, desc, weights)?,
        };
        self.shape = convolution.output;
        self.zero_point = desc.output.zero_point;
        Ok(convolution)
    }

    fn spatial<'a>(
        &mut self,
        blob: Blob<'a>,
        desc: &ConvDesc,
        depthwise: bool,
    ) -> Result<Convolution<'a>, Error> {
        if desc.spatial.is_none() {
            return Err(self.error("a 3×3 kernel without stride and padding"));
        }
        self.convolution(blob, desc, depthwise)
    }

    fn pointwise<'a>(&mut self, blob: Blob<'a>, desc: &ConvDesc) -> Result<Convolution<'a>, Error> {
        if desc.spatial.is_some() {
            return Err(self.error("a pointwise convolution with stride or padding"));
        }
        self.convolution(blob, desc, false)
    }

    pub(crate) fn inverted_residual<'a>(
        &mut self,
        blob: Blob<'a>,
        desc: &BlockDesc,
    ) -> Result<InvertedResidual<'a>, Error> {
        let input = self.shape;
        let expansion = match &desc.expansion {
            Some(expansion) => Some(self.pointwise(blob, expansion)?),
            None => None,
        };
        let depthwise = self.spatial(blob, &desc.depthwise, true)?;
        let projection = self.pointwise(blob, &desc.projection)?;
        let residual = match desc.residual {
            Some(offset) => {
                let keeps_rows = desc.depthwise.spatial.is_some_and(|spatial| {
                    spatial.stride_time == 1 && spatial.pad_time[0] + spatial.pad_time[1] == 2
                });
                if !keeps_rows || projection.output != input {
                    return Err(self.error("a residual around a block that changes the shape"));
                }
                Some(blob.table(self.layer, offset, input.channels.into())?)
            }
            None => None,
        };
        self.layer += 1;
        Ok(InvertedResidual {
            expansion,
            depthwise,
            projection,
            residual,
        })
    }
}

/// Output width of a 3×3 kernel, or none where it cannot run.
fn output_width(width: u16, spatial: Spatial) -> Option<u16> {
    let strides = [spatial.stride_time, spatial.stride_freq];
    let pads = [spatial.pad_time, spatial.pad_freq];
    if strides.iter().any(|s| !(1..=2).contains(s)) || pads.as_flattened().iter().any(|&p| p > 2) {
        return None;
    }
    let outputs = u16::try_from(spatial.output_width(width.into())).ok();
    outputs.filter(|&outputs| outputs > 0)
}

fn check_activation(layer: u16, activation: Activation) -> Result<(), Error> {
    let Activation {
        scale,
        zero_point,
        min,
        max,
    } = activation;
    if !(scale.is_finite() && scale > 0.0) || min > max || zero_point < min || zero_point > max {
        return Err(Error::Shape {
            layer,
            what: "an activation's scale, zero point or clamp is invalid",
        });
    }
    Ok(())
}

/// What validation adds up from layer to layer.
struct Totals {
    /// Bytes of the blob that no table has taken yet.
    unclaimed: u64,
    /// An upper bound of what running takes.
    run_bytes: u64,
}

impl Totals {
    /// Tables of a network never share bytes. Without this bound many small records
    /// could name the same large table, and checking a small file could take hours.
    fn claim(&mut self, layer: u16, kernel: &Kernel<'_>, more: usize) -> Result<(), Error> {
        let Kernel {
            weights,
            bias,
            multiplier,
            shift,
        } = kernel;
        let bytes = weights.len() + size_of_val(*bias) + size_of_val(*multiplier) + shift.len();
        self.unclaimed = self
            .unclaimed
            .checked_sub((bytes + more) as u64)
            .ok_or(Error::Overlap { layer })?;
        Ok(())
    }

    /// Counts a tensor between two layers. An executor has at most [`MAX_STRIPE`] rows
    /// of it at a time; two more as a 3×3 kernel's history and two for a residual.
    fn tensor(&mut self, layer: u16, shape: TensorShape) -> Result<(), Error> {
        self.run(layer, (MAX_STRIPE as u64 + 4) * shape.row_len() as u64)
    }

    fn run(&mut self, layer: u16, bytes: u64) -> Result<(), Error> {
        self.run_bytes += bytes;
        if self.run_bytes > MAX_RUN_BYTES {
            return Err(Error::TooLarge {
                layer,
                bytes: self.run_bytes,
                limit: MAX_RUN_BYTES,
            });
        }
        Ok(())
    }

    /// Proves the arithmetic contract for one layer.
    ///
    /// `acc = bias + Σ w·q + K·(x − z)` with `|q| ≤ 128`, `|x − z| ≤ 255`; every
    /// partial sum is bounded by the sum of the magnitudes, so order does not matter.
    fn prove(
        &mut self,
        layer: u16,
        convolution: &Convolution<'_>,
        depthwise: bool,
        residual: Option<&[i32]>,
    ) -> Result<(), Error> {
        check_activation(layer, convolution.activation)?;
        self.claim(
            layer,
            &convolution.kernel,
            residual.map_or(0, size_of_val::<[i32]>),
        )?;
        self.tensor(layer, convolution.output)?;
        let Kernel {
            weights,
            bias,
            multiplier,
            shift,
        } = convolution.kernel;
        if weights.contains(&-128) {
            return Err(Error::WeightOutOfRange { layer });
        }
        let c_out = bias.len();
        let taps = weights.len() / c_out;
        for c in 0..c_out {
            let channel = c as u16;
            let residual = residual.map(|k| k[c]);
            if multiplier[c] < 1 << 30
                || !(1..=31).contains(&shift[c])
                || residual.is_some_and(|k| k < 1)
            {
                return Err(Error::Requantize { layer, channel });
            }
            let magnitude: i64 = if depthwise {
                (0..9)
                    .map(|tap| weight_magnitude(weights[tap * c_out + c]))
                    .sum()
            } else {
                weights[c * taps..][..taps]
                    .iter()
                    .map(|&w| weight_magnitude(w))
                    .sum()
            };
            let bound = 128 * magnitude
                + 255 * i64::from(residual.unwrap_or(0))
                + i64::from(bias[c].unsigned_abs());
            if bound > i64::from(i32::MAX) {
                return Err(Error::Overflow { layer, channel });
            }
        }
        Ok(())
    }
}

fn weight_magnitude(weight: i8) -> i64 {
    i64::from(weight.unsigned_abs())
}

impl<'a> Classifier<'a> {
    fn resolve(blob: Blob<'a>, desc: &ClassifierDesc, stage: &StageShapes) -> Result<Self, Error> {
        let classes = u64::from(desc.classes);
        let channels = u64::from(stage.shape.channels);
        let layer = stage.layer;
        Ok(Self {
            input: stage.shape,
            input_zero_point: stage.zero_point,
            classes: usize::from(desc.classes),
            pool_rows: usize::from(desc.pool_rows),
            kernel: Kernel {
                weights: blob.table(layer, desc.weights, classes * channels)?,
                bias: blob.table(layer, desc.bias, classes)?,
                multiplier: blob.table(layer, desc.multiplier, classes)?,
                shift: blob.table(layer, desc.shift, classes)?,
            },
            activation: desc.output,
            softmax_step_q16: desc.softmax_step_q16,
        })
    }

    fn prove(&self, layer: u16, totals: &mut Totals) -> Result<(), Error> {
        check_activation(layer, self.activation)?;
        totals.claim(layer, &self.kernel, 0)?;
        if self.classes == 0 || self.pool_rows == 0 {
            return Err(Error::Shape {
                layer,
                what: "a classifier without classes or without rows to pool",
            });
        }
        if self.softmax_step_q16 == 0 || self.softmax_step_q16 > 1 << 24 {
            return Err(Error::Shape {
                layer,
                what: "the softmax step is outside its range",
            });
        }
        // A ring of `pool_rows` rows, their sum and the newest row, as 32-bit integers.
        let accumulators = (self.pool_rows as u64 + 2) * self.classes as u64;
        totals.run(layer, 4 * accumulators + self.classes as u64)?;
        let kernel = self.kernel;
        if kernel.weights.contains(&-128) {
            return Err(Error::WeightOutOfRange { layer });
        }
        let channels = usize::from(self.input.channels);
        for (k, weights) in kernel.weights.chunks_exact(channels).enumerate() {
            let channel = k as u16;
            if kernel.multiplier[k] < 1 << 30 || !(1..=31).contains(&kernel.shift[k]) {
                return Err(Error::Requantize { layer, channel });
            }
            let magnitude: i64 = weights.iter().map(|&w| weight_magnitude(w)).sum();
            let row = 255 * i64::from(self.input.width) * magnitude;
            // Below 2^48 times 2^16.
            let total =
                i128::from(row + i64::from(kernel.bias[k].unsigned_abs())) * self.pool_rows as i128;
            if total > i128::from(i32::MAX) {
                return Err(Error::Overflow { layer, channel });
            }
        }
        Ok(())
    }
}

impl<'a> MelContract<'a> {
    fn resolve(blob: Blob<'a>, desc: &MelDesc) -> Result<Self, Error> {
        let window_samples = usize::from(desc.window_samples);
        let contract = Self {
            sample_rate_hz: desc.sample_rate_hz,
            fft: desc.fft.into(),
            window_samples,
            hop_samples: desc.hop_samples.into(),
            bands: desc.bands.into(),
            low_hz: desc.low_hz,
            high_hz: desc.high_hz,
            scale: desc.scale,
            dc_shift: desc.dc_shift,
            reference_release_q16: desc.reference_release_q16,
            reference_floor_q16: desc.reference_floor_q16,
            feature_multiplier: desc.feature_multiplier,
            feature_shift: desc.feature_shift,
            feature_top: desc.feature_top,
            window_q31: blob.table(NO_LAYER, desc.window, window_samples as u64 / 2 + 1)?,
            band_bins: blob.table(NO_LAYER, desc.band_bins, 2 * u64::from(desc.bands))?,
            band_weights_q15: blob.table(
                NO_LAYER,
                desc.band_weights,
                desc.band_weights_len.into(),
            )?,
        };
        contract.validate()?;
        Ok(contract)
    }
}

fn resolve_golden<'a>(
    blob: Blob<'a>,
    desc: &GoldenDesc,
    row_len: usize,
    classes: usize,
) -> Result<Golden<'a>, Error> {
    let count = |rows: u32, len: usize| u64::from(rows).saturating_mul(len as u64);
    Ok(Golden {
        audio: match desc.audio {
            Some((offset, samples)) => Some(blob.table(NO_LAYER, offset, samples.into())?),
            None => None,
        },
        features: blob.table(NO_LAYER, desc.features, count(desc.rows, row_len))?,
        logits: blob.table(NO_LAYER, desc.logits, count(desc.outputs, classes))?,
    })
}

/// A validated package, borrowing from its bytes.
///
/// Having one proves that running it can neither fail nor overflow.
#[derive(Debug, Clone)]
pub struct Package<'a> {
    prologue: Prologue,
    provenance: Provenance<'a>,
    labels: &'a str,
    input: TensorShape,
    input_activation: Activation,
    nominal_rows: u32,
    decision: Option<DecisionRule>,
    stem: Convolution<'a>,
    blocks: Blocks<'a>,
    head: Option<Convolution<'a>>,
    classifier: Classifier<'a>,
    mel: Option<MelContract<'a>>,
    golden: Option<Golden<'a>>,
    plan: Option<&'a [BlockPlan]>,
}

impl<'a> Package<'a> {
    /// Checks every byte once and borrows the rest. Costs one pass over the file. A signature
    /// after the package is ignored; [`Signature::split`] returns it.
    ///
    /// # Errors
    /// See [`Error`]; each message says what to do.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let prologue = Prologue::read(bytes)?;
        let expected = u64::from(prologue.file_len);
        let header_end = LEN as u64 + u64::from(prologue.header_len);
        let blob_offset = u64::from(prologue.blob_offset);
        let blob_end = blob_offset + u64::from(prologue.blob_len);
        let (bytes, _) = Signature::split_at(bytes, prologue.file_len)?;
        if header_end > blob_offset
            || !blob_offset.is_multiple_of(ALIGNMENT as u64)
            || blob_end + 4 != expected
        {
            return Err(Error::Header);
        }
        let (body, crc) = bytes.split_at(blob_end as usize);
        let expected = u32::from_le_bytes(crc.try_into().map_err(|_| Error::Header)?);
        let found = CRC32.checksum(body);
        if found != expected {
            return Err(Error::Checksum { expected, found });
        }
        if !(bytes.as_ptr() as usize).is_multiple_of(TABLE_ALIGNMENT) {
            return Err(Error::Misaligned {
                needed: TABLE_ALIGNMENT,
            });
        }

        let blob = Blob(&body[blob_offset as usize..]);
        let (header, records) =
            postcard::take_from_bytes::<Header<'a>>(&body[LEN..header_end as usize])
                .map_err(|_| Error::Header)?;
        if prologue.version == 1 {
            return Self::resolve(prologue, header, records, blob, None);
        }
        let (plan, records) =
            postcard::take_from_bytes::<u32>(records).map_err(|_| Error::Header)?;
        Self::resolve(prologue, header, records, blob, Some(plan))
    }

    fn resolve(
        prologue: Prologue,
        header: Header<'a>,
        records: &'a [u8],
        blob: Blob<'a>,
        plan: Option<u32>,
    ) -> Result<Self, Error> {
        check_activation(0, header.input_activation)?;
        let mut stage = StageShapes {
            layer: 0,
            shape: header.input,
            zero_point: header.input_activation.zero_point,
        };
        if header.input.row_len() == 0 || header.nominal_rows == 0 {
            return Err(stage.error("the input is empty"));
        }
        let whole_input = u64::from(header.nominal_rows) * header.input.row_len() as u64;
        if whole_input > MAX_RUN_BYTES {
            return Err(Error::TooLarge {
                layer: 0,
                bytes: whole_input,
                limit: MAX_RUN_BYTES,
            });
        }
        if usize::from(header.blocks) > MAX_BLOCKS {
            return Err(Error::TooManyBlocks {
                found: header.blocks,
            });
        }
        let mut totals = Totals {
            unclaimed: blob.0.len() as u64,
            run_bytes: 0,
        };
        totals.tensor(0, header.input)?;
        let stem = stage.spatial(blob, &header.stem, false)?;
        totals.prove(0, &stem, false, None)?;
        stage.layer = 1;

        let blocks = Blocks {
            records,
            remaining: header.blocks,
            blob,
            shapes: stage,
        };
        let mut rest = records;
        for _ in 0..header.blocks {
            let (desc, next) =
                postcard::take_from_bytes::<BlockDesc>(rest).map_err(|_| Error::Header)?;
            rest = next;
            let layer = stage.layer;
            let block = stage.inverted_residual(blob, &desc)?;
            if let Some(expansion) = &block.expansion {
                totals.prove(layer, expansion, false, None)?;
            }
            totals.prove(layer, &block.depthwise, true, None)?;
            totals.prove(layer, &block.projection, false, block.residual)?;
        }
        if !rest.is_empty() {
            return Err(Error::Header);
        }

        let head = match &header.head {
            Some(desc) => {
                let head = stage.pointwise(blob, desc)?;
                totals.prove(stage.layer, &head, false, None)?;
                stage.layer += 1;
                Some(head)
            }
            None => None,
        };
        let classifier = Classifier::resolve(blob, &header.classifier, &stage)?;
        classifier.prove(stage.layer, &mut totals)?;

        let mel = match &header.mel {
            Some(desc) => Some(MelContract::resolve(blob, desc)?),
            None => None,
        };
        let golden = match &header.golden {
            Some(desc) => Some(resolve_golden(
                blob,
                desc,
                header.input.row_len(),
                classifier.classes,
            )?),
            None => None,
        };
        let plan = match plan {
            Some(offset) => Some(blob.table(NO_LAYER, offset, u64::from(header.blocks) + 1)?),
            None => None,
        };
        let package = Self {
            prologue,
            provenance: header.provenance,
            labels: header.labels,
            input: header.input,
            input_activation: header.input_activation,
            nominal_rows: header.nominal_rows,
            decision: header.decision,
            stem,
            blocks,
            head,
            classifier,
            mel,
            golden,
            plan,
        };
        package.check_contents()?;
        Ok(package)
    }

    fn check_contents(&self) -> Result<(), Error> {
        let labels = self.labels().count();
        if labels != 0 && self.labels.split('\n').any(str::is_empty) {
            return Err(Error::Contents {
                what: "a label is empty",
            });
        }
        let Provenance {
            name,
            source_sha256,
            calibration,
            tool,
            metrics,
        } = self.provenance;
        let lines = [name, source_sha256, calibration, tool, metrics].into_iter();
        let is_plain = |line: &str| line.chars().all(text::is_plain);
        if !lines.chain(self.labels.split('\n')).all(is_plain) {
            return Err(Error::Contents {
                what: "a label or the provenance has a control character",
            });
        }
        if labels != 0 && labels != self.classifier.classes {
            return Err(Error::Contents {
                what: "the numbers of labels and classes differ",
            });
        }
        if let Some(mel) = &self.mel {
            let input = self.input;
            if usize::from(input.width) != mel.bands || input.channels != 1 {
                return Err(Error::Contents {
                    what: "the mel contract's bands do not match the network's input row",
                });
            }
            if labels == 0 || self.decision.is_none() {
                return Err(Error::Contents {
                    what: "a package for audio needs labels and a decision rule",
                });
            }
        }
        if let Some(DecisionRule {
            thresholds,
            smoothing_shift,
            ..
        }) = self.decision
            && (thresholds.leave_q15 > thresholds.enter_q15
                || thresholds.enter_q15 > 1 << 15
                || smoothing_shift > 15)
        {
            return Err(Error::Contents {
                what: "the decision rule's thresholds are not leave ≤ enter ≤ 1",
            });
        }
        if let Some(golden) = &self.golden {
            self.check_golden(golden)?;
        }
        match self.plan {
            Some(plan) => self.check_plan(plan),
            None => Ok(()),
        }
    }

    /// What an executor that follows a plan relies on.
    ///
    /// # Errors
    /// [`Error::Plan`] for a plan that is not of this network.
    pub fn check_plan(&self, plan: &[BlockPlan]) -> Result<(), Error> {
        let blocks = self.blocks().map(|block| {
            let channels = block.depthwise.input.channels;
            (
                channels,
                if block.expansion.is_some() {
                    0..=2
                } else {
                    2..=2
                },
                block.expansion.is_some(),
            )
        });
        let head = (self.classifier.input.channels, 0..=0, self.head.is_some());
        if plan.len() != blocks.len() + 1 {
            return Err(Error::Plan {
                layer: NO_LAYER,
                what: "there must be one entry for each block and one for the head",
            });
        }
        for ((layer, &BlockPlan { kept_rows, group }), (channels, kept, splits)) in
            (1..).zip(plan).zip(blocks.chain([head]))
        {
            let error = |what| Err(Error::Plan { layer, what });
            if !kept.contains(&kept_rows) {
                return error("kept rows must be 0 to 2; 2 without an expansion, 0 for the head");
            }
            if group == 0 || group > channels {
                return error("a group has no channels, or more than the layer has");
            }
            if !splits && group != channels {
                return error("without an expansion or a head there is nothing to split");
            }
        }
        Ok(())
    }

    /// A self-test that compares other numbers of rows, or none, would prove nothing.
    fn check_golden(&self, golden: &Golden<'a>) -> Result<(), Error> {
        let error = |what| Err(Error::Contents { what });
        let rows = golden.features.len() / self.input.row_len();
        match (golden.audio, &self.mel) {
            (Some(audio), Some(mel)) => {
                let hops = audio.len().checked_sub(mel.window_samples);
                if rows != hops.map_or(0, |hops| hops / mel.hop_samples + 1) {
                    return error(
                        "the golden features are not as many rows as the golden audio gives",
                    );
                }
            }
            (Some(_), None) => return error("golden audio without a mel contract"),
            (None, _) => {}
        }
        let outputs = golden.logits.len() / self.classifier.classes;
        if outputs == 0 || outputs as u64 != self.output_rows(rows as u64) {
            return error("the golden logits are not as many rows as the golden features give");
        }
        Ok(())
    }

    /// Output rows for a clip of the given number of input rows, including the flush.
    fn output_rows(&self, rows: u64) -> u64 {
        let through = |rows: u64, convolution: Convolution<'_>| match convolution.spatial {
            Some(spatial) => spatial.output_rows(rows),
            None => rows,
        };
        self.blocks()
            .map(|block| block.depthwise)
            .fold(through(rows, self.stem), through)
    }

    /// Sizes stated in the fixed head of the file.
    pub fn prologue(&self) -> Prologue {
        self.prologue
    }

    /// Where the package comes from.
    pub fn provenance(&self) -> Provenance<'a> {
        self.provenance
    }

    /// Labels in the order of the logits; empty when the package names none.
    pub fn labels(&self) -> Labels<'a> {
        Labels(self.labels.lines())
    }

    /// Shape of an input row.
    pub fn input(&self) -> TensorShape {
        self.input
    }

    /// Quantization of the input.
    pub fn input_activation(&self) -> Activation {
        self.input_activation
    }

    /// Rows of one whole input as trained.
    pub fn nominal_rows(&self) -> usize {
        self.nominal_rows as usize
    }

    /// The 3×3 stem.
    pub fn stem(&self) -> Convolution<'a> {
        self.stem
    }

    /// The inverted residuals in order.
    pub fn blocks(&self) -> Blocks<'a> {
        self.blocks.clone()
    }

    /// The 1×1 head before the pool.
    pub fn head(&self) -> Option<Convolution<'a>> {
        self.head
    }

    /// Pool and fully connected layer.
    pub fn classifier(&self) -> Classifier<'a> {
        self.classifier
    }

    /// How audio becomes feature rows; `None` for packages that take only rows.
    pub fn mel(&self) -> Option<MelContract<'a>> {
        self.mel
    }

    /// How logits become decisions.
    pub fn decision(&self) -> Option<DecisionRule> {
        self.decision
    }

    /// The memory plan for an executor that runs row by row: one entry for each block, then
    /// one for the head, which keeps no rows. `None` for the fastest execution.
    pub fn plan(&self) -> Option<&'a [BlockPlan]> {
        self.plan
    }

    /// Golden vectors.
    pub fn golden(&self) -> Option<Golden<'a>> {
        self.golden
    }
}
