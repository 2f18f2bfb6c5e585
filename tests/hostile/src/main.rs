//! Writes what fuzzing starts from into the folder given, a folder for each target, and says which
//! targets there are: a line `NAME LONGEST` each.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    for target in sori_hostile::TARGETS {
        let folder = Path::new(&folder).join(target.name);
        fs::create_dir_all(&folder)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{n}")), seed)?;
        }
        println!("{} {}", target.name, target.longest);
    }
    Ok(())
}
