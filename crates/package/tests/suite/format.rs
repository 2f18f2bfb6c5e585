//! A second writer, made from `FORMAT.md` and not from the crate.

use std::collections::HashMap;

use sori_package::write::{ConvolutionSpec, PackageBytes, PackageSpec, Sizes};
use sori_package::{Activation, BlockPlan, Error, MelScale, Package, Spatial};

use crate::bytes::{crc32, get_u32};
use crate::tiny::{PLAN, planned, sizes, tiny};

#[derive(Default)]
struct Writer {
    header: Vec<u8>,
    blob: Vec<u8>,
    tables: usize,
    /// Offset written in place of that of the table with this number.
    forged: Option<(usize, u32)>,
    /// Whether equal tables are written once.
    share: bool,
    /// Makes it version 2.
    plan: Option<&'static [BlockPlan]>,
    offsets: HashMap<Vec<u8>, u32>,
}

impl Writer {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.header.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.header.push(value as u8);
    }

    fn zigzag(&mut self, value: i32) {
        self.varint(u64::from((value << 1 ^ value >> 31) as u32));
    }

    fn byte(&mut self, value: u8) {
        self.header.push(value);
    }

    fn f32(&mut self, value: f32) {
        self.header.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.varint(text.len() as u64);
        self.header.extend(text.as_bytes());
    }

    /// Appends a table to the blob and returns its offset.
    fn table<const N: usize>(&mut self, values: impl IntoIterator<Item = [u8; N]>) -> u64 {
        self.blob.resize(self.blob.len().next_multiple_of(64), 0);
        let values: Vec<u8> = values.into_iter().flatten().collect();
        let mut offset = self.blob.len() as u32;
        match self.offsets.get(&values) {
            Some(&earlier) if self.share => offset = earlier,
            _ => self.blob.extend(&values),
        }
        self.offsets.insert(values, offset);
        self.tables += 1;
        match self.forged {
            Some((table, offset)) if table + 1 == self.tables => offset.into(),
            _ => offset.into(),
        }
    }

    fn kernel(&mut self, weights: &[i8], bias: &[i32], multiplier: &[i32], shift: &[u8]) {
        let offsets = [
            self.table(weights.iter().map(|w| w.to_le_bytes())),
            self.table(bias.iter().map(|b| b.to_le_bytes())),
            self.table(multiplier.iter().map(|m| m.to_le_bytes())),
            self.table(shift.iter().map(|s| s.to_le_bytes())),
        ];
        offsets.into_iter().for_each(|offset| self.varint(offset));
    }

    fn activation(&mut self, activation: Activation) {
        self.f32(activation.scale);
        for value in [activation.zero_point, activation.min, activation.max] {
            self.byte(value as u8);
        }
    }

    fn convolution(&mut self, spec: &ConvolutionSpec) {
        self.varint(spec.c_out.into());
        self.byte(spec.spatial.is_some().into());
        if let Some(Spatial {
            stride_time,
            stride_freq,
            pad_time: [past, future],
            pad_freq: [low, high],
        }) = spec.spatial
        {
            self.header
                .extend([stride_time, stride_freq, past, future, low, high]);
        }
        self.kernel(&spec.weights, &spec.bias, &spec.multiplier, &spec.shift);
        self.activation(spec.activation);
    }

    fn optional(&mut self, spec: Option<&ConvolutionSpec>) {
        self.byte(spec.is_some().into());
        if let Some(spec) = spec {
            self.convolution(spec);
        }
    }

    fn package(mut self, spec: &PackageSpec<'_>, sizes: Sizes) -> Vec<u8> {
        let provenance = &spec.provenance;
        self.text(&provenance.name);
        self.text(&provenance.source_sha256);
        self.text(&provenance.calibration);
        self.text(&provenance.tool);
        self.text(&provenance.metrics);
        self.text(&spec.labels.join("\n"));
        self.varint(spec.input.width.into());
        self.varint(spec.input.channels.into());
        self.activation(spec.input_activation);
        self.varint(spec.nominal_rows.into());
        self.convolution(&spec.stem);
        self.varint(spec.blocks.len() as u64);
        // The records come after the header, their tables before the head's.
        let header = core::mem::take(&mut self.header);
        for block in &spec.blocks {
            self.optional(block.expansion.as_ref());
            self.convolution(&block.depthwise);
            self.convolution(&block.projection);
            self.byte(block.residual.is_some().into());
            if let Some(factors) = &block.residual {
                let offset = self.table(factors.iter().map(|k| k.to_le_bytes()));
                self.varint(offset);
            }
        }
        let records = core::mem::replace(&mut self.header, header);
        self.optional(spec.head.as_ref());

        let classifier = &spec.classifier;
        self.varint(classifier.classes.into());
        self.varint(classifier.pool_rows.into());
        self.kernel(
            &classifier.weights,
            &classifier.bias,
            &classifier.multiplier,
            &classifier.shift,
        );
        self.activation(classifier.activation);
        self.varint(classifier.softmax_step_q16.into());

        self.byte(spec.mel.is_some().into());
        if let Some(mel) = &spec.mel {
            self.varint(mel.sample_rate_hz.into());
            for value in [mel.fft, mel.window_samples, mel.hop_samples, mel.bands] {
                self.varint(value as u64);
            }
            self.f32(mel.low_hz);
            self.f32(mel.high_hz);
            self.varint(match mel.scale {
                MelScale::Htk => 0,
                MelScale::Slaney => 1,
            });
            self.byte(mel.dc_shift);
            self.varint(mel.reference_release_q16.into());
            self.zigzag(mel.reference_floor_q16);
            self.zigzag(mel.feature_multiplier);
            self.byte(mel.feature_shift);
            self.byte(mel.feature_top as u8);
            let offsets = [
                self.table(mel.window_q31.iter().map(|w| w.to_le_bytes())),
                self.table(mel.band_bins.iter().map(|b| b.to_le_bytes())),
                self.table(mel.band_weights_q15.iter().map(|w| w.to_le_bytes())),
            ];
            offsets.into_iter().for_each(|offset| self.varint(offset));
            self.varint(mel.band_weights_q15.len() as u64);
        }

        self.byte(spec.decision.is_some().into());
        if let Some(rule) = &spec.decision {
            self.zigzag(rule.thresholds.silence_dbfs_q8);
            self.varint(rule.thresholds.enter_q15.into());
            self.varint(rule.thresholds.leave_q15.into());
            self.byte(rule.smoothing_shift);
            self.varint(rule.silence_rows.into());
        }

        self.byte(spec.golden.is_some().into());
        if let Some(golden) = &spec.golden {
            self.byte(golden.audio.is_some().into());
            if let Some(audio) = &golden.audio {
                let offset = self.table(audio.iter().map(|x| x.to_le_bytes()));
                self.varint(offset);
                self.varint(audio.len() as u64);
            }
            let row_len = spec.input.row_len();
            self.varint((golden.features.len() / row_len) as u64);
            let features = self.table(golden.features.iter().map(|x| x.to_le_bytes()));
            self.varint(features);
            let classes = usize::from(classifier.classes);
            self.varint((golden.logits.len() / classes) as u64);
            let logits = self.table(golden.logits.iter().map(|x| x.to_le_bytes()));
            self.varint(logits);
        }

        let mut file = b"\x89SORI\r\n\x1a\x01\0\0\0".to_vec();
        if let Some(plan) = self.plan {
            file[8] = 2;
            let values = plan.iter().flat_map(|entry| [entry.kept_rows, entry.group]);
            let offset = self.table(values.map(u16::to_le_bytes));
            self.varint(offset);
        }
        self.header.extend(records);
        let blob_offset = (96 + self.header.len()).next_multiple_of(64);
        let words = [
            self.header.len(),
            blob_offset,
            self.blob.len(),
            blob_offset + self.blob.len() + 4,
        ];
        for word in words {
            file.extend((word as u32).to_le_bytes());
        }
        file.extend(sizes.frontend_bytes.to_le_bytes());
        file.extend(sizes.arena.iter().flat_map(|bytes| bytes.to_le_bytes()));
        file.resize(96, 0);
        file.extend(self.header);
        file.resize(blob_offset, 0);
        file.extend(self.blob);
        let crc = crc32(&file);
        file.extend(crc.to_le_bytes());
        file
    }
}

