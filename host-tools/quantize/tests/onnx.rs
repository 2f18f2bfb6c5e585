//! From ONNX files as exporters write them to packages that agree with tract's float
//! run, and the files that are refused.

mod common;

use common::{
    Classifier, Clip, PLAIN, Pool, ROWS, Spelling, WIDTH, encode, floats, int_attribute,
    ints_attribute, network, noise, value_info,
};
use sori_host::verify;
use sori_package::Package;
use sori_quantize::contract::Contract;
use sori_quantize::{Onnx, Options, Quantized, Refused, Request, Rows, quantize};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto,
};

fn clips(seed: u64, number: u64) -> Vec<Rows> {
    (0..number)
        .map(|n| {
            Rows::Float(
                noise(seed + n, ROWS * WIDTH)
                    .iter()
                    .map(|x| 2.0 * x)
                    .collect(),
            )
        })
        .collect()
}

fn onnx(model: &ModelProto) -> Onnx {
    Onnx::from_bytes(&encode(model)).expect("in the family")
}

fn refusal(model: &ModelProto) -> Refused {
    Onnx::from_bytes(&encode(model)).expect_err("outside the family")
}

fn quantized(model: &ModelProto) -> anyhow::Result<Quantized> {
    quantize(Request {
        name: "tiny".into(),
        calibration: clips(100, 8),
        calibration_name: "noise".into(),
        evaluation: clips(900, 40),
        ..Request::new(&Onnx::from_bytes(&encode(model))?)
    })
}

fn node<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut NodeProto {
    let graph = model.graph.as_mut().expect("a graph");
    let mut nodes = graph.node.iter_mut();
    nodes
        .find(|node| node.name == name)
        .expect("a node of that name")
}

fn weights<'m>(model: &'m mut ModelProto, name: &str) -> &'m mut Vec<f32> {
    let graph = model.graph.as_mut().expect("a graph");
    let mut tensors = graph.initializer.iter_mut();
    let tensor = tensors.find(|tensor| tensor.name == name);
    &mut tensor.expect("a tensor of that name").float_data
}

/// Each spelling changes one or two things that exporters do differently.
#[test]
fn every_exporters_spelling_agrees_with_its_float_run() {
    let spellings = [
        PLAIN,
        Spelling {
            batch_norm: true,
            ..PLAIN
        },
        Spelling {
            clip: Clip::Attributes,
            ..PLAIN
        },
        Spelling {
            clip: Clip::MinMax,
            ..PLAIN
        },
        Spelling {
            clip: Clip::Relu,
            classifier: Classifier::Gemm,
            ..PLAIN
        },
        Spelling {
            causal_pad_node: true,
            ..PLAIN
        },
        Spelling {
            causal_pad_node: true,
            constants_as_nodes: true,
            ..PLAIN
        },
        Spelling {
            pool: Pool::MeanByAttribute,
            dynamic: false,
            ..PLAIN
        },
        Spelling {
            pool: Pool::MeanByInput,
            reshape_by_shape: true,
            ..PLAIN
        },
        Spelling {
            classifier: Classifier::MatMulAdd,
            softmax: true,
            ..PLAIN
        },
        Spelling {
            batch_norm: true,
            constants_as_nodes: true,
            reshape_by_shape: true,
            ..PLAIN
        },
    ];
    for spelling in spellings {
        let result =
            quantized(&network(spelling)).unwrap_or_else(|e| panic!("{spelling:?}: {e:#}"));
        let report = &result.report;
        assert_eq!(report.layers.len(), 10, "{spelling:?}");
        assert!(report.settings.held_out);
        let lowest = report
            .layers
            .iter()
            .map(|l| l.sqnr_db)
            .fold(f64::INFINITY, f64::min);
        assert!(lowest > 25.0, "{spelling:?}: {lowest:.1} dB");
        assert!(
            report.logits_sqnr_db > 30.0,
            "{spelling:?}: {:.1} dB",
            report.logits_sqnr_db
        );
        assert!(
            report.top1_agreement >= 0.95,
            "{spelling:?}: {}",
            report.top1_agreement
        );
    }
}

#[test]
fn the_same_network_gives_the_same_bytes_twice() {
    let model = network(PLAIN);
    let [a, b] = [(); 2].map(|()| quantized(&model).expect("in the family"));
    assert_eq!(a.bytes[..], b.bytes[..]);
    assert_eq!(a.report, b.report);
}

