//! This machine computes the golden results.

use sori_conformance::host;
use sori_listener::{Memory, verify};
use sori_nn::{Backend, CacheLine, Network, Prepared};
use sori_package::Package;

#[test]
fn every_case_has_the_golden_bits() {
    let mut different = String::new();
    let summary = sori_conformance::check(&mut |outcome| {
        if !outcome.is_golden() {
            different += &format!("{outcome:x?}\n");
        }
    });
    assert!(
        summary.is_golden(),
        "{summary:?}; if the change is meant: cargo xtask golden\n{different}"
    );
}

#[test]
fn the_demo_clip_is_heard_as_the_golden_file_says() {
    assert_eq!(host::listening(), host::golden_text("listening.txt"));
}

#[test]
fn the_released_package_reproduces_its_golden_vectors() {
    let bytes = host::package(&host::model("genre.sori"));
    let package = Package::parse(&bytes).expect("a release is valid");
    for backend in Backend::available() {
        let mut weights = vec![CacheLine([0; 64]); Prepared::lines(&package, backend)];
        let prepared = Prepared::new(&package, backend, &mut weights).expect("exact");
        for stripe in [1, 7, 128] {
            let mut frontend = vec![0; package.prologue().frontend_bytes().div_ceil(4)];
            let mut arena = vec![0u32; Network::arena_bytes(&prepared, stripe).div_ceil(4)];
            let memory = Memory {
                frontend: &mut frontend,
                arena: bytemuck::cast_slice_mut(&mut arena),
            };
            let verified =
                verify(&prepared, memory, stripe).unwrap_or_else(|e| panic!("{backend}: {e}"));
            assert!(verified.feature_rows > 0 && verified.output_rows > 0);
        }
    }
}
