//! The instruction sets that run the network, and its weights in the order they need. Only this
//! module knows processors; every backend here matches `kernels` bit for bit.
//!
//! One set of vector kernels (`pointwise`, `depthwise`, `stem`) is written in the operations of
//! [`simd::Simd`], which each instruction set implements; `cortex_m` holds those for cores without
//! vectors, which read a package's weights in place.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        dead_code,
        unused_imports,
        reason = "no instruction set to write them in"
    )
)]

use core::fmt;

use bytemuck::{Pod, Zeroable};
use sori_package::{BlockPlan, Classifier, Convolution, MAX_BLOCKS, Package};

use crate::kernels;
use crate::kernels::pointwise::Residual;
use crate::plan::spatial;
use crate::{Caches, Error};
pub(crate) use cortex_m::{least_unpacked_len, transpose, unpacked_len};
use pack::{Factors, Header, Layout};
use simd::{Clamp, Layer, Simd};

/// Whether the processor has a feature: tested at run time with `std`, otherwise at compile time.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! detected {
    ($feature:tt) => {{
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        let has = std::arch::is_x86_feature_detected!($feature);
        #[cfg(all(feature = "std", target_arch = "aarch64"))]
        let has = std::arch::is_aarch64_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = $feature);
        has
    }};
}

mod classifier;
// Kernels index several arrays by one counter, which iterators only hide.
#[allow(unsafe_code, clippy::needless_range_loop)]
mod cortex_m;
// Kernels index several arrays of vectors by one counter, which iterators only hide.
#[allow(unsafe_code, clippy::needless_range_loop)]
mod depthwise;
mod pack;
#[allow(unsafe_code, clippy::needless_range_loop)]
mod pointwise;
#[allow(unsafe_code)]
mod simd;
mod stem;

#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
mod aarch64;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86;

/// An instruction set that this processor has.
///
/// Every backend gives the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scalar,
    #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
    Armv7m(cortex_m::Plain),
    #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
    Armv7em(cortex_m::Dsp),
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86::Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    Neon(aarch64::Neon),
    #[cfg(target_arch = "aarch64")]
    Dotprod(aarch64::Dotprod),
}

impl Backend {
    /// Runs anywhere, on a package in place. The specification.
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest one of this processor: detected at run time with the feature `std`, otherwise
    /// from the target's compile-time features.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::SCALAR)
    }

    /// All that this processor has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let kinds = [
            Some(Kind::Scalar),
            #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
            cortex_m::Plain::new().map(Kind::Armv7m),
            #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
            cortex_m::Dsp::new().map(Kind::Armv7em),
            #[cfg(target_arch = "x86_64")]
            x86::Avx2::new().map(Kind::Avx2),
            #[cfg(target_arch = "x86_64")]
            x86::AvxVnni::new().map(Kind::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            x86::Avx512Vnni::new().map(Kind::Avx512Vnni),
            #[cfg(target_arch = "aarch64")]
            aarch64::Neon::new().map(Kind::Neon),
            #[cfg(target_arch = "aarch64")]
            aarch64::Dotprod::new().map(Kind::Dotprod),
        ];
        kinds.into_iter().flatten().map(Self)
    }

    /// A Cortex-M's backends in plain Rust: slow, with the same kernels and bits.
    #[cfg(any(test, feature = "testing"))]
    pub fn emulated() -> impl Iterator<Item = Self> {
        let kinds = [
            #[cfg(not(target_arch = "arm"))]
            Kind::Armv7m(cortex_m::Plain::EMULATED),
            #[cfg(not(target_arch = "arm"))]
            Kind::Armv7em(cortex_m::Dsp::EMULATED),
        ];
        kinds.into_iter().map(Self)
    }

    /// The one with this name, if this processor has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().find(|backend| backend.name() == name)
    }

    /// `scalar`, `armv7m`, `armv7em`, `avx2`, `avxvnni`, `avx512vnni`, `neon` or `dotprod`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
            Kind::Armv7m(_) => "armv7m",
            #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
            Kind::Armv7em(_) => "armv7em",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni(_) => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(_) => "avx512vnni",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod(_) => "dotprod",
        }
    }

    /// Of packed weights; backends without vectors read the package's own.
    fn layout(self) -> Option<Layout> {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        fn of<S: Simd>(_: S, paired: bool) -> Option<Layout> {
            Some(Layout {
                lanes: S::LANES,
                half: S::HAS_HALF,
                unsigned: S::UNSIGNED,
                paired,
                fast: S::FAST,
                patch_multiple: 4 * S::STEPS,
            })
        }
        match self.0 {
            Kind::Scalar => None,
            #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
            Kind::Armv7m(_) => None,
            #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
            Kind::Armv7em(_) => None,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => of(simd, false),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni(simd) => of(simd, false),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(simd) => of(simd, false),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(simd) => of(simd, true),
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod(simd) => of(simd, false),
        }
    }

    /// Whether it reads the package's own weights.
    pub(crate) fn runs_in_place(self) -> bool {
        self.layout().is_none()
    }

    /// Runs a layer's vector kernels, if there are vectors.
    #[inline]
    fn run<L: Layer>(self, layer: L) {
        match self.0 {
            Kind::Scalar => drop(layer),
            #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
            Kind::Armv7m(_) => drop(layer),
            #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
            Kind::Armv7em(_) => drop(layer),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => layer.run(simd),
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni(simd) => layer.run(simd),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni(simd) => layer.run(simd),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(simd) => layer.run(simd),
            #[cfg(target_arch = "aarch64")]
            Kind::Dotprod(simd) => layer.run(simd),
        }
    }
}

