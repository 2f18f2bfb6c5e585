//! What streaming saves, in bytes.

use sori_nn::testing::{Noise, Table};
use sori_nn::{Network, memory};
use sori_package::{Package, TensorShape};

/// The two networks that peers are measured with.
#[test]
fn streaming_needs_a_fraction_of_layer_by_layer_memory() {
    println!("network              row at a time   whole clip   layer by layer   MMAC");
    for (name, input, width, rows) in [
        (
            "1.0, 224×224×3",
            TensorShape {
                width: 224,
                channels: 3,
            },
            1.0,
            224,
        ),
        (
            "0.35, 96×128×1",
            TensorShape {
                width: 128,
                channels: 1,
            },
            0.35,
            96,
        ),
    ] {
        let bytes = Table::mobilenet_v2(input, width, 10, false).bytes(&mut Noise::new(1));
        let package = Package::parse(&bytes).expect("valid");
        let streaming = Network::arena_bytes(&package, 1);
        let whole = Network::arena_bytes(&package, rows);
        let layers = memory::layer_by_layer_bytes(&package, rows);
        let macs = memory::macs(&package, rows) as f64 / 1e6;
        println!("{name:18} {streaming:15} {whole:12} {layers:16} {macs:6.1}");
        assert!(streaming * 3 < layers);
    }
}

#[test]
fn the_prologue_states_the_arena_of_each_stripe() {
    let input = TensorShape {
        width: 64,
        channels: 1,
    };
    let bytes = Table::mobilenet_v2(input, 0.5, 10, true).bytes(&mut Noise::new(1));
    let package = Package::parse(&bytes).expect("valid");
    for stripe in [1, 2, 4, 8, 16, 32, 64, 128] {
        let stated = package.prologue().arena_bytes(stripe);
        assert_eq!(
            stated,
            Network::arena_bytes(&package, stripe),
            "stripe {stripe}"
        );
    }
}