#[test]
fn a_file_written_after_the_format_document_is_the_one_that_build_writes() {
    let mut least = tiny();
    (least.mel, least.decision, least.golden, least.head) = (None, None, None, None);
    least.classifier.weights.extend([7, -7]);
    for spec in [tiny(), least] {
        let built = spec.build(sizes()).expect("the parts fit together");
        let written = Writer::default().package(&spec, sizes());
        assert_eq!(written, *built);
    }
}

/// A plan makes it a file of version 2: an offset between header and records, a table at the end.
#[test]
fn a_plan_is_written_as_the_format_document_says() {
    let writer = Writer {
        plan: Some(&PLAN),
        ..Writer::default()
    };
    assert_eq!(writer.package(&tiny(), sizes()), *planned());
}

/// Outside the blob, where sums in 32 bits would wrap, and at an odd address.
#[test]
fn a_plan_that_is_not_there_is_refused() {
    let blob_len = get_u32(&planned(), 20);
    for offset in [u32::MAX, u32::MAX - 3, 1 << 31, blob_len, blob_len - 11, 1] {
        let writer = Writer {
            forged: Some((39, offset)),
            plan: Some(&PLAN),
            ..Writer::default()
        };
        let bytes = PackageBytes::copy_from(&writer.package(&tiny(), sizes()));
        assert_eq!(
            Package::parse(&bytes).expect_err("no plan there"),
            Error::Table {
                layer: u16::MAX,
                offset: offset.into(),
                len: 12
            }
        );
    }
}

