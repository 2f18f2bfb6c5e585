//! ONNX networks. They need tract, which takes longer to compile than all the rest of `sori`, and
//! is therefore behind the feature `quantize`. Without it the same names exist, and reading a file
//! fails with how to get the feature.

#[cfg(feature = "quantize")]
pub(crate) use present::*;

#[cfg(not(feature = "quantize"))]
pub(crate) use absent::*;

use std::path::Path;

/// Whether a path names an ONNX network.
pub(crate) fn is_onnx(path: &Path) -> bool {
    let extension = path.extension();
    extension.is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

#[cfg(feature = "quantize")]
mod present {
    use std::path::Path;

    use anyhow::{Context as _, Result};
    use sori_package::write::PackageBytes;
    pub(crate) use sori_quantize::{Onnx, Reference, TractInference};

    pub(crate) fn read(path: &Path) -> Result<Onnx> {
        Onnx::read(path).with_context(|| format!("cannot use {}", path.display()))
    }

    /// A package as fast as one calibrated on data; its results are meaningless.
    pub(crate) fn package_for_timing(path: &Path) -> Result<PackageBytes> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        sori_quantize::quantize_for_timing(&read(path)?, &stem)
            .with_context(|| format!("cannot quantize {}", path.display()))
    }

    /// Whether the file is not a network of a supported family.
    pub(crate) fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
        error.is::<sori_quantize::Refused>()
    }
}

#[cfg(not(feature = "quantize"))]
mod absent {
    use std::path::Path;

    use anyhow::Result;
    use sori_host::Rows;
    use sori_package::write::PackageBytes;
    use sori_package::{Activation, TensorShape};

    use crate::exit::Failure;

    /// The error for `what`, which needs the feature.
    pub(crate) fn missing(what: &str) -> anyhow::Error {
        Failure::Usage(format!(
            "{what} needs ONNX support, which this build lacks: cargo install --path host-tools/sori --features quantize"
        ))
        .into()
    }

    pub(crate) fn read(path: &Path) -> Result<Onnx> {
        Err(missing(&path.display().to_string()))
    }

    pub(crate) fn package_for_timing(path: &Path) -> Result<PackageBytes> {
        Err(missing(&path.display().to_string()))
    }

    pub(crate) fn is_refused(_: &(dyn std::error::Error + 'static)) -> bool {
        false
    }

    /// No value exists, so that nothing below can be called.
    #[derive(Debug)]
    pub(crate) enum Onnx {}

    impl Onnx {
        pub(crate) fn input_shape(&self) -> TensorShape {
            match *self {}
        }

        pub(crate) fn classes(&self) -> usize {
            match *self {}
        }

        pub(crate) fn preprocess(&self, _: &mut [f32]) {
            match *self {}
        }
    }

    #[derive(Debug)]
    pub(crate) struct Reference<'o>(&'o Onnx);

    impl<'o> Reference<'o> {
        pub(crate) fn new(onnx: &'o Onnx) -> Self {
            Self(onnx)
        }

        pub(crate) fn logits_of_rows(
            &self,
            _: &[Rows],
            _: &Activation,
            _: usize,
        ) -> Result<Vec<Vec<f32>>> {
            match *self.0 {}
        }

        pub(crate) fn stream_logits(&self, _: &[f32], _: usize) -> Result<Vec<Vec<f32>>> {
            match *self.0 {}
        }
    }

    #[derive(Debug)]
    pub(crate) enum TractInference {}

    impl TractInference {
        pub(crate) fn new(_: &[u8], _: usize) -> Result<Self> {
            Err(missing("--tract"))
        }

        pub(crate) fn run(&self) -> Result<()> {
            match *self {}
        }
    }
}