impl Default for Backend {
    fn default() -> Self {
        Self::detect()
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Memory for packed weights, aligned so that no vector crosses a cache line.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct CacheLine(pub [u8; 64]);

/// A package prepared for a backend. Any number of [`crate::Network`]s can share one.
#[derive(Debug, Clone)]
pub struct Prepared<'p> {
    package: Package<'p>,
    backend: Backend,
    caches: Caches,
    weights: &'p [CacheLine],
    plan: Option<&'p [BlockPlan]>,
    fast: FastLayers,
}

impl<'p> From<&Package<'p>> for Prepared<'p> {
    /// For [`Backend::SCALAR`], which needs no memory.
    fn from(package: &Package<'p>) -> Self {
        Self {
            package: package.clone(),
            backend: Backend::SCALAR,
            caches: Caches::SMALL,
            weights: &[],
            plan: package.plan(),
            fast: FastLayers::default(),
        }
    }
}

impl<'p> From<&Self> for Prepared<'p> {
    fn from(prepared: &Self) -> Self {
        prepared.clone()
    }
}

impl<'p> Prepared<'p> {
    /// The exact number of cache lines that the backend needs for this package; 0 for backends
    /// that read the package in place: [`Backend::SCALAR`] and those of a Cortex-M.
    pub fn lines(package: &Package<'_>, backend: Backend) -> usize {
        let Some(layout) = backend.layout() else {
            return 0;
        };
        let mut bytes = 0;
        for_each_convolution(package, &mut |convolution, role| {
            bytes += role.bytes(layout, convolution);
        });
        bytes / size_of::<CacheLine>()
    }

    /// Packs the weights. This takes about as long as one inference of a large image.
    ///
    /// # Errors
    /// [`Error::WeightMemoryTooSmall`].
    pub fn new(
        package: &Package<'p>,
        backend: Backend,
        memory: &'p mut [CacheLine],
    ) -> Result<Self, Error> {
        let (needed, found) = (Self::lines(package, backend), memory.len());
        let Some(memory) = memory.get_mut(..needed) else {
            return Err(Error::WeightMemoryTooSmall { needed, found });
        };
        if let Some(layout) = backend.layout() {
            let mut rest = &mut *memory;
            for_each_convolution(package, &mut |convolution, role| {
                let lines = role.bytes(layout, convolution) / size_of::<CacheLine>();
                let (region, later) = core::mem::take(&mut rest).split_at_mut(lines);
                role.pack(layout, convolution, region);
                rest = later;
            });
        }
        Ok(Self {
            package: package.clone(),
            backend,
            caches: Caches::SMALL,
            weights: memory,
            plan: package.plan().filter(|_| backend.runs_in_place()),
            fast: FastLayers::new(package),
        })
    }

    /// Replaces the package's memory plan for row-by-row processing, or removes it.
    ///
    /// A backend that packs its weights has enough memory: it only follows a plan given here, and
    /// takes each block's channels in one group.
    ///
    /// # Errors
    /// [`Error::Plan`] for a plan of another network.
    pub fn with_plan(self, plan: Option<&'p [BlockPlan]>) -> Result<Self, Error> {
        if let Some(plan) = plan {
            self.package.check_plan(plan).map_err(Error::Plan)?;
        }
        Ok(Self { plan, ..self })
    }

