//! Any ONNX file is imported or refused: no panic, no memory beyond what its size explains.

use sori_quantize::Onnx;

pub(crate) fn check(data: &[u8]) {
    let _ = Onnx::from_bytes(data);
}

/// A graph of one node, as protocol buffers have it: by hand, so that no exporter is needed.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }
    let dimension = field(1, &[1 << 3, 1]);
    let shape = field(2, &[dimension.clone(), dimension].concat());
    let kind = field(2, &field(1, &[&[1 << 3, 1][..], &shape].concat()));
    let value = |name: &str| [field(1, name.as_bytes()), kind.clone()].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Relu")].concat();
    let graph = [
        field(1, &node),
        field(2, b"g"),
        field(11, &value("x")),
        field(12, &value("y")),
    ];
    let graph = graph.concat();
    let long = [graph.len() as u8 & 0x7f | 0x80, (graph.len() >> 7) as u8];
    let model = [
        &[1 << 3, 8][..],
        &[7 << 3 | 2],
        &long,
        &graph,
        &field(8, &[2 << 3, 13]),
    ];
    vec![model.concat()]
}