#[test]
fn a_contract_in_the_metadata_makes_a_package_for_audio() {
    let mut model = network(PLAIN);
    model.metadata_props.push(StringStringEntryProto {
        key: "sori.contract".into(),
        value: "
            name = 'tiny'
            labels = ['a', 'b', 'c', 'd', 'e']
            mel = { bands = 16 }
            input = { scale = 0.015625 }
            network = { pool_rows = 4, nominal_rows = 64 }
        "
        .into(),
    });
    let rows = |seed| {
        noise(seed, ROWS * WIDTH)
            .iter()
            .map(|x| (127.0 * x) as i8)
            .collect()
    };
    let result = quantize(Request {
        name: "not this one".into(),
        calibration: (0..8).map(|n| Rows::Int8(rows(n))).collect(),
        calibration_name: "noise".into(),
        ..Request::new(&onnx(&model))
    })
    .expect("in the family");
    let report = &result.report;
    assert_eq!(
        (report.settings.name.as_str(), report.settings.held_out),
        ("tiny", false)
    );
    // 16 output rows, of which the running mean holds 4: the float side must do the same.
    assert!(
        report.logits_sqnr_db > 30.0,
        "{:.1} dB",
        report.logits_sqnr_db
    );

    let package = Package::parse(&result.bytes).expect("quantize parsed it");
    assert_eq!(
        package.labels().collect::<Vec<_>>(),
        ["a", "b", "c", "d", "e"]
    );
    assert_eq!(package.classifier().pool_rows, 4);
    assert!(package.prologue().frontend_bytes() > 0);
    let verified = verify(&package).expect("its own golden vectors");
    assert!(
        verified.feature_rows > 60 && verified.output_rows > 10,
        "{verified:?}"
    );
}

#[test]
fn a_contract_of_other_bands_or_classes_is_refused() {
    let contract = |bands: usize, labels: &str| {
        let text = format!(
            "name = 'x'\nlabels = {labels}\nmel = {{ bands = {bands} }}\ninput = {{ scale = 1.0 }}\n\
             network = {{ pool_rows = 1, nominal_rows = 64 }}"
        );
        Contract::parse(&text).expect("well formed")
    };
    for (contract, why) in [
        (contract(64, "['a', 'b', 'c', 'd', 'e']"), "64 mel bands"),
        (contract(16, "['a', 'b']"), "2 labels"),
    ] {
        let error = quantize(Request {
            contract: Some(contract),
            calibration: clips(0, 1),
            ..Request::new(&onnx(&network(PLAIN)))
        })
        .expect_err(why);
        assert!(error.to_string().contains(why), "{error:#}");
    }
}

/// Dead channels, biases far above their weights, a residual beside giant weights (K_c
/// below 1) and an output finer than its accumulator: the scales give way, the
/// arithmetic holds.
#[test]
fn extreme_weights_still_give_a_package_that_follows_the_float_run() {
    let mut dead = network(PLAIN);
    weights(&mut dead, "block1_expansion_w")[..8].fill(0.0);
    weights(&mut dead, "block1_expansion_b")[0] = 3.0;
    weights(&mut dead, "block0_depthwise_w")[..9].fill(0.0);
    weights(&mut dead, "block0_depthwise_b")[0] = 0.0;
    weights(&mut dead, "block2_projection_w")[..36].fill(1e-9);
    let result = quantized(&dead).expect("dead channels are no error");
    assert!(
        result.report.logits_sqnr_db > 30.0,
        "{:.1}",
        result.report.logits_sqnr_db
    );

    let mut giant = network(PLAIN);
    weights(&mut giant, "block2_projection_w")
        .iter_mut()
        .for_each(|w| *w *= 2e4);
    weights(&mut giant, "head_w")
        .iter_mut()
        .for_each(|w| *w /= 2e4);
    let result = quantized(&giant).expect("the block's input is raised");
    assert!(
        result
            .report
            .notes
            .iter()
            .any(|note| note.contains("block2_projection")),
        "{:?}",
        result.report.notes
    );
    assert!(
        result.report.logits_sqnr_db > 20.0,
        "{:.1}",
        result.report.logits_sqnr_db
    );
}

