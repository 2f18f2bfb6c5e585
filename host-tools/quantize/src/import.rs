//! Recognises a MobileNetV2 in an ONNX graph, whatever exporter wrote it, and says
//! which node is in the way when it is none.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use sori_package::Spatial;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::pb::{tensor_proto, tensor_shape_proto, type_proto};
use tract_onnx::prelude::*;

use crate::float::{FloatBlock, FloatClassifier, FloatConvolution, FloatNetwork};

/// Metadata key under which a file may carry its contract.
const CONTRACT_KEY: &str = "sori.contract";

/// Decodes the file; only its framing is checked.
pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto> {
    ensure!(
        !bytes.is_empty(),
        "the file is empty: export the model again"
    );
    let model = ModelProto::decode(bytes)
        .context("this is not an ONNX file, or it is damaged: export the model again")?;
    ensure!(
        model
            .graph
            .as_ref()
            .is_some_and(|graph| !graph.node.is_empty()),
        "the file holds no graph: this is not an ONNX file, or it is damaged"
    );
    Ok(model)
}

/// The contract in the file's metadata, if there is one.
pub(crate) fn embedded_contract(model: &ModelProto) -> Option<&str> {
    let mut entries = model.metadata_props.iter();
    let entry = entries.find(|entry| entry.key == CONTRACT_KEY)?;
    Some(&entry.value)
}

/// Walks the graph from its input to its logits.
pub(crate) fn import(model: &ModelProto) -> Result<FloatNetwork> {
    let graph = model.graph.as_ref().context("the file holds no graph")?;
    Walk::new(model, graph)?.network()
}

struct Walk<'m> {
    model: &'m ModelProto,
    graph: &'m GraphProto,
    /// Who reads a tensor that depends on the input.
    consumers: HashMap<&'m str, Vec<&'m NodeProto>>,
    /// Tensors that depend on the input.
    live: HashSet<&'m str>,
    input: &'m ValueInfoProto,
}

/// What a node is called in messages.
fn name(node: &NodeProto) -> String {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => format!("node {output} ({})", node.op_type),
        (name, _) => format!("node {name} ({})", node.op_type),
    }
}

impl<'m> Walk<'m> {
    fn new(model: &'m ModelProto, graph: &'m GraphProto) -> Result<Self> {
        let initializers: HashSet<&str> =
            graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs: Vec<_> = graph
            .input
            .iter()
            .filter(|input| !initializers.contains(input.name.as_str()))
            .collect();
        let [input] = inputs[..] else {
            let names: Vec<_> = inputs.iter().map(|input| input.name.as_str()).collect();
            bail!(
                "the graph has {} inputs ({}): Sori runs one",
                names.len(),
                names.join(", ")
            );
        };
        ensure!(
            graph.output.len() == 1,
            "the graph has {} outputs: export the logits alone",
            graph.output.len()
        );
        let mut walk = Self {
            model,
            graph,
            consumers: HashMap::new(),
            live: HashSet::from([input.name.as_str()]),
            input,
        };
        let mut written = HashSet::from([input.name.as_str()]);
        // ONNX lists nodes in topological order and writes each tensor once, so that a
        // walk along the readers ends.
        for node in &graph.node {
            ensure!(!node.output.is_empty(), "{}: no output", name(node));
            for output in node.output.iter().filter(|output| !output.is_empty()) {
                ensure!(
                    written.insert(output),
                    "{}: tensor {output} is written twice",
                    name(node)
                );
            }
            let mut reads = node
                .input
                .iter()
                .filter(|t| walk.live.contains(t.as_str()))
                .peekable();
            if reads.peek().is_some() {
                for tensor in reads {
                    walk.consumers.entry(tensor).or_default().push(node);
                }
                walk.live.extend(node.output.iter().map(String::as_str));
            }
        }
        Ok(walk)
    }