/// The catalogue's check value for CRC-32/ISO-HDLC.
#[test]
fn the_checksum_is_the_documented_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

/// Every table in turn at the ends of its offset, where sums in 32 bits would wrap.
#[test]
fn a_table_outside_the_blob_is_refused_whichever_it_is() {
    let spec = tiny();
    // Seven convolutions and the classifier; a residual; the mel contract; golden vectors.
    let tables = 8 * 4 + 1 + 3 + 3;
    let blob_len = get_u32(&spec.build(sizes()).expect("the parts fit together"), 20);
    // Miri takes a thousand times as long: of the tables it sees every ninth.
    for table in (0..tables).step_by(if cfg!(miri) { 9 } else { 1 }) {
        for offset in [u32::MAX, u32::MAX - 3, 1 << 31, blob_len] {
            let writer = Writer {
                forged: Some((table, offset)),
                ..Writer::default()
            };
            let bytes = PackageBytes::copy_from(&writer.package(&spec, sizes()));
            let error = Package::parse(&bytes).expect_err("outside the blob");
            assert!(
                matches!(error, Error::Table { offset: found, .. } if found == u64::from(offset)),
                "table {table} at {offset}: {error:?}"
            );
        }
    }
    let past_the_last = Writer {
        forged: Some((tables, 0)),
        ..Writer::default()
    };
    assert_eq!(
        past_the_last.package(&spec, sizes()),
        *spec.build(sizes()).expect("the parts fit together"),
        "{tables} tables are all there are"
    );
}

/// An `i32` at an odd address is undefined behaviour in C and a trap on some cores.
#[test]
fn a_misaligned_table_is_refused() {
    // The stem's bias and multiplier, the window; 16-bit bins and audio.
    for (table, offset) in [(1, 2), (2, 65), (33, 6), (34, 1), (36, 3)] {
        let writer = Writer {
            forged: Some((table, offset)),
            ..Writer::default()
        };
        let bytes = PackageBytes::copy_from(&writer.package(&tiny(), sizes()));
        let error = Package::parse(&bytes).expect_err("misaligned");
        assert!(
            matches!(error, Error::Table { offset: found, .. } if found == u64::from(offset)),
            "table {table} at {offset}: {error:?}"
        );
    }
}

/// Twenty blocks that name the same tables: a file may stay small and ask for any amount of
/// checking, so tables together may not be longer than the blob.
#[test]
fn tables_that_share_bytes_are_refused_when_they_outgrow_the_blob() {
    let mut spec = tiny();
    (spec.mel, spec.decision, spec.golden) = (None, None, None);
    spec.blocks = vec![spec.blocks[0].clone(); 20];
    spec.head = Some(crate::tiny::convolution(4, 3, None, 70));
    let alone = Writer::default().package(&spec, sizes());
    assert!(Package::parse(&PackageBytes::copy_from(&alone)).is_ok());
    let sharing = Writer {
        share: true,
        ..Writer::default()
    };
    let shared = PackageBytes::copy_from(&sharing.package(&spec, sizes()));
    assert!(matches!(
        Package::parse(&shared).expect_err("shared tables"),
        Error::Overlap { layer: 2..=20 }
    ));
}
