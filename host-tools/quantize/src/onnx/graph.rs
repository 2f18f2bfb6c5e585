//! A graph to be walked from its input: who reads a tensor, past the nodes that change none of
//! its values, and what does not depend on the input.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, bail, ensure};
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, ValueInfoProto};
use tract_onnx::prelude::*;

use super::constants::Constants;
use crate::float::Quantization;

pub(super) struct Graph<'m> {
    constants: Constants<'m>,
    /// Who reads a tensor that depends on the input.
    consumers: HashMap<&'m str, Vec<&'m NodeProto>>,
    /// Tensors that depend on the input.
    live: HashSet<&'m str>,
    pub(super) input: &'m ValueInfoProto,
    pub(super) output: &'m str,
}

/// A tensor on the way from the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'m> {
    pub(super) tensor: &'m str,
    /// `[N, rows, width, channels]`, and not channels first.
    pub(super) channels_last: bool,
    /// What the file quantizes it by.
    pub(super) quantization: Option<Quantization>,
}

impl<'m> Cursor<'m> {
    /// The node's output, in the same layout.
    pub(super) fn after(self, node: &'m NodeProto) -> Self {
        Self {
            tensor: &node.output[0],
            quantization: None,
            ..self
        }
    }
}

/// What a node is called in messages.
pub(super) fn name(node: &NodeProto) -> String {
    match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => format!("node {output} ({})", node.op_type),
        (name, _) => format!("node {name} ({})", node.op_type),
    }
}

