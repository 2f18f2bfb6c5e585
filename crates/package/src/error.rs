use core::fmt;

/// Why bytes are not a package this version can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not those of a Sori package.
    NotAPackage,
    /// The package was written for a newer format.
    NewerVersion {
        /// Version in the file.
        found: u16,
        /// Newest version this build reads.
        supported: u16,
    },
    /// The file is too short or too long.
    Length {
        /// Bytes the prologue promises.
        expected: u64,
        /// Bytes present.
        found: u64,
    },
    /// The checksum is wrong: the file was damaged.
    Checksum {
        /// CRC32 in the file.
        expected: u32,
        /// CRC32 of its bytes.
        found: u32,
    },
    /// The bytes do not start at an address the tables can be read from.
    Misaligned {
        /// Alignment needed, bytes.
        needed: usize,
    },
    /// The header cannot be decoded.
    Header,
    /// A table lies outside the blob or is not aligned.
    Table {
        /// Layer index: 0 stem, 1… blocks, then head and classifier; 65535 outside the network.
        layer: u16,
        /// Offset claimed.
        offset: u64,
        /// Bytes claimed.
        len: u64,
    },
    /// The tables up to this layer are longer than the blob: some overlap.
    Overlap {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
    },
    /// There are more inverted residuals than [`crate::MAX_BLOCKS`].
    TooManyBlocks {
        /// Blocks in the header.
        found: u16,
    },
    /// Running could need more memory than a 32-bit target can address.
    TooLarge {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
        /// Bytes, up to this layer, with stripes of [`crate::MAX_STRIPE`] rows.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A layer's shapes are impossible.
    Shape {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
        /// What is wrong.
        what: &'static str,
    },
    /// A weight is -128, which paired 8-bit products cannot hold.
    WeightOutOfRange {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
    },
    /// A multiplier, shift or residual factor is outside the arithmetic contract.
    Requantize {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
        /// Output channel.
        channel: u16,
    },
    /// With these weights an accumulator could overflow 32 bits.
    Overflow {
        /// Layer index, as in [`Error::Table`].
        layer: u16,
        /// Output channel.
        channel: u16,
    },
    /// The front end cannot satisfy the mel contract.
    MelContract {
        /// What is wrong.
        what: &'static str,
    },
    /// The memory plan does not fit the network.
    Plan {
        /// Layer index, as in [`Error::Table`]; the head's for the last entry.
        layer: u16,
        /// What is wrong.
        what: &'static str,
    },
    /// Labels, thresholds or golden vectors do not fit the network.
    Contents {
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAPackage => f.write_str("this is not a Sori package (wrong magic bytes)"),
            Self::NewerVersion { found, supported } => write!(
                f,
                "the package has format version {found}, but this build reads up to {supported}: update Sori"
            ),
            Self::Length { expected, found } => write!(
                f,
                "the package should have {expected} bytes but has {found}: copy it again"
            ),
            Self::Checksum { expected, found } => write!(
                f,
                "the package is damaged (CRC32 {found:08x}, expected {expected:08x}): copy it again"
            ),
            Self::Misaligned { needed } => write!(
                f,
                "the package must start at a multiple of {needed} bytes: wrap it in `Aligned`"
            ),
            Self::Header => {
                f.write_str("the package's header cannot be decoded: quantize it again")
            }
            Self::Table { layer, offset, len } => write!(
                f,
                "layer {layer}: a table of {len} bytes at offset {offset} is outside the blob or misaligned"
            ),
            Self::Overlap { layer } => write!(
                f,
                "layer {layer}: the tables so far are longer than the blob, so some overlap"
            ),
            Self::TooManyBlocks { found } => write!(
                f,
                "the network has {found} inverted residuals, but at most {} are supported",
                crate::MAX_BLOCKS
            ),
            Self::TooLarge {
                layer,
                bytes,
                limit,
            } => write!(
                f,
                "layer {layer}: running could take {bytes} bytes; the limit is {limit}"
            ),
            Self::Shape { layer, what } => write!(f, "layer {layer}: {what}"),
            Self::WeightOutOfRange { layer } => {
                write!(
                    f,
                    "layer {layer}: a weight is -128; weights must be from -127 to 127"
                )
            }
            Self::Requantize { layer, channel } => write!(
                f,
                "layer {layer}, channel {channel}: multiplier, shift or residual factor outside the arithmetic contract"
            ),
            Self::Overflow { layer, channel } => write!(
                f,
                "layer {layer}, channel {channel}: the accumulator could overflow 32 bits"
            ),
            Self::MelContract { what } => write!(f, "mel contract: {what}"),
            Self::Plan { layer, what } => write!(f, "memory plan, layer {layer}: {what}"),
            Self::Contents { what } => f.write_str(what),
        }
    }
}

impl core::error::Error for Error {}
