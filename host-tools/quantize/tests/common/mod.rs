//! A small MobileNetV2 in ONNX, spelled as different exporters spell it.

use prost::Message as _;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

pub(crate) const WIDTH: usize = 16;
pub(crate) const CLASSES: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Clip {
    Attributes,
    Inputs,
    MinMax,
    Relu,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pool {
    Global,
    MeanByAttribute,
    MeanByInput,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Classifier {
    GemmTransposed,
    Gemm,
    MatMulAdd,
}

/// How the same network is written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spelling {
    pub(crate) batch_norm: bool,
    pub(crate) clip: Clip,
    pub(crate) causal_pad_node: bool,
    pub(crate) constants_as_nodes: bool,
    pub(crate) pool: Pool,
    pub(crate) reshape_by_shape: bool,
    pub(crate) classifier: Classifier,
    pub(crate) softmax: bool,
    pub(crate) dynamic: bool,
}

pub(crate) const PLAIN: Spelling = Spelling {
    batch_norm: false,
    clip: Clip::Inputs,
    causal_pad_node: false,
    constants_as_nodes: false,
    pool: Pool::Global,
    reshape_by_shape: false,
    classifier: Classifier::GemmTransposed,
    softmax: false,
    dynamic: true,
};

/// Seeded values in [-1, 1).
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: 2,
        i: value,
        ..Default::default()
    }
}

pub(crate) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: 7,
        ints: values.to_vec(),
        ..Default::default()
    }
}

fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: 1,
        f: value,
        ..Default::default()
    }
}