    /// The memory plan for row-by-row processing: an entry for each block, then one for the head.
    pub fn plan(&self) -> Option<&'p [BlockPlan]> {
        self.plan
    }

    /// Divides stripes of rows for a core with these caches; the default is [`Caches::SMALL`]. They
    /// determine the arena's size, never the bits.
    #[must_use]
    pub fn with_caches(self, caches: Caches) -> Self {
        Self { caches, ..self }
    }

    /// The package it was made from.
    pub fn package(&self) -> &Package<'p> {
        &self.package
    }

    /// The backend that runs it.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The caches that determine its tiles.
    pub fn caches(&self) -> Caches {
        self.caches
    }

    /// What a backend needs of each layer, in order.
    pub(crate) fn layers(&self) -> Layers<'p> {
        Layers {
            packed: bytemuck::cast_slice(self.weights),
            fast: self.fast,
        }
    }
}

/// A bit for each convolution, in the order of execution: whether a Cortex-M may take the short way
/// from accumulators to activations.
#[derive(Debug, Clone, Copy, Default)]
struct FastLayers([u32; MOST_CONVOLUTIONS.div_ceil(32)]);

/// Stem, three a block, head.
const MOST_CONVOLUTIONS: usize = 3 * MAX_BLOCKS + 2;

impl FastLayers {
    fn new(package: &Package<'_>) -> Self {
        let mut layers = Self::default();
        let mut n = 0;
        for_each_convolution(package, &mut |convolution, _| {
            let fast = cortex_m::is_fast(&convolution.kernel, convolution.activation);
            layers.0[n / 32] |= u32::from(fast) << (n % 32);
            n += 1;
        });
        layers
    }

    /// The next layer's bit.
    fn next(&mut self) -> bool {
        let first = self.0[0] & 1 != 0;
        let mut carry = 0;
        for word in self.0.iter_mut().rev() {
            (carry, *word) = (*word << 31, *word >> 1 | carry);
        }
        first
    }
}

/// Layers that are still to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'p> {
    packed: &'p [u8],
    fast: FastLayers,
}

/// A backend's data for one layer, besides the package.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Region<'p> {
    /// Its weights, if the backend packs them.
    packed: &'p [u8],
    fast: bool,
}

impl Region<'_> {
    /// Of some of the layer's channels, where nothing is packed.
    pub(crate) fn of_group(self) -> Region<'static> {
        debug_assert!(self.packed.is_empty());
        Region {
            packed: &[],
            fast: self.fast,
        }
    }
}

impl<'p> Layers<'p> {
    /// The next layer.
    pub(crate) fn next(&mut self) -> Region<'p> {
        let fast = self.fast.next();
        let Some(header) = self.packed.get(..size_of::<Header>()) else {
            return Region { packed: &[], fast };
        };
        let bytes = bytemuck::from_bytes::<Header>(header).bytes as usize;
        let (packed, rest) = self.packed.split_at(bytes);
        self.packed = rest;
        Region { packed, fast }
    }
}

/// What a convolution is packed as.
enum Role<'p> {
    Stem,
    Pointwise(Option<Factors<'p>>),
    Depthwise,
}

impl Role<'_> {
    fn bytes(&self, layout: Layout, convolution: &Convolution<'_>) -> usize {
        let [c_in, c_out] = [convolution.input, convolution.output].map(|s| s.channels.into());
        match self {
            Self::Stem => {
                layout.pointwise_bytes(stem::patch_len(layout, convolution), c_out, false)
            }
            Self::Pointwise(residual) => layout.pointwise_bytes(c_in, c_out, residual.is_some()),
            Self::Depthwise => layout.depthwise_bytes(c_in),
        }
    }

    fn pack(&self, layout: Layout, convolution: &Convolution<'_>, region: &mut [CacheLine]) {
        let c_in = usize::from(convolution.input.channels);
        match *self {
            Self::Stem => {
                let taps = stem::patch_len(layout, convolution);
                layout.pack_pointwise(convolution, taps, None, region);
            }
            Self::Pointwise(residual) => layout.pack_pointwise(convolution, c_in, residual, region),
            Self::Depthwise => layout.pack_depthwise(convolution, region),
        }
    }
}

