//! `node-device`: started by a node with the same socket as standard input and output; logs go to standard error.

use std::process::ExitCode;

#[cfg(feature = "torch")]
fn main() -> ExitCode {
    use std::io::{IsTerminal, stdin};

    if stdin().is_terminal() {
        eprintln!("node-device speaks frames with the node that starts it; there is nothing to type here");
        return ExitCode::from(2);
    }
    let served =
        magpie_device::frames::take_standard_streams().map_err(anyhow::Error::from).and_then(|(input, output)| {
            let mut device = magpie_device::torch::TorchDevice::open();
            magpie_device::serve::serve(&mut device, input, output).map_err(anyhow::Error::from)
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node-device stops: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(feature = "torch"))]
fn main() -> ExitCode {
    eprintln!(
        "node-device was built without the feature `torch` and can run no model; build it with \
         `eval \"$(scripts/fetch.sh)\" && cargo build --release -p magpie-device --features torch`"
    );
    ExitCode::from(2)
}
