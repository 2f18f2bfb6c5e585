//! The crates that a program is made of: what a bill of materials lists, and the licences that
//! have to go with the program.
//!
//! From `cargo tree`, which alone resolves the features of one package for one target as its
//! build does. cargo-cyclonedx writes the folders of this machine into its bills, and beside every
//! manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::tools;

/// Between what `cargo tree` says of a crate.
const BAR: char = '|';

/// What is built.
pub(super) struct Program<'a> {
    pub(super) package: &'a str,
    /// The workspace's folder.
    pub(super) workspace: &'a str,
    pub(super) target: &'a str,
    pub(super) features: &'a str,
}

/// A crate within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    /// SPDX.
    licence: String,
    /// Of this repository.
    is_ours: bool,
}

impl Crate {
    /// Its name wherever packages have one: <https://github.com/package-url/purl-spec>.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// A program's crates, itself the first to be found, and which need which.
pub(super) struct Inventory {
    root: Crate,
    needs: BTreeMap<Crate, BTreeSet<Crate>>,
    /// `name version` to SHA-256, of Cargo.lock.
    checksums: BTreeMap<String, String>,
    /// `name version` to the folder with its sources.
    folders: BTreeMap<String, PathBuf>,
}

impl Inventory {
    pub(super) fn of(program: &Program<'_>) -> anyhow::Result<Self> {
        let tree = tools::captured(
            Command::new("cargo")
                .args(["tree", "--locked", "-p", program.package])
                .args(["--target", program.target, "--features", program.features])
                .args(["-e", "normal,no-proc-macro", "--prefix", "depth"])
                .args(["--no-dedupe", "--format", "|{p}|{l}"])
                .current_dir(program.workspace),
        )?;
        let (root, needs) = read_tree(&String::from_utf8(tree.stdout)?)?;
        let lock = Path::new(program.workspace).join("Cargo.lock");
        let lock = fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
        let metadata = tools::captured(
            Command::new("cargo")
                .args(["metadata", "--locked", "--format-version=1"])
                .args(["--filter-platform", program.target])
                .current_dir(program.workspace),
        )?;
        Ok(Self {
            root,
            needs,
            checksums: read_lock(&lock),
            folders: read_metadata(&serde_json::from_slice(&metadata.stdout)?),
        })
    }

    /// A bill of materials: <https://cyclonedx.org/docs/1.6/json/>. It has neither a time nor a
    /// number of its own, so that the same program has the same bill.
    pub(super) fn bill(&self, target: &str) -> Value {
        let components: Vec<Value> = self
            .needs
            .keys()
            .filter(|&of| *of != self.root)
            .map(|of| {
                let mut component = component(of, "library");
                if let Some(sha256) = self.checksums.get(&format!("{} {}", of.name, of.version)) {
                    component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
                }
                component
            })
            .collect();
        let dependencies: Vec<Value> = self
            .needs
            .iter()
            .map(|(of, needs)| {
                let needs: Vec<String> = needs.iter().map(Crate::purl).collect();
                json!({ "ref": of.purl(), "dependsOn": needs })
            })
            .collect();
        let mut root = component(&self.root, "application");
        root["properties"] = json!([{ "name": "cdx:rustc:sbom:target:triple", "value": target }]);
        json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": { "component": root },
            "components": components,
            "dependencies": dependencies,
        })
    }

    /// The licences of others' crates, each text once, under the names of the crates that have it.
    pub(super) fn licences(&self) -> anyhow::Result<String> {
        let mut texts = BTreeMap::<String, BTreeSet<String>>::new();
        let mut without = BTreeSet::new();
        for of in self.needs.keys().filter(|of| !of.is_ours) {
            let name = format!("{} {}", of.name, of.version);
            let folder = self.folders.get(&name);
            let folder = folder.with_context(|| format!("cargo metadata does not have {name}"))?;
            let found = licence_files(folder)?;
            if found.is_empty() {
                without.insert(format!("{name}: {}", of.licence));
            }
            for file in found {
                let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                texts
                    .entry(text.trim().replace("\r\n", "\n"))
                    .or_default()
                    .insert(format!("{name}: {}", of.licence));
            }
        }
        ensure!(!texts.is_empty(), "no crate has a licence");
        let mut all = format!("What is in {} besides its own code.\n", self.root.name);
        if !without.is_empty() {
            all += "\nWithout a text of their own, by the licences that they name:\n\n";
            all += &lines(&without);
        }
        // In the order of their crates, which is nobody's choice.
        let mut texts: Vec<_> = texts.into_iter().collect();
        texts.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        for (text, names) in texts {
            all += &format!("\n{}\n\n{}\n{text}\n", "─".repeat(78), lines(&names));
        }
        Ok(all)
    }
}

fn lines(names: &BTreeSet<String>) -> String {
    names.iter().map(|name| format!("{name}\n")).collect()
}

fn component(of: &Crate, kind: &str) -> Value {
    json!({
        "type": kind,
        "bom-ref": of.purl(),
        "name": of.name,
        "version": of.version,
        "licenses": [{ "expression": of.licence }],
        "purl": of.purl(),
    })
}

