//! Statements with several rows of parameters. Few sizes, so that they stay prepared; large ones,
//! because each statement is a hop to the connection's thread and back.

use std::sync::Arc;

/// Rows in a statement, largest first; the last must be 1.
const SIZES: [usize; 4] = [256, 32, 4, 1];

/// The same statement for each number of rows.
pub(super) struct RowStatement([Arc<str>; SIZES.len()]);

impl RowStatement {
    /// A statement that has its rows, each written by `row` from its number, between two texts.
    pub(super) fn new(before: &str, row: impl Fn(usize) -> String, after: &str) -> Self {
        Self(SIZES.map(|size| {
            let rows: Vec<String> = (0..size).map(&row).collect();
            format!("{before}{}{after}", rows.join(",")).into()
        }))
    }

    /// Cuts rows into pieces, each with the statement that takes it.
    pub(super) fn pieces<'a, T>(
        &'a self,
        mut rows: &'a [T],
    ) -> impl Iterator<Item = (Arc<str>, &'a [T])> {
        std::iter::from_fn(move || {
            let fits = SIZES.iter().position(|&size| size <= rows.len())?;
            let (piece, rest) = rows.split_at(SIZES[fits]);
            rows = rest;
            Some((Arc::clone(&self.0[fits]), piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_piece_with_as_many_places() {
        let statement = RowStatement::new("values ", |row| format!("({row},?)"), ";");
        for count in [0, 1, 3, 4, 5, 300, 1000] {
            let rows: Vec<usize> = (0..count).collect();
            let mut seen = Vec::new();
            for (sql, piece) in statement.pieces(&rows) {
                assert_eq!(sql.matches('?').count(), piece.len());
                seen.extend_from_slice(piece);
            }
            assert_eq!(seen, rows);
        }
    }
}
