//! Clips for calibration and evaluation.

use std::borrow::Cow;

use anyhow::{Context as _, Result, bail, ensure};
use sori_package::{Activation, TensorShape};

use crate::answers::dequantize;

/// Feature rows of one clip, `[rows][width][channels]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// From the front end.
    Int8(Vec<i8>),
    /// As the network was trained, for packages without a contract.
    Float(Vec<f32>),
}

impl Rows {
    /// In real numbers; int8 rows are steps of `input`.
    pub fn floats(&self, input: &Activation) -> Cow<'_, [f32]> {
        match self {
            Self::Int8(rows) => rows.iter().map(|&q| dequantize(q, input)).collect(),
            Self::Float(floats) => floats.into(),
        }
    }

    /// Reads an .npy file: int8 or float32, `[rows, width, channels]`, or `[rows, width]`
    /// if there is one channel.
    ///
    /// # Errors
    /// When it is not such a file, or its rows do not fit the network.
    pub fn from_npy(bytes: &[u8], row: TensorShape) -> Result<Self> {
        let (dict, data) = header(bytes).context("not an .npy file, or damaged")?;
        let entry = |key: &str| {
            let (_, rest) = dict.split_once(key)?;
            Some(rest.trim_start_matches([':', ' ']))
        };
        let shape = entry("'shape'")
            .and_then(|rest| rest.strip_prefix('(')?.split_once(')'))
            .context("the .npy file has no shape: save it again")?
            .0;
        let axes: Vec<usize> = shape
            .split(',')
            .map(str::trim)
            .filter(|axis| !axis.is_empty())
            .map(|axis| axis.parse().context("the .npy file's shape is damaged"))
            .collect::<Result<_>>()?;
        let (width, channels) = (usize::from(row.width), usize::from(row.channels));
        let fits = match axes[..] {
            [_, w] => w == width && channels == 1,
            [_, w, c] => w == width && c == channels,
            _ => false,
        };
        ensure!(
            fits,
            "the array has shape ({shape}): the network takes [rows, {width}, {channels}]"
        );
        ensure!(
            entry("'fortran_order'").is_some_and(|rest| rest.starts_with("False")),
            "the array is in Fortran order: save np.ascontiguousarray(x) instead"
        );
        let values = axes[0].saturating_mul(width * channels);
        let ensure_len = |size: usize| {
            ensure!(
                values.checked_mul(size) == Some(data.len()),
                "the .npy file has {} bytes of data for {values} values: copy it again",
                data.len()
            );
            Ok(())
        };
        match entry("'descr'").and_then(|rest| rest.get(1..4)) {
            Some("|i1") => {
                ensure_len(1)?;
                Ok(Self::Int8(data.iter().map(|&b| b as i8).collect()))
            }
            Some("<f4") => {
                ensure_len(4)?;
                let (values, _) = data.as_chunks();
                Ok(Self::Float(
                    values.iter().map(|&b| f32::from_le_bytes(b)).collect(),
                ))
            }
            _ => bail!("the array is neither int8 nor float32: convert it"),
        }
    }
}

/// The header's dict and what follows it (NEP 1).
fn header(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (preamble, rest) = bytes.split_first_chunk::<8>()?;
    let (len, rest) = match preamble {
        b"\x93NUMPY\x01\x00" => {
            let (len, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_le_bytes(*len).into(), rest)
        }
        b"\x93NUMPY\x02\x00" | b"\x93NUMPY\x03\x00" => {
            let (len, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*len) as usize, rest)
        }
        _ => return None,
    };
    let (dict, data) = rest.split_at_checked(len)?;
    Some((std::str::from_utf8(dict).ok()?, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: TensorShape = TensorShape {
        width: 2,
        channels: 1,
    };

    fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut dict =
            format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
        dict.extend(std::iter::repeat_n(' ', 117 - dict.len()));
        dict.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        bytes.extend(dict.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn int8_and_float_rows_are_read() {
        assert_eq!(
            Rows::from_npy(&npy("|i1", "(2, 2)", &[1, 0xff, 3, 4]), ROW).expect("int8"),
            Rows::Int8(vec![1, -1, 3, 4])
        );
        let halves: Vec<u8> = [0.5f32; 2].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(
            Rows::from_npy(&npy("<f4", "(1, 2, 1)", &halves), ROW).expect("float"),
            Rows::Float(vec![0.5; 2])
        );
    }

    #[test]
    fn what_is_no_array_of_rows_is_refused() {
        for (bytes, why) in [
            (vec![], "not an .npy"),
            (b"RIFF".to_vec(), "not an .npy"),
            (npy("|i1", "(2, 3)", &[0; 6]), "[rows, 2, 1]"),
            (npy("|i1", "(4,)", &[0; 4]), "[rows, 2, 1]"),
            (npy("|i1", "(2, 2)", &[0; 3]), "copy it again"),
            (npy("|i1", "(99999999999999999999, 2)", &[]), "damaged"),
            (npy("<f4", "(9223372036854775807, 2)", &[]), "copy it again"),
            (npy("<i4", "(1, 2)", &[0; 8]), "neither int8 nor float32"),
        ] {
            let message = format!("{:#}", Rows::from_npy(&bytes, ROW).expect_err(why));
            assert!(message.contains(why), "{message}");
        }
    }
}
