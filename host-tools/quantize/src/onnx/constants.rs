//! Tensors that do not depend on the network's input: stored, or computed from stored ones where
//! the exporter left an expression.
//!
//! A file of a few bytes can ask for any number of values (`ConstantOfShape`, `Expand`, a sum of a
//! row and a column), and an expression can read itself. So expressions are computed node by node,
//! each once, and the size of a result is known before it is computed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use tract_onnx::data_resolver::MmapDataResolver;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::*;

use super::graph::name;

/// Most values of one tensor: ten times what the largest layer of a ResNet-50 has.
pub(super) const MAX_VALUES: u64 = 1 << 25;

/// Most values of all that is computed.
const MAX_COMPUTED: u64 = 1 << 28;

/// Longest chain of nodes. Exporters leave five or so.
const MAX_DEPTH: usize = 64;

pub(super) struct Constants<'m> {
    model: &'m ModelProto,
    stored: HashMap<&'m str, &'m TensorProto>,
    writers: HashMap<&'m str, &'m NodeProto>,
    computed: RefCell<HashMap<&'m str, Rc<Tensor>>>,
    values: Cell<u64>,
}

impl<'m> Constants<'m> {
    pub(super) fn new(model: &'m ModelProto, graph: &'m GraphProto) -> Self {
        let outputs = |node: &'m NodeProto| node.output.iter().map(move |o| (o.as_str(), node));
        Self {
            model,
            stored: graph.initializer.iter().map(|t| (&*t.name, t)).collect(),
            writers: graph.node.iter().flat_map(outputs).collect(),
            computed: RefCell::default(),
            values: Cell::new(0),
        }
    }

    /// The node that writes a tensor.
    pub(super) fn writer(&self, tensor: &str) -> Option<&'m NodeProto> {
        self.writers.get(tensor).copied()
    }

    /// Values of a tensor that does not depend on the input.
    pub(super) fn get(&self, tensor: &str) -> Result<Rc<Tensor>> {
        self.at_depth(tensor, 0)
    }

    fn at_depth(&self, tensor: &str, depth: usize) -> Result<Rc<Tensor>> {
        if let Some(known) = self.computed.borrow().get(tensor) {
            return Ok(Rc::clone(known));
        }
        if let Some(stored) = self.stored.get(tensor) {
            return Ok(Rc::new(load(stored)?));
        }
        let node = self
            .writer(tensor)
            .with_context(|| format!("tensor {tensor} is neither computed nor stored"))?;
        let at = name(node);
        ensure!(
            depth < MAX_DEPTH,
            "{at}: more than {MAX_DEPTH} nodes compute a constant, or it reads itself"
        );
        let inputs = node
            .input
            .iter()
            .filter(|input| !input.is_empty())
            .map(|input| Ok((input.as_str(), self.at_depth(input, depth + 1)?)))
            .collect::<Result<Vec<_>>>()?;
        let tensors: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| &**tensor).collect();
        let most = most_values(node, &tensors).with_context(|| at.clone())?;
        ensure!(
            most <= MAX_VALUES,
            "{at}: computes a constant of up to {most} values; at most {MAX_VALUES} are supported"
        );
        let values = self.values.get().saturating_add(most);
        ensure!(
            values <= MAX_COMPUTED,
            "{at}: with it, more than {MAX_COMPUTED} constant values are computed"
        );
        self.values.set(values);
        let result = self.run(node, tensor, &inputs).with_context(|| at)?;
        let result = Rc::new(result);
        let key = self.writers.get_key_value(tensor).map(|(key, _)| *key);
        if let Some(key) = key {
            self.computed.borrow_mut().insert(key, Rc::clone(&result));
        }
        Ok(result)
    }

    /// One node, as tract has it.
    fn run(&self, node: &NodeProto, output: &str, inputs: &[(&str, Rc<Tensor>)]) -> Result<Tensor> {
        let initializer = inputs
            .iter()
            .map(|(name, tensor)| stored(name, tensor))
            .collect::<Result<Vec<_>>>()?;
        let graph = GraphProto {
            node: vec![node.clone()],
            name: "constant".into(),
            initializer,
            output: vec![ValueInfoProto {
                name: output.into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            ..Default::default()
        };
        guarded(|| {
            let outputs = tract_onnx::onnx()
                .model_for_proto_model(&model)?
                .into_optimized()?
                .into_runnable()?
                .run(tvec![])?;
            let output = outputs.first().context("it has no output")?;
            Ok(output.clone().into_tensor())
        })
    }
}

/// tract panics on some malformed tensors and attributes; a file must not.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| bail!("the file is damaged: export the model again"))
}