    /// Nodes that read the tensor's values. Those that only ask for its shape, to
    /// build a reshape, do not count.
    fn readers(&self, tensor: &str) -> Vec<&'m NodeProto> {
        let all = self.consumers.get(tensor).map_or(&[][..], Vec::as_slice);
        all.iter()
            .copied()
            .filter(|node| node.op_type != "Shape")
            .collect()
    }

    /// The only reader.
    fn reader(&self, tensor: &str) -> Result<&'m NodeProto> {
        let readers = self.readers(tensor);
        match readers[..] {
            [node] => Ok(node),
            [] => bail!("tensor {tensor} leads nowhere: the graph ends before a classifier"),
            [_, second, ..] => bail!(
                "{}: tensor {tensor} is read twice where MobileNetV2 has no branch",
                name(second)
            ),
        }
    }

    /// Values of a tensor that does not depend on the input, computed by tract where
    /// the exporter left an expression.
    fn constant(&self, tensor: &str) -> Result<Option<Tensor>> {
        if self.live.contains(tensor) {
            return Ok(None);
        }
        let mut needed = HashSet::from([tensor.to_string()]);
        let mut nodes: Vec<NodeProto> = Vec::new();
        for node in self.graph.node.iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                nodes.push(node.clone());
            }
        }
        nodes.reverse();
        let initializer = || {
            let all = self.graph.initializer.iter();
            all.filter(|t| needed.contains(&t.name)).cloned().collect()
        };
        let stored = self.graph.initializer.iter();
        if let Some(proto) = stored
            .filter(|t| needed.contains(&t.name))
            .find(|t| t.data_location == Some(tensor_proto::DataLocation::External as i32))
        {
            bail!(
                "the weights of {} are in a file of their own: export with external_data=False",
                proto.name
            );
        }
        if nodes.is_empty() {
            let [proto] = &Vec::from_iter::<Vec<_>>(initializer())[..] else {
                bail!("tensor {tensor} is neither computed nor stored");
            };
            let provider = tract_onnx::data_resolver::MmapDataResolver;
            return Ok(Some(tract_onnx::tensor::load_tensor(
                &provider, proto, None,
            )?));
        }
        let graph = GraphProto {
            node: nodes,
            name: "constant".into(),
            initializer: initializer(),
            output: vec![ValueInfoProto {
                name: tensor.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ..self.model.clone()
        };
        let outputs = tract_onnx::onnx()
            .model_for_proto_model(&model)?
            .into_optimized()?
            .into_runnable()?
            .run(tvec![])?;
        Ok(Some(outputs[0].clone().into_tensor()))
    }

    fn floats(&self, node: &NodeProto, index: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = node.input.get(index).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let Some(tensor) = self.constant(tensor)? else {
            return Ok(None);
        };
        let tensor = tensor.cast_to::<f32>()?;
        let values = tensor
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect();
        Ok(Some(values))
    }

    fn integers(&self, node: &NodeProto, index: usize) -> Result<Option<Vec<i64>>> {
        let values = self.floats(node, index)?;
        Ok(values.map(|values| values.into_iter().map(|v| v as i64).collect()))
    }

    /// The one input of a node that depends on the network's input.
    fn live_inputs(&self, node: &'m NodeProto) -> Vec<&'m str> {
        let live = node.input.iter().filter(|t| self.live.contains(t.as_str()));
        live.map(String::as_str).collect()
    }

    fn network(&self) -> Result<FloatNetwork> {
        let dims = self.input_dims()?;
        let mut tensor = self.input.name.as_str();
        let mut channels_last = false;
        let first = self.reader(tensor)?;
        if first.op_type == "Transpose" {
            ensure!(
                ints(first, "perm") == [0, 3, 1, 2],
                "{}: only the transpose from channels last to channels first is understood",
                name(first)
            );
            channels_last = true;
            tensor = &first.output[0];
        }
        let (channel_axis, row_axis, width_axis) =
            if channels_last { (3, 1, 2) } else { (1, 2, 3) };
        let stem = self.convolution(tensor, None)?;
        let channels = stem.c_in;
        ensure!(
            stem.spatial.is_some() && (stem.groups == 1),
            "{}: the stem must be a 3×3 convolution over all channels",
            stem.convolution.node
        );
        ensure!(
            dims[channel_axis].is_none_or(|c| c == channels),
            "input {} has {:?} channels and the stem {channels}",
            self.input.name,
            dims[channel_axis]
        );
        let width = dims[width_axis].with_context(|| {
            format!(
                "input {} has no fixed width: export with the mel bands fixed",
                self.input.name
            )
        })?;
        ensure!(
            width <= u16::MAX.into(),
            "input {} is {width} wide: 65535 is the widest",
            self.input.name
        );
        let stem = stem.convolution;

        let mut x = stem.output.clone();
        let mut c = stem.c_out;
        let mut blocks = Vec::new();
        let mut head = None;
        while !self.pools(&x) {
            ensure!(
                head.is_none(),
                "{} follows the head: only a global average pool may",
                self.readers(&x)
                    .first()
                    .map_or_else(|| x.clone(), |node| name(node))
            );
            let first = self.convolution(&x, Some(c))?;
            if !first.depthwise && self.pools(&first.convolution.output) {
                ensure!(
                    first.spatial.is_none(),
                    "{}: the head must be pointwise",
                    first.convolution.node
                );
                c = first.convolution.c_out;
                x = first.convolution.output.clone();
                head = Some(first.convolution);
                continue;
            }
            let (expansion, depthwise) = if first.depthwise {
                (None, first)
            } else {
                ensure!(
                    first.spatial.is_none(),
                    "{}: kernel 3×3 over all channels; after the stem Sori runs 3×3 depthwise and 1×1 pointwise",
                    first.convolution.node
                );
                let output = first.convolution.output.clone();
                let wide = first.convolution.c_out;
                (
                    Some(first.convolution),
                    self.convolution(&output, Some(wide))?,
                )
            };
            ensure!(
                depthwise.depthwise,
                "{}: an inverted residual needs a 3×3 depthwise convolution here",
                depthwise.convolution.node
            );
            let depthwise = depthwise.convolution;
            let mut projection = self.convolution(&depthwise.output, Some(depthwise.c_out))?;
            ensure!(
                !projection.depthwise && projection.spatial.is_none(),
                "{}: an inverted residual ends in a 1×1 projection",
                projection.convolution.node
            );
            let linear = projection.convolution.clamp == [f32::NEG_INFINITY, f32::INFINITY];
            ensure!(
                linear,
                "{}: the projection has an activation; MobileNetV2's bottleneck is linear",
                projection.convolution.node
            );
            let mut residual = false;
            if let [add] = self.readers(&projection.convolution.output)[..]
                && add.op_type == "Add"
            {
                let others = self.live_inputs(add);
                ensure!(
                    others.contains(&x.as_str()),
                    "{}: adds something other than the block's input ({x})",
                    name(add)
                );
                ensure!(
                    projection.convolution.c_out == c,
                    "{}: a residual around a block from {c} to {} channels",
                    name(add),
                    projection.convolution.c_out
                );
                residual = true;
                projection.convolution.output = add.output[0].clone();
            }
            c = projection.convolution.c_out;
            x = projection.convolution.output.clone();
            blocks.push(FloatBlock {
                expansion,
                depthwise,
                projection: projection.convolution,
                residual,
            });
        }
        let classifier = self.classifier(&x, c)?;
        Ok(FloatNetwork {
            input: self.input.name.clone(),
            channels,
            width,
            rows: dims[row_axis],
            channels_last,
            stem,
            blocks,
            head,
            classifier,
        })
    }

    fn input_dims(&self) -> Result<[Option<usize>; 4]> {
        let shape = self.input.r#type.as_ref().and_then(|t| match &t.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
            _ => None,
        });
        let dims: Vec<_> = shape
            .map_or(&[][..], |shape| &shape.dim)
            .iter()
            .map(|dim| match dim.value {
                Some(tensor_shape_proto::dimension::Value::DimValue(n)) if n > 0 => {
                    Some(n as usize)
                }
                _ => None,
            })
            .collect();
        dims.try_into().map_err(|dims: Vec<_>| {
            anyhow::anyhow!(
                "input {} has {} dimensions: Sori takes [N, channels, rows, width]",
                self.input.name,
                dims.len()
            )
        })
    }

    fn pools(&self, tensor: &str) -> bool {
        let readers = self.readers(tensor);
        matches!(readers[..], [node] if matches!(node.op_type.as_str(), "GlobalAveragePool" | "ReduceMean"))
    }

    /// Reads `[Pad] Conv [BatchNormalization | Mul | Add]* [Clip | Relu | Min | Max]*`.
    fn convolution(&self, tensor: &str, c_in: Option<usize>) -> Result<Read> {
        let mut readers = self.readers(tensor);
        // A block's input is also read by its residual add.
        if readers.len() == 2 {
            readers.retain(|node| node.op_type != "Add");
        }
        let [mut node] = readers[..] else {
            bail!(
                "tensor {tensor} is read {} times: MobileNetV2 has no such branch",
                readers.len()
            );
        };
        let mut pads = [0i64; 4];
        if matches!(node.op_type.as_str(), "Identity" | "Dropout") {
            return self.convolution(&node.output[0], c_in);
        }
        if node.op_type == "Pad" {
            pads = self.pad(node)?;
            node = self.reader(&node.output[0])?;
        }
        let at = name(node);
        ensure!(
            node.op_type == "Conv",
            "{at}: not part of a MobileNetV2, which has a convolution here"
        );
        let weight_name = node
            .input
            .get(1)
            .with_context(|| format!("{at}: no weights"))?;
        let weights = self
            .constant(weight_name)?
            .with_context(|| format!("{at}: its weights depend on the input"))?;
        let shape = weights.shape().to_vec();
        let [c_out, per_group, ky, kx] = shape[..] else {
            bail!(
                "{at}: weights of {} dimensions; Sori runs 2-D convolutions",
                shape.len()
            );
        };
        ensure!(
            shape
                .iter()
                .all(|n| (1..=usize::from(u16::MAX)).contains(n)),
            "{at}: weights of shape {shape:?}; each axis may have 1 to 65535"
        );
        let groups = int(node, "group").unwrap_or(1) as usize;
        let depthwise = groups > 1;
        ensure!(
            matches!((ky, kx), (1, 1) | (3, 3)),
            "{at}: kernel {ky}×{kx}; Sori runs 3×3 depthwise and 1×1 pointwise"
        );
        ensure!(
            !depthwise || (groups == c_out && per_group == 1),
            "{at}: {groups} groups over {c_out} channels; a depthwise convolution has one group a channel"
        );
        ensure!(
            ints(node, "dilations").iter().all(|&d| d == 1),
            "{at}: a dilated convolution"
        );
        let found = per_group * groups;
        ensure!(
            c_in.is_none_or(|c| c == found),
            "{at}: reads {found} channels where {} come",
            c_in.unwrap_or_default()
        );
        let auto_pad = string(node, "auto_pad");
        ensure!(
            matches!(auto_pad.as_str(), "" | "NOTSET" | "VALID"),
            "{at}: auto_pad {auto_pad} depends on the input's size: export with explicit padding"
        );
        if let [top, left, bottom, right] = ints(node, "pads")[..] {
            for (sum, pad) in pads.iter_mut().zip([top, left, bottom, right]) {
                *sum = sum.saturating_add(pad);
            }
        }
        let strides = match ints(node, "strides")[..] {
            [y, x] => [y, x],
            _ => [1, 1],
        };
        let spatial = if ky == 3 {
            ensure!(
                strides.iter().all(|s| (1..=2).contains(s))
                    && pads.iter().all(|p| (0..=2).contains(p)),
                "{at}: strides {strides:?} and padding {pads:?}; Sori runs strides of 1 and 2, padding of 0 to 2"
            );
            Some(Spatial {
                stride_time: strides[0] as u8,
                stride_freq: strides[1] as u8,
                pad_time: [pads[0] as u8, pads[2] as u8],
                pad_freq: [pads[1] as u8, pads[3] as u8],
            })
        } else {
            ensure!(
                strides == [1, 1] && pads == [0; 4],
                "{at}: a 1×1 convolution with stride {strides:?} and padding {pads:?}"
            );
            ensure!(!depthwise, "{at}: a depthwise convolution with kernel 1×1");
            None
        };
        let weights = weights.cast_to::<f32>()?;
        let weights: Vec<f32> = weights
            .to_plain_array_view::<f32>()?
            .iter()
            .copied()
            .collect();
        let taps = ky * kx;
        // From [c_out][c_in][ky][kx] to [c_out][ky][kx][c_in].
        let mut ordered = Vec::with_capacity(weights.len());
        for filter in weights.chunks_exact(per_group * taps) {
            for tap in 0..taps {
                ordered.extend((0..per_group).map(|i| filter[i * taps + tap]));
            }
        }
        let bias = self.floats(node, 2)?.unwrap_or_else(|| vec![0.0; c_out]);
        ensure!(
            bias.len() == c_out,
            "{at}: {} biases for {c_out} channels",
            bias.len()
        );
        let mut convolution = FloatConvolution {
            node: node.name.clone(),
            output: node.output[0].clone(),
            c_in: per_group,
            c_out,
            spatial,
            weights: ordered,
            bias,
            clamp: [f32::NEG_INFINITY, f32::INFINITY],
        };
        if convolution.node.is_empty() {
            convolution.node = node.output[0].clone();
        }
        self.fuse(&mut convolution)?;
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
            spatial,
            depthwise,
            groups,
            c_in: per_group,
        })
    }

    /// Folds what follows a convolution into it.
    fn fuse(&self, convolution: &mut FloatConvolution) -> Result<()> {
        loop {
            let readers = self.readers(&convolution.output);
            let [node] = readers[..] else {
                return Ok(());
            };
            let c_out = convolution.c_out;
            let linear = convolution.clamp == [f32::NEG_INFINITY, f32::INFINITY];
            let (scale, shift) = match node.op_type.as_str() {
                "BatchNormalization" if linear => {
                    let parameter = |index| {
                        let values: Option<Vec<f32>> = self.floats(node, index)?;
                        values.filter(|v| v.len() == c_out).with_context(|| {
                            format!("{}: parameters that are not constant", name(node))
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
                "Mul" | "Add" if linear && self.live_inputs(node).len() == 1 => {
                    let index = usize::from(node.input[0] == convolution.output);
                    let Some(values) = self.floats(node, index)? else {
                        return Ok(());
                    };
                    let values = match values.len() {
                        1 => vec![values[0]; c_out],
                        n if n == c_out => values,
                        n => bail!(
                            "{}: a constant of {n} values for {c_out} channels",
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
                    convolution.output = node.output[0].clone();
                    continue;
                }
                "Clip" | "Min" | "Max" => {
                    let [low, high] = self.bounds(node)?;
                    convolution.clamp[0] = convolution.clamp[0].max(low);
                    convolution.clamp[1] = convolution.clamp[1].min(high);
                    ensure!(
                        convolution.clamp[0] == 0.0 || convolution.clamp[0] == f32::NEG_INFINITY,
                        "{}: clips at {low}; ReLU and ReLU6 are understood",
                        name(node)
                    );
                    convolution.output = node.output[0].clone();
                    continue;
                }
                "Identity" | "Dropout" => {
                    convolution.output = node.output[0].clone();
                    continue;
                }
                _ => return Ok(()),
            };
            let taps = convolution.weights.len() / c_out;
            for (filter, scale) in convolution.weights.chunks_exact_mut(taps).zip(&scale) {
                filter.iter_mut().for_each(|w| *w *= scale);
            }
            for ((bias, scale), shift) in convolution.bias.iter_mut().zip(&scale).zip(&shift) {
                *bias = *bias * scale + shift;
            }
            convolution.output = node.output[0].clone();
        }
    }

    fn bounds(&self, node: &NodeProto) -> Result<[f32; 2]> {
        let scalar = |index| -> Result<Option<f32>> {
            Ok(self
                .floats(node, index)?
                .and_then(|values| values.first().copied()))
        };
        let other = || -> Result<f32> {
            let index = usize::from(self.live.contains(node.input[0].as_str()));
            scalar(index)?.with_context(|| format!("{}: its bound is not constant", name(node)))
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
    fn pad(&self, node: &NodeProto) -> Result<[i64; 4]> {
        let at = name(node);
        let mode = string(node, "mode");
        ensure!(
            mode.is_empty() || mode == "constant",
            "{at}: padding of mode {mode}; Sori pads with zeros"
        );
        let value = match self.floats(node, 2)? {
            Some(values) => values.first().copied().unwrap_or(0.0),
            None => float(node, "value").unwrap_or(0.0),
        };
        ensure!(
            value == 0.0,
            "{at}: padding with {value}; Sori pads with zeros"
        );
        let pads = match self.integers(node, 1)? {
            Some(pads) => pads,
            None => ints(node, "pads"),
        };
        // Since opset 18 the padding may name its axes.
        let pads = match self.integers(node, 3)? {
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
        match pads[..] {
            [0, 0, top, left, 0, 0, bottom, right] => Ok([top, left, bottom, right]),
            _ => bail!("{at}: padding {pads:?}; only rows and columns can be padded"),
        }
    }

    fn classifier(&self, tensor: &str, channels: usize) -> Result<FloatClassifier> {
        let pool = self.reader(tensor)?;
        if pool.op_type == "ReduceMean" {
            let axes = match ints(pool, "axes") {
                axes if axes.is_empty() => self.integers(pool, 1)?.unwrap_or_default(),
                axes => axes,
            };
            let mut axes: Vec<_> = axes.iter().map(|a| a.rem_euclid(4)).collect();
            axes.sort_unstable();
            ensure!(
                axes == [2, 3],
                "{}: averages over axes {axes:?}, not rows and columns",
                name(pool)
            );
        }
        let mut tensor = pool.output[0].as_str();
        let mut node = self.reader(tensor)?;
        while matches!(
            node.op_type.as_str(),
            "Flatten" | "Reshape" | "Squeeze" | "Dropout" | "Identity"
        ) {
            tensor = &node.output[0];
            node = self.reader(tensor)?;
        }
        let at = name(node);
        let weights = self.floats(node, 1)?.with_context(|| {
            format!("{at}: after the pool MobileNetV2 has one fully connected layer")
        })?;
        ensure!(
            weights.len().is_multiple_of(channels) && !weights.is_empty(),
            "{at}: {} weights for {channels} channels",
            weights.len()
        );
        let classes = weights.len() / channels;
        let rows_are_classes = match node.op_type.as_str() {
            "Gemm" => {
                ensure!(
                    float(node, "alpha").unwrap_or(1.0) == 1.0
                        && float(node, "beta").unwrap_or(1.0) == 1.0
                        && int(node, "transA").unwrap_or(0) == 0,
                    "{at}: alpha, beta or transA other than the default"
                );
                int(node, "transB").unwrap_or(0) == 1
            }
            "MatMul" => false,
            "Conv" => true,
            _ => bail!("{at}: after the pool MobileNetV2 has one fully connected layer"),
        };
        let weights = if rows_are_classes {
            weights
        } else {
            (0..classes * channels)
                .map(|i| weights[i % channels * classes + i / channels])
                .collect()
        };
        let mut bias = match node.op_type.as_str() {
            "MatMul" => None,
            _ => self.floats(node, 2)?,
        };
        let mut output = node.output[0].clone();
        // A bias of its own, then what only reshapes or normalises the logits.
        let is_end = |tensor: &str| self.graph.output[0].name == tensor;
        while !is_end(&output) {
            let node = self.reader(&output)?;
            match node.op_type.as_str() {
                "Add" if bias.is_none() => {
                    bias = self.floats(node, usize::from(node.input[0] == output))?;
                    output = node.output[0].clone();
                }
                "Flatten" | "Reshape" | "Squeeze" | "Identity" => output = node.output[0].clone(),
                "Softmax" | "LogSoftmax" if is_end(&node.output[0]) => break,
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
            node: node.name.clone(),
            output,
            weights,
            bias,
        })
    }
}

/// A convolution as found.
struct Read {
    convolution: FloatConvolution,
    spatial: Option<Spatial>,
    depthwise: bool,
    groups: usize,
    c_in: usize,
}

fn attribute<'n>(node: &'n NodeProto, key: &str) -> Option<&'n tract_onnx::pb::AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == key)
}

fn int(node: &NodeProto, key: &str) -> Option<i64> {
    attribute(node, key).map(|attribute| attribute.i)
}

fn ints(node: &NodeProto, key: &str) -> Vec<i64> {
    attribute(node, key).map_or_else(Vec::new, |attribute| attribute.ints.clone())
}

fn float(node: &NodeProto, key: &str) -> Option<f32> {
    attribute(node, key).map(|attribute| attribute.f)
}

fn string(node: &NodeProto, key: &str) -> String {
    attribute(node, key).map_or_else(String::new, |a| String::from_utf8_lossy(&a.s).into_owned())
}