/// Lines as `2|heapless v0.9.3|MIT OR Apache-2.0`: how deep it is, and what it is.
fn read_tree(tree: &str) -> anyhow::Result<(Crate, BTreeMap<Crate, BTreeSet<Crate>>)> {
    let mut needs = BTreeMap::<Crate, BTreeSet<Crate>>::new();
    let mut path: Vec<Crate> = Vec::new();
    for line in tree.lines() {
        let unreadable = || format!("cargo tree says {line:?}");
        let mut fields = line.split(BAR);
        let mut field = || fields.next().with_context(unreadable);
        let depth: usize = field()?.parse().with_context(unreadable)?;
        let (package, licence) = (field()?, field()?);
        let mut words = package.split(' ');
        let name = words.next().with_context(unreadable)?;
        let version = words.next().and_then(|word| word.strip_prefix('v'));
        let found = Crate {
            name: name.to_owned(),
            version: version.with_context(unreadable)?.to_owned(),
            // As Cargo still reads it, and SPDX does not.
            licence: licence.replace('/', " OR "),
            // Named by where it is.
            is_ours: words.next().is_some_and(|word| word.starts_with('(')),
        };
        ensure!(depth <= path.len(), unreadable());
        path.truncate(depth);
        if let Some(above) = path.last() {
            needs
                .entry(above.clone())
                .or_default()
                .insert(found.clone());
        }
        needs.entry(found.clone()).or_default();
        path.push(found);
    }
    let root = path.into_iter().next().context("cargo tree says nothing")?;
    ensure!(needs.len() > 1, "cargo tree knows only {}", root.name);
    Ok((root, needs))
}

/// `name = "a"`, `version = "1"`, and of those of a registry `checksum = "…"`.
fn read_lock(lock: &str) -> BTreeMap<String, String> {
    let packages = lock.split("[[package]]").skip(1);
    let value = |package: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = package.lines().find_map(|line| line.strip_prefix(&start))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    packages
        .filter_map(|package| {
            let (name, version) = (value(package, "name")?, value(package, "version")?);
            Some((format!("{name} {version}"), value(package, "checksum")?))
        })
        .collect()
}

fn read_metadata(metadata: &Value) -> BTreeMap<String, PathBuf> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter_map(|package| {
            let (name, version) = (package["name"].as_str()?, package["version"].as_str()?);
            let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
            Some((format!("{name} {version}"), folder.to_owned()))
        })
        .collect()
}

/// In their order.
fn licence_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_uppercase();
        let is_one = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ]
        .iter()
        .any(|start| name.starts_with(start));
        if is_one && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0|sori v0.1.0 (/here/host-tools/sori)|MIT OR Apache-2.0
1|heapless v0.9.3|MIT/Apache-2.0
2|hash32 v0.3.1|MIT OR Apache-2.0
1|sori-nn v0.1.0 (/here/crates/nn)|MIT OR Apache-2.0
2|heapless v0.9.3|MIT/Apache-2.0
3|hash32 v0.3.1|MIT OR Apache-2.0
";

    #[test]
    fn a_tree_becomes_crates_and_what_they_need() {
        let (root, needs) = read_tree(TREE).expect("a tree");
        assert_eq!(root.purl(), "pkg:cargo/sori@0.1.0");
        let needs: Vec<(&str, Vec<&str>)> = needs
            .iter()
            .map(|(of, needs)| (&*of.name, needs.iter().map(|need| &*need.name).collect()))
            .collect();
        assert_eq!(
            needs,
            [
                ("hash32", vec![]),
                ("heapless", vec!["hash32"]),
                ("sori", vec!["heapless", "sori-nn"]),
                ("sori-nn", vec!["heapless"]),
            ]
        );
        assert!(read_tree("").is_err());
        assert!(read_tree("2|a v1|MIT\n").is_err(), "nothing is above it");
    }

    #[test]
    fn a_bill_names_no_folder_of_this_machine_and_every_checksum() {
        let (root, needs) = read_tree(TREE).expect("a tree");
        let lock = "version = 4\n\n[[package]]\nname = \"heapless\"\nversion = \"0.9.3\"\nsource = \"registry\"\nchecksum = \"ab12\"\n\n[[package]]\nname = \"sori-nn\"\nversion = \"0.1.0\"\n";
        let inventory = Inventory {
            root,
            needs,
            checksums: read_lock(lock),
            folders: BTreeMap::new(),
        };
        let bill = inventory.bill("x86_64-unknown-linux-musl");
        assert!(!bill.to_string().contains("/here"), "{bill}");
        let components = bill["components"].as_array().expect("components");
        let names: Vec<&Value> = components.iter().map(|of| &of["name"]).collect();
        assert_eq!(names, ["hash32", "heapless", "sori-nn"]);
        assert_eq!(components[1]["hashes"][0]["content"], "ab12");
        assert_eq!(
            components[1]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(components[2].get("hashes"), None);
        let dependencies = bill["dependencies"].as_array().expect("dependencies");
        assert_eq!(dependencies.len(), 4, "the program and its crates");
    }

    /// As Cargo has it today.
    #[test]
    fn every_foreign_crate_of_the_listener_has_a_checksum_and_a_licence() {
        let target = "aarch64-unknown-linux-musl";
        let inventory = Inventory::of(&Program {
            package: "sori-listener",
            workspace: "../..",
            target,
            features: "",
        })
        .expect("cargo tree");
        let bill = inventory.bill(target);
        let components = bill["components"].as_array().expect("components");
        assert!(components.len() > 10, "{}", components.len());
        for component in components {
            let is_ours = component["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("sori-"));
            assert_eq!(component.get("hashes").is_none(), is_ours, "{component}");
        }
        let licences = inventory.licences().expect("texts");
        for of in inventory.needs.keys().filter(|of| !of.is_ours) {
            let line = format!("\n{} {}: ", of.name, of.version);
            assert!(licences.contains(&line), "{} is left out", of.name);
        }
    }
}