/// An upper bound of the values that a node computes, from its inputs.
fn most_values(node: &NodeProto, inputs: &[&Tensor]) -> Result<u64> {
    let len = |tensor: &&Tensor| tensor.len() as u64;
    let product = |dims: &[i64]| {
        dims.iter()
            .fold(1u64, |all, &dim| all.saturating_mul(dim.unsigned_abs()))
    };
    let input = |n: usize| {
        let found = inputs.get(n).copied();
        found.with_context(|| format!("its input {n} is missing"))
    };
    let integers = |n: usize| -> Result<Vec<i64>> {
        let values = input(n)?.cast_to::<i64>()?;
        Ok(values
            .to_plain_array_view::<i64>()?
            .iter()
            .copied()
            .collect())
    };
    Ok(match node.op_type.as_str() {
        "Constant" => node
            .attribute
            .iter()
            .map(|attribute| match &attribute.t {
                Some(tensor) => product(&tensor.dims),
                None => (attribute.floats.len() + attribute.ints.len()).max(1) as u64,
            })
            .sum(),
        // Each value goes somewhere, or nowhere.
        "Identity" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Cast"
        | "Slice" | "Split" | "Shape" | "Size" | "Neg" | "Abs" | "Sqrt" | "Exp" | "Log"
        | "Reciprocal" | "Floor" | "Ceil" | "Round" | "Relu" | "Clip" | "Sigmoid" | "Tanh"
        | "ReduceSum" | "ReduceMean" | "ReduceProd" | "ReduceMax" | "ReduceMin"
        | "QuantizeLinear" | "DequantizeLinear" | "BatchNormalization" | "Not" => {
            // The shape of a scalar has no values, but takes some room.
            inputs.iter().map(len).max().unwrap_or(0).max(8)
        }
        "Concat" => inputs.iter().map(len).sum(),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Sum" | "Mean" | "Equal"
        | "Less" | "Greater" | "And" | "Or" | "Where" | "Mod" => {
            let rank = inputs.iter().map(|t| t.rank()).max().unwrap_or(0);
            (1..=rank).fold(1u64, |all, from_end| {
                let dims = inputs.iter().map(|tensor| {
                    let shape = tensor.shape();
                    shape.len().checked_sub(from_end).map_or(1, |at| shape[at])
                });
                all.saturating_mul(dims.max().unwrap_or(1) as u64)
            })
        }
        "Gather" => {
            let shape = input(0)?.shape();
            let axis = super::graph::int(node, "axis").unwrap_or(0);
            let axis = axis.rem_euclid(shape.len().max(1) as i64) as usize;
            let rest = shape.iter().enumerate().filter(|(n, _)| *n != axis);
            let rest = rest.fold(1u64, |all, (_, &dim)| all.saturating_mul(dim as u64));
            rest.saturating_mul(input(1)?.len() as u64)
        }
        "MatMul" | "Gemm" => {
            let outer = |tensor: &Tensor| {
                let shape = tensor.shape();
                // Either of the last two may be the one that goes.
                let least = shape.iter().rev().take(2).min().copied().unwrap_or(1);
                tensor.len() as u64 / least.max(1) as u64
            };
            outer(input(0)?).saturating_mul(outer(input(1)?))
        }
        "ConstantOfShape" => product(&integers(0)?),
        "Expand" => product(&integers(1)?).max(len(&input(0)?)),
        "Tile" => product(&integers(1)?).saturating_mul(len(&input(0)?)),
        "Range" => {
            let [from, to, step] = [0, 1, 2]
                .map(&integers)
                .map(|v| v.map(|v| v.first().copied().unwrap_or_default()));
            to?.abs_diff(from?) / step?.unsigned_abs().max(1) + 1
        }
        other => bail!(
            "a constant that {other} computes is not supported: simplify the model first (onnxsim)"
        ),
    })
}

/// A stored tensor, if it has the values that its shape asks for.
pub(super) fn load(proto: &TensorProto) -> Result<Tensor> {
    let what = || format!("tensor {}", proto.name);
    let mut values = 1u64;
    for &dim in &proto.dims {
        let dim = u64::try_from(dim).with_context(|| format!("{}: a negative size", what()))?;
        values = values.saturating_mul(dim);
    }
    ensure!(
        values <= MAX_VALUES,
        "{}: it has {values} values; at most {MAX_VALUES} are supported",
        what()
    );
    let kind = DataType::try_from(proto.data_type)
        .with_context(|| format!("{}: an unknown type", what()))?;
    let bytes = match kind {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        other => bail!("{}: values of type {other:?} are not supported", what()),
    };
    let found = proto.raw_data.len() as u64;
    ensure!(
        found == 0 || found == values * bytes,
        "{}: its shape needs {} bytes, but it has {found}: the file is damaged",
        what(),
        values * bytes
    );
    guarded(|| tract_onnx::tensor::load_tensor(&MmapDataResolver, proto, None)).with_context(what)
}

/// A computed tensor as a file would store it.
fn stored(name: &str, tensor: &Tensor) -> Result<TensorProto> {
    let kind = match tensor.datum_type() {
        DatumType::Bool => DataType::Bool,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::I16 => DataType::Int16,
        DatumType::U16 => DataType::Uint16,
        DatumType::I32 => DataType::Int32,
        DatumType::U32 => DataType::Uint32,
        DatumType::F16 => DataType::Float16,
        DatumType::F32 => DataType::Float,
        DatumType::F64 => DataType::Double,
        DatumType::U64 => DataType::Uint64,
        // Sizes are of a type of tract's own.
        _ => DataType::Int64,
    };
    let tensor = match kind {
        DataType::Int64 => tensor.cast_to::<i64>()?,
        _ => std::borrow::Cow::Borrowed(tensor),
    };
    Ok(TensorProto {
        name: name.into(),
        dims: tensor.shape().iter().map(|&dim| dim as i64).collect(),
        data_type: kind as i32,
        raw_data: tensor.as_bytes().to_vec(),
        ..Default::default()
    })
}