impl<'m> Graph<'m> {
    pub(super) fn new(model: &'m ModelProto) -> Result<Self> {
        let graph = model.graph.as_ref().context("the file contains no graph")?;
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
                "the graph has {} inputs ({}): Sori supports one",
                names.len(),
                names.join(", ")
            );
        };
        let [output] = &graph.output[..] else {
            bail!(
                "the graph has {} outputs: export only the logits",
                graph.output.len()
            );
        };
        let mut walk = Self {
            constants: Constants::new(model, graph),
            consumers: HashMap::new(),
            live: HashSet::from([input.name.as_str()]),
            input,
            output: &output.name,
        };
        let mut written = HashSet::from([input.name.as_str()]);
        // ONNX lists nodes in topological order and writes each tensor once, so that a
        // walk along the readers ends.
        for node in &graph.node {
            ensure!(!node.output.is_empty(), "{}: has no output", name(node));
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

    /// Nodes that compute with the tensor's values, past all that only moves them, and the
    /// tensor as each of them reads it.
    pub(super) fn readers(&self, from: Cursor<'m>) -> Result<Vec<(&'m NodeProto, Cursor<'m>)>> {
        let mut found = Vec::new();
        // Each node has one live input on these ways, so that no node is passed twice.
        let mut ways = vec![from];
        while let Some(from) = ways.pop() {
            for node in self.consumers(from.tensor) {
                let next = Cursor {
                    quantization: from.quantization,
                    ..from.after(node)
                };
                match node.op_type.as_str() {
                    // To build a reshape.
                    "Shape" => {}
                    "Identity" | "Dropout" | "Cast" => ways.push(next),
                    "Transpose" => ways.push(Cursor {
                        channels_last: transposed(node, from.channels_last)?,
                        ..next
                    }),
                    "QuantizeLinear" => ways.push(Cursor {
                        quantization: Some(self.quantization(node)?),
                        ..next
                    }),
                    "DequantizeLinear" => {
                        ensure!(
                            from.quantization.is_some(),
                            "{}: reads a tensor not written by a QuantizeLinear",
                            name(node)
                        );
                        ways.push(next);
                    }
                    // An exporter's transpose where there is nothing to move.
                    "Reshape" if self.reshapes_in_place(node)? => ways.push(Cursor {
                        channels_last: false,
                        ..next
                    }),
                    _ => found.push((node, from)),
                }
            }
        }
        Ok(found)
    }

    /// Whether the node makes `[N, channels, rows, width]` of a map with one channel or one pixel.
    fn reshapes_in_place(&self, node: &NodeProto) -> Result<bool> {
        let shape = self.integers(node, 1)?;
        Ok(matches!(
            shape.as_deref(),
            Some([_, 1, _, _] | [_, _, 1, 1])
        ))
    }

    fn consumers(&self, tensor: &str) -> impl Iterator<Item = &'m NodeProto> + use<'m, '_> {
        let all = self.consumers.get(tensor);
        all.map_or(&[][..], Vec::as_slice).iter().copied()
    }

    /// Whether the input comes with channels last: it is then transposed on its way to the stem.
    pub(super) fn channels_last(&self) -> bool {
        let mut tensor = self.input.name.as_str();
        loop {
            let mut consumers = self.consumers(tensor);
            let (Some(node), None) = (consumers.next(), consumers.next()) else {
                return false;
            };
            match node.op_type.as_str() {
                "Transpose" => return ints(node, "perm") == [0, 3, 1, 2],
                // Of one channel.
                "Reshape" => return true,
                "Conv" | "Pad" => return false,
                _ => tensor = &node.output[0],
            }
        }
    }

    /// The only reader.
    pub(super) fn reader(&self, from: Cursor<'m>) -> Result<(&'m NodeProto, Cursor<'m>)> {
        let readers = self.readers(from)?;
        match readers[..] {
            [only] => Ok(only),
            [] => bail!(
                "tensor {} is never read: the graph ends before a classifier",
                from.tensor
            ),
            [_, (second, _), ..] => bail!(
                "{}: tensor {} is read twice, but MobileNetV2 has no branch here",
                name(second),
                from.tensor
            ),
        }
    }

    /// Whether the graph's output is the tensor, or only another form of it.
    pub(super) fn ends(&self, from: Cursor<'m>) -> bool {
        let mut ways = vec![from.tensor];
        while let Some(tensor) = ways.pop() {
            if tensor == self.output {
                return true;
            }
            let moves = self.consumers(tensor).filter(|node| {
                matches!(
                    node.op_type.as_str(),
                    "Identity"
                        | "Dropout"
                        | "Cast"
                        | "QuantizeLinear"
                        | "DequantizeLinear"
                        | "Flatten"
                        | "Reshape"
                        | "Squeeze"
                )
            });
            ways.extend(moves.map(|node| node.output[0].as_str()));
        }
        false
    }

    /// The inputs of a node that depend on the network's input.
    pub(super) fn live_inputs(&self, node: &'m NodeProto) -> Vec<&'m str> {
        let live = node.input.iter().filter(|t| self.live.contains(t.as_str()));
        live.map(String::as_str).collect()
    }

    /// Position of the one input that does not depend on the network's.
    pub(super) fn constant_input(&self, node: &NodeProto) -> usize {
        let live = |input: &String| self.live.contains(input.as_str());
        usize::from(node.input.first().is_some_and(live))
    }

    fn quantization(&self, node: &NodeProto) -> Result<Quantization> {
        let at = name(node);
        let scale = self.floats(node, 1)?;
        let Some([scale]) = scale.as_deref() else {
            bail!("{at}: an activation must have one constant scale");
        };
        ensure!(
            scale.is_finite() && *scale > 0.0,
            "{at}: the scale is {scale}; it must be above 0"
        );
        let zero_point = match node.input.get(2).filter(|input| !input.is_empty()) {
            None => 0,
            Some(tensor) => {
                let zero_point = self
                    .constant(tensor)?
                    .with_context(|| format!("{at}: the zero point is not constant"))?;
                let value = zero_point.cast_to::<i64>()?;
                let value = value.to_plain_array_view::<i64>()?;
                let value = value.first().copied().unwrap_or_default();
                match zero_point.datum_type() {
                    DatumType::I8 => value,
                    DatumType::U8 => value - 128,
                    other => {
                        bail!("{at}: quantizes to {other:?}; only int8 and uint8 are supported")
                    }
                }
            }
        };
        // Without a zero point ONNX quantizes to uint8 around 0.
        let unsigned = node.input.get(2).is_none_or(String::is_empty);
        Ok(Quantization {
            scale: *scale,
            zero_point: if unsigned { -128 } else { zero_point as i8 },
        })
    }

    /// Values of a tensor that does not depend on the input, computed where the exporter left an
    /// expression.
    pub(super) fn constant(&self, tensor: &str) -> Result<Option<Tensor>> {
        if self.live.contains(tensor) {
            return Ok(None);
        }
        let writer = self.constants.writer(tensor);
        if let Some(node) = writer.filter(|node| node.op_type == "DequantizeLinear") {
            return self.dequantized(node).map(Some);
        }
        let constant = self.constants.get(tensor)?;
        Ok(Some(Tensor::clone(&constant)))
    }

    /// `(q − zero point) · scale` of stored weights, a scale for each entry of an axis.
    fn dequantized(&self, node: &NodeProto) -> Result<Tensor> {
        let at = name(node);
        let quantized = node.input.first().map(|tensor| self.constants.get(tensor));
        let quantized = quantized
            .transpose()?
            .with_context(|| format!("{at}: its input is not constant"))?;
        let scales = self
            .floats(node, 1)?
            .with_context(|| format!("{at}: its scales are not constant"))?;
        let zero_points = self.floats(node, 2)?.unwrap_or_else(|| vec![0.0]);
        let shape = quantized.shape().to_vec();
        let axis = int(node, "axis").unwrap_or(1);
        let axis = axis.rem_euclid(shape.len().max(1) as i64) as usize;
        let inner: usize = shape.iter().skip(axis + 1).product();
        let along = shape.get(axis).copied().unwrap_or(1);
        ensure!(
            matches!(scales.len(), 1) || scales.len() == along,
            "{at}: {} scales for {along} channels",
            scales.len()
        );
        ensure!(
            matches!(zero_points.len(), 1) || zero_points.len() == scales.len(),
            "{at}: {} zero points for {} scales",
            zero_points.len(),
            scales.len()
        );
        let quantized = quantized.cast_to::<f32>()?;
        let values = quantized.to_plain_array_view::<f32>()?;
        let values: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(n, &q)| {
                let channel = n / inner.max(1) % along.max(1);
                let of = |values: &[f32]| values[if values.len() == 1 { 0 } else { channel }];
                (q - of(&zero_points)) * of(&scales)
            })
            .collect();
        Tensor::from_shape(&shape, &values)
    }

    /// Scales by which the file stores a tensor, in order; none where it stores floats.
    pub(super) fn stored_scales(&self, tensor: &str) -> Result<Option<Vec<f32>>> {
        let writer = self.constants.writer(tensor);
        match writer.filter(|node| node.op_type == "DequantizeLinear") {
            Some(node) => self.floats(node, 1),
            None => Ok(None),
        }
    }

    pub(super) fn floats(&self, node: &NodeProto, index: usize) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = node.input.get(index).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        let Some(tensor) = self.constant(tensor)? else {
            return Ok(None);
        };
        let tensor = tensor.cast_to::<f32>()?;
        let values = tensor.to_plain_array_view::<f32>()?;
        Ok(Some(values.iter().copied().collect()))
    }

    pub(super) fn integers(&self, node: &NodeProto, index: usize) -> Result<Option<Vec<i64>>> {
        let values = self.floats(node, index)?;
        Ok(values.map(|values| values.into_iter().map(|v| v as i64).collect()))
    }
}

