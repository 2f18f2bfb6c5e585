use sori_package::write::{ConvolutionSpec, PackageBytes, ProvenanceSpec, with_plan};
use sori_package::{Aligned, Convolution, Error, Kernel, Package, Prologue, VERSION};

use crate::tiny::{PLAN, activation, planned, shape, sizes, tiny};

fn assert_same(layer: &str, convolution: &Convolution<'_>, spec: &ConvolutionSpec) {
    let Kernel {
        weights,
        bias,
        multiplier,
        shift,
    } = convolution.kernel;
    assert_eq!(convolution.output.channels, spec.c_out, "{layer}");
    assert_eq!(convolution.spatial, spec.spatial, "{layer}");
    assert_eq!(convolution.activation, spec.activation, "{layer}");
    assert_eq!(weights, spec.weights, "{layer}");
    assert_eq!(bias, spec.bias, "{layer}");
    assert_eq!(multiplier, spec.multiplier, "{layer}");
    assert_eq!(shift, spec.shift, "{layer}");
}

#[test]
fn every_accessor_returns_what_went_in() {
    let spec = tiny();
    let bytes = spec.build(sizes()).expect("the parts fit together");
    let package = Package::parse(&bytes).expect("just built");

    assert_eq!(ProvenanceSpec::from(package.provenance()), spec.provenance);
    assert!(package.labels().eq(&spec.labels));
    assert_eq!(package.input(), spec.input);
    assert_eq!(package.input_activation(), spec.input_activation);
    assert_eq!(package.nominal_rows(), 300);
    assert_eq!(package.decision(), spec.decision);

    assert_same("stem", &package.stem(), &spec.stem);
    assert_eq!(package.blocks().len(), spec.blocks.len());
    for (block, spec) in package.blocks().zip(&spec.blocks) {
        assert_eq!(block.expansion.is_some(), spec.expansion.is_some());
        if let (Some(expansion), Some(spec)) = (&block.expansion, &spec.expansion) {
            assert_same("expansion", expansion, spec);
        }
        assert_same("depthwise", &block.depthwise, &spec.depthwise);
        assert_same("projection", &block.projection, &spec.projection);
        assert_eq!(block.residual, spec.residual.as_deref());
        assert_eq!(Some(block.spatial()), spec.depthwise.spatial);
    }
    let head = package.head().expect("the spec has a head");
    assert_same("head", &head, spec.head.as_ref().expect("as above"));

    let classifier = package.classifier();
    assert_eq!(classifier.classes, 2);
    assert_eq!(classifier.pool_rows, 7);
    assert_eq!(classifier.activation, spec.classifier.activation);
    assert_eq!(classifier.softmax_step_q16, 11_818);
    assert_eq!(classifier.kernel.weights, spec.classifier.weights);
    assert_eq!(classifier.kernel.bias, spec.classifier.bias);
    assert_eq!(classifier.kernel.multiplier, spec.classifier.multiplier);
    assert_eq!(classifier.kernel.shift, spec.classifier.shift);

    let (mel, expected) = (package.mel().expect("audio"), spec.mel.expect("audio"));
    // `MelContract` has floats and no equality of its own; its text has every field.
    assert_eq!(format!("{mel:?}"), format!("{expected:?}"));
    let golden = package.golden().expect("the spec has golden vectors");
    let expected = spec.golden.expect("as above");
    assert_eq!(golden.audio, expected.audio.as_deref());
    assert_eq!(golden.features, expected.features);
    assert_eq!(golden.logits, expected.logits);
}

/// Everything but the plan stays, and what the prologue states.
#[test]
fn a_plan_comes_and_goes_and_changes_nothing_else() {
    let text = |bytes: &[u8]| {
        let bytes = PackageBytes::copy_from(bytes);
        let package = Package::parse(&bytes).expect("just built");
        let blocks: Vec<_> = package.blocks().collect();
        let golden = package.golden().map(|g| (g.audio, g.features, g.logits));
        format!(
            "{:?} {:?} {blocks:?} {:?} {:?} {:?} {golden:?}",
            package.provenance(),
            package.stem(),
            package.head(),
            package.classifier(),
            package.mel()
        )
    };
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let plan = |bytes: &[u8]| {
        let bytes = PackageBytes::copy_from(bytes);
        let package = Package::parse(&bytes).expect("just built");
        package.plan().map(<[_]>::to_vec)
    };
    assert_eq!((bytes[8], plan(&bytes)), (1, None));
    let with = planned();
    assert_eq!(
        (u16::from(with[8]), plan(&with)),
        (VERSION, Some(PLAN.to_vec()))
    );
    assert_eq!(text(&with), text(&bytes));
    // Another takes its place.
    let mut other = PLAN;
    other[0].kept_rows = 0;
    let mut larger = sizes();
    larger.arena[0] = 11;
    let again = with_plan(&with, Some(&other), larger).expect("of this network");
    assert_eq!(
        (again.len(), plan(&again)),
        (with.len(), Some(other.to_vec()))
    );
    let prologue = Prologue::read(&again).expect("just built");
    assert_eq!(prologue.arena_bytes(1), 11);
    assert_eq!(text(&again), text(&bytes));
    let without = with_plan(&again, None, sizes()).expect("valid");
    assert_eq!((without[8], plan(&without)), (1, None));
    assert_eq!(text(&without), text(&bytes));
    assert!(matches!(
        with_plan(&bytes[..bytes.len() - 1], None, sizes()).expect_err("cut"),
        Error::Length { .. }
    ));
}

