use std::fs;
use std::path::Path;

use sori_package::file::{MAX_LEN, Unreadable, read};
use sori_package::{Error, Package};

use crate::tiny::{sizes, tiny};

fn package() -> Vec<u8> {
    tiny().build(sizes()).expect("valid").to_vec()
}

fn refusal(path: &Path) -> Unreadable {
    read(path).expect_err("it is no package")
}

#[test]
fn a_package_is_read_as_it_is_with_and_without_a_signature() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sori");
    let package = package();
    for behind in [&[][..], &[7; sori_package::Signature::LEN]] {
        let bytes = [&package, behind].concat();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(*read(&path).unwrap(), bytes);
    }
    fs::write(&path, &package).unwrap();
    Package::parse(&read(&path).unwrap()).expect("aligned and whole");
}

/// A gigabyte that begins as something else, or as a package of another length: neither is read.
#[test]
fn a_file_of_another_length_is_refused_by_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sori");
    let long = |start: &[u8]| {
        fs::write(&path, start).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        // A hole: it takes no disk.
        file.set_len(1 << 40).unwrap();
        refusal(&path)
    };
    assert!(matches!(
        long(b"no package"),
        Unreadable::Package(Error::NotAPackage)
    ));
    assert!(matches!(
        long(&package()),
        Unreadable::TooLong { len } if len == 1 << 40
    ));
    let package = package();
    for len in [0, 7, 95, 96, package.len() - 1, package.len() + 1] {
        let mut bytes = package.clone();
        bytes.resize(len, 0);
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(refusal(&path), Unreadable::Package(_)), "{len}");
    }
    // It says that it is longer than any package may be.
    let mut bytes = package;
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(u32::MAX.into()).unwrap();
    let refusal = refusal(&path).to_string();
    assert!(refusal.contains(&MAX_LEN.to_string()), "{refusal}");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(refusal(folder.path()), Unreadable::NotAFile));
    assert!(matches!(
        refusal(&folder.path().join("none")),
        Unreadable::Io(_)
    ));
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert!(matches!(refusal(&pipe), Unreadable::NotAFile));
        assert!(matches!(
            refusal(Path::new("/dev/zero")),
            Unreadable::NotAFile
        ));
    }
}

/// Somebody writes it anew while it is read, as `scp` does: one of the two comes out, or an error.
#[test]
fn a_file_that_changes_while_it_is_read_is_one_package_or_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sori");
    let mut other = tiny();
    other.provenance.name = "another".into();
    let both = [package(), other.build(sizes()).expect("valid").to_vec()];
    fs::write(&path, &both[0]).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let accepted = std::thread::scope(|scope| {
        scope.spawn(|| {
            for package in both.iter().cycle() {
                if is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                fs::write(&path, package).unwrap();
            }
        });
        let read = || {
            read(&path)
                .ok()
                .filter(|bytes| Package::parse(bytes).is_ok())
        };
        let accepted: Vec<_> = (0..2_000).filter_map(|_| read()).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        accepted
    });
    assert!(!accepted.is_empty());
    assert!(
        accepted
            .iter()
            .all(|bytes| both.iter().any(|whole| **bytes == **whole))
    );
}
