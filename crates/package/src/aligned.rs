/// Puts a package at the alignment [`crate::Package::parse`] needs.
///
/// `include_bytes!` promises no alignment; this does:
///
/// ```
/// use sori_package::Aligned;
/// // In firmware: static GENRE: &Aligned<[u8]> = &Aligned(*include_bytes!("genre.sori"));
/// static BYTES: &Aligned<[u8]> = &Aligned(*b"any bytes");
/// assert_eq!(BYTES.0.as_ptr() as usize % 64, 0);
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Aligned<T: ?Sized>(
    /// The bytes.
    pub T,
);