pub(crate) fn floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 1,
        dims: dims.iter().map(|&n| n as i64).collect(),
        float_data: values.to_vec(),
        ..Default::default()
    }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 7,
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn value_info(name: &str, dims: &[Option<usize>]) -> ValueInfoProto {
    let dim = |n: &Option<usize>| Dimension {
        value: Some(match n {
            Some(n) => dimension::Value::DimValue(*n as i64),
            None => dimension::Value::DimParam("n".into()),
        }),
        ..Default::default()
    };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: 1,
                shape: Some(TensorShapeProto {
                    dim: dims.iter().map(dim).collect(),
                }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

struct Conv {
    name: &'static str,
    c_in: usize,
    c_out: usize,
    kernel: usize,
    stride: i64,
    depthwise: bool,
    activation: bool,
}

struct Builder {
    spelling: Spelling,
    graph: GraphProto,
    seed: u64,
}

impl Builder {
    fn node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            op_type: op.into(),
            name: name.into(),
            input: inputs.iter().map(|&s| s.into()).collect(),
            output: vec![format!("{name}_out")],
            attribute: attributes,
            ..Default::default()
        });
        format!("{name}_out")
    }

    fn constant(&mut self, tensor: TensorProto) -> String {
        let name = tensor.name.clone();
        if self.spelling.constants_as_nodes {
            let value = AttributeProto {
                name: "value".into(),
                r#type: 4,
                t: Some(tensor),
                ..Default::default()
            };
            return self.node("Constant", &format!("constant_{name}"), &[], vec![value]);
        }
        self.graph.initializer.push(tensor);
        name
    }

    fn random(&mut self, name: String, dims: &[usize], mean: f32, spread: f32) -> String {
        self.seed += 1;
        let values: Vec<f32> = noise(self.seed, dims.iter().product())
            .iter()
            .map(|x| mean + spread * x)
            .collect();
        self.constant(floats(&name, dims, &values))
    }

    fn conv(&mut self, x: &str, conv: Conv) -> String {
        let Conv {
            name,
            c_in,
            c_out,
            kernel,
            stride,
            depthwise,
            activation,
        } = conv;
        let (per_group, group) = if depthwise { (1, c_in) } else { (c_in, 1) };
        let taps = per_group * kernel * kernel;
        let spread = (3.0 / taps as f32).sqrt() * if activation { 1.7 } else { 1.0 };
        let weights = self.random(
            format!("{name}_w"),
            &[c_out, per_group, kernel, kernel],
            0.0,
            spread,
        );
        let mut x = x.to_string();
        let mut pads = [0i64; 4];
        if kernel == 3 {
            // Causal in time, symmetric in frequency.
            pads = [2, 1, 0, 1];
            if self.spelling.causal_pad_node {
                pads = [0, 1, 0, 1];
                let amounts =
                    self.constant(integers(&format!("{name}_pads"), &[0, 0, 2, 0, 0, 0, 0, 0]));
                x = self.node("Pad", &format!("{name}_pad"), &[&x, &amounts], vec![]);
            }
        }
        let attributes = vec![
            ints_attribute("kernel_shape", &[kernel as i64; 2]),
            ints_attribute("strides", &[stride; 2]),
            ints_attribute("pads", &pads),
            int_attribute("group", group as i64),
        ];
        let mut x = if self.spelling.batch_norm {
            let x = self.node("Conv", name, &[&x, &weights], attributes);
            let gamma = self.random(format!("{name}_gamma"), &[c_out], 1.0, 0.5);
            let beta = self.random(format!("{name}_beta"), &[c_out], 0.0, 0.5);
            let mean = self.random(format!("{name}_mean"), &[c_out], 0.0, 0.3);
            let variance = self.random(format!("{name}_variance"), &[c_out], 1.0, 0.5);
            let epsilon = vec![float_attribute("epsilon", 1e-3)];
            self.node(
                "BatchNormalization",
                &format!("{name}_bn"),
                &[&x, &gamma, &beta, &mean, &variance],
                epsilon,
            )
        } else {
            let bias = self.random(format!("{name}_b"), &[c_out], 0.1, 0.5);
            self.node("Conv", name, &[&x, &weights, &bias], attributes)
        };
        if activation {
            let act = format!("{name}_act");
            x = match self.spelling.clip {
                Clip::Relu => self.node("Relu", &act, &[&x], vec![]),
                Clip::Attributes => {
                    let bounds = vec![float_attribute("min", 0.0), float_attribute("max", 6.0)];
                    self.node("Clip", &act, &[&x], bounds)
                }
                Clip::Inputs => {
                    let low = self.constant(floats(&format!("{name}_low"), &[], &[0.0]));
                    let high = self.constant(floats(&format!("{name}_high"), &[], &[6.0]));
                    self.node("Clip", &act, &[&x, &low, &high], vec![])
                }
                Clip::MinMax => {
                    let low = self.constant(floats(&format!("{name}_low"), &[], &[0.0]));
                    let high = self.constant(floats(&format!("{name}_high"), &[], &[6.0]));
                    let x = self.node("Max", &format!("{name}_max"), &[&x, &low], vec![]);
                    self.node("Min", &act, &[&high, &x], vec![])
                }
            };
        }
        x
    }

    fn pool_and_classify(&mut self, x: &str, channels: usize) -> String {
        let mut x = match self.spelling.pool {
            Pool::Global => self.node("GlobalAveragePool", "pool", &[x], vec![]),
            Pool::MeanByAttribute => {
                let axes = vec![
                    ints_attribute("axes", &[-2, -1]),
                    int_attribute("keepdims", 1),
                ];
                self.node("ReduceMean", "pool", &[x], axes)
            }
            Pool::MeanByInput => {
                let axes = self.constant(integers("pool_axes", &[2, 3]));
                self.node(
                    "ReduceMean",
                    "pool",
                    &[x, &axes],
                    vec![int_attribute("keepdims", 1)],
                )
            }
        };
        x = if self.spelling.reshape_by_shape {
            let shape = self.node("Shape", "shape", &[&x], vec![]);
            let zero = self.constant(integers("zero", &[0]));
            let batch = self.node(
                "Gather",
                "batch",
                &[&shape, &zero],
                vec![int_attribute("axis", 0)],
            );
            let rest = self.constant(integers("rest", &[-1]));
            let shape = self.node(
                "Concat",
                "target",
                &[&batch, &rest],
                vec![int_attribute("axis", 0)],
            );
            self.node("Reshape", "flatten", &[&x, &shape], vec![])
        } else {
            self.node("Flatten", "flatten", &[&x], vec![])
        };
        let dims = match self.spelling.classifier {
            Classifier::GemmTransposed => [CLASSES, channels],
            _ => [channels, CLASSES],
        };
        let weights = self.random("classifier_w".into(), &dims, 0.0, 1.0);
        let bias = self.random("classifier_b".into(), &[CLASSES], 0.0, 1.0);
        match self.spelling.classifier {
            Classifier::MatMulAdd => {
                let x = self.node("MatMul", "classifier", &[&x, &weights], vec![]);
                self.node("Add", "classifier_add", &[&bias, &x], vec![])
            }
            other => {
                let transposed = i64::from(other == Classifier::GemmTransposed);
                let attributes = vec![int_attribute("transB", transposed)];
                self.node("Gemm", "classifier", &[&x, &weights, &bias], attributes)
            }
        }
    }
}

