//! Recognizes a MobileNetV2 in an ONNX graph, whatever exporter wrote it. If the graph is not one,
//! the error names the unsupported node.

use anyhow::{Context as _, Result, bail, ensure};
use sori_package::Spatial;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{ModelProto, NodeProto, type_proto};

use super::graph::{Cursor, Graph, float, int, ints, name, string};
use crate::float::{
    FloatBlock, FloatClassifier, FloatConvolution, FloatNetwork, LINEAR, Preprocessing,
    Quantization,
};

/// Walks the graph from its input to its logits.
pub(super) fn import(model: &ModelProto) -> Result<FloatNetwork> {
    Walk {
        graph: Graph::new(model)?,
    }
    .network()
}

struct Walk<'m> {
    graph: Graph<'m>,
}

/// Rows, where the file fixes them, and columns.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: Option<usize>,
    width: usize,
}

/// A convolution as found.
struct Read<'m> {
    convolution: FloatConvolution,
    depthwise: bool,
    /// Its output, activation included.
    end: Cursor<'m>,
    size: Size,
}

impl<'m> Walk<'m> {
    fn network(&self) -> Result<FloatNetwork> {
        let graph = &self.graph;
        let input = &graph.input.name;
        let channels_last = graph.channels_last();
        let dims = self.input_dims()?;
        let [channels, rows, width] = match channels_last {
            true => [dims[3], dims[1], dims[2]],
            false => [dims[1], dims[2], dims[3]],
        };
        let width = width.with_context(|| {
            format!("input {input} has no fixed width: export it with a fixed number of mel bands")
        })?;
        ensure!(
            width <= u16::MAX.into(),
            "input {input} is {width} wide: the maximum is 65535"
        );
        let size = Size { rows, width };

        let start = Cursor {
            tensor: input,
            channels_last,
            quantization: None,
        };
        let (start, preprocessing) = self.preprocessing(start)?;
        let input_quantization = self.quantization(start)?;
        let stem = self.convolution(start, None, size)?;
        ensure!(
            stem.convolution.spatial.is_some() && !stem.depthwise,
            "{}: the stem must be a 3×3 convolution over all channels",
            stem.convolution.node
        );
        ensure!(
            channels.is_none_or(|c| c == stem.convolution.c_in),
            "input {input} has {channels:?} channels, but the stem has {}",
            stem.convolution.c_in
        );
        let (channels, stem_node) = (stem.convolution.c_in, stem.convolution.node.clone());
        let preprocessing = preprocessing.for_channels(channels).with_context(|| {
            format!(
                "the preprocessing before {stem_node} does not have constants for {channels} channels"
            )
        })?;

        let (mut x, mut c, mut size) = (stem.end, stem.convolution.c_out, stem.size);
        let stem = stem.convolution;
        let mut blocks = Vec::new();
        let mut head = None;
        while !self.pools(x)? {
            if let Some(head) = &head {
                let FloatConvolution { node, .. } = head;
                let what = graph.readers(x)?.first().map(|(node, _)| name(node));
                bail!(
                    "{} follows the head ({node}), where only a global average pool may",
                    what.unwrap_or_else(|| x.tensor.into())
                );
            }
            let first = self.convolution(x, Some(c), size)?;
            if !first.depthwise && self.pools(first.end)? {
                ensure!(
                    first.convolution.spatial.is_none(),
                    "{}: the head must be pointwise",
                    first.convolution.node
                );
                (x, c) = (first.end, first.convolution.c_out);
                head = Some(first.convolution);
                continue;
            }
            let block;
            (block, x, size) = self.block(x, c, first)?;
            c = block.projection.c_out;
            blocks.push(block);
        }
        let classifier = self.classifier(x, c)?;
        Ok(FloatNetwork {
            input: input.clone(),
            channels,
            width,
            rows,
            channels_last,
            preprocessing,
            input_quantization,
            stem,
            blocks,
            head,
            classifier,
        })
    }

