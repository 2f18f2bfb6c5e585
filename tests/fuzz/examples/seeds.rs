//! Writes the packages that fuzzing starts from to `corpus/parse`.

#[path = "../../../crates/package/tests/suite/tiny.rs"]
mod tiny;

fn main() -> std::io::Result<()> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/parse");
    std::fs::create_dir_all(corpus)?;
    let whole = tiny::tiny();
    let mut causal = whole.clone();
    for pad in [[2, 0], [0, 2]] {
        let depthwise = &mut causal.blocks[0].depthwise;
        depthwise.spatial = Some(tiny::spatial(1, 1, pad, [1, 1]));
        let bytes = causal.build(tiny::sizes()).expect("the parts fit together");
        std::fs::write(format!("{corpus}/pad-{}-{}.sori", pad[0], pad[1]), &*bytes)?;
    }
    std::fs::write(format!("{corpus}/planned.sori"), &*tiny::planned())?;
    let mut image = whole.clone();
    (image.mel, image.decision, image.golden) = (None, None, None);
    image.labels.clear();
    for (name, spec) in [("whole", whole), ("image", image)] {
        let bytes = spec.build(tiny::sizes()).expect("the parts fit together");
        std::fs::write(format!("{corpus}/{name}.sori"), &*bytes)?;
    }
    Ok(())
}