/// Widths by hand: 8 padded to 10 at stride 2; then 4 kept; then 4 padded to 5.
#[test]
fn shapes_and_zero_points_are_carried_from_layer_to_layer() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let package = Package::parse(&bytes).expect("just built");
    assert_eq!(package.stem().output, shape(4, 3));
    let blocks: Vec<_> = package.blocks().collect();
    assert_eq!(blocks[0].input(), shape(4, 3));
    assert_eq!(blocks[0].input_zero_point(), 10);
    assert_eq!(blocks[0].depthwise.input, shape(4, 6));
    assert_eq!(blocks[0].depthwise.input_zero_point, 20);
    assert_eq!(blocks[1].input_zero_point(), 40);
    assert_eq!(blocks[1].depthwise.output, shape(3, 3));
    assert_eq!(package.classifier().input, shape(3, 4));
    assert_eq!(package.classifier().input_zero_point, 70);
}

#[test]
fn the_filterbank_deals_the_weights_out_to_the_bands() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let mel = Package::parse(&bytes).expect("just built").mel();
    let bands: Vec<_> = mel
        .expect("audio")
        .filterbank()
        .map(|band| (band.first_bin, band.weights_q15.to_vec()))
        .collect();
    assert_eq!(bands.len(), 8);
    assert_eq!(bands[0], (1, vec![1, 2]));
    assert_eq!(bands[1], (2, vec![3]));
    assert_eq!(bands[7], (128, vec![32_768]));
}

/// The least there can be: no blocks, head, labels, mel contract, rule or golden vectors.
#[test]
fn everything_optional_may_be_absent() {
    let mut spec = tiny();
    spec.provenance = ProvenanceSpec::default();
    spec.labels.clear();
    spec.blocks.clear();
    spec.head = None;
    spec.classifier.weights.truncate(6);
    (spec.mel, spec.decision, spec.golden) = (None, None, None);
    let bytes = spec.build(sizes()).expect("the parts fit together");
    let package = Package::parse(&bytes).expect("just built");
    assert_eq!(package.labels().count(), 0);
    assert_eq!(package.blocks().len(), 0);
    assert!(package.head().is_none() && package.mel().is_none());
    assert!(package.decision().is_none() && package.golden().is_none());
    assert_eq!(package.classifier().input, shape(4, 3));
}

#[test]
fn tables_borrow_from_the_bytes() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let file = bytes.as_ptr_range();
    let inside = |table: &[u8]| {
        let table = table.as_ptr_range();
        file.start <= table.start && table.end <= file.end
    };
    let package = Package::parse(&bytes).expect("just built");
    let mut kernels = vec![package.stem().kernel, package.classifier().kernel];
    for block in package.blocks() {
        kernels.extend([block.depthwise.kernel, block.projection.kernel]);
        assert!(
            block
                .residual
                .is_none_or(|k| inside(bytemuck::cast_slice(k)))
        );
    }
    for kernel in kernels {
        assert!(inside(bytemuck::cast_slice(kernel.weights)));
        assert!(inside(bytemuck::cast_slice(kernel.bias)));
        assert!(inside(bytemuck::cast_slice(kernel.multiplier)));
        assert!(inside(kernel.shift));
    }
    let (mel, golden) = (
        package.mel().expect("audio"),
        package.golden().expect("golden"),
    );
    assert!(inside(bytemuck::cast_slice(mel.window_q31)));
    assert!(inside(bytemuck::cast_slice(mel.band_bins)));
    assert!(inside(bytemuck::cast_slice(mel.band_weights_q15)));
    assert!(inside(bytemuck::cast_slice(golden.audio.expect("audio"))));
    assert!(inside(bytemuck::cast_slice(golden.features)));
    assert!(inside(package.provenance().metrics.as_bytes()));
}