    /// The rest of a block of which the first convolution was read.
    fn block(
        &self,
        input: Cursor<'m>,
        channels: usize,
        first: Read<'m>,
    ) -> Result<(FloatBlock, Cursor<'m>, Size)> {
        let (expansion, depthwise) = if first.depthwise {
            (None, first)
        } else {
            ensure!(
                first.convolution.spatial.is_none(),
                "{}: a 3×3 convolution over all channels; after the stem Sori supports 3×3 depthwise and 1×1 pointwise",
                first.convolution.node
            );
            let wide = first.convolution.c_out;
            let depthwise = self.convolution(first.end, Some(wide), first.size)?;
            (Some(first.convolution), depthwise)
        };
        ensure!(
            depthwise.depthwise,
            "{}: an inverted residual needs a 3×3 depthwise convolution here",
            depthwise.convolution.node
        );
        let Read {
            convolution: depthwise,
            end,
            size,
            ..
        } = depthwise;
        let projection = self.convolution(end, Some(depthwise.c_out), size)?;
        ensure!(
            !projection.depthwise && projection.convolution.spatial.is_none(),
            "{}: an inverted residual must end in a 1×1 projection",
            projection.convolution.node
        );
        let Read {
            convolution: mut projection,
            mut end,
            ..
        } = projection;
        ensure!(
            projection.clamp == LINEAR,
            "{}: the projection has an activation; MobileNetV2's bottleneck is linear",
            projection.node
        );
        let mut residual = false;
        if let [(add, as_read)] = self.graph.readers(end)?[..]
            && add.op_type == "Add"
        {
            let readers = self.graph.readers(input)?;
            let from_input = readers.iter().find(|(node, _)| std::ptr::eq(*node, add));
            let (_, other) = from_input.with_context(|| {
                format!(
                    "{}: adds something other than the block's input ({})",
                    name(add),
                    input.tensor
                )
            })?;
            ensure!(
                other.channels_last == as_read.channels_last,
                "{}: adds a channels-first tensor to a channels-last one",
                name(add)
            );
            ensure!(
                projection.c_out == channels,
                "{}: a residual around a block from {channels} to {} channels",
                name(add),
                projection.c_out
            );
            residual = true;
            end = as_read.after(add);
            projection.quantization = self.quantization(end)?;
        }
        let block = FloatBlock {
            expansion,
            depthwise,
            projection,
            residual,
        };
        Ok((block, end, size))
    }

