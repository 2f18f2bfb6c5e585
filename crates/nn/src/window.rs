use crate::plan::HISTORY;

/// Windows of three in so many rows, `stride` apart.
pub(crate) fn windows(rows: usize, stride: usize) -> usize {
    match rows.checked_sub(3) {
        Some(beyond) => beyond / stride + 1,
        None => 0,
    }
}

/// A 3×3 kernel's view of time: up to two rows of history, then the new rows.
pub(crate) struct Window<'a> {
    pub(crate) row_len: usize,
    pub(crate) stride: usize,
    /// Valid rows of the history.
    pub(crate) have: &'a mut usize,
    pub(crate) history: &'a mut [i8],
}

impl Window<'_> {
    /// Shows each window of three rows to `on_window`, keeps the rows that later ones
    /// need, and returns the number of windows.
    pub(crate) fn slide(&mut self, new: &[i8], mut on_window: impl FnMut([&[i8]; 3])) -> usize {
        let (have, row_len) = (*self.have, self.row_len);
        let total = have + new.len() / row_len;
        let windows = windows(total, self.stride);
        for window in 0..windows {
            let first = window * self.stride;
            on_window(
                [first, first + 1, first + 2].map(|row| match row.checked_sub(have) {
                    Some(row) => &new[row * row_len..][..row_len],
                    None => &self.history[row * row_len..][..row_len],
                }),
            );
        }
        let first = windows * self.stride;
        let left = total - first;
        debug_assert!(left <= HISTORY);
        for slot in 0..left {
            let row = first + slot;
            match row.checked_sub(have) {
                Some(row) => self.history[slot * row_len..][..row_len]
                    .copy_from_slice(&new[row * row_len..][..row_len]),
                None => {
                    let from = row * row_len;
                    self.history
                        .copy_within(from..from + row_len, slot * row_len);
                }
            }
        }
        *self.have = left;
        windows
    }
}