/// A stripe between two powers of two needs the larger; none and too many are clamped.
#[test]
fn arena_bytes_rounds_the_stripe_up() {
    let bytes = tiny().build(sizes()).expect("the parts fit together");
    let prologue = Package::parse(&bytes).expect("just built").prologue();
    let cases = [
        (0, 10),
        (1, 10),
        (2, 20),
        (3, 40),
        (4, 40),
        (65, 1_280),
        (128, 1_280),
        (usize::MAX, 1_280),
    ];
    for (stripe, expected) in cases {
        assert_eq!(prologue.arena_bytes(stripe), expected, "stripe {stripe}");
    }
    assert_eq!(prologue.frontend_bytes(), 1_048);
}

/// Firmware makes its arena this way.
#[test]
fn the_prologue_is_read_in_const_context() {
    const PROLOGUE: [u8; 96] = {
        let mut bytes = [0; 96];
        let (head, _) = bytes.split_at_mut(12);
        head.copy_from_slice(b"\x89SORI\r\n\x1a\x01\x00\x00\x00");
        bytes[32] = 100;
        bytes[36] = 200;
        bytes[28] = 3;
        bytes
    };
    const SIZES: Prologue = match Prologue::read(&PROLOGUE) {
        Ok(sizes) => sizes,
        Err(_) => panic!("the prologue is right"),
    };
    static ARENA: Aligned<[u8; SIZES.arena_bytes(2)]> = Aligned([0; SIZES.arena_bytes(2)]);
    assert_eq!(ARENA.0.len(), 200);
    assert_eq!(SIZES.arena_bytes(1), 100);
    assert_eq!(SIZES.frontend_bytes(), 3);
    assert_eq!(Prologue::read(b""), Err(Error::NotAPackage));
    assert_eq!(Prologue::read(&PROLOGUE[..7]), Err(Error::NotAPackage));
    assert_eq!(
        Prologue::read(&PROLOGUE[..95]),
        Err(Error::Length {
            expected: 96,
            found: 95
        })
    );
}

/// Lengths are not in the file, so a table one too short or too long must not get there.
#[test]
#[cfg_attr(miri, ignore = "builds dozens of packages, seconds each under Miri")]
fn a_table_of_another_length_than_its_layer_is_not_written() {
    type Change = fn(&mut ConvolutionSpec);
    let changes: [Change; 6] = [
        |c| c.weights.push(1),
        |c| _ = c.weights.pop(),
        |c| c.bias.push(1),
        |c| _ = c.bias.pop(),
        |c| c.multiplier.push(1 << 30),
        |c| _ = c.shift.pop(),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        for layer in 0..5 {
            let mut spec = tiny();
            change(match layer {
                0 => &mut spec.stem,
                1 => spec.blocks[0].expansion.as_mut().expect("t is 2"),
                2 => &mut spec.blocks[1].depthwise,
                3 => &mut spec.blocks[1].projection,
                _ => spec.head.as_mut().expect("the spec has a head"),
            });
            assert!(spec.build(sizes()).is_err(), "change {n}, layer {layer}");
        }
    }
    let mut spec = tiny();
    spec.blocks[0].residual.as_mut().expect("residual").push(1);
    assert!(spec.build(sizes()).is_err());
    let mut spec = tiny();
    spec.classifier.weights.push(1);
    assert!(spec.build(sizes()).is_err());
    let mut spec = tiny();
    spec.golden.as_mut().expect("golden").logits.push(1);
    assert!(spec.build(sizes()).is_err());
}

/// One past what the file's 16 bits hold: it must not come back as 256.
#[test]
fn a_contract_that_the_file_cannot_hold_is_not_written() {
    let mut spec = tiny();
    spec.mel.as_mut().expect("audio").fft = 65_536 + 256;
    assert!(matches!(
        spec.build(sizes()).expect_err("too long"),
        Error::MelContract { .. }
    ));
}

/// The extremes of each stored integer that is not otherwise bounded.
#[test]
fn the_extremes_of_the_integers_survive() {
    let mut spec = tiny();
    spec.input_activation = activation(f32::MIN_POSITIVE, -128, -128, 127);
    spec.nominal_rows = i32::MAX as u32 / 8;
    spec.mel.as_mut().expect("audio").reference_floor_q16 = -128 << 16;
    let rule = spec.decision.as_mut().expect("audio");
    rule.thresholds.silence_dbfs_q8 = i32::MIN;
    rule.thresholds.enter_q15 = 1 << 15;
    rule.thresholds.leave_q15 = 1 << 15;
    rule.silence_rows = u16::MAX;
    let bytes = spec.build(sizes()).expect("all allowed");
    let bytes = PackageBytes::copy_from(&bytes);
    let package = Package::parse(&bytes).expect("a copy is as good");
    assert_eq!(package.input_activation(), spec.input_activation);
    assert_eq!(package.nominal_rows(), i32::MAX as usize / 8);
    assert_eq!(package.decision(), spec.decision);
}