/// Whether channels are last after the node.
fn transposed(node: &NodeProto, channels_last: bool) -> Result<bool> {
    let perm = ints(node, "perm");
    match (&perm[..], channels_last) {
        ([0, 3, 1, 2], true) => Ok(false),
        ([0, 2, 3, 1], false) => Ok(true),
        // Of what the pool leaves, a pixel, any order is the same.
        ([0, _] | [0, 1, 2, 3], _) => Ok(channels_last),
        _ => bail!(
            "{}: permutes {perm:?}; only transposes between channels first and channels last are supported",
            name(node)
        ),
    }
}

fn attribute<'n>(node: &'n NodeProto, key: &str) -> Option<&'n AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == key)
}

pub(super) fn int(node: &NodeProto, key: &str) -> Option<i64> {
    attribute(node, key).map(|attribute| attribute.i)
}

pub(super) fn ints(node: &NodeProto, key: &str) -> Vec<i64> {
    attribute(node, key).map_or_else(Vec::new, |attribute| attribute.ints.clone())
}

pub(super) fn float(node: &NodeProto, key: &str) -> Option<f32> {
    attribute(node, key).map(|attribute| attribute.f)
}

pub(super) fn string(node: &NodeProto, key: &str) -> String {
    attribute(node, key).map_or_else(String::new, |a| String::from_utf8_lossy(&a.s).into_owned())
}
