//! Writes NumPy's .npy, version 1.0: a magic, the length of a Python dict padded so that
//! the data starts at a multiple of 64, the dict, the data in C order.

/// An int8 matrix `[rows][columns]`.
pub(crate) fn int8_matrix(values: &[i8], columns: usize) -> Vec<u8> {
    let rows = values.len() / columns.max(1);
    let mut bytes = header("|i1", &format!("({rows}, {columns})"));
    bytes.extend(values.iter().map(|&value| value as u8));
    bytes
}

/// An int32 vector.
pub(crate) fn int32_vector(values: &[i32]) -> Vec<u8> {
    let mut bytes = header("<i4", &format!("({},)", values.len()));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn header(dtype: &str, shape: &str) -> Vec<u8> {
    const PREAMBLE: usize = 10;
    let dict = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    let end = (PREAMBLE + dict.len() + 1).next_multiple_of(64);
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(((end - PREAMBLE) as u16).to_le_bytes());
    bytes.extend(dict.as_bytes());
    bytes.resize(end - 1, b' ');
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_starts_at_a_multiple_of_64_after_a_line_feed() {
        let bytes = int8_matrix(&[1, -2, 3, 4, 5, 6], 3);
        assert_eq!(bytes.len(), 128 + 6);
        assert_eq!(bytes[127], b'\n');
        assert_eq!(bytes[128..], [1, 0xfe, 3, 4, 5, 6]);
        assert!(bytes.windows(6).any(|w| w == b"(2, 3)"));
        assert_eq!(int32_vector(&[-1])[128..], [0xff; 4]);
    }
}
