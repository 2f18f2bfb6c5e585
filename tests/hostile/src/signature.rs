//! A signed package, changed anywhere: only the one that was signed is accepted.

use std::sync::LazyLock;

use sori_sign::{SecretKey, sign};

static SIGNED: LazyLock<(Vec<u8>, SecretKey)> = LazyLock::new(|| {
    let key = SecretKey::generate().expect("random numbers");
    (sign(sori_genre::PACKAGE, &key).expect("a package"), key)
});

pub(crate) fn check(data: &[u8]) {
    let (signed, key) = &*SIGNED;
    let mut file = signed.clone();
    // Where, and what: three bytes and one; the rest is put at the end.
    let (changes, rest) = data.as_chunks::<4>();
    for &[a, b, c, value] in changes.iter().take(8) {
        let at = u32::from_le_bytes([a, b, c, 0]) as usize % file.len();
        file[at] ^= value;
    }
    file.extend_from_slice(rest);
    assert_eq!(
        sori_sign::check(&file, &key.public()).is_ok(),
        file == *signed
    );
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![Vec::new(), vec![0, 0, 0, 1], vec![0x40, 1, 0, 0x80, 7]]
}