/// Tensors that never change still have a scale, and say nothing.
#[test]
fn constant_activations_are_no_error() {
    let mut constant = network(PLAIN);
    weights(&mut constant, "block1_expansion_w").fill(0.0);
    weights(&mut constant, "block1_expansion_b").fill(-1.0);
    let result = quantized(&constant).expect("a dead block is no error");
    let dead = result.report.dead_channels;
    assert!(dead.in_calibration >= 1 && dead.provably >= 20, "{dead:?}");
    let pruned = quantize(Request {
        calibration: clips(100, 8),
        options: Options {
            prune: true,
            ..Options::default()
        },
        ..Request::new(&onnx(&constant))
    })
    .expect("quantize compares the bits before and after");
    assert!(pruned.report.package_bytes < result.report.package_bytes);
}

/// Weights that the model keeps in files beside it, and files that do not hold them.
#[test]
fn weights_in_other_files_are_found_beside_the_model_and_nowhere_else() {
    let folder = std::env::temp_dir().join(format!("sori-external-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("m.onnx");
    let external = |location: &str| {
        let mut model = network(PLAIN);
        let graph = model.graph.as_mut().expect("a graph");
        let w = graph.initializer.iter_mut().find(|t| t.name == "head_w");
        let w = w.expect("its weights");
        let bytes: Vec<u8> = w.float_data.iter().flat_map(|x| x.to_le_bytes()).collect();
        w.float_data.clear();
        w.data_location = Some(1);
        w.external_data = [("location", location), ("offset", "4")]
            .map(|(key, value)| StringStringEntryProto {
                key: key.into(),
                value: value.into(),
            })
            .into();
        std::fs::write(&path, encode(&model)).expect("written");
        [vec![0; 4], bytes].concat()
    };
    let bytes = external("weights.bin");
    let refused = |why: &str| {
        let message = format!("{:#}", Onnx::read(&path).expect_err(why));
        assert!(
            message.contains("head_w") && message.contains(why),
            "{message}"
        );
    };
    refused("must be beside the model");
    std::fs::write(folder.join("weights.bin"), &bytes[..40]).expect("written");
    Onnx::read(&path).expect_err("too few weights");
    std::fs::write(folder.join("weights.bin"), &bytes).expect("written");
    Onnx::read(&path).expect("all its weights are there");
    external("../weights.bin");
    refused("not beside the model");
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        // A link out of the folder, a device, and a pipe that nobody writes to.
        external("link");
        symlink("/etc/passwd", folder.join("link")).expect("a link");
        refused("not beside the model");
        let pipe = std::process::Command::new("mkfifo")
            .arg(folder.join("pipe"))
            .status();
        assert!(pipe.expect("mkfifo").success());
        external("pipe");
        refused("regular file");
        // As a cache of downloads keeps them: links to files that lie side by side elsewhere.
        let cache = folder.join("cache");
        std::fs::create_dir_all(folder.join("blobs")).expect("a folder");
        std::fs::create_dir_all(&cache).expect("a folder");
        external("weights.bin");
        for name in ["m.onnx", "weights.bin"] {
            let blob = folder.join("blobs").join(name);
            std::fs::copy(folder.join(name), &blob).expect("copied");
            symlink(&blob, cache.join(name)).expect("a link");
        }
        Onnx::read(&cache.join("m.onnx")).expect("a link to both");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// A tensor of so many values that takes a few bytes of the file.
fn of_shape(dims: &[i64]) -> TensorProto {
    TensorProto {
        name: "shape".into(),
        dims: vec![dims.len() as i64],
        data_type: 7,
        int64_data: dims.to_vec(),
        ..Default::default()
    }
}

/// Each of these took gigabytes, all of the stack, or the program.
#[test]
fn constants_that_would_take_the_machine_are_refused_by_the_node() {
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        op_type: op.into(),
        name: format!("make_{output}"),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    let refused = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = network(PLAIN);
        let graph = model.graph.as_mut().expect("a graph");
        // What the head multiplies by is computed.
        graph.initializer.retain(|t| t.name != "head_w");
        change(graph);
        let refusal = Onnx::from_bytes(&encode(&model)).expect_err("refused");
        refusal.to_string()
    };
    let huge = refused(&|graph| {
        graph.initializer.push(of_shape(&[1 << 20, 1 << 20]));
        graph
            .node
            .insert(0, node("ConstantOfShape", &["shape"], "head_w"));
    });
    assert!(huge.contains("make_head_w"), "{huge}");
    let doubled = refused(&|graph| {
        graph.initializer.push(of_shape(&[64; 64]));
        let names: Vec<String> = (0..40).map(|n| format!("twice{n}")).collect();
        let mut before = "shape";
        for (at, name) in names.iter().enumerate() {
            let mut concat = node("Concat", &[before, before], name);
            concat.attribute = vec![AttributeProto {
                name: "axis".into(),
                r#type: 2,
                ..Default::default()
            }];
            graph.node.insert(at, concat);
            before = name;
        }
        graph.node.insert(40, node("Identity", &[before], "head_w"));
    });
    assert!(doubled.contains("values"), "{doubled}");
    let circle = refused(&|graph| {
        graph.node.insert(0, node("Neg", &["b"], "a"));
        graph.node.insert(0, node("Neg", &["a"], "b"));
        graph.node.insert(0, node("Neg", &["b"], "head_w"));
    });
    assert!(circle.contains("reads itself"), "{circle}");
    let circle = refused(&|graph| {
        let inputs = ["b", "shape"];
        graph.initializer.push(of_shape(&[1]));
        graph
            .node
            .insert(0, node("DequantizeLinear", &inputs, "head_w"));
        graph
            .node
            .insert(0, node("DequantizeLinear", &["head_w", "shape"], "b"));
    });
    assert!(circle.contains("reads itself"), "{circle}");
    // A stored tensor that has other values than its shape needs.
    for dims in [
        vec![1 << 40],
        vec![-1],
        vec![3, 5],
        vec![i64::MAX, i64::MAX],
    ] {
        let damaged = refused(&|graph| {
            graph.initializer.push(TensorProto {
                name: "head_w".into(),
                dims: dims.clone(),
                data_type: 1,
                raw_data: vec![0; 8],
                ..Default::default()
            });
        });
        assert!(damaged.contains("head_w"), "{damaged}");
    }
    let odd = refused(&|graph| graph.node.insert(0, node("RandomNormal", &[], "head_w")));
    assert!(odd.contains("RandomNormal"), "{odd}");
}

type Change = fn(&mut ModelProto);

#[test]
fn what_is_outside_the_family_is_refused_by_name() {
    let cases: [(Change, &[&str]); 17] = [
        (
            // A squeeze-excite reads the expanded tensor twice.
            |m| {
                let graph = m.graph.as_mut().expect("a graph");
                let squeeze = NodeProto {
                    op_type: "GlobalAveragePool".into(),
                    name: "squeeze".into(),
                    input: vec!["block1_depthwise_act_out".into()],
                    output: vec!["squeeze_out".into()],
                    ..Default::default()
                };
                let at = graph
                    .node
                    .iter()
                    .position(|n| n.name == "block1_projection");
                graph.node.insert(at.expect("it is there"), squeeze);
            },
            &["block1_depthwise_act_out", "read 2 times"],
        ),
        (
            |m| {
                let graph = m.graph.as_mut().expect("a graph");
                let w = graph.initializer.iter_mut().find(|t| t.name == "head_w");
                w.expect("its weights").data_location = Some(1);
            },
            &["head_w", "separate file"],
        ),
        (
            |m| node(m, "pool").op_type = "AveragePool".into(),
            &["pool", "AveragePool", "GlobalAveragePool"],
        ),
        (
            |m| {
                let graph = m.graph.as_mut().expect("a graph");
                let w = graph
                    .initializer
                    .iter_mut()
                    .find(|t| t.name == "block1_depthwise_w");
                *w.expect("its weights") =
                    floats("block1_depthwise_w", &[24, 1, 5, 5], &[0.1; 600]);
            },
            &[
                "block1_depthwise",
                "kernel 5×5",
                "3×3 depthwise and 1×1 pointwise",
            ],
        ),
        (
            |m| node(m, "block2_add").input[0] = "block1_expansion_act_out".into(),
            &["block2_add", "block's input"],
        ),
        (
            |m| {
                node(m, "block1_expansion").input[0] = "relu_out".into();
                let graph = m.graph.as_mut().expect("a graph");
                let relu = NodeProto {
                    op_type: "Relu".into(),
                    name: "relu".into(),
                    input: vec!["block0_projection_out".into()],
                    output: vec!["relu_out".into()],
                    ..Default::default()
                };
                let at = graph.node.iter().position(|n| n.name == "block1_expansion");
                graph.node.insert(at.expect("it is there"), relu);
            },
            &["block0_projection", "linear"],
        ),
        (
            |m| {
                let second = value_info("second", &[Some(1)]);
                m.graph.as_mut().expect("a graph").input.push(second);
            },
            &["2 inputs", "second"],
        ),
        (
            |m| node(m, "block1_depthwise").attribute[1] = ints_attribute("strides", &[3, 3]),
            &["block1_depthwise", "strides [3, 3]"],
        ),
        (
            |m| {
                let dilated = ints_attribute("dilations", &[2, 2]);
                node(m, "block1_depthwise").attribute.push(dilated);
            },
            &["block1_depthwise", "dilated"],
        ),
        (
            |m| node(m, "block1_depthwise").attribute[3] = int_attribute("group", 12),
            &["block1_depthwise", "12 groups"],
        ),
        (
            |m| node(m, "head_act").op_type = "Sigmoid".into(),
            &["head_act", "Sigmoid"],
        ),
        (
            |m| node(m, "block0_projection").op_type = "ConvTranspose".into(),
            &["block0_projection", "ConvTranspose"],
        ),
        (|m| weights(m, "stem_w")[3] = f32::NAN, &["stem", "NaN"]),
        (
            |m| node(m, "stem_act").output[0] = "stem_out".into(),
            &["stem_act", "written twice"],
        ),
        (
            |m| node(m, "classifier").input[0] = "pool_out".into(),
            &["classifier", "read twice"],
        ),
        (
            |m| {
                m.graph
                    .as_mut()
                    .expect("a graph")
                    .output
                    .push(value_info("head_out", &[]))
            },
            &["2 outputs"],
        ),
        (
            |m| m.graph.as_mut().expect("a graph").input[0] = value_info("input", &[None; 4]),
            &["input", "no fixed width"],
        ),
    ];
    for (n, (change, words)) in cases.into_iter().enumerate() {
        let mut model = network(PLAIN);
        change(&mut model);
        let message = refusal(&model).to_string();
        for word in words {
            assert!(message.contains(word), "case {n}: {message}");
        }
    }
}

#[test]
fn a_mean_that_could_overflow_names_the_longest_possible() {
    let text = format!(
        "name = 'x'\nlabels = ['a', 'b', 'c', 'd', 'e']\nmel = {{ bands = {WIDTH} }}\n\
         input = {{ scale = 0.015625 }}\nnetwork = {{ pool_rows = 65535, nominal_rows = 64 }}"
    );
    let error = quantize(Request {
        contract: Some(Contract::parse(&text).expect("well formed")),
        calibration: clips(0, 2),
        ..Request::new(&onnx(&network(PLAIN)))
    })
    .expect_err("32 channels over 4 positions overflow");
    assert!(
        error.to_string().contains("pool_rows can be at most"),
        "{error:#}"
    );
}

#[test]
fn calibration_that_says_nothing_is_refused() {
    let model = onnx(&network(PLAIN));
    for (calibration, why) in [
        (vec![], "at least one clip"),
        (vec![Rows::Float(vec![0.0; 8 * WIDTH])], "longer"),
        (vec![Rows::Float(vec![0.0; ROWS * WIDTH + 1])], "rows of 16"),
        (vec![Rows::Float(vec![f32::NAN; ROWS * WIDTH])], "NaN"),
        (vec![Rows::Int8(vec![0; ROWS * WIDTH])], "--contract"),
    ] {
        let error = quantize(Request {
            calibration,
            ..Request::new(&model)
        })
        .expect_err(why);
        assert!(format!("{error:#}").contains(why), "{error:#}");
    }
}

/// Cut anywhere, or with any bit flipped: an answer or a refusal, never a panic.
#[test]
fn a_damaged_file_never_panics() {
    let whole = encode(&network(PLAIN));
    assert!(
        Onnx::from_bytes(&[])
            .expect_err("empty")
            .to_string()
            .contains("empty")
    );
    for len in (1..whole.len()).step_by(whole.len() / 100) {
        let _ = Onnx::from_bytes(&whole[..len]);
    }
    // The graph's structure is at the start, its weights after.
    for n in 0..2_000 {
        let mut damaged = whole.clone();
        let at = (n * 7919) % whole.len().min(4_000);
        damaged[at] ^= 1 << (n % 8);
        let _ = Onnx::from_bytes(&damaged);
    }
    assert_eq!(
        Onnx::from_bytes(&whole)
            .map(|onnx| usize::from(onnx.input_shape().width))
            .ok(),
        Some(WIDTH)
    );
}