/// Visits every convolution, in the order of execution.
fn for_each_convolution<'p>(
    package: &Package<'p>,
    on_convolution: &mut impl FnMut(&Convolution<'p>, Role<'p>),
) {
    on_convolution(&package.stem(), Role::Stem);
    for block in package.blocks() {
        if let Some(expansion) = &block.expansion {
            on_convolution(expansion, Role::Pointwise(None));
        }
        on_convolution(&block.depthwise, Role::Depthwise);
        let residual = block.residual.map(|factor| Factors {
            factor,
            zero_point: block.input_zero_point(),
        });
        on_convolution(&block.projection, Role::Pointwise(residual));
    }
    if let Some(head) = &package.head() {
        on_convolution(head, Role::Pointwise(None));
    }
}

/// Calls a kernel of `cortex_m`, if that is what runs.
macro_rules! on_cortex_m {
    ($backend:expr, |$core:ident| $call:expr) => {
        match $backend.0 {
            #[cfg(not(all(target_arch = "arm", feature = "dsp")))]
            Kind::Armv7m($core) if cortex_m::COMPILED => return $call,
            #[cfg(not(all(target_arch = "arm", not(feature = "dsp"))))]
            Kind::Armv7em($core) if cortex_m::COMPILED => return $call,
            _ => {}
        }
    };
}

/// The operations that the executor calls. A region is the layer's, from [`Layers::next`].
impl Backend {
    /// Whether expanded rows are planar, and pixels are unpacked in scratch.
    pub(crate) fn is_planar(self) -> bool {
        on_cortex_m!(self, |_core| true);
        false
    }

    /// An activation as this backend keeps it between layers.
    pub(crate) fn encode(self, q: i8) -> i8 {
        self.layout().map_or(q, |layout| layout.encode(q))
    }

    /// Values of scratch that [`stem`](Self::stem) needs for one output row.
    pub(crate) fn patches_len(self, stem: &Convolution<'_>) -> usize {
        // In place, the sizes are those of whichever backend needs most.
        let in_place = || {
            let patch_len = stem::patch_len_of(4, stem);
            let width = stem.output.width;
            usize::from(width) * patch_len + unpacked_len(patch_len as u16, width)
        };
        self.layout().map_or_else(in_place, |layout| {
            usize::from(stem.output.width) * stem::patch_len(layout, stem)
        })
    }

    /// One output row of the stem from three rows as they come from the caller.
    #[inline(never)]
    pub(crate) fn stem(
        self,
        region: Region<'_>,
        stem: &Convolution<'_>,
        rows: [&[i8]; 3],
        patches: &mut [i8],
        output: &mut [i8],
    ) {
        on_cortex_m!(self, |core| {
            let patch_len = stem::patch_len_of(4, stem);
            let patches_len = usize::from(stem.output.width) * patch_len;
            let (patches, scratch) = patches.split_at_mut(patches_len);
            stem::patches(patch_len, stem, rows, patches);
            cortex_m::stem(core, region.fast, stem, patches, scratch, output);
        });
        let Some(layout) = self.layout() else {
            return kernels::stem::stem(stem, spatial(stem), rows, output);
        };
        let patch_len = stem::patch_len(layout, stem);
        stem::patches(patch_len, stem, rows, patches);
        if layout.unsigned {
            for value in &mut *patches {
                *value = layout.encode(*value);
            }
        }
        self.run(pointwise::Pointwise {
            layout,
            region: region.packed,
            c_in: patch_len,
            c_out: stem.output.channels.into(),
            clamp: clamp(layout, stem),
            residual: None,
            input: patches,
            output,
        });
    }

    /// A 1×1 convolution of whole rows to planar ones.
    pub(crate) fn expand(
        self,
        region: Region<'_>,
        convolution: &Convolution<'_>,
        input: &[i8],
        scratch: &mut [i8],
        output: &mut [i8],
    ) {
        on_cortex_m!(self, |core| cortex_m::expand(
            core,
            region.fast,
            convolution,
            input,
            scratch,
            output
        ));
        debug_assert!(!self.is_planar());
    }

    /// A 1×1 convolution of any number of pixels.
    pub(crate) fn pointwise(
        self,
        region: Region<'_>,
        convolution: &Convolution<'_>,
        residual: Option<Residual<'_>>,
        input: &[i8],
        scratch: &mut [i8],
        output: &mut [i8],
    ) {
        on_cortex_m!(self, |core| cortex_m::project(
            core,
            region.fast,
            convolution,
            residual,
            input,
            scratch,
            output
        ));
        let Some(layout) = self.layout() else {
            return kernels::pointwise::pointwise(convolution, residual, input, output);
        };
        self.run(pointwise::Pointwise {
            layout,
            region: region.packed,
            c_in: convolution.input.channels.into(),
            c_out: convolution.output.channels.into(),
            clamp: clamp(layout, convolution),
            residual: residual.map(|residual| residual.input),
            input,
            output,
        });
    }

