//! Any network of the family, with any memory plan, in any pieces.

use sori_nn::testing::{Noise, Table, random_plan};
use sori_nn::{Backend, Network, Prepared};
use sori_package::Package;

use crate::Input;
use crate::package::{last_logits, logits};

/// Larger networks only cost time.
const ARENA_BYTES: usize = 1 << 20;
const ROWS: usize = 12;

pub(crate) fn check(data: &[u8]) {
    let mut input = Input(data);
    let mut noise = Noise::new(input.long().into());
    let table = Table::random(&mut noise);
    let bytes = table.bytes(&mut noise);
    let package = Package::parse(&bytes).expect("a package that was just written");
    let stripe = usize::from(input.byte()) % ROWS + 1;
    if Network::arena_bytes(&package, stripe) > ARENA_BYTES {
        return;
    }
    let rows = noise.int8(ROWS * package.input().row_len());
    let at_once = logits(&package, Backend::SCALAR, ROWS, &rows);
    for backend in Backend::available() {
        let in_stripes = logits(&package, backend, stripe, &rows);
        assert_eq!(in_stripes, at_once, "{} by {stripe}", backend.name());
    }
    // A plan replaces rows that are kept by rows that are computed again.
    let plan = random_plan(&package, &mut noise);
    let planned = Prepared::from(&package).with_plan(Some(&plan));
    let planned = planned.expect("a plan of this network");
    assert_eq!(last_logits(&planned, 1, &rows), at_once, "{plan:?}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    (0..40u8).map(|n| vec![n, 7, 0, 0, n]).collect()
}