    fn input_dims(&self) -> Result<[Option<usize>; 4]> {
        let input = self.graph.input;
        let shape = input.r#type.as_ref().and_then(|t| match &t.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
            _ => None,
        });
        let dims: Vec<_> = shape
            .map_or(&[][..], |shape| &shape.dim)
            .iter()
            .map(|dim| match dim.value {
                Some(dimension::Value::DimValue(n)) if n > 0 => Some(n as usize),
                _ => None,
            })
            .collect();
        dims.try_into().map_err(|dims: Vec<_>| {
            anyhow::anyhow!(
                "input {} has {} dimensions: Sori expects [N, channels, rows, width]",
                input.name,
                dims.len()
            )
        })
    }

    /// Reads `[Mul | Div | Add | Sub]*` before the stem.
    fn preprocessing(&self, mut x: Cursor<'m>) -> Result<(Cursor<'m>, Preprocessing)> {
        let mut all = Preprocessing::default();
        loop {
            let (node, as_read) = self.graph.reader(x)?;
            let at = name(node);
            if !matches!(node.op_type.as_str(), "Mul" | "Div" | "Add" | "Sub") {
                return Ok((x, all));
            }
            let index = self.graph.constant_input(node);
            let values = self.graph.floats(node, index)?;
            let values = values
                .filter(|values| !values.is_empty() && values.iter().all(|v| v.is_finite()))
                .with_context(|| format!("{at}: its other operand is not constant"))?;
            ensure!(
                index == 1 || !matches!(node.op_type.as_str(), "Div" | "Sub"),
                "{at}: the input is the subtrahend or the divisor; it may only be scaled and shifted"
            );
            let done = match node.op_type.as_str() {
                "Mul" => all.then(&values, &[0.0]),
                "Div" => all.then(&values.iter().map(|v| 1.0 / v).collect::<Vec<_>>(), &[0.0]),
                "Add" => all.then(&[1.0], &values),
                _ => all.then(&[1.0], &values.iter().map(|v| -v).collect::<Vec<_>>()),
            };
            all = done.with_context(|| {
                format!("{at}: there must be one constant for all channels or one for each")
            })?;
            x = as_read.after(node);
        }
    }

    /// What the file quantizes a tensor by before all its readers.
    fn quantization(&self, x: Cursor<'m>) -> Result<Option<Quantization>> {
        let readers = self.graph.readers(x)?;
        Ok(readers
            .first()
            .and_then(|(_, as_read)| as_read.quantization))
    }

    fn pools(&self, x: Cursor<'m>) -> Result<bool> {
        let readers = self.graph.readers(x)?;
        Ok(matches!(
            readers[..],
            [(node, _)] if matches!(
                node.op_type.as_str(),
                "GlobalAveragePool" | "ReduceMean" | "AveragePool"
            )
        ))
    }

    /// Reads `[Pad] Conv [BatchNormalization | Mul | Add]* [Clip | Relu | Min | Max]*`.
    fn convolution(&self, x: Cursor<'m>, c_in: Option<usize>, size: Size) -> Result<Read<'m>> {
        let mut readers = self.graph.readers(x)?;
        // A block's input is also read by its residual add.
        if readers.len() == 2 {
            readers.retain(|(node, _)| node.op_type != "Add");
        }
        let [(mut node, mut as_read)] = readers[..] else {
            bail!(
                "tensor {} is read {} times: MobileNetV2 has no such branch",
                x.tensor,
                readers.len()
            );
        };
        let mut pads = [0i64; 4];
        if node.op_type == "Pad" {
            pads = self.pad(node, as_read.channels_last)?;
            (node, as_read) = self.graph.reader(as_read.after(node))?;
        }
        let at = name(node);
        ensure!(
            node.op_type == "Conv",
            "{at}: not part of a MobileNetV2, which has a convolution in its place"
        );
        ensure!(
            !as_read.channels_last,
            "{at}: reads channels last; an ONNX convolution reads channels first"
        );
        let weight_name = node
            .input
            .get(1)
            .with_context(|| format!("{at}: has no weights"))?;
        let weights = self
            .graph
            .constant(weight_name)
            .with_context(|| format!("{at}: its weights cannot be read"))?
            .with_context(|| format!("{at}: its weights depend on the input"))?;
        let shape = weights.shape().to_vec();
        let [c_out, per_group, ky, kx] = shape[..] else {
            bail!(
                "{at}: its weights have {} dimensions; Sori supports 2-D convolutions",
                shape.len()
            );
        };
        ensure!(
            shape
                .iter()
                .all(|n| (1..=usize::from(u16::MAX)).contains(n)),
            "{at}: its weights have shape {shape:?}; each axis must be from 1 to 65535"
        );
        let groups = int(node, "group").unwrap_or(1) as usize;
        let depthwise = groups > 1;
        ensure!(
            matches!((ky, kx), (1, 1) | (3, 3)),
            "{at}: kernel {ky}×{kx}; Sori supports 3×3 depthwise and 1×1 pointwise"
        );
        ensure!(
            !depthwise || (groups == c_out && per_group == 1),
            "{at}: {groups} groups over {c_out} channels; a depthwise convolution has one group per channel"
        );
        ensure!(
            ints(node, "dilations").iter().all(|&d| d == 1),
            "{at}: dilated convolutions are not supported"
        );
        let found = per_group * groups;
        ensure!(
            c_in.is_none_or(|c| c == found),
            "{at}: reads {found} channels, but its input has {}",
            c_in.unwrap_or_default()
        );
        let strides = match ints(node, "strides")[..] {
            [y, x] => [y, x],
            _ => [1, 1],
        };
        let own = match string(node, "auto_pad").as_str() {
            "" | "NOTSET" => match ints(node, "pads")[..] {
                [top, left, bottom, right] => [top, left, bottom, right],
                _ => [0; 4],
            },
            "VALID" => [0; 4],
            same @ ("SAME_UPPER" | "SAME_LOWER") => {
                let more_last = same == "SAME_UPPER";
                let [top, bottom] = same_padding(size.rows, ky, strides[0], more_last)
                    .with_context(|| {
                        format!("{at}: auto_pad {same} depends on the number of rows, which the file leaves open: export with a fixed number or with explicit padding")
                    })?;
                let [left, right] = same_padding(Some(size.width), kx, strides[1], more_last)
                    .with_context(|| format!("{at}: has a stride of {}", strides[1]))?;
                [top, left, bottom, right]
            }
            other => bail!("{at}: unknown auto_pad {other}"),
        };
        for (sum, own) in pads.iter_mut().zip(own) {
            *sum = sum.saturating_add(own);
        }
        let (spatial, size) = if ky == 3 {
            ensure!(
                strides.iter().all(|s| (1..=2).contains(s))
                    && pads.iter().all(|p| (0..=2).contains(p)),
                "{at}: strides {strides:?} and padding {pads:?}; Sori supports strides of 1 and 2 and padding of 0 to 2"
            );
            let spatial = Spatial {
                stride_time: strides[0] as u8,
                stride_freq: strides[1] as u8,
                pad_time: [pads[0] as u8, pads[2] as u8],
                pad_freq: [pads[1] as u8, pads[3] as u8],
            };
            let some = |outputs: u64| Some(outputs as usize).filter(|&outputs| outputs > 0);
            let width = some(spatial.output_width(size.width as u64)).with_context(|| {
                format!("{at}: its input of {} columns is too narrow", size.width)
            })?;
            let rows = size
                .rows
                .and_then(|rows| some(spatial.output_rows(rows as u64)));
            (Some(spatial), Size { rows, width })
        } else {
            ensure!(
                strides == [1, 1] && pads == [0; 4],
                "{at}: a 1×1 convolution with stride {strides:?} and padding {pads:?}"
            );
            ensure!(
                !depthwise,
                "{at}: a depthwise convolution with a 1×1 kernel"
            );
            (None, size)
        };
        let weights = weights.cast_to::<f32>()?;
        let weights = weights.to_plain_array_view::<f32>()?;
        let weights: Vec<f32> = weights.iter().copied().collect();
        let taps = ky * kx;
        // From [c_out][c_in][ky][kx] to [c_out][ky][kx][c_in].
        let mut ordered = Vec::with_capacity(weights.len());
        for filter in weights.chunks_exact(per_group * taps) {
            for tap in 0..taps {
                ordered.extend((0..per_group).map(|i| filter[i * taps + tap]));
            }
        }
        let bias = self.graph.floats(node, 2)?;
        let bias = bias.unwrap_or_else(|| vec![0.0; c_out]);
        ensure!(
            bias.len() == c_out,
            "{at}: {} biases for {c_out} channels",
            bias.len()
        );
        let stored = self.graph.stored_scales(weight_name)?;
        let mut convolution = FloatConvolution {
            node: match node.name.is_empty() {
                true => node.output[0].clone(),
                false => node.name.clone(),
            },
            c_in: per_group,
            c_out,
            spatial,
            weights: ordered,
            bias,
            clamp: LINEAR,
            divisors: vec![1.0; c_out],
            quantization: None,
            weight_scales: stored.map(|scales| match scales[..] {
                [scale] => vec![scale; c_out],
                _ => scales,
            }),
        };
        let end = self.fuse(&mut convolution, as_read.after(node))?;
        convolution.quantization = self.quantization(end)?;
        if let Some(quantization) = convolution.quantization {
            // A quantizer that starts at 0 is a ReLU, and exporters drop the ReLU before it.
            if convolution.clamp == LINEAR && quantization.zero_point == -128 {
                convolution.clamp = [0.0, 255.0 * quantization.scale];
            }
        }
        ensure!(
            convolution
                .weights
                .iter()
                .chain(&convolution.bias)
                .all(|w| w.is_finite()),
            "{at}: a weight is NaN or infinite: the training diverged"
        );
        Ok(Read {
            convolution,
            depthwise,
            end,
            size,
        })
    }

    /// Folds what follows a convolution into it.
    fn fuse(&self, convolution: &mut FloatConvolution, mut x: Cursor<'m>) -> Result<Cursor<'m>> {
        loop {
            let readers = self.graph.readers(x)?;
            let [(node, as_read)] = readers[..] else {
                return Ok(x);
            };
            let c_out = convolution.c_out;
            let linear = convolution.clamp == LINEAR;
            let (scale, shift) = match node.op_type.as_str() {
                "BatchNormalization" if linear => {
                    let parameter = |index| {
                        let values: Option<Vec<f32>> = self.graph.floats(node, index)?;
                        values.filter(|v| v.len() == c_out).with_context(|| {
                            format!("{}: its parameters are not constant", name(node))
                        })
                    };
                    let (gamma, beta) = (parameter(1)?, parameter(2)?);
                    let (mean, variance) = (parameter(3)?, parameter(4)?);
                    let epsilon = float(node, "epsilon").unwrap_or(1e-5);
                    let scale: Vec<f32> = gamma
                        .iter()
                        .zip(&variance)
                        .map(|(g, v)| g / (v + epsilon).sqrt())
                        .collect();
                    let shift = beta
                        .iter()
                        .zip(&mean)
                        .zip(&scale)
                        .map(|((b, m), s)| b - m * s);
                    let shift = shift.collect();
                    (scale, shift)
                }
                "Mul" | "Add" if linear && self.graph.live_inputs(node).len() == 1 => {
                    let index = self.graph.constant_input(node);
                    let Some(values) = self.graph.floats(node, index)? else {
                        return Ok(x);
                    };
                    let values = match values.len() {
                        1 => vec![values[0]; c_out],
                        n if n == c_out => values,
                        n => bail!(
                            "{}: its constant has {n} values for {c_out} channels",
                            name(node)
                        ),
                    };
                    if node.op_type == "Mul" {
                        (values, vec![0.0; c_out])
                    } else {
                        (vec![1.0; c_out], values)
                    }
                }
                "Relu" => {
                    convolution.clamp[0] = convolution.clamp[0].max(0.0);
                    x = as_read.after(node);
                    continue;
                }
                "Clip" | "Min" | "Max" => {
                    let [low, high] = self.bounds(node)?;
                    convolution.clamp[0] = convolution.clamp[0].max(low);
                    convolution.clamp[1] = convolution.clamp[1].min(high);
                    ensure!(
                        convolution.clamp[0] == 0.0 || convolution.clamp[0] == f32::NEG_INFINITY,
                        "{}: clips at {low}; only ReLU and ReLU6 are supported",
                        name(node)
                    );
                    ensure!(
                        convolution.clamp[1] > 0.0,
                        "{}: clips at {high}; only ReLU and ReLU6 are supported",
                        name(node)
                    );
                    x = as_read.after(node);
                    continue;
                }
                _ => return Ok(x),
            };
            let taps = convolution.weights.len() / c_out;
            for (filter, scale) in convolution.weights.chunks_exact_mut(taps).zip(&scale) {
                filter.iter_mut().for_each(|w| *w *= scale);
            }
            for ((bias, scale), shift) in convolution.bias.iter_mut().zip(&scale).zip(&shift) {
                *bias = *bias * scale + shift;
            }
            // Stored scales are those of the weights before.
            convolution.weight_scales = None;
            x = as_read.after(node);
        }
    }

    fn bounds(&self, node: &NodeProto) -> Result<[f32; 2]> {
        let scalar = |index| -> Result<Option<f32>> {
            let values = self.graph.floats(node, index)?;
            Ok(values.and_then(|values| values.first().copied()))
        };
        let other = || -> Result<f32> {
            scalar(self.graph.constant_input(node))?
                .with_context(|| format!("{}: its bounds are not constant", name(node)))
        };
        Ok(match node.op_type.as_str() {
            "Min" => [f32::NEG_INFINITY, other()?],
            "Max" => [other()?, f32::INFINITY],
            _ => [
                scalar(1)?
                    .or(float(node, "min"))
                    .unwrap_or(f32::NEG_INFINITY),
                scalar(2)?.or(float(node, "max")).unwrap_or(f32::INFINITY),
            ],
        })
    }

    /// Padding of a Pad node as `[top, left, bottom, right]`.
    fn pad(&self, node: &NodeProto, channels_last: bool) -> Result<[i64; 4]> {
        let at = name(node);
        let mode = string(node, "mode");
        ensure!(
            mode.is_empty() || mode == "constant",
            "{at}: padding mode {mode}; Sori pads with zeros"
        );
        let value = match self.graph.floats(node, 2)? {
            Some(values) => values.first().copied().unwrap_or(0.0),
            None => float(node, "value").unwrap_or(0.0),
        };
        ensure!(
            value == 0.0,
            "{at}: padding with {value}; Sori pads with zeros"
        );
        let pads = match self.graph.integers(node, 1)? {
            Some(pads) => pads,
            None => ints(node, "pads"),
        };
        // Since opset 18 the padding may name its axes.
        let pads = match self.graph.integers(node, 3)? {
            Some(axes) if pads.len() == 2 * axes.len() => {
                let mut all = vec![0; 8];
                for (n, axis) in axes.iter().enumerate() {
                    let axis = axis.rem_euclid(4) as usize;
                    all[axis] = pads[n];
                    all[axis + 4] = pads[n + axes.len()];
                }
                all
            }
            _ => pads,
        };
        match (&pads[..], channels_last) {
            (&[0, 0, top, left, 0, 0, bottom, right], false)
            | (&[0, top, left, 0, 0, bottom, right, 0], true) => Ok([top, left, bottom, right]),
            _ => bail!("{at}: padding {pads:?}; only rows and columns can be padded"),
        }
    }

    fn classifier(&self, x: Cursor<'m>, channels: usize) -> Result<FloatClassifier> {
        let (pool, as_read) = self.graph.reader(x)?;
        self.pool(pool, as_read.channels_last)?;
        let (mut node, mut as_read) = self.graph.reader(as_read.after(pool))?;
        while matches!(node.op_type.as_str(), "Flatten" | "Reshape" | "Squeeze") {
            (node, as_read) = self.graph.reader(as_read.after(node))?;
        }
        let at = name(node);
        let rows_are_classes = match node.op_type.as_str() {
            "Gemm" => {
                ensure!(
                    float(node, "alpha").unwrap_or(1.0) == 1.0
                        && float(node, "beta").unwrap_or(1.0) == 1.0
                        && int(node, "transA").unwrap_or(0) == 0,
                    "{at}: alpha, beta and transA must have their default values"
                );
                int(node, "transB").unwrap_or(0) == 1
            }
            "MatMul" => false,
            "Conv" => true,
            _ => bail!("{at}: MobileNetV2 has a single fully connected layer after the pool"),
        };
        let weights = self.graph.floats(node, 1)?.with_context(|| {
            format!("{at}: MobileNetV2 has a single fully connected layer after the pool")
        })?;
        ensure!(
            weights.len().is_multiple_of(channels) && !weights.is_empty(),
            "{at}: {} weights for {channels} channels",
            weights.len()
        );
        let classes = weights.len() / channels;
        let weights = if rows_are_classes {
            weights
        } else {
            (0..classes * channels)
                .map(|i| weights[i % channels * classes + i / channels])
                .collect()
        };
        let mut bias = match node.op_type.as_str() {
            "MatMul" => None,
            _ => self.graph.floats(node, 2)?,
        };
        let node_name = node.name.clone();
        let mut end = as_read.after(node);
        // A bias of its own, then what only reshapes or normalises the logits.
        while !self.graph.ends(end) {
            let (node, as_read) = self.graph.reader(end)?;
            match node.op_type.as_str() {
                "Add" if bias.is_none() => {
                    bias = self.graph.floats(node, self.graph.constant_input(node))?;
                    end = as_read.after(node);
                }
                // Their output is no longer the logits' tensor for tract to show.
                "Flatten" | "Reshape" | "Squeeze" => end = as_read.after(node),
                "Softmax" | "LogSoftmax" if self.graph.ends(as_read.after(node)) => break,
                _ => bail!(
                    "{}: follows the classifier, where the graph must end",
                    name(node)
                ),
            }
        }
        let bias = bias.unwrap_or_else(|| vec![0.0; classes]);
        ensure!(
            bias.len() == classes,
            "{at}: {} biases for {classes} classes",
            bias.len()
        );
        ensure!(
            weights.iter().chain(&bias).all(|w| w.is_finite()),
            "{at}: a weight is NaN or infinite: the training diverged"
        );
        Ok(FloatClassifier {
            node: node_name,
            output: end.tensor.into(),
            input: x.tensor.into(),
            input_channels_last: x.channels_last,
            weights,
            bias,
        })
    }

    /// Only a mean over all rows and columns.
    fn pool(&self, pool: &NodeProto, channels_last: bool) -> Result<()> {
        let at = name(pool);
        match pool.op_type.as_str() {
            "ReduceMean" => {
                let axes = match ints(pool, "axes") {
                    axes if axes.is_empty() => self.graph.integers(pool, 1)?.unwrap_or_default(),
                    axes => axes,
                };
                let mut axes: Vec<_> = axes.iter().map(|a| a.rem_euclid(4)).collect();
                axes.sort_unstable();
                ensure!(
                    axes == if channels_last { [1, 2] } else { [2, 3] },
                    "{at}: averages over axes {axes:?} instead of rows and columns"
                );
            }
            "AveragePool" => bail!(
                "{at}: averages over windows of {:?}; only a mean over the whole map is supported (GlobalAveragePool, ReduceMean)",
                ints(pool, "kernel_shape")
            ),
            _ => ensure!(
                !channels_last,
                "{at}: reads channels last; a GlobalAveragePool reads channels first"
            ),
        }
        Ok(())
    }
}

/// `[before, after]` so that a kernel with this stride gives ⌈len / stride⌉ values.
fn same_padding(
    len: Option<usize>,
    kernel: usize,
    stride: i64,
    more_last: bool,
) -> Option<[i64; 2]> {
    let stride = usize::try_from(stride).ok().filter(|&stride| stride > 0)?;
    let total = match len {
        Some(len) => {
            let covered = (len.div_ceil(stride).max(1) - 1) * stride + kernel;
            covered.saturating_sub(len)
        }
        // Any length asks for the same.
        None if stride == 1 => kernel - 1,
        None => return None,
    };
    let (less, more) = ((total / 2) as i64, total.div_ceil(2) as i64);
    Some(if more_last {
        [less, more]
    } else {
        [more, less]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_what_the_standard_says() {
        for (len, stride, upper) in [(224, 2, [0, 1]), (7, 2, [1, 1]), (96, 1, [1, 1])] {
            assert_eq!(same_padding(Some(len), 3, stride, true), Some(upper));
            let [before, after] = upper;
            let lower = Some([after, before]);
            assert_eq!(same_padding(Some(len), 3, stride, false), lower);
        }
        assert_eq!(same_padding(None, 3, 1, true), Some([1, 1]));
        assert_eq!(same_padding(None, 3, 2, true), None);
        assert_eq!(same_padding(Some(8), 3, 0, true), None);
    }
}