/// Stem, a block without expansion, one that halves, one with a residual, head.
pub(crate) fn network(spelling: Spelling) -> ModelProto {
    let mut builder = Builder {
        spelling,
        graph: GraphProto {
            name: "tiny".into(),
            ..Default::default()
        },
        seed: 0,
    };
    let pointwise = |name, c_in, c_out, activation| Conv {
        name,
        c_in,
        c_out,
        kernel: 1,
        stride: 1,
        depthwise: false,
        activation,
    };
    let depthwise = |name, c, stride| Conv {
        name,
        c_in: c,
        c_out: c,
        kernel: 3,
        stride,
        depthwise: true,
        activation: true,
    };
    let stem = Conv {
        name: "stem",
        c_in: 1,
        c_out: 8,
        kernel: 3,
        stride: 2,
        depthwise: false,
        activation: true,
    };
    let x = builder.conv("input", stem);
    let x = builder.conv(&x, depthwise("block0_depthwise", 8, 1));
    let x = builder.conv(&x, pointwise("block0_projection", 8, 8, false));
    let y = builder.conv(&x, pointwise("block1_expansion", 8, 24, true));
    let y = builder.conv(&y, depthwise("block1_depthwise", 24, 2));
    let x = builder.conv(&y, pointwise("block1_projection", 24, 12, false));
    let y = builder.conv(&x, pointwise("block2_expansion", 12, 36, true));
    let y = builder.conv(&y, depthwise("block2_depthwise", 36, 1));
    let y = builder.conv(&y, pointwise("block2_projection", 36, 12, false));
    let x = builder.node("Add", "block2_add", &[&x, &y], vec![]);
    let x = builder.conv(&x, pointwise("head", 12, 32, true));
    let mut logits = builder.pool_and_classify(&x, 32);
    if spelling.softmax {
        logits = builder.node(
            "Softmax",
            "softmax",
            &[&logits],
            vec![int_attribute("axis", 1)],
        );
    }
    let (batch, rows) = match spelling.dynamic {
        true => (None, None),
        false => (Some(1), Some(ROWS)),
    };
    let mut graph = builder.graph;
    graph.input = vec![value_info("input", &[batch, Some(1), rows, Some(WIDTH)])];
    graph.output = vec![value_info(&logits, &[batch, Some(CLASSES)])];
    let opset = match (spelling.clip, spelling.pool) {
        (Clip::Attributes, _) => 10,
        (_, Pool::MeanByInput) => 18,
        _ => 13,
    };
    ModelProto {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        ..Default::default()
    }
}

/// Rows of the clips in these tests.
pub(crate) const ROWS: usize = 64;

pub(crate) fn encode(model: &ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}
