use crate::plan::HISTORY;
use crate::split::History;

/// Windows of three in so many rows, `stride` apart.
pub(crate) fn windows(rows: usize, stride: usize) -> usize {
    match rows.checked_sub(3) {
        Some(beyond) => beyond / stride + 1,
        None => 0,
    }
}

/// A 3×3 kernel's view of time: up to two rows of history, the new rows, then padding.
pub(crate) struct Window<'a> {
    pub(crate) row_len: usize,
    pub(crate) stride: usize,
    /// Valid rows of the history.
    pub(crate) have: &'a mut History,
    pub(crate) history: &'a mut [i8],
    pub(crate) new: &'a [i8],
    /// Rows of padding, each of them this one.
    pub(crate) padding: usize,
    pub(crate) padding_row: &'a [i8],
}

impl Window<'_> {
    fn have(&self) -> usize {
        self.have.rows.into()
    }

    fn rows(&self) -> usize {
        self.have() + self.new.len() / self.row_len + self.padding
    }

    /// How many windows of three rows there are.
    pub(crate) fn count(&self) -> usize {
        windows(self.rows(), self.stride)
    }

    /// The rows of window `n`.
    pub(crate) fn nth(&self, n: usize) -> [&[i8]; 3] {
        let first = n * self.stride;
        // Most windows lie within the new rows.
        let new = first.checked_sub(self.have());
        let rows = new.and_then(|row| self.new.get(row * self.row_len..)?.get(..3 * self.row_len));
        if let Some(rows) = rows {
            let (a, rows) = rows.split_at(self.row_len);
            let (b, c) = rows.split_at(self.row_len);
            return [a, b, c];
        }
        [first, first + 1, first + 2].map(|row| self.row(row))
    }

    fn row(&self, row: usize) -> &[i8] {
        let (from, row) = match row.checked_sub(self.have()) {
            Some(row) => (self.new, row),
            None => (&*self.history, row),
        };
        from.get(row * self.row_len..)
            .and_then(|rest| rest.get(..self.row_len))
            .unwrap_or(self.padding_row)
    }

    /// Keeps the rows that later windows need.
    pub(crate) fn keep(self) {
        let first = self.count() * self.stride;
        let left = self.rows() - first;
        debug_assert!(left <= HISTORY);
        for slot in 0..left {
            let place = slot * self.row_len;
            let row = first + slot;
            if row < self.have() {
                let from = row * self.row_len;
                self.history.copy_within(from..from + self.row_len, place);
            } else {
                let new = self.new.get((row - self.have()) * self.row_len..);
                let row = new.and_then(|rest| rest.get(..self.row_len));
                self.history[place..][..self.row_len]
                    .copy_from_slice(row.unwrap_or(self.padding_row));
            }
        }
        self.have.rows = left as u8;
    }
}
