//! Stand-ins for the commands that need ONNX support, in a build without it.

/// `sori quantize`.
pub(crate) mod quantize {
    use std::ffi::OsString;

    use anyhow::Result;
    use clap::Args;

    use crate::onnx;

    #[derive(Debug, Args)]
    #[command(
        disable_help_flag = true,
        long_about = None,
        override_usage = "this build has no ONNX support: cargo install --path host-tools/sori --features quantize"
    )]
    pub(crate) struct Quantize {
        /// Every argument gets the same answer
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    }

    impl Quantize {
        pub(crate) fn run(self) -> Result<()> {
            Err(onnx::missing("sori quantize"))
        }
    }
}

/// `sori inspect --manifold`.
pub(crate) mod manifold {
    use std::path::Path;

    use anyhow::Result;

    use crate::onnx;

    pub(crate) fn run(_: &Path, _: &Path, _: Option<&Path>, _: bool) -> Result<()> {
        Err(onnx::missing("sori inspect --manifold"))
    }
}
