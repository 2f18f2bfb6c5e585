/// Aligned memory for a network, for a `static` or the stack.
///
/// ```
/// let mut arena = sori_nn::Arena::<4096>::new();
/// assert_eq!(arena.as_mut_slice().len(), 4096);
/// ```
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct Arena<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Arena<BYTES> {
    /// All zeros, which puts a `static` into `.bss`.
    pub const fn new() -> Self {
        Self([0; BYTES])
    }

    /// The bytes, for [`crate::Network::new`].
    pub const fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const BYTES: usize> Default for Arena<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}