    /// Output rows of a 3×3 depthwise convolution; `rows` gives the input rows of each.
    ///
    /// Not generic in `rows`, nor is anything else here: the kernels are large, and compiled once,
    /// in this crate.
    pub(crate) fn depthwise<'r>(
        self,
        region: Region<'_>,
        convolution: &Convolution<'_>,
        rows: &dyn Fn(usize) -> [&'r [i8]; 3],
        output: &mut [i8],
    ) {
        let spatial = spatial(convolution);
        let row_len = convolution.output.row_len();
        on_cortex_m!(self, |core| {
            for (n, output) in output.chunks_exact_mut(row_len).enumerate() {
                cortex_m::depthwise(core, region.fast, convolution, rows(n), output);
            }
        });
        let Some(layout) = self.layout() else {
            for (n, output) in output.chunks_exact_mut(row_len).enumerate() {
                kernels::depthwise::depthwise(convolution, spatial, rows(n), output);
            }
            return;
        };
        // A few at a time, so that a group of channels keeps its weights for several rows.
        const ROWS: usize = 8;
        for (n, output) in output.chunks_mut(ROWS * row_len).enumerate() {
            let mut windows = [[&[][..]; 3]; ROWS];
            let count = output.len() / row_len;
            for (i, window) in windows[..count].iter_mut().enumerate() {
                *window = rows(n * ROWS + i);
            }
            self.run(depthwise::Depthwise {
                layout,
                region: region.packed,
                channels: convolution.input.channels.into(),
                spatial,
                clamp: clamp(layout, convolution),
                padding: layout.encode(convolution.input_zero_point),
                width: convolution.input.width.into(),
                windows: &windows[..count],
                row_len,
                output,
            });
        }
    }

    /// Adds one row to each class's total.
    pub(crate) fn row_totals(self, classifier: &Classifier<'_>, row: &[i8], totals: &mut [i32]) {
        if self.runs_in_place() {
            return kernels::classifier::row_totals::<SCALAR_LANES>(
                classifier,
                i32::from,
                row,
                totals,
            );
        }
        self.run(classifier::RowTotals {
            classifier,
            row,
            totals,
        });
    }

    /// Adds some channels of one row, starting at channel `first`, to each class's total. `row` has
    /// only these channels.
    pub(crate) fn add_row_totals(
        self,
        classifier: &Classifier<'_>,
        first: usize,
        row: &[i8],
        totals: &mut [i32],
    ) {
        debug_assert!(self.runs_in_place(), "others take all channels together");
        kernels::classifier::add_row_totals::<SCALAR_LANES>(
            classifier,
            i32::from,
            first,
            row,
            totals,
        );
    }

    /// Adds each channel's sum over frequency of one row.
    pub(crate) fn add_sums(self, classifier: &Classifier<'_>, row: &[i8], sums: &mut [i32]) {
        if self.runs_in_place() {
            return kernels::classifier::add_sums::<SCALAR_LANES>(classifier, i32::from, row, sums);
        }
        self.run(classifier::AddSums {
            classifier,
            row,
            sums,
        });
    }

    /// Each class's total over `rows` rows from the channels' sums, which are overwritten.
    pub(crate) fn totals(
        self,
        classifier: &Classifier<'_>,
        sums: &mut [i32],
        rows: usize,
        totals: &mut [i32],
    ) {
        if self.runs_in_place() {
            return kernels::classifier::totals::<SCALAR_LANES>(classifier, sums, rows, totals);
        }
        self.run(classifier::Totals {
            classifier,
            sums,
            rows,
            totals,
        });
    }
}

/// Channels whose sums stay in registers.
const SCALAR_LANES: usize = if cfg!(target_arch = "arm") { 4 } else { 32 };

fn clamp(layout: Layout, convolution: &Convolution<'_>) -> Clamp {
    let activation = convolution.activation;
    let excess = if layout.unsigned { 128 } else { 0 };
    Clamp {
        zero_point: i16::from(activation.zero_point) + excess,
        min: layout.encode(activation.min),
        max: layout.encode(activation.max),
    }
}
